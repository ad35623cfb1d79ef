r"""Parameterizations: what the network predicts, and how that becomes an estimate of the clean sample.

All of them are one line of algebra around the same hub,

.. math:: \hat x_0 = m + c_{skip}\,(x_t - A m) + c_{out}\, F\big(c_{in}\,(x_t - A m),\, t\big),

with coefficients that are scalars (m = 0), or, for ``wiener``, diagonal in the basis in which the operator A is:

=========  ======================================  ================================  ==============================
name       c_skip                                  c_out                             c_in
=========  ======================================  ================================  ==============================
x0         0                                       1                                 1
residual   1                                       1                                 1
eps        1 / alpha                               -sigma / alpha                    1
v          alpha                                   -sigma                            1
flow       1                                       -t                                1
mu         -K / (alpha_s - K alpha)                1 / (alpha_s - K alpha)           1
edm        alpha s^2 / (alpha^2 s^2 + sigma^2)     s sigma / root(alpha^2 s^2        1 / root(alpha^2 s^2 + sigma^2)
                                                   + sigma^2)
wiener     A v / (A^2 v + sigma^2)                 root(v sigma^2 / (A^2 v           1 / root(A^2 v + sigma^2)
                                                   + sigma^2))
=========  ======================================  ================================  ==============================

``wiener`` gives the network what the best *linear* restorer already knows, for the data's own mean m and spectrum v: its
input has unit variance in every coefficient, its output is needed only where the linear answer is uncertain. At
v a number it is ``edm``, the preconditioning of Karras et al., with s the data's standard deviation. ``flow`` is the velocity z - x0 of a straight
line. ``mu`` is the mean of the step of a chain of T from t to s = t - 1/T, :math:`\alpha_s x_0 + K (x_t - \alpha x_0)` with
:math:`K = \alpha \sigma_s^2 / (\alpha_s \sigma^2)`: DDPM's first choice, and its worst.

All say the same, so each can be converted into each: :func:`converted`.

Source: Ho et al. 2020 (arXiv 2006.11239) for eps; Salimans and Ho 2022 (arXiv 2202.00512) for v; Karras et al. 2022
(arXiv 2206.00364), table 1, for the hub and edm; Liu et al. 2022 (arXiv 2209.03003) and Lipman et al. 2022
(arXiv 2210.02747) for flow; Ho et al. 2020, eq. 7, for mu; Wiener 1949 for the filter.
"""

import abc
import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations import Blend, Degradation
from snowmelt.degradations.base import Basis
from snowmelt.degradations.likelihood import steps, summed
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import Part, Range, SpecError, label, register, spec
from snowmelt.restorers.statistics import Statistics
from snowmelt.schedules import Linear
from snowmelt.types import Batch, Draw, Severity

_HAIR = 1e-7


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in broadcastable to the coefficients of x_t in `basis`, and the data's mean there (0 if None)."""

    skip: Tensor
    out: Tensor
    in_: Tensor
    basis: Basis = "pixel"
    mean: Tensor | None = None
    degraded_mean: Tensor | None = None


class Parameterization(Part, kind="parameterization"):
    """A choice of c_skip, c_out and c_in."""

    def check(self, degradation: Degradation) -> None:
        """Raise a SpecError if this parameterization does not fit the degradation; by default every one fits."""

    def basis(self, degradation: Degradation) -> Basis | None:
        """The basis in which statistics of the data are needed; None when they are not."""
        return None

    @abc.abstractmethod
    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """The coefficients for a batch shaped as `like` at severities t (b,), `floor` the noise added to every x_t."""


@register("x0")
@dataclass(frozen=True)
class X0(Parameterization):
    """The network returns the clean sample itself: the paper's choice."""

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(0, 1, 1)."""
        one = _column(torch.ones_like(t), like)
        return Coefficients(torch.zeros_like(one), one, one)


@register("residual")
@dataclass(frozen=True)
class Residual(Parameterization):
    """The network returns what is missing: x0 - x_t."""

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(1, 1, 1)."""
        one = _column(torch.ones_like(t), like)
        return Coefficients(one, one, one)


@register("eps", papers=("ho2020",))
@dataclass(frozen=True)
class Eps(Parameterization):
    """The network returns the noise: DDPM's choice. For Gaussian noise whose schedule keeps alpha(1) >= 1e-5.

    The table of Improved DDPM ends at 5e-5; there a prediction's error comes back 20,000 times as large in the estimate, and a walk undoes that
    to the last digits of float32, or clips it.
    """

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend, and schedules at whose end the noise says nothing of the sample."""
        alpha = float(_blend(self, degradation).schedule(torch.ones(1, dtype=torch.float64))[0])
        if alpha < 1e-5:
            raise SpecError(
                f"eps divides by alpha, which is {alpha:.1g} at t = 1 for {spec(degradation)!r}: "
                f"use parameterization {_instead(degradation)}, or a schedule that ends above 1e-5"
            )

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(1 / alpha, -sigma / alpha, 1)."""
        alpha, sigma = _schedule(self, degradation, like, t)
        return Coefficients(1 / alpha, -sigma / alpha, torch.ones_like(alpha))


