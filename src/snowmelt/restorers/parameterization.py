r"""Parameterizations: what the network predicts, and how that becomes an estimate of the clean sample.

All of them are one line of algebra around the same hub,

.. math:: \hat x_0 = m + c_{skip}\,(x_t - A m) + c_{out}\, F\big(c_{in}\,(x_t - A m),\, t\big),

with coefficients that are scalars (m = 0), or, for ``wiener``, diagonal in the basis in which the operator A is:

=========  =========================  ==================  ======================
name       c_skip                     c_out               c_in
=========  =========================  ==================  ======================
x0         0                          1                   1
residual   1                          1                   1
eps        1 / alpha                  - sigma / alpha     1
v          alpha                      - sigma             1
wiener     A v / (A^2 v + sigma^2)    sqrt(v sigma^2 /    1 / sqrt(A^2 v +
                                      (A^2 v + sigma^2))  sigma^2)
=========  =========================  ==================  ======================

``wiener`` gives the network what the best *linear* restorer already knows, for the data's own mean m and spectrum v: its
input has unit variance in every coefficient, its output is needed only where the linear answer is uncertain. At A = 1 and
v a number it is the preconditioning of Karras et al.

Source: Ho et al. 2020 (arXiv 2006.11239) for eps; Salimans and Ho 2022 (arXiv 2202.00512) for v; Karras et al. 2022
(arXiv 2206.00364), table 1, for the hub; Wiener 1949 for the filter.
"""

import abc
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations import Blend, Degradation
from snowmelt.degradations.base import Basis
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import Part, Range, SpecError, label, register, spec
from snowmelt.restorers.statistics import Statistics
from snowmelt.types import Batch, Draw, Severity


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


@register("eps")
@dataclass(frozen=True)
class Eps(Parameterization):
    """The network returns the noise: DDPM's choice. For Gaussian noise whose schedule keeps alpha(1) >= 1e-4."""

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend, and schedules at whose end the noise says nothing of the sample."""
        alpha = float(_blend(self, degradation).schedule(torch.ones(1, dtype=torch.float64))[0])
        if alpha < 1e-4:
            raise SpecError(
                f"eps divides by alpha, which is {alpha:.1g} at t = 1 for {spec(degradation)!r}: "
                "use parameterization v or x0, or a schedule that ends above 1e-4"
            )

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(1 / alpha, -sigma / alpha, 1)."""
        alpha, sigma = _schedule(self, degradation, like, t)
        return Coefficients(1 / alpha, -sigma / alpha, torch.ones_like(alpha))


@register("v")
@dataclass(frozen=True)
class V(Parameterization):
    """The network returns v = alpha z - sigma x0, for variance-preserving schedules."""

    def check(self, degradation: Degradation) -> None:
        """Refuse what is no blend, and schedules for which v does not determine x0 by (alpha, -sigma)."""
        t = torch.linspace(0, 1, 5, dtype=torch.float64)
        alpha, sigma = _blend(self, degradation).schedule(t)
        if not torch.allclose(alpha**2 + sigma**2, torch.ones_like(t), atol=1e-6):
            raise SpecError(f"v needs alpha^2 + sigma^2 = 1, which {spec(degradation)!r} does not keep: use x0 or residual")

    def coefficients(
        self, degradation: Degradation, statistics: Statistics | None, like: Batch, t: Severity, z: Draw, floor: float
    ) -> Coefficients:
        """(alpha, -sigma, 1)."""
        alpha, sigma = _schedule(self, degradation, like, t)
        return Coefficients(alpha, -sigma, torch.ones_like(alpha))


@register("wiener")
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
