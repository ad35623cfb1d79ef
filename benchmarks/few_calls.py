"""How many calls does a walk need? All paths, all samplers, 1 to 50 calls: with the exact restorer, and with a small network before and after tuning.

*Exact*: the benches of ``oracle.py``, the mixture of 25 Gaussians that fits the bundled digits, 3,000 walks, each begun from a degraded fresh
sample; the figure is the sliced Wasserstein-2 distance of the ends from 3,000 further samples. Rows at 5, 8, 12 and 50 calls are those of
``results/oracle.json``, which a test holds to what is measured now; those at 1, 2, 3 and 20 are measured here. Two fresh sets are apart by
the *floor*.

*Tuned*: a restorer of 0.4 million weights, trained on samples of the mixture for 1,500 steps, then tuned by
:func:`snowmelt.losses.consistency_loss` through the gaps .5, .75, .875, .94 and .97, 500 steps each, and walked after every stage, beyond the calls
that a tuned model is good for as well: snowmelt refuses such walks, and here one sees why. The table stands beside what another program measured of
the same toy before this one was written (EARLIER), with what agrees and what does not.

    python benchmarks/few_calls.py --out benchmarks/results/few-calls.json --figure docs/images/few-calls.svg
"""

import copy
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracle
import torch
from torch import Tensor, nn

from snowmelt.degradations import Degradation, GaussianNoise
from snowmelt.files import write_text
from snowmelt.losses import consistency_loss, restoration_loss
from snowmelt.model import Model
from snowmelt.pictures import Level, Panel, panels_svg
from snowmelt.randomness import generator
from snowmelt.recipes.report import environment
from snowmelt.restorers import Restorer
from snowmelt.restorers.backbones import Backbone
from snowmelt.samplers import Ancestral, Naive, Sampler, TACoS
from snowmelt.schedules import Linear
from snowmelt.testing import digits_mixture, sliced_wasserstein
from snowmelt.testing.gaussians import Gaussians
from snowmelt.types import State

KEPT = Path(__file__).parent / "results" / "oracle.json"
CALLS = (1, 2, 3, 20)  # beside those of oracle.CALLS
GAPS, TUNED_CALLS = (0.0, 0.5, 0.75, 0.875, 0.94, 0.97), (1, 2, 4, 8)
STEPS, STAGE_STEPS, BATCH, POOL = 1500, 500, 256, 50_000
LR, TUNING_LR, EMA = 1e-3, 5e-4, 0.99
NET_FLOOR = 0.05
WALKS = 3000
NETS = ("blur", "flow")
# The blur with a floor of .05 as another program measured it: walk to gap to distance at TUNED_CALLS; order 2 at 8 calls only.
EARLIER: dict[str, dict[float, tuple[float, ...]]] = {
    "order 1": {
        0.0: (0.261, 0.234, 0.179, 0.117),
        0.75: (0.204, 0.154, 0.090, 0.056),
        0.875: (0.138, 0.081, 0.062, 0.125),
        0.94: (0.122, 0.058, 0.132, 0.278),
        0.97: (0.071, 0.134, 0.284, 0.538),
    },
    "order 2": {0.0: (0.056,), 0.75: (0.109,), 0.875: (0.228,), 0.94: (0.471,), 0.97: (0.890,)},
    "Algorithm 1, noise": {
        0.0: (0.237, 0.195, 0.154),
        0.75: (0.177, 0.140, 0.097),
        0.875: (0.113, 0.086, 0.060),
        0.94: (0.076, 0.075, 0.186),
        0.97: (0.082, 0.184, 0.533),
    },
}
ALIKE = 0.25  # two trainings that differ by less in a distance agree
_FIRST = {"order 1": 0, "order 2": 3, "Algorithm 1, noise": 1}  # of TUNED_CALLS, where a walk's numbers begin


# --- exact -------------------------------------------------------------------------------------------------


