"""What a degradation does to pictures, recordings or scans, measured: what it loses on the way, what is left at t = 1, how a walk forgives errors.

None of this is promised by the contract, all of it decides what a model of the operator can do. The measure of loss is the error of the best linear
estimate (:mod:`snowmelt.restorers.information`): a bound from above on what a network will miss, which ranks severities and costs no training.
"""

import dataclasses
from itertools import pairwise
from typing import Literal

import torch

from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.priors import GaussianMixture
from snowmelt.restorers.information import drawn, errors, middle, variance
from snowmelt.samplers import Naive, Sampler, TACoS
from snowmelt.testing.findings import Finding
from snowmelt.testing.oracles import astray
from snowmelt.testing.samples import signal_of
from snowmelt.types import Batch, State, severity

SEVERITIES = tuple(i / 12 for i in range(13))
_VALUES = 432  # of a picture whose loss is measured: 12 x 12 px in colour
CALLS = 12
_NOISE = 0.05  # in x_t when loss is measured: a pixel that is a tenth as strong counts as fainter, not only one that is gone
_FALL = 0.02  # of the variance: less is no fall
_RETURN = 0.1  # of its greatest distance from x0 that x_t may come back
_ERROR = 0.1  # of the restorers, on [-1, 1]
_LARGER, _TOO_MUCH = 1.5, 10.0  # times the restorer's error: to be known, and to be mended
_FEW = 32
_ALL = 0.9  # of the variance told: such a picture is no place to begin a new one
_GROW = "Let the strength grow with t. A walk adds at each step what the step restores, and here some of its steps would destroy."
_HELD = 0.98  # of the variance of x_1, by a prior that describes it


def loses(d: Degradation, x0: Batch) -> tuple[Finding, float]:
    """Whether a larger severity ever tells more of x0 than a smaller one; and the share of the variance that t = 1 still tells."""
    x0 = _window(d, x0)
    whole = variance(x0)
    cases = errors(d, x0, SEVERITIES, sigma=_NOISE) / whole
    lost = cases.mean(1)
    found = Finding(
        "monotone",
        True,
        "The more severe, the less a picture may tell: as t grows, the error of the best linear estimate of x0 from x_t (with some noise) "
        "must not fall, and x_t must not come back towards x0.",
        "of the variance of x0 is lost: " + ", ".join(f"{float(lost[i]):.0%} at t = {SEVERITIES[i]:g}" for i in (3, 6, 9, 12)),
        measured={f"lost at {t:.3g}": float(share) for t, share in zip(SEVERITIES, lost, strict=True)},
    )
    for i in range(1, len(SEVERITIES)):
        top = int(lost[:i].argmax())
        paired = cases[top] - cases[i]
        doubt = float(paired.std() / len(paired) ** 0.5) if len(paired) > 1 else 0.0
        if float(paired.mean()) > max(_FALL, 3 * doubt):
            rising = next((b for a, b in pairwise(range(i, len(SEVERITIES))) if lost[b] > lost[a]), len(SEVERITIES))
            low = i + int(lost[i:rising].argmin())
            high, deep = (f"{float(lost[k]):.0%}" for k in (top, low))
            fall = f"falls from {high} of the variance at t = {SEVERITIES[top]:.2g} to {deep} at t = {SEVERITIES[low]:.2g}"
            return dataclasses.replace(found, passed=False, seen=f"the loss {fall}", advice=_GROW), 1 - float(lost[-1])
    if returns := _returns(d, x0):
        return dataclasses.replace(found, passed=False, seen=returns, advice=_GROW), 1 - float(lost[-1])
    return found, 1 - float(lost[-1])


