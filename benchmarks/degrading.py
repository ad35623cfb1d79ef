"""What a degradation costs beside the network: its share of a training step and of a sampling step, for every operator and size.

A training step is one degradation of the batch at a severity of its own for each sample, and forward, backward and optimiser of the net that a
recipe for pictures of that size takes by default (bf16 where the processor computes in it, the cheapest preconditioning). A sampling step is one
call of that net and one move of TACoS, which degrades twice. Draws are counted apart: a walk draws once, training once a batch,
with a generator for each sample.

``python benchmarks/degrading.py --measure`` times both ways of every operator that has two, and prints for each the largest size at which its
matrices win: the table of :mod:`snowmelt.degradations.ways` as it would stand for this machine.
"""

import argparse
from collections.abc import Callable
from typing import Any

import timing
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.degradations import Degradation
from snowmelt.degradations.ways import LARGEST_PX, Kind, by_matrix
from snowmelt.losses import distance
from snowmelt.randomness import fractions, generators
from snowmelt.recipes.defaults import suggest
from snowmelt.restorers import Restorer
from snowmelt.samplers import TACoS
from snowmelt.training.exactness import precision

TITLE = "What a degradation costs"
ABOUT = (
    "Share of one degradation of a batch, a severity for each sample, in a training step of the default net for that size, and of one move of "
    "TACoS, two degradations, in a sampling step; the draw, made once a batch or walk, as a share of the same training step."
)
BATCHES = {32: 64, 64: 32, 128: 8, 256: 2}  # by size in px: about as many pixels a batch
OPERATORS = (
    "recursive-blur:steps=20",
    "recursive-blur:routine=special-6,steps=50",
    "recursive-blur:routine=exponential,kernel_size=15,kernel_std=0.01,steps=200,padding=reflect",
    "recursive-blur:routine=exponential,kernel_size=27,kernel_std=0.01,steps=300",
    "gaussian-blur",
    "gaussian-blur:padding=circular",
    "motion-blur",
    "mask",
    "fade-mask:routine=random,kernel_std=0.1",
    "fade-mask:kernel_std=0.05,steps=750,reverse=true,towards=colour",
    "holes",
    "pixelate",
    "resample",
    "grey",
    "decolour",
    "snow",
    "snow:level=4,brightness=fading",
    "jpeg",
    "poisson-noise",
    "noise",
    "noise:schedule=betas",
    "morph",
    "gaussian-blur:sigma_px=2+noise",
    "mixture:parts=(gaussian-blur,noise,jpeg)",
    "choice:parts=(gaussian-blur,mask,pixelate,grey)",
)
WAYS: dict[Kind, str] = {  # an operator for each kind of choice between matrices and a formula
    "circular": "recursive-blur:steps=20",
    "mirrored": "recursive-blur:routine=special-6,steps=50",
    "cosine": "gaussian-blur",
    "smooth": "gaussian-blur",
    "blocks": "pixelate",
    "uneven": "resample:factor=3",
}
_QUICK = ("recursive-blur:steps=20", "mask")
_NEVER, _ALWAYS = 0, 1_000_000


def measure(*, runs: int, quick: bool) -> list[dict[str, object]]:
    """The shares, a row for each operator and size; then both ways of every operator that has two, a row for each size."""
    least_s = 0.005 if quick else 0.02
    if quick:
        return shares(32, _QUICK, runs=1, least_s=least_s) + ways(32, ("circular",), runs=1, least_s=least_s)
    rows = [row for px in BATCHES for row in shares(px, OPERATORS, runs=runs, least_s=least_s)]
    return rows + [row for px in BATCHES for row in ways(px, tuple(WAYS), runs=runs, least_s=least_s)]


def ways(px: int, kinds: tuple[Kind, ...], *, runs: int, least_s: float) -> list[dict[str, object]]:
    """How many times as fast as the other way matrices are at one size, and which of the two is taken."""
    x = torch.empty(BATCHES[px], 3, px, px).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    rows: list[dict[str, object]] = []
    for kind in kinds:
        found = timing.interleaved({"formula": _way(kind, x, _NEVER), "matrices": _way(kind, x, _ALWAYS)}, runs=runs, least_s=least_s)["matrices"]
        taken = "matrices" if by_matrix(kind, px, x) else "formula"
        what = f"matrices against the formula: {kind} ({WAYS[kind]})"
        rows.append({"what": what, "px": px, "batch": len(x), "ratio": found.median, "low": found.low, "high": found.high, "taken": taken})
    return rows


