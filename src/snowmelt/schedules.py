r"""Schedules: how much of the sample and how much of the endpoint is left at severity t.

A schedule maps t in [0, 1] to :math:`(\alpha_t, \sigma_t)` of

.. math:: x_t = \alpha_t\, x_0 + \sigma_t\, z, \qquad (\alpha_0, \sigma_0) = (1, 0).

Severity is continuous: a number of steps belongs to a sampler, and to :class:`Betas`, whose table it is.
Between the knots of a table, :math:`\bar\alpha = \alpha^2` is interpolated, not alpha and sigma, so that
:math:`\alpha^2 + \sigma^2 = 1` holds everywhere.
"""

import abc
import functools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.registry import Part, Range, register


class Schedule(Part, kind="schedule"):
    """A map t -> (alpha, sigma) with (1, 0) at t = 0. A frozen dataclass; every value is a pure function of t."""

    @property
    def knots(self) -> int | None:
        """T when the schedule is a table over t = i/T; None when it is a formula."""
        return None

    @abc.abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at t in [0, 1], in the shape and dtype of `t`."""


@register("linear")
@dataclass(frozen=True)
class Linear(Schedule):
    """Straight lines, alpha = 1 - t and sigma = t: rectified flow, InDI.

    Source: Liu et al. 2022 (arXiv 2209.03003); Delbracio and Milanfar 2023 (arXiv 2303.11435), eq. 3.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t


@register("cosine")
@dataclass(frozen=True)
class Cosine(Schedule):
    """A quarter turn, alpha = cos(pi t / 2) and sigma = sin(pi t / 2): variance is kept.

    The table of Nichol and Dhariwal, with its offset and clipped betas, is ``betas:kind=cosine``.

    Source: Salimans and Ho 2022 (arXiv 2202.00512), section 4.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # cos(pi/2) is 6e-17, not 0: at t = 1 nothing of the sample may be left.
        return torch.where(t >= 1, 0.0, torch.cos(t * (math.pi / 2))), torch.sin(t * (math.pi / 2))


@register("ve")
@dataclass(frozen=True)
class VE(Schedule):
    """Noise on top, alpha = 1 and sigma = sigma_max t: the variance explodes, the sample stays. A camera's noise.

    Source: Song et al. 2021 (arXiv 2011.13456), the variance-exploding process, here with sigma proportional to t.
    """

    sigma_max: Annotated[float, Range(0, 1000), "standard deviation at t = 1, on the range of the data"] = 0.4

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_max * t


@register("betas")
@dataclass(frozen=True)
class Betas(Schedule):
    """DDPM's table: alpha_t^2 = prod (1 - beta_i) at the knots t = i/T, exactly.

    Source: Ho et al. 2020 (arXiv 2006.11239), section 4; the cosine curve: Nichol and Dhariwal 2021
    (arXiv 2102.09672), eq. 17, with offset .008 and betas clipped at .999.
    """

    steps: Annotated[int, Range(1, 100_000)] = 1000
    beta_min: Annotated[float, Range(0, 1)] = 1e-4
    beta_max: Annotated[float, Range(0, 1)] = 0.02
    kind: Literal["linear", "cosine"] = "linear"

    @property
    def knots(self) -> int:
        """T: the number of betas."""
        return self.steps

    def betas(self) -> Tensor:
        """beta_1 ... beta_T: (T,), float64."""
        if self.kind == "linear":
            return torch.linspace(self.beta_min, self.beta_max, self.steps, dtype=torch.float64)
        angle = (torch.arange(self.steps + 1, dtype=torch.float64) / self.steps + 0.008) / 1.008 * (math.pi / 2)
        bar = torch.cos(angle) ** 2
        return (1 - bar[1:] / bar[:-1]).clamp(max=0.999)

    def alpha_bar(self) -> Tensor:
        """alpha^2 at t = 0, 1/T, ..., 1: (T + 1,), float64."""
        return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.betas(), 0)])

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        bar = between_knots(_alpha_bar(self, t.device), t)
        return bar.sqrt().to(t.dtype), (1 - bar).sqrt().to(t.dtype)


@functools.lru_cache(maxsize=32)
def _alpha_bar(schedule: Betas, device: torch.device) -> Tensor:
    """The table on a device; float32 where the device has no float64."""
    return schedule.alpha_bar().to(device, torch.float32 if device.type == "mps" else torch.float64)


def knot(t: Tensor, steps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Where t stands in a table over t = i/T: the index of the knot below, and how far on in [0, 1].

    A t that is i/T up to rounding is put on the knot, so that float32 severities meet the table exactly.
    """
    at = t.to(torch.float32 if t.device.type == "mps" else dtype) * steps
    nearest = at.round()
    at = torch.where((at - nearest).abs() < 1e-6 * steps if t.dtype != torch.float64 else (at - nearest).abs() < 1e-9, nearest, at)
    below = at.floor().clamp(0, steps - 1)
    return below.long(), at - below


def between_knots(table: Tensor, t: Tensor) -> Tensor:
    """A table over t = 0, 1/T, ..., 1 along its first axis, linear in between; t of any shape gives (*t, *rest)."""
    below, on = knot(t, len(table) - 1, table.dtype)
    low, high = table[below], table[below + 1]
    return torch.lerp(low, high, on.reshape((*on.shape, *(1,) * (table.ndim - 1))))