def exact(path: str) -> Iterator[dict[str, Any]]:
    """One row for each sampler and number of calls that ``oracle.json`` does not have: path, sampler, calls, distance."""
    here = oracle.bench(path, WALKS)
    for name, make in oracle.samplers(path).items():
        of, start = (oracle.noisy(here.model), oracle.renamed(here.start)) if name == "ancestral" and here.model.noise_floor else here[:2]
        for calls in CALLS:
            if calls < {"Heun": 3, "order 2": 2}.get(name, 1):
                continue  # the walk of order 1
            walk = make(calls)
            yield {"path": path, "sampler": name, "calls": walk.calls(of.degradation), "distance": here._replace(start=start).distance(walk, of)}


def with_kept(rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows and those of ``oracle.json``, by path, sampler and calls; Heun's under the odd number of calls that its walk has."""
    odd = [{**row, "calls": row["calls"] - 1 + row["calls"] % 2} if row["sampler"] == "Heun" else row for row in kept]
    names = [*dict.fromkeys(row["sampler"] for row in (*odd, *rows))]
    return sorted([*odd, *rows], key=lambda row: (oracle.PATHS.index(row["path"]), names.index(row["sampler"]), row["calls"]))


# --- a small network ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dense(Backbone):
    """Three layers of 400, with severity as sines."""

    width: int = 400
    frequencies: int = 8

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """A module for samples of 8 x 8 px."""
        return _Dense(self, in_channels * 64, out_channels * 64)


class _Dense(nn.Module):
    def __init__(self, size: Dense, values_in: int, values_out: int) -> None:
        super().__init__()
        self.register_buffer("waves", torch.pi * 2.0 ** torch.arange(size.frequencies))
        widths = (values_in + 2 * size.frequencies + 1, size.width, size.width, size.width)
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers, self.out = nn.Sequential(*layers), nn.Linear(size.width, values_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] * self.waves
        features = torch.cat([x.flatten(1), t[:, None], angle.sin(), angle.cos()], 1)
        return self.out(self.layers(features)).reshape(x.shape)


def net_path(path: str) -> tuple[Degradation, float]:
    """The operator and the noise floor of a network's path."""
    return (oracle.Ladder(oracle.WIDEST_PX), NET_FLOOR) if path == "blur" else (GaussianNoise(Linear()), 0.0)


class Training:
    """A restorer, its optimiser and its moving average, trained stage by stage on samples of the mixture."""

    def __init__(self, path: str, seed: int = 0) -> None:
        law: Gaussians = digits_mixture()
        self.degradation, self.floor = net_path(path)
        self.pool = law.sample(POOL, generator(seed, "pool"))[0].float()
        self.draws = generator(seed, "training")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.restorer = Restorer(self.degradation, Dense(), tuple(self.pool.shape[1:]), noise_floor=self.floor)
        self.restorer.fit([self.pool])
        self.average = copy.deepcopy(self.restorer)

    def stage(self, gap: float, steps: int) -> Model:
        """Train for `steps` steps at a gap; the model with averaged weights, which may be walked as far as one likes."""
        model = Model(self.degradation, self.restorer.train(), noise_floor=self.floor)
        optimiser = torch.optim.Adam(self.restorer.parameters(), lr=TUNING_LR if gap else LR, foreach=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            x0 = self.pool[torch.randint(POOL, (BATCH,), generator=self.draws)]
            t = 1 - torch.rand(BATCH, generator=self.draws)
            z = model.draw(x0, self.draws)
            losses = consistency_loss(model, x0, t, gap * t, z) if gap else restoration_loss(model, x0, t, z, weight="min-output")
            optimiser.zero_grad()
            losses.mean().backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for mine, new in zip(self.average.parameters(), self.restorer.parameters(), strict=True):
                    mine.lerp_(new, 1 - EMA)
        return Model(self.degradation, self.average.eval(), noise_floor=self.floor)


def net_walks(path: str) -> Iterator[tuple[str, int, Sampler]]:
    """The walks of a network: name, calls, sampler."""
    noise = path != "blur"
    for n in TUNED_CALLS:
        yield "order 1", n, Ancestral(n, eta=0.0) if noise else TACoS(n)
    for n in TUNED_CALLS[1:]:
        yield "order 2", n, Ancestral(n, eta=0.0, order=2) if noise else TACoS(n, order=2)
    for n in TUNED_CALLS[1:]:
        yield "Algorithm 1, noise", n, Naive(n, fresh=True) if noise else Naive(n, noise=NET_FLOOR)


def tuned(path: str, steps: int = STEPS, stage_steps: int = STAGE_STEPS) -> Iterator[dict[str, Any]]:
    """Train and tune a network; one row for each gap, walk and number of calls: path, gap, walk, calls, distance."""
    law, training = digits_mixture(), Training(path)
    x, fresh = (law.sample(WALKS, generator(0, name))[0].float() for name in ("begun from", "compared with"))
    for gap in GAPS:
        model = training.stage(gap, stage_steps if gap else steps)
        known = model.corrupt(x, 1.0, generator(0, "draw"))
        start = State(known.x, 1.0, {name: value for name, value in known.z.items() if name not in model.degradation.hidden})
        for name, calls, walk in net_walks(path):
            out = walk.sample(model, start, generator(0, "walk"))
            yield {"path": path, "gap": gap, "walk": name, "calls": calls, "distance": sliced_wasserstein(out, fresh)}


def found(rows: list[dict[str, Any]], path: str, gap: float, walk: str, calls: int) -> float:
    """The distance of one row of a network."""
    wanted = (path, gap, walk, calls)
    return next(float(row["distance"]) for row in rows if (row["path"], row["gap"], row["walk"], row["calls"]) == wanted)


def claims(rows: list[dict[str, Any]]) -> list[str]:
    """What was said of tuning before, and whether these rows say it too; numbers in brackets."""
    at = lambda path, gap, walk, calls: found(rows, path, gap, walk, calls)  # noqa: E731
    out = []
    for path in dict.fromkeys(row["path"] for row in rows):
        once, tuned_once = at(path, 0.0, "order 1", 1), at(path, 0.97, "order 1", 1)
        two, eight, eight2 = at(path, 0.94, "order 1", 2), at(path, 0.0, "order 1", 8), at(path, 0.0, "order 2", 8)
        long = at(path, 0.94, "order 1", 8)
        best = {n: min(GAPS, key=lambda gap, n=n, path=path: at(path, gap, "order 1", n)) for n in TUNED_CALLS}
        for held, said in (
            (tuned_once < once, f"one call gains by tuning to .97 ({tuned_once:.3f} against {once:.3f})"),
            (two <= eight, f"two calls at .94 are at least as good as eight untuned ones of order 1 ({two:.3f} against {eight:.3f})"),
            (two <= eight2, f"and as eight of order 2 ({two:.3f} against {eight2:.3f})"),
            (long > two, f"eight calls at .94 are worse than two ({long:.3f} against {two:.3f})"),
            (sorted(best.values(), reverse=True) == list(best.values()), f"the more calls, the smaller the best gap ({_listed(best)})"),
        ):
            out.append(f"{path}: {'yes' if held else 'NO'}, {said}")
    return out


def _listed(best: dict[int, float]) -> str:
    return ", ".join(f"{n} call{'s' if n > 1 else ''}: {gap:g}" for n, gap in best.items())


# --- what is shown -----------------------------------------------------------------------------------------


def exact_table(rows: list[dict[str, Any]], floor: float) -> str:
    """Distances of the exact restorer's walks as Markdown: a line for each path and sampler, the nearest calls in one column."""
    calls = sorted({row["calls"] for row in rows if row["sampler"] != "Heun"})
    out = ["| path | sampler | " + " | ".join(str(n) for n in calls) + " |", "| :--- | :--- |" + " ---: |" * len(calls)]
    for path in oracle.PATHS:
        for name in dict.fromkeys(row["sampler"] for row in rows if row["path"] == path):
            by_calls = {row["calls"]: row["distance"] for row in rows if row["path"] == path and row["sampler"] == name}
            at = [by_calls.get(n, by_calls.get(n - 1 if name == "Heun" else n)) for n in calls]
            out.append(f"| {path} | {name} | " + " | ".join("" if d is None else f"{d:.3f}" for d in at) + " |")
    return "\n".join([*out, "", f"Two fresh sets are {floor:.3f} apart. Heun stands under the next even number of calls: its walks have one less."])


def tuned_table(rows: list[dict[str, Any]], path: str) -> str:
    """Distances after every stage as Markdown; of the blur, beside what was measured earlier, with what does not agree in bold."""
    walks = [(name, n) for name, n, _ in net_walks(path)]
    head = ["g", *(f"{name}, {n} call{'s' if n > 1 else ''}" for name, n in walks)]
    out = ["| " + " | ".join(head) + " |", "|" + " ---: |" * len(head)]
    for gap in GAPS:
        cells = [_cell(found(rows, path, gap, name, n), _earlier(name, gap, n) if path == "blur" else None) for name, n in walks]
        out.append(f"| {gap:g} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def _earlier(walk: str, gap: float, calls: int) -> float | None:
    numbers, place = EARLIER[walk].get(gap, ()), TUNED_CALLS.index(calls) - _FIRST[walk]
    return numbers[place] if 0 <= place < len(numbers) else None


def _cell(now: float, before: float | None) -> str:
    if before is None:
        return f"{now:.3f}"
    both = f"{now:.3f} ({before:.3f})"
    return both if abs(now - before) <= ALIKE * before else f"**{both}**"


def figure(rows: list[dict[str, Any]], nets: list[dict[str, Any]], floor: float) -> str:
    """A panel for each path of the exact restorer, and one for each network: an SVG."""
    level, across, up = [Level("two fresh sets", floor)], "calls of the restorer", "sliced Wasserstein-2 distance"
    panels = []
    for path in oracle.PATHS:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["path"] == path:
                lines.setdefault("one call" if row["sampler"] == "direct" else row["sampler"], []).append((row["calls"], row["distance"]))
        panels.append(Panel(f"{path}: the exact restorer", {"order 2": lines.pop("order 2"), **lines}, across, up, level))
    for path in NETS:
        shown = {"order 2": ("untuned, order 2", 0.0, "order 2"), "order 1": ("untuned, order 1", 0.0, "order 1")}
        shown |= {f"{gap:g}": (f"tuned, g = {gap:g}", gap, "order 1") for gap in GAPS[2:]}
        lines = {
            name: [(r["calls"], r["distance"]) for r in nets if (r["path"], r["gap"], r["walk"]) == (path, gap, walk)]
            for name, gap, walk in shown.values()
        }
        panels.append(Panel(f"{path}: a network of 0.4 M weights", lines, across, up, level))
    return panels_svg(panels, title="Distance from the data against calls")


def main() -> None:
    """Measure everything and print the tables; with --out, keep all figures as JSON with date, commit and device."""
    options = oracle.arguments(__doc__)
    begun, kept = time.process_time(), json.loads(KEPT.read_text(encoding="utf-8"))
    by_path = with_kept([row for path in oracle.PATHS for row in exact(path)], kept["samples"])
    floor = sum(kept["floors"]) / len(kept["floors"])
    print(exact_table(by_path, floor), end="\n\n", flush=True)
    nets: list[dict[str, Any]] = []
    for path in NETS:
        nets += tuned(path)
        print(f"{path}, a network:\n{tuned_table(nets, path)}\n", flush=True)
    said = claims(nets)
    print("\n".join(said), f"\n{time.process_time() - begun:.0f} s of processor time", flush=True)
    if options.out:
        facts = {**environment(), "rows at other calls": f"{', '.join(map(str, oracle.CALLS))}: oracle.json, commit {kept['commit']}"}
        result = {**facts, "exact": by_path, "floor": floor, "tuned": nets, "claims": said}
        write_text(options.out, json.dumps(result, indent=2) + "\n")
    if options.figure:
        write_text(options.figure, figure(by_path, nets, floor) + "\n")


if __name__ == "__main__":
    main()