@register("v", papers=("salimans2022",))
@dataclass(frozen=True)
class V(Parameterization):
    """The network returns v = alpha z - sigma x0, for variance-preserving schedules."""

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend, and schedules for which v does not determine x0 by (alpha, -sigma)."""
        t = torch.linspace(0, 1, 5, dtype=torch.float64)
        alpha, sigma = _blend(self, degradation).schedule(t)
        if not torch.allclose(alpha**2 + sigma**2, torch.ones_like(t), atol=1e-6):
            raise SpecError(f"v needs alpha^2 + sigma^2 = 1, which {spec(degradation)!r} does not keep: use {_instead(degradation)}")

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(alpha, -sigma, 1)."""
        alpha, sigma = _schedule(self, degradation, like, t)
        return Coefficients(alpha, -sigma, torch.ones_like(alpha))


@register("flow", papers=("liu2022", "lipman2022"))
@dataclass(frozen=True)
class Flow(Parameterization):
    """The network returns the velocity z - x0 of a straight line from the sample to the noise: flow matching, rectified flow."""

    def check(self, degradation: Degradation) -> None:
        """Refuse every schedule but the straight line, whose velocity does not depend on t."""
        if not isinstance(_blend(self, degradation).schedule, Linear):
            raise SpecError(f"flow is the velocity along a straight line, which {spec(degradation)!r} is not: take noise:schedule=linear, or v")

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(1, -t, 1)."""
        column = _column(t, like)
        one = torch.ones_like(column)
        return Coefficients(one, -column, one)


@register("mu", papers=("ho2020",))
@dataclass(frozen=True)
class Mu(Parameterization):
    """The network returns the mean of the posterior q(x_s | x_t, x0) of a chain's step, s = t - 1/T: what DDPM calls mu-tilde.

    To be trained with ``training.weight = "output"``: the estimate of x0 divides by the little that a step says of it.
    """

    steps: Annotated[int, Range(0, 100_000), "T; 0 for that of the schedule, or 1000 where it has none"] = 0

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend, and schedules at whose end a step says nothing of the sample."""
        one, name = torch.ones(1, dtype=torch.float64), spec(degradation)
        schedule, steps = _blend(self, degradation).schedule, self._steps(degradation)
        alpha = float(schedule(one - 1 / steps)[0])
        if alpha < 1e-4:
            raise SpecError(f"mu divides by alpha, which is {alpha:.1g} a step before t = 1 for {name!r}: use parameterization v or x0")
        alphas, sigmas = schedule(torch.arange(steps + 1, dtype=torch.float64) / steps)
        ratio = sigmas / alphas.clamp(min=1e-12)
        still = (ratio[1:] > 0) & (ratio[1:] <= ratio[:-1] * (1 + 1e-9))
        if bool(still.any()):
            at = int(still.nonzero()[0]) + 1
            raise SpecError(f"mu says nothing of x0 where a step adds no noise, as that to t = {at / steps:g} of {name!r} does: use x0 or edm")

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(-K, 1) / (alpha_s - K alpha), 1. In float64: the difference is small where t is large."""
        t = t.double() if t.device.type != "mps" else t
        schedule = _blend(self, degradation).schedule
        alpha, sigma = schedule(t)
        s = t - 1 / self._steps(degradation)
        alpha_s, sigma_s = schedule(torch.where(s < _HAIR, 0, s))  # 1/T in float32 is not 1/T, and some schedules leap from 0
        kept = alpha / alpha_s * sigma_s**2 / torch.where(sigma == 0, 1, sigma**2)
        by_step = 1 / (alpha_s - kept * alpha)
        skip, out = (_column(value, like).to(like) for value in (-kept * by_step, by_step))
        return Coefficients(skip, out, torch.ones_like(skip))

    def _steps(self, degradation: Degradation) -> int:
        return self.steps or steps(degradation)


@register("edm", papers=("karras2022",))
@dataclass(frozen=True)
class Edm(Parameterization):
    """The network's input and output have unit variance for data of one standard deviation: ``wiener`` with a number for a spectrum."""

    sigma_data: Annotated[float, Range(1e-3, 1e3), "standard deviation of the data"] = 0.5

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend."""
        _blend(self, degradation)

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """The table's row."""
        alpha, sigma = _schedule(self, degradation, like, t)
        noise = (sigma**2 + floor**2).sqrt()
        root = (alpha**2 * self.sigma_data**2 + noise**2).rsqrt()
        return Coefficients(alpha * self.sigma_data**2 * root**2, self.sigma_data * noise * root, root)


