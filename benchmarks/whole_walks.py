"""Restoration from end to end: the paper's loop and network against ours, the same trajectory, and a walk of 12 calls of order 2."""

from collections.abc import Callable
from typing import NamedTuple

import nets
import paper
import torch
from contest import Row, goal, middle, spread
from timing import Ratio, over, seconds
from torch import Tensor, nn

import snowmelt
from snowmelt.degradations import RecursiveBlur
from snowmelt.model import Model
from snowmelt.restorers import Restorer
from snowmelt.restorers.backbones import UNet
from snowmelt.samplers import Sampler, TACoS

TITLE = "A restoration"
ABOUT = (
    "The paper's code, its blur by convolutions in every step and its network in fp32, against the closed form and the lean network in "
    "bf16, networks of equal parameters (within "
    "10 %), degradation, network and updates together. *Same trajectory*: Algorithm 2 at the same T severities, the same steps of both. "
    "*12 calls*: a walk of order 2 against the "
    "paper's T calls; how good it is against Algorithm 2's many is measured in [few calls](calls.md), not here. Where only some of the "
    "paper's steps are timed, evenly spaced about their middle, the "
    "row says how many, and each stands for its stride: the paper's whole walk is taken to cost as many times more. walks/s of a part of a walk are "
    "not given."
)
GOALS = {"same trajectory": 10.0, "12 calls": 50.0}
CALLS = 12


class Case(NamedTuple):
    """One recipe: how many pictures, and which of the paper's steps are timed."""

    what: str
    spec: str
    shape: tuple[int, int, int]
    pictures: int
    every: int
    rounds: int


_GROWING = "recursive-blur:routine=exponential,kernel_size=15,kernel_std=0.01"
CASES = (
    Case("MNIST 32 px, T = 20", "recursive-blur:steps=20", (1, 32, 32), 64, 1, 1),
    Case("CIFAR 32 px, T = 50", "recursive-blur:routine=special-6,steps=50", (3, 32, 32), 64, 5, 2),
    Case("128 px, T = 200, mirrored", f"{_GROWING},steps=200,padding=reflect", (3, 128, 128), 1, 4, 1),
)
QUICK = Case("8 px, T = 4", "recursive-blur:steps=4,kernel_size=3", (1, 8, 8), 2, 1, 1)


def measure(*, runs: int, quick: bool) -> list[Row]:
    """Two rows for each recipe."""
    return [row for case in ((QUICK,) if quick else CASES) for row in rows(case, min(runs, case.rounds))]


def rows(case: Case, rounds: int) -> list[Row]:
    """One recipe, both walks against the paper's."""
    blur = snowmelt.build(case.spec)
    x = torch.empty(case.pictures, *case.shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    x = blur(x, torch.ones(len(x)))
    steps = timed_steps(blur.steps, case.every)
    small = case is QUICK
    theirs, mine = theirs_of(case, small=small), model_of(case, blur, small=small)
    ways: dict[str, Callable[[], object]] = {
        "paper": lambda: paper.walk(theirs, blur, x, steps),
        "same trajectory": lambda: ours(mine, TACoS(snap=True, steps=blur.steps), x, None if case.every == 1 else set(steps)),
        "12 calls": lambda: ours(mine, TACoS(steps=min(CALLS, blur.steps), order=2, snap=True), x),
    }
    # One step of each before the clock starts: a whole walk of the paper's would be too long a warm-up.
    paper.walk(theirs, blur, x, [1])
    ours(mine, TACoS(steps=1), x)
    times = [seconds({name: way}, runs=1, least_s=0.0, warm=False)[name][0] for _ in range(rounds) for name, way in ways.items()]
    loop = times[0 :: len(ways)]
    timed = f"{len(steps)} of {blur.steps}" if case.every > 1 else "all"
    found = {name: over(loop, times[i :: len(ways)]) for i, name in enumerate(ways)}
    found["12 calls"] = Ratio(*(value * case.every for value in found["12 calls"]))  # ours is whole, and theirs one step of each stride
    calls = {"same trajectory": len(steps), "12 calls": min(CALLS, blur.steps)}
    return [_row(case, name, found[name], timed, n, loop) for name, n in calls.items()]


def _row(case: Case, name: str, ratio: Ratio, timed: str, calls: int, loop: list[float]) -> Row:
    what = f"{case.what}, {case.pictures} picture{'s' * (case.pictures > 1)}: {name}"
    whole = case.every == 1 or name != "same trajectory"  # else what was timed of ours is no walk
    per_s = {"walks/s": case.pictures / (middle(loop) * case.every / ratio.median)} if whole else {}
    return {"what": what, "the paper's steps": timed, "our calls": calls, **per_s, **spread(ratio), **goal(GOALS, name)}


def timed_steps(steps: int, every: int) -> range:
    """One step of each stride, its middle one: the paper's step t takes 2 t - 1 convolutions, and their mean is to be that of all steps."""
    return range(steps - every // 2, 0, -every)


def theirs_of(case: Case, *, small: bool = False) -> nn.Module:
    """The paper's network for these pictures."""
    torch.manual_seed(0)
    return paper.ConvNeXtUNet(case.shape[0], 8 if small else 32, (1, 2, 4)).eval()


def model_of(case: Case, blur: RecursiveBlur, *, small: bool = False) -> Model:
    """Ours, untrained, preconditioned as it would be, with a floor of noise."""
    torch.manual_seed(0)
    restorer = Restorer(blur, UNet(widths=nets.SMALL if small else nets.WIDTHS), case.shape, noise_floor=0.01)
    restorer.fit([torch.rand(8, *case.shape) * 2 - 1]).eval()
    restorer.precision = "bf16"
    return Model(blur, restorer, noise_floor=0.01)


@torch.no_grad()
def ours(model: Model, sampler: Sampler, x: Tensor, only: set[int] | None = None) -> Tensor:
    """A walk; with `only`, the moves that begin at these knots, each from x."""
    start = model.corrupt(x, 0.0)._replace(x=x, t=1.0)
    if only is None:
        return sampler.sample(model, start)
    knots = model.degradation.knots
    for knot in sorted(only, reverse=True):
        t, s = (torch.full((len(x),), value / knots) for value in (knot, knot - 1))
        x, _ = sampler.move(model.degradation, x, model.estimate(x, t, start.z), t, s, start.z, None)
    return x
