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

from snowmelt.references import When
from snowmelt.registry import Part, Range, SpecError, label, register

_BISECTIONS = 54  # as many as float64 has digits
_LOOKS = 1000  # severities at which a schedule is looked at
_ROUNDING = 1e-9
ON_KNOT = 1e-6  # how far a float32 severity may be from the knot that it is


class Schedule(Part, kind="schedule"):
    """A map t -> (alpha, sigma) with (1, 0) at t = 0. A frozen dataclass; every value is a pure function of t."""

    @property
    def knots(self) -> int | None:
        """T when the schedule is a table over t = i/T; None when it is a formula."""
        return None

    @abc.abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at t in [0, 1], in the shape and dtype of `t`."""

    def severity_at(self, ratio: Tensor) -> Tensor:
        """The severity t at which sigma / alpha has reached `ratio`, in its shape and dtype: by bisection, or by a formula where there is one.

        The least such t where the ratio stands still; 1 where it is never reached.
        """
        wanted = ratio.to(torch.float32 if ratio.device.type == "mps" else torch.float64)
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            alpha, sigma = self(middle)
            reached = sigma >= wanted * alpha  # and not sigma / alpha, for alpha may be 0
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        return torch.where(wanted > 0, high, 0).to(ratio.dtype)


@register("linear", papers=("liu2022", "delbracio2023"))
@dataclass(frozen=True)
class Linear(Schedule):
    """Straight lines, alpha = 1 - t and sigma = t: rectified flow, InDI.

    Source: Liu et al. 2022 (arXiv 2209.03003); Delbracio and Milanfar 2023 (arXiv 2303.11435), eq. 3.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def severity_at(self, ratio: Tensor) -> Tensor:
        ratio = ratio.clamp(min=0)  # 1 - 1 / (1 + ratio) would lose the digits of a small one
        return torch.where(ratio.isinf(), 1, ratio / (1 + ratio))


