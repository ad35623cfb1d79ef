"""Four ways to walk from a blurred digit back, with the same restorer: which one makes of its answers what they are worth?

    python examples/compare_samplers.py

The restorer is exact, E[x0 | x_t] over the training digits, so nothing is trained and what differs is the walk alone. One call gives the mean of
all digits that could be meant; a walk ends in one of them. Writes compare_samplers.png and compare_samplers.html, and prints two measures: how far
from the digit that was (RMSE), and how far, as a set, from digits (sliced Wasserstein distance).
"""

from pathlib import Path

import snowmelt
from snowmelt import pictures
from snowmelt.data import DataOptions, open_data
from snowmelt.pictures import page, scrubber
from snowmelt.randomness import generators
from snowmelt.testing import empirical, sliced_wasserstein

FLOOR = 0.1  # noise on top of every x_t: where the blur leaves nothing, it decides
WALKS = {"one call": "naive:steps=1", "Algorithm 1": "naive:steps=20", "Algorithm 2": "tacos:steps=20", "order 2": "tacos:steps=20,order=2"}


def main(out: Path = Path(), n: int = 120) -> None:
    """Walk, measure, show."""
    options = DataOptions(path="bundled:digits", size=8)
    known, new = (open_data(options, split) for split in ("train", "test"))
    known, clean = known.batch(range(len(known)))["x0"].double(), new.batch(range(n))["x0"].double()
    D = snowmelt.build("gaussian-blur:sigma_px=8")
    model = snowmelt.Model(D, empirical(D, known, noise_floor=FLOOR), noise_floor=FLOOR)
    begin = model.corrupt(clean, 1.0, generators(0, "blur", range(n)))
    paths = {name: list(snowmelt.build(spec, "sampler").trajectory(model, begin, generators(0, "walk", range(n)))) for name, spec in WALKS.items()}
    rows = []
    for name, path in paths.items():
        x = path[-1].x
        away = float(sliced_wasserstein(x.flatten(1), clean.flatten(1)))
        rows.append({"walk": name, "calls": len(path) - 1, "RMSE": float((x - clean).square().mean().sqrt()), "distance of the sets": away})
    print(pictures.markdown_table(rows, best={"RMSE": "low", "distance of the sets": "low"}))
    shown = {"Degraded": begin.x, **{name: path[-1].x for name, path in paths.items()}, "Clean": clean}
    pictures.save(out / "compare_samplers.png", pictures.grid({name: x[:6] for name, x in shown.items()}))
    moving = [
        scrubber([s.x[:4] for s in path], [f"t = {float(s.t):.2f}" for s in path], caption=name) for name, path in paths.items() if len(path) > 2
    ]
    table = page.table(rows, best={"RMSE": "low", "distance of the sets": "low"})
    (out / "compare_samplers.html").write_text(page.page("Four walks, one restorer", [table, *moving]), encoding="utf-8")


if __name__ == "__main__":
    main()