def _window(d: Degradation, x0: Batch) -> Batch:
    """A part of every sample that is small enough: the middle of a picture or recording, some columns of a scan with all its rings."""
    if d.takes is None:
        return middle(x0, _VALUES)
    n, most = x0.shape[-1], max(_VALUES // x0[0, ..., 0].numel(), 1)
    first = max((n - most) // 2, 0)
    return x0[..., first : first + most]


def _returns(d: Degradation, x0: Batch) -> str:
    """What to say where x_t comes back towards x0 as t grows; nothing where it does not."""
    z = drawn(d, x0)
    away = torch.stack([(d(x0, severity(t, x0), z) - x0).square().mean().sqrt() for t in SEVERITIES])
    far = int(away.argmax())
    near = far + int(away[far:].argmin())
    if float(away[near]) >= (1 - _RETURN) * float(away[far]):
        return ""
    return (
        f"x_t is {float(away[far]):.2f} away from x0 at t = {SEVERITIES[far]:.2g} (root mean square on [-1, 1]), "
        f"yet only {float(away[near]):.2f} at t = {SEVERITIES[near]:.2g}"
    )


def left(d: Degradation, x0: Batch, told: float) -> Finding:
    """What is left at t = 1, and which prior describes it; `told` is the share of the variance that a linear estimate finds in it."""
    x = d(x0, severity(1.0, x0), drawn(d, x0))
    prior, what = _law(d, x, x0, told)
    share = f"a linear estimate still finds {max(told, 0):.1%} of the variance of x0 in it"
    use = f"A model can generate with the prior {prior}" if prior else "A model can restore"
    return Finding(
        "end",
        True if prior else None,
        "What is left at t = 1 decides whether new samples can be made: their walk begins with a prior of x_1.",
        f"at t = 1, {what}; {share}. {use}",
        "" if prior else _no_prior(told),
        {"variance told": told, "variance of x_1": variance(x), "variance of x_0": variance(x0)},
    )


def forgives(d: Degradation, x0: Batch) -> Finding:
    """How large an error of the restorer comes out of a walk, with Algorithms 1 and 2."""
    x0 = x0[:_FEW]
    z = drawn(d, x0)
    start = State(d(x0, severity(1.0, x0), z), 1.0, z)
    grown: dict[str, float] = {}
    kinds: tuple[Literal["smooth", "random"], ...] = ("smooth", "random")
    samplers: dict[str, Sampler] = {"Algorithm 2": TACoS(steps=CALLS, snap=True), "Algorithm 1": Naive(steps=CALLS, snap=True)}
    for name, sampler in samplers.items():
        for how in kinds:
            out = sampler.sample(Model(d, astray(x0, _ERROR, how)), start)
            grown[f"{name}, {how}"] = float((out - x0).square().mean().sqrt()) / _ERROR
    two, one = ([grown[f"{name}, {how}"] for how in kinds] for name in samplers)
    seen = (
        f"of a smooth error in every estimate Algorithm 2 returns {two[0]:.2f} and Algorithm 1 {one[0]:.2f}; "
        f"of errors that differ from call to call, {two[1]:.2f} and {one[1]:.2f} ({CALLS} calls): {_verdict(two, one)}"
    )
    return Finding(
        "forgives",
        None if _LARGER < max(two) <= _TOO_MUCH else max(two) <= _LARGER,
        "A restorer errs; a walk should not make its errors larger. Restorers with a known error walk from t = 1 to 0.",
        seen,
        "" if max(two) <= _LARGER else "Use one call, or the sampler naive; or let the operator change less of x between neighbouring severities.",
        grown,
    )


def _verdict(two: list[float], one: list[float]) -> str:
    if max(two) > _LARGER:
        return "Algorithm 2 makes errors larger here"
    if sum(two) < 0.95 * sum(one):
        return "Algorithm 2 forgives more of such errors; what a trained model's own do, 'snowmelt evaluate RUN' measures"
    return "neither algorithm is ahead" if sum(two) <= 1.05 * sum(one) else "Algorithm 1 is ahead here"


def _no_prior(told: float) -> str:
    if told > 0.5:
        return "Much is left, so a model restores and does not generate; that needs a greater strength at t = 1, or '+noise' behind the operator."
    return "No simple law fits. To generate all the same, start from degraded samples of the data: the prior from-data."


def _law(d: Degradation, x: Batch, x0: Batch, told: float) -> tuple[str, str]:
    """The prior that describes x_1, "" for none, and what x_1 is, in words."""
    tiny, one, pictures = 1e-3 * variance(x0), signal_of(d).one, d.takes is None
    flat = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
    if float((x - flat).square().mean()) < tiny:
        colours = ", ".join(f"{round(float(v), 2) + 0.0:g}" for v in flat.mean(0).flatten())
        if variance(flat) < tiny:
            return "constant", f"every {one} is {'the colour ' if pictures else ''}({colours})"
        if told < 0.005:
            return "constant", f"every {one} is one {'colour' if pictures else 'number'}, which says nothing of x0"
        return "gaussian-mixture:grid=1", "every channel is constant"
    if told < 0.01 and _is_white(x):
        return "normal", "nothing but standard normal noise is left"
    if told > _ALL:
        return "", f"almost all of the {one} is left"
    for cells in (c for c in (1, 2, 4, 8) if pictures and 2 * c <= x.shape[-1]):
        prior = GaussianMixture(grid=cells)
        if (held := prior.fit([x]).explained) > _HELD > prior.fit([x0]).explained:  # else the clean pictures are as simple
            block = f"the means of blocks of {x.shape[-1] // cells} px say {held:.0%} of what is left"
            return f"gaussian-mixture:grid={cells} (for pictures of {x.shape[-1]} px; larger ones need as many more cells)", block
    return "", f"the {one} is changed, and its law is no simple one" if told < 0.01 else f"something of the {one} is left"


def _is_white(x: Batch) -> bool:
    """Whether values are standard normal, as far as mean, size and neighbours tell."""
    beside = float((x[..., 1:] * x[..., :-1]).mean())
    return abs(float(x.mean())) < 0.05 and abs(float(x.std()) - 1) < 0.05 and abs(beside) < 0.05
