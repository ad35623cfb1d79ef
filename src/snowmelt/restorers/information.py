r"""How much of a picture is lost at severity t, and severities that lose equally much from one to the next.

The measure is the mean square error of the best estimate of x0 that is linear in x_t,

.. math:: e(t) = \frac1d\,\mathrm{tr}\left(C - C A_t^\top (A_t C A_t^\top + (\sigma_t^2 + \varsigma^2) I)^{-1} A_t C\right),

for pictures of d values and covariance C. It is 0 where nothing is lost and the variance of the data where everything is; its
:math:`\varsigma` = .0023, the rounding of an 8-bit file on [-1, 1], says that detail below it is gone. For an operator that is affine in x for a
fixed draw this is exact, the mean over a few draws. For any other, and where the draw hides something besides noise, x0 is regressed on x_t:
ridge regression on half of the pictures, its error measured on the other half.

:func:`spaced` gives severities :math:`t_1 > \dots > t_n` with equal steps of :math:`e(t)^p` between them and 0: p = 1 spends the calls on variance,
p = 1/2 on amplitude. What either is worth against uniform severities is measured, not proved: docs, "Your own degradation".

Source: Hoerl and Kennard 1970, "Ridge regression"; the best linear estimate: :mod:`snowmelt.restorers.linear`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Choice, Degradation, Several
from snowmelt.randomness import generators, permutation
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.types import Batch, Draw, severity

FLOOR = 0.0023  # standard deviation of the rounding to 8 bits, on [-1, 1]
DRAWS = 4
_RIDGES = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 1e3)  # in units of the mean variance of x_t


def closed_form(degradation: Degradation) -> bool:
    """Whether the error has a formula: affine in x, and nothing unknown but white noise."""
    return degradation.linear and not {*degradation.hidden, *degradation.recovered} - set(degradation.noise)


def errors(
    degradation: Degradation, x0: Batch, severities: Sequence[float], *, sigma: float = FLOOR, draws: int = DRAWS, seed: int = 0
) -> Tensor:
    """Mean square errors of the best linear estimate: (severities, cases), float64.

    A case is one draw, or where there is no formula one picture; the same cases at every severity, so that differences between
    severities are paired.

    Args:
        degradation: D.
        x0: clean pictures (b, *d), at least 8; d values cost d^3.
        severities: in [0, 1].
        sigma: standard deviation of the noise that is added to x_t.
        draws: how many, where the degradation draws something besides noise.
        seed: of the draws.

    Raises:
        ValueError: fewer than 8 pictures, or a choice, whose parts each have losses of their own.
    """
    if several := _choice(degradation):
        kinds = ", ".join(registry.spec(part) for part in several.parts)
        raise ValueError(f"choice loses as much as the part it chooses, so no severity of it has one error: take one part of {kinds}")
    if len(x0) < 8:
        raise ValueError(f"{len(x0)} pictures are too few to measure a covariance: give at least 8")
    x0 = x0.double().cpu()
    if not closed_form(degradation):
        return _regressed(degradation, x0, severities, sigma, seed)
    best = LinearRestorer(degradation, [x0], sigma)
    z = degradation.draw(x0[:draws], generators(seed, "information", range(min(draws, len(x0)))))
    known = {name: value for name, value in z.items() if name not in degradation.noise}
    cases = [{name: value[i : i + 1] for name, value in known.items()} for i in range(min(draws, len(x0)) if known else 1)]
    found = [[best.expected_error(t, case) for case in cases] for t in severities]
    return torch.tensor(found, dtype=torch.float64)


def drawn(degradation: Degradation, x0: Batch, seed: int = 0) -> Draw:
    """A draw for every picture. Where it needs samples of other data, which no chance makes, other pictures of the batch stand in, mirrored."""
    z = dict(degradation.draw(x0, generators(seed, "information", range(len(x0)))))
    others = x0.roll(1, 0).flip(-1)
    return z | {name: others for name in degradation.needs if z[name].shape == x0.shape}


def middle(x0: Batch, values: int) -> Batch:
    """The largest square in the middle of pictures (b, c, h, w) that has at most so many values; the pictures themselves where they have not more."""
    c, h, w = x0.shape[1:]
    if c * h * w <= values:
        return x0
    side = max(min(int((values / c) ** 0.5), h, w), 1)
    top, left = (h - side) // 2, (w - side) // 2
    return x0[..., top : top + side, left : left + side]


def variance(x0: Batch) -> float:
    """The mean square deviation of pictures (b, *d) from their mean picture: the error of knowing nothing."""
    return float((x0.double() - x0.double().mean(0)).square().mean())


def spaced(severities: Sequence[float], error: Sequence[float], n: int, *, power: float = 1.0) -> list[float]:
    """N severities, falling from the last of `severities`, with equal steps of error^power between them and the first one.

    Args:
        severities: rising, from 0 to where the walk starts.
        error: the mean square error at each of them; where it falls, its running maximum counts.
        n: how many.
        power: 1 for equal steps of mean square error, 1/2 for equal steps of its root.

    Raises:
        ValueError: nothing is lost between the first severity and the last, so that no spacing is better than another.
    """
    lost = np.maximum.accumulate(np.asarray(error, dtype=float)) ** power
    lost = lost - lost[0]
    if not lost[-1] > 0:
        raise ValueError("nothing is lost between the severities, as far as a linear estimate can tell: any spacing is as good as another")
    t = np.asarray(severities, dtype=float)
    lost = lost / lost[-1] + 1e-9 * (t - t[0])  # strictly rising, so that it can be inverted
    wanted = np.linspace(lost[-1], lost[0], n + 1)[1:-1]
    return [float(t[-1]), *(float(v) for v in np.interp(wanted, lost, t))]


def on_distinct_knots(times: Sequence[float], knots: int) -> list[float]:
    """Falling severities moved to the nearest knots i/T, no two on one: as many as there are, or all knots up to the first where there are fewer."""
    first = max(round(times[0] * knots), 1)
    if len(times) >= first:
        return [i / knots for i in range(first, 0, -1)]
    out: list[int] = []
    for left, t in zip(range(len(times) - 1, -1, -1), times, strict=True):
        highest = first if not out else out[-1] - 1
        out.append(min(highest, max(round(t * knots), left + 1)))
    return [i / knots for i in out]


def _choice(degradation: Degradation) -> Choice | None:
    """The choice that a degradation is, or the first among its parts."""
    if isinstance(degradation, Choice):
        return degradation
    parts = degradation.parts if isinstance(degradation, Several) else ()
    return next((found for part in parts if (found := _choice(part))), None)


def _regressed(d: Degradation, x0: Batch, severities: Sequence[float], sigma: float, seed: int) -> Tensor:
    """The squared errors of x0 regressed on x_t, of each picture of the second half: (severities, b - b // 2)."""
    x0 = x0[permutation(seed, "information-halves", 0, len(x0))]
    z = drawn(d, x0, seed)
    return torch.stack([_ridge(d(x0, severity(t, x0), z).flatten(1), x0.flatten(1), sigma) for t in severities])


def _ridge(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Mean square errors (rows of the second half,) of y predicted from x by the best of a few ridges."""
    half = len(x) // 2
    x_mean, y_mean = x[:half].mean(0), y[:half].mean(0)
    fit, test = x[:half] - x_mean, x[half:] - x_mean
    values, vectors = torch.linalg.eigh(fit.mT @ fit / half)
    values = values.clamp(min=0)
    cross = vectors.mT @ (fit.mT @ (y[:half] - y_mean)) / half
    seen, best = test @ vectors, torch.full((len(y) - half,), torch.inf, dtype=y.dtype)
    for ridge in _RIDGES:
        gains = cross / (values + sigma**2 + ridge * values.mean())[:, None]
        error = (seen @ gains + y_mean - y[half:]).square().mean(1)
        if error.mean() < best.mean():
            best = error
    return best