@register("wiener", papers=("wiener1949", "karras2022"))
@dataclass(frozen=True)
class Wiener(Parameterization):
    """The operator's own linear-Gaussian restorer as skip connection, for operators that are diagonal in a basis.

    `sigma_min` stands in for the noise of a noiseless x_t: .0023 is the rounding of an 8-bit file on [-1, 1].
    """

    sigma_min: Annotated[float, Range(1e-7, 1)] = 0.0023

    def check(self, degradation: Degradation) -> None:
        """Refuse operators that are diagonal in no basis."""
        if degradation.basis is None:
            raise SpecError(f"wiener needs an operator that is diagonal in a basis, which {spec(degradation)!r} is not: use residual")

    def basis(self, degradation: Degradation) -> Basis | None:
        """The operator's; the DCT for a scalar, which is diagonal in all."""
        return "dct" if degradation.basis == "any" else degradation.basis

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """The table's last row, with sigma and the root of v no less than `floor` and `sigma_min`."""
        assert statistics is not None  # noqa: S101 - the restorer makes them whenever basis() is not None
        mean, variance = statistics.at(tuple(like.shape[1:]))
        least = max(floor, self.sigma_min) ** 2
        noise = _column(degradation.sigma(t), like).square().clamp(min=least)
        gain = degradation.gain(tuple(like.shape[1:]), t, z)
        v = variance.clamp(min=least)
        total = gain.square() * v + noise
        centre = forward(mean[None], statistics.basis)
        return Coefficients(gain * v / total, (v * noise / total).sqrt(), total.rsqrt(), statistics.basis, mean, gain * centre)


def linear_estimate(c: Coefficients, x_t: Batch) -> tuple[Batch, Batch]:
    """What the hub gives for F = 0, and the input of F: both (b, c, h, w)."""
    width = x_t.shape[-1]
    centred = forward(x_t, c.basis) if c.basis != "pixel" else x_t
    if c.degraded_mean is not None:
        centred = centred - c.degraded_mean
    skip, inner = backward(c.skip * centred, c.basis, width), backward(c.in_ * centred, c.basis, width)
    return (skip if c.mean is None else skip + c.mean), inner


def scale_output(c: Coefficients, f: Batch) -> Batch:
    """c_out F, in the basis of the coefficients."""
    return backward(c.out * forward(f, c.basis), c.basis, f.shape[-1])


def output_error(c: Coefficients, error: Batch, *, least: float) -> Batch:
    """An error of the estimate of the clean sample as one of what the network returns: divided by c_out, which counts as at least `least`."""
    out = torch.where(c.out < 0, -1.0, 1.0) * c.out.abs().clamp(min=least)
    return backward(forward(error, c.basis) / out, c.basis, error.shape[-1])


def output_power(c: Coefficients, shape: tuple[int, ...]) -> Tensor:
    """The mean of c_out^2 over the coefficients of samples of `shape`: (b,). Of ``wiener`` what the linear restorer leaves open, per value."""
    return summed(c.out.square(), c.basis, shape) / math.prod(shape)


def converted(f: Batch, source: Coefficients, target: Coefficients, x_t: Batch, *, least: float = 0.0) -> Batch:
    """What a network of parameterization `target` would have to return to mean the same as `f` does in `source`: (b, *d).

    Args:
        f: the prediction, (b, *d).
        source: the coefficients of its parameterization at the severities of x_t.
        target: those of the other, which may be diagonal in another basis.
        x_t: the degraded samples.
        least: refuse to divide by less than this.

    Raises:
        ValueError: `target` does not determine the sample there: its c_out is 0.
    """
    if bool((target.out.abs() <= least).any()):
        raise ValueError("the other parameterization says nothing of the sample at one of these severities (its c_out is 0)")
    if source.basis == target.basis == "pixel":
        return ((source.skip - target.skip) * x_t + source.out * f) / target.out
    rest = linear_estimate(source, x_t)[0] + scale_output(source, f) - linear_estimate(target, x_t)[0]
    return backward(forward(rest, target.basis) / target.out, target.basis, x_t.shape[-1])


def _instead(degradation: Degradation) -> str:
    """The parameterizations that fit where another one does not."""
    schedule = _blend(X0(), degradation).schedule
    alpha, sigma = schedule(torch.linspace(0, 1, 5, dtype=torch.float64))
    if isinstance(schedule, Linear):
        return "flow or x0"
    return "v or x0" if torch.allclose(alpha**2 + sigma**2, torch.ones_like(alpha), atol=1e-6) else "edm or x0"


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *(1,) * (like.ndim - 1))


def _blend(part: Parameterization, degradation: Degradation) -> Blend:
    if not isinstance(degradation, Blend):
        name = label(type(part))
        raise SpecError(f"{name} needs x_t = alpha x0 + sigma z, which {spec(degradation)!r} is not: use x0, residual or wiener")
    return degradation


def _schedule(part: Parameterization, degradation: Degradation, like: Batch, t: Severity) -> tuple[Tensor, Tensor]:
    alpha, sigma = _blend(part, degradation).schedule(t)
    return _column(alpha, like), _column(sigma, like)