def _way(kind: Kind, x: Tensor, largest: int) -> Callable[[], object]:
    """A training batch's degradation with matrices for sizes up to `largest` px, whatever the library's table says."""
    d = snowmelt.build(WAYS[kind])
    t, limits = d.snapped(severities(x), {}), LARGEST_PX["cpu"]
    forced: dict[Kind, int] = {kind: largest} if kind != "cosine" else {kind: largest, "smooth": _NEVER}

    def run() -> Tensor:
        kept = {name: limits[name] for name in forced}
        limits.update(forced)
        try:
            return d(x, t)
        finally:
            limits.update(kept)

    return run


def shares(px: int, operators: tuple[str, ...], *, runs: int, least_s: float) -> list[dict[str, object]]:
    """The rows of one size, all timed in turn with the steps of its net."""
    x = torch.empty(BATCHES[px], 3, px, px).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], object]] = net_ways(x)
    for spec in operators:
        ways |= {f"{kind} {spec}": way for kind, way in operator_ways(snowmelt.build(spec), x).items()}
    s = timing.seconds(ways, runs=runs, least_s=least_s)
    return [_row(spec, px, len(x), s) for spec in operators]


def _row(spec: str, px: int, batch: int, s: dict[str, list[float]]) -> dict[str, object]:
    """One operator at one size: shares, each of a whole that it is a part of."""
    whole = {kind: [a + b for a, b in zip(s[net], s[f"{kind} {spec}"], strict=True)] for kind, net in (("batch", "step"), ("move", "call"))}
    share, low, high = timing.over(s[f"batch {spec}"], whole["batch"])
    return {
        "what": spec,
        "px": px,
        "batch": batch,
        "ratio": share,
        "low": low,
        "high": high,
        "of a sampling step": timing.over(s[f"move {spec}"], whole["move"]).median,
        "draw": timing.over(s[f"draw {spec}"], whole["batch"]).median,
    }


def net_ways(x: Tensor) -> dict[str, Callable[[], object]]:
    """The rest of a training step and of a sampling step, with the default net for pictures of this size."""
    given: dict[str, Any] = {"data": {"size": x.shape[-1], "channels": x.shape[1]}}
    backbone = suggest(DataOptions(path="bundled:digits"), "gaussian-blur", given)[0]["model"]["backbone"]
    parts = snowmelt.build("grey"), snowmelt.build(backbone, "backbone"), tuple(x.shape[1:])
    net = Restorer(*parts, parameterization=snowmelt.build("residual", "parameterization"))
    net.precision, t = precision("auto", x.device), severities(x)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def step() -> None:
        distance(net(x, t), x, "l1").mean().backward()  # x stands for x_t: how that is made is timed apart
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def call() -> Tensor:
        return net(x, t)

    return {"step": step, "call": call}


def operator_ways(d: Degradation, x: Tensor) -> dict[str, Callable[[], object]]:
    """A training batch's degradation, a move of TACoS between neighbouring levels, and a draw."""
    z = d.draw(x, generators(0, "draw", range(len(x))))
    random = d.snapped(severities(x), z)
    t, s = (torch.full((len(x),), v) for v in ((0.5, 0.4) if d.knots is None else (-(-d.knots // 2) / d.knots, (-(-d.knots // 2) - 1) / d.knots)))
    walk = TACoS()

    @torch.no_grad()
    def move() -> object:
        return walk.move(d, x, x, t, s, z, None)

    return {
        "batch": lambda: d(x, random, z),
        "move": move,
        "draw": lambda: d.draw(x, generators(0, "draw", range(len(x)))),
    }


def severities(x: Tensor) -> Tensor:
    """One for each sample, as training gives them."""
    return 1 - fractions(0, "severity", range(len(x))).to(x)


def largest(rows: list[dict[str, object]], kind: Kind) -> int:
    """The largest size at which matrices are at least as fast, and below which they always are, of the rows of :func:`ways`; 0 for none."""
    mine = sorted((float(str(row["px"])), float(str(row["ratio"]))) for row in rows if f": {kind} " in str(row["what"]))
    won = [i for i, (_, ratio) in enumerate(mine) if ratio < 1]
    first = won[0] if won else len(mine)
    return int(mine[first - 1][0]) if first else 0


def main() -> None:
    """Print the shares, or with --measure both ways of every operator that has two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="time both ways and print the table of this machine")
    parser.add_argument("--quick", action="store_true", help="a few rows, once each")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    options = parser.parse_args()
    if not options.measure:
        for row in measure(runs=options.runs, quick=options.quick):
            print(row)
        return
    sizes = (32,) if options.quick else tuple(BATCHES)
    rows = [row for px in sizes for row in ways(px, tuple(WAYS), runs=1 if options.quick else options.runs, least_s=0.005 if options.quick else 0.05)]
    for row in rows:
        print(f"{row['what']}, {row['px']} px: x {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}); taken: {row['taken']}")
    print({"cpu": {kind: largest(rows, kind) for kind in WAYS}})


if __name__ == "__main__":
    main()