@register("cosine", papers=("salimans2022",))
@dataclass(frozen=True)
class Cosine(Schedule):
    """A quarter turn, alpha = cos(pi t / 2) and sigma = sin(pi t / 2): variance is kept.

    The table of Nichol and Dhariwal, with its offset and clipped betas, is ``betas:kind=cosine``.

    Source: Salimans and Ho 2022 (arXiv 2202.00512), section 4.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # cos(pi/2) is 6e-17, not 0: at t = 1 nothing of the sample may be left.
        return torch.where(t >= 1, 0.0, torch.cos(t * (math.pi / 2))), torch.sin(t * (math.pi / 2))


@register("ve", papers=("song2021",))
@dataclass(frozen=True)
class VE(Schedule):
    """Noise on top, alpha = 1 and sigma = sigma_max t: the variance explodes, the sample stays. A camera's noise.

    Source: Song et al. 2021 (arXiv 2011.13456), the variance-exploding process, here with sigma proportional to t.
    """

    sigma_max: Annotated[float, Range(0, 1000), "standard deviation at t = 1, on the range of the data"] = 0.4

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_max * t

    def severity_at(self, ratio: Tensor) -> Tensor:
        return (ratio / self.sigma_max).clamp(0, 1) if self.sigma_max else (ratio > 0).to(ratio)


@register("geometric", papers=("song2019", "song2020improved"))
@dataclass(frozen=True)
class Geometric(Schedule):
    """NCSN's ladder of noises: alpha = 1, sigma at the knots t = 1/L, ..., 1 a geometric sequence, and 0 at t = 0.

    Between the knots the sequence goes on in the logarithm; below the first, sigma falls to 0 in a straight line.

    Source: Song and Ermon 2019 (arXiv 1907.05600), section 4.1, with L = 10, sigma from 0.01 to 1; the defaults are those of Song and Ermon 2020
    (arXiv 2006.09011) for CIFAR-10, whose largest sigma is the largest distance between two pictures.
    """

    sigma_min: Annotated[float, Range(1e-6, 1000), "standard deviation of the first rung, t = 1/L"] = 0.01
    sigma_max: Annotated[float, Range(1e-6, 1000), "standard deviation at t = 1"] = 50.0
    steps: Annotated[int, Range(2, 100_000), "L, the number of rungs"] = 232

    def __post_init__(self) -> None:
        """Check the fields, and that the ladder rises."""
        super().__post_init__()
        _rises(self, self.sigma_min, self.sigma_max)

    @property
    def knots(self) -> int:
        """L."""
        return self.steps

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        at = t * self.steps - 1
        rung = self.sigma_min * (self.sigma_max / self.sigma_min) ** (at / (self.steps - 1)).clamp(min=0)
        return torch.ones_like(t), torch.where(at < 0, self.sigma_min * t * self.steps, rung)


@register("karras", papers=("karras2022",))
@dataclass(frozen=True)
class Karras(Schedule):
    r"""The noises of EDM: alpha = 1, and for t > 0 the rho-th root of sigma is a straight line from sigma_min to sigma_max; 0 at t = 0.

    .. math:: \sigma(t) = \left((1 - t)\, \sigma_{min}^{1/\rho} + t\, \sigma_{max}^{1/\rho}\right)^\rho .

    The step from sigma_min, below which nothing can be seen, to 0 is the last step of a walk.

    Source: Karras et al. 2022 (arXiv 2206.00364), eq. 5.
    """

    sigma_min: Annotated[float, Range(1e-6, 1000), "standard deviation as t falls to 0"] = 0.002
    sigma_max: Annotated[float, Range(1e-6, 1000), "standard deviation at t = 1"] = 80.0
    rho: Annotated[float, Range(1, 100), "the larger, the more severities are spent on small noise"] = 7.0

    def __post_init__(self) -> None:
        """Check the fields, and that sigma rises."""
        super().__post_init__()
        _rises(self, self.sigma_min, self.sigma_max)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.ones_like(t), torch.where(t > 0, torch.lerp(torch.full_like(t, low), torch.full_like(t, high), t) ** self.rho, 0)

    def severity_at(self, ratio: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        if low == high:
            return super().severity_at(ratio)
        least = torch.finfo(torch.float32).tiny  # at t = 0 itself there is no noise
        return torch.where(ratio > 0, ((ratio.clamp(min=0) ** (1 / self.rho) - low) / (high - low)).clamp(least, 1), 0)


@register("constant", papers=("rissanen2022",))
@dataclass(frozen=True)
class Constant(Schedule):
    """The same little noise at every t > 0, alpha = 1: what inverse heat dissipation adds to its blur.

    Source: Rissanen et al. 2022 (arXiv 2206.13397), section 3.1, sigma = 0.01 for pictures in [0, 1], which is 0.02 on [-1, 1].
    """

    sigma: Annotated[float, Range(0, 1000), "standard deviation for t > 0, on the range of the data"] = 0.02

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), torch.where(t > 0, self.sigma, torch.zeros_like(t))


@register("betas", papers=(When("ho2020", lambda table: table.kind != "cosine"), When("nichol2021", lambda table: table.kind == "cosine")))
@dataclass(frozen=True)
class Betas(Schedule):
    """DDPM's table: alpha_t^2 = prod (1 - beta_i) at the knots t = i/T, exactly.

    Source: Ho et al. 2020 (arXiv 2006.11239), section 4; the cosine curve: Nichol and Dhariwal 2021
    (arXiv 2102.09672), eq. 17, with offset .008 and betas clipped at .999.
    """

    steps: Annotated[int, Range(1, 100_000), "T, the number of betas"] = 1000
    beta_min: Annotated[float, Range(0, 1)] = 1e-4
    beta_max: Annotated[float, Range(0, 1)] = 0.02
    kind: Literal["linear", "cosine", "scaled-linear"] = "linear"

    @property
    def knots(self) -> int:
        """T: the number of betas."""
        return self.steps

    def betas(self) -> Tensor:
        """beta_1 ... beta_T: (T,), float64."""
        if self.kind == "linear":
            return torch.linspace(self.beta_min, self.beta_max, self.steps, dtype=torch.float64)
        if self.kind == "scaled-linear":  # their roots lie on a line: latent diffusion's
            return torch.linspace(self.beta_min**0.5, self.beta_max**0.5, self.steps, dtype=torch.float64).square()
        angle = (torch.arange(self.steps + 1, dtype=torch.float64) / self.steps + 0.008) / 1.008 * (math.pi / 2)
        bar = torch.cos(angle) ** 2
        return (1 - bar[1:] / bar[:-1]).clamp(max=0.999)

    def alpha_bar(self) -> Tensor:
        """alpha^2 at t = 0, 1/T, ..., 1: (T + 1,), float64."""
        return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.betas(), 0)])

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        bar = between_knots(_alpha_bar(self, t.device), t)
        return bar.sqrt().to(t.dtype), (1 - bar).sqrt().to(t.dtype)


@functools.lru_cache(maxsize=256)
def require_monotone(schedule: Schedule, name: str = "schedule") -> None:
    """Refuse a schedule under which a sample gets better as t grows.

    Args:
        schedule: looked at on its knots and at 1001 severities.
        name: what it is called in the message.

    Raises:
        SpecError: alpha / sigma rises between two of these severities, or a value is not finite, or negative.
    """
    grids = [torch.linspace(0, 1, _LOOKS + 1, dtype=torch.float64)]
    if schedule.knots is not None:
        grids.append(torch.arange(schedule.knots + 1, dtype=torch.float64) / schedule.knots)
    t = torch.cat(grids).sort().values
    alpha, sigma = schedule(t)
    bad = ~(alpha.isfinite() & sigma.isfinite() & (alpha >= 0) & (sigma >= 0)) | ((alpha == 0) & (sigma == 0))
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise SpecError(
            f"{name} gives alpha = {float(alpha[i]):.4g} and sigma = {float(sigma[i]):.4g} at t = {float(t[i]):.4g}: both must be finite and "
            "at least 0, and not both 0"
        )
    # As cross products, for alpha and sigma may be 0: alpha_t sigma_s <= alpha_s sigma_t
    rise = alpha[1:] * sigma[:-1] - alpha[:-1] * sigma[1:] * (1 + _ROUNDING)
    if bool((rise > 0).any()):
        i = int((alpha[1:] * sigma[:-1] / (alpha[:-1] * sigma[1:]).clamp(min=1e-300)).nan_to_num(0).argmax())
        before, after = (float(alpha[k] / sigma[k]) for k in (i, i + 1))
        raise SpecError(
            f"{name} is not monotone: its signal-to-noise ratio alpha/sigma rises from {before:.4g} at t = {float(t[i]):.4g} to {after:.4g} at "
            f"t = {float(t[i + 1]):.4g}, and a sample must never get better as t grows: let alpha fall and sigma rise"
        )


def _rises(schedule: Schedule, low: float, high: float) -> None:
    if low > high:
        raise SpecError(f"{label(type(schedule))}.sigma_min = {low:g} is above its sigma_max = {high:g}: exchange them")


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
    at = torch.where((at - nearest).abs() < ON_KNOT * steps if t.dtype != torch.float64 else (at - nearest).abs() < 1e-9, nearest, at)
    below = at.floor().clamp(0, steps - 1)
    return below.long(), at - below


def certain(on: Tensor) -> bool:
    """Whether all severities are known to lie on knots, of what :func:`knot` says of them: then one knot of each is enough, and the result the same.

    Asked only where the answer is at hand: an accelerator would have to be waited for, and what is traced or mapped has no values.
    """
    if on.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    try:
        return bool(((on == 0) | (on == 1)).all())
    except RuntimeError:  # torch.func.vmap, fake tensors
        return False


def between_knots(table: Tensor, t: Tensor) -> Tensor:
    """A table over t = 0, 1/T, ..., 1 along its first axis, linear in between; t of any shape gives (*t, *rest)."""
    below, on = knot(t, len(table) - 1, table.dtype)
    low, high = table[below], table[below + 1]
    return torch.lerp(low, high, on.reshape((*on.shape, *(1,) * (table.ndim - 1))))
