r"""Blur: high frequencies fade first.

``gaussian-blur`` is the heat equation run for a time set by t: a diagonal gain

.. math:: \exp\left(-\tfrac12 (2\pi f)^2 s(t)^2\right), \qquad s(t) = s_0\left[(1 + s_{max}/s_0)^t - 1\right],\ s_0 = .3\ \mathrm{px},

at frequency f in cycles per pixel, with the width s growing geometrically, so that equal steps in t take away
equal octaves. It is continuous in t, costs the same for every t, and two blurs compose to one. Blurring diffusion lets the width
grow as :math:`s_{max} \sin^2(\pi t / 2)` instead and keeps a little of every frequency, :math:`(1 - d) g + d` for the gain g:
``gaussian-blur:sigma_px=20,growth=sine,least=0.001+noise``.

``recursive-blur`` is the paper's: a truncated kernel applied once more at every step. Truncation matters: eleven
taps of a Gaussian of 7 px have the reach of 3 px, and twenty of them of 13.6 px, not 31. So the taps are part of the
spec and the operator is a table of their powers, exact at every knot.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.1 and appendix; Rissanen et al. 2022 (arXiv 2206.13397) for
the heat equation and its geometric schedule; Hoogeboom and Salimans 2022 (arXiv 2209.05557), section 4, for the sine and the least gain.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, Inverse, LinearDegradation, images
from snowmelt.degradations.inverse import damped
from snowmelt.degradations.separable import SeparableTable, separably
from snowmelt.degradations.spectral import backward, forward, frequencies
from snowmelt.degradations.ways import by_matrix
from snowmelt.references import When
from snowmelt.registry import Range, SpecError, register
from snowmelt.schedules import certain, knot
from snowmelt.types import EMPTY, Batch, Draw, Severity, once

_FINEST_PX = 0.3


@register(
    "gaussian-blur",
    papers=(
        "bansal2022",
        "rissanen2022",
        When("hoogeboom2022", lambda blur: blur.growth == "sine" or blur.least > 0),
    ),
)
@dataclass(frozen=True)
class GaussianBlur(LinearDegradation):
    """A true Gaussian blur whose width grows from 0 to `sigma_px` at t = 1, geometrically or as a squared sine."""

    sigma_px: Annotated[float, Range(0, 1000, "px"), "standard deviation at t = 1"] = 8.0
    padding: Literal["reflect", "circular"] = "reflect"
    growth: Literal["exponential", "sine"] = "exponential"
    least: Annotated[float, Range(0, 0.5), "gain that every frequency keeps; blurring diffusion takes 0.001"] = 0.0

    @property
    def basis(self) -> Basis:
        """DCT with reflecting edges, FFT with circular ones."""
        return "dct" if self.padding == "reflect" else "fft"

    @property
    def inverse(self) -> Inverse:
        """Frequency by frequency."""
        return "damped"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Each frequency by its damped inverse gain."""
        return backward(damped(forward(y, self.basis), self.gain(tuple(y.shape[1:]), t.to(y.dtype), z)), self.basis, y.shape[-1])

    def width(self, t: Tensor) -> Tensor:
        """The standard deviation s(t) in pixels."""
        if self.growth == "sine":
            return self.sigma_px * torch.sin(t * (math.pi / 2)) ** 2
        return _FINEST_PX * torch.expm1(t * math.log1p(self.sigma_px / _FINEST_PX))

    def in_units(self, t: float) -> dict[str, float]:
        """sigma_px: the width."""
        return {"sigma_px": float(self.width(torch.tensor(t, dtype=torch.float64)))}

    def severity(self, sigma_px: float) -> float:
        """The t at which the standard deviation is `sigma_px`: the inverse of :meth:`width`.

        Raises:
            ValueError: wider than this degradation ever gets.
        """
        if not 0 <= sigma_px <= self.sigma_px:
            raise ValueError(f"a blur of {sigma_px:g} px lies outside [0, {self.sigma_px:g}] px, the reach of this degradation")
        if not self.sigma_px:
            return 0.0
        if self.growth == "sine":
            return math.asin(math.sqrt(sigma_px / self.sigma_px)) / (math.pi / 2)
        return math.log1p(sigma_px / _FINEST_PX) / math.log1p(self.sigma_px / _FINEST_PX)

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Each frequency times its gain; a small picture with reflecting edges by the matrices which that is along rows and columns."""
        h, w = images(x, "gaussian-blur")
        t = once(t).reshape(-1)
        if self.basis == "dct" and x.dtype in (torch.float32, torch.float64) and by_matrix("smooth", max(h, w), x):
            columns = self._matrix(w, t, x)
            blurred = separably(columns if h == w else self._matrix(h, t, x), columns, x)
            return blurred if self.least == 0 else self.least * x + (1 - self.least) * blurred
        return backward(forward(x, self.basis) * self.gain(tuple(x.shape[1:]), t, z), self.basis, w)

    def change(self, x: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Batch:
        """By the difference of the gains, where that is one transform and not two."""
        h, w = images(x, "gaussian-blur")
        if self.basis == "dct" and by_matrix("smooth", max(h, w), x):
            return super().change(x, t, s, z)
        gain = self.gain(tuple(x.shape[1:]), once(s).to(x.dtype), z) - self.gain(tuple(x.shape[1:]), once(t).to(x.dtype), z)
        return backward(forward(x, self.basis) * gain, self.basis, w)

    def _matrix(self, n: int, t: Tensor, like: Tensor) -> Tensor:
        """The blur along an axis of n pixels with reflecting edges, (b, n, n): pixel j reaches pixel i directly, and as its mirror image.

        In float64 up to the kernel, so that a blur of nothing is the identity to the last bit but one.
        """
        wide = torch.float32 if t.device.type == "mps" else torch.float64
        exponent = -0.5 * (2 * math.pi * self.width(t.to(wide))) ** 2
        kernel = torch.exp(exponent[:, None] * _squares(n, "dct", exponent, half=False)) @ _waves(n, wide, t.device)
        direct, echo = _reaches(n, t.device)
        kernel = kernel.to(like.dtype)
        return (kernel.index_select(1, direct) + kernel.index_select(1, echo)).reshape(-1, n, n)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """exp(-(2 pi f)^2 s(t)^2 / 2), between `least` and 1: (b, 1, h, w), or (b, 1, h, w // 2 + 1) for circular edges."""
        exponent = -0.5 * (2 * math.pi * self.width(t)) ** 2
        rows, columns = _squares(shape[-2], self.basis, t, half=False), _squares(shape[-1], self.basis, t, half=True)
        by_row, by_column = torch.exp(exponent[:, None] * rows), torch.exp(exponent[:, None] * columns)
        gain = by_row[:, None, :, None] * by_column[:, None, None, :]
        return gain if self.least == 0 else self.least + (1 - self.least) * gain


@functools.lru_cache(maxsize=32)
def _waves(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What turns the gains of the n frequencies of a DCT into half the kernel at distances of 0, ..., n px: (n, n + 1)."""
    k, at = torch.arange(n, dtype=torch.float64), torch.arange(n + 1, dtype=torch.float64)
    waves = torch.cos(math.pi / n * k[:, None] * at) / n
    waves[0] /= 2
    return waves.to(device, dtype)


@functools.lru_cache(maxsize=32)
def _reaches(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The distance of each pixel from each, in px, and from the mirror image of each on the nearer side: twice (n n,)."""
    at = torch.arange(n)
    direct, echo = (at[:, None] - at).abs(), at[:, None] + at + 1
    return direct.flatten().to(device), torch.minimum(echo, 2 * n - echo).flatten().to(device)


def _squares(n: int, basis: Basis, like: Tensor, *, half: bool) -> Tensor:
    return frequencies(n, basis, half=half).square().to(like)


@register("recursive-blur", papers=("bansal2022",))
@dataclass(frozen=True)
class RecursiveBlur(SeparableTable):
    """The paper's blur: at step i of `steps`, convolve once more with a truncated Gaussian kernel.

    The width of step i = 0, 1, ...: *constant* kernel_std; *incremental* kernel_std (i + 1); *exponential*
    exp(kernel_std i); *special-6* i/100 + .35 with 11 taps and reflecting edges, whatever the other fields
    say, as in the paper's code. With `discrete` the last knot is the mean of each channel.
    """

    routine: Literal["constant", "incremental", "exponential", "special-6"] = "constant"
    kernel_size: Annotated[int, Range(1, 201, "px"), "taps of the kernel, odd"] = 11
    kernel_std: Annotated[float, Range(1e-6, 1000, "px")] = 7.0
    steps: Annotated[int, Range(1, 10_000), "in how many steps t goes from 0 to 1"] = 20
    padding: Literal["circular", "reflect"] = "circular"
    discrete: bool = False

    def __post_init__(self) -> None:
        """Check the fields, and that the kernel has a middle."""
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise SpecError(f"recursive-blur.kernel_size = {self.kernel_size} is even: a centred kernel has an odd number of taps")

    @property
    def knots(self) -> int:
        """`steps`."""
        return self.steps

    @property
    def reflects(self) -> bool:
        """Whether edges are mirrored (about the last pixel, as torch's "reflect") rather than wrapped around."""
        return self.padding == "reflect" or self.routine == "special-6"

    @property
    def basis(self) -> Basis | None:
        """FFT for circular edges. Mirrored ones are diagonal in the DCT-I, which is not orthonormal."""
        return None if self.reflects else "fft"

    @property
    def inverse(self) -> Inverse:
        """Frequency by frequency for circular edges."""
        return "iterative" if self.reflects else "damped"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Each frequency by its damped inverse gain; for mirrored edges by conjugate gradients."""
        if self.reflects:
            return super().pinv(y, t, z)
        return backward(damped(forward(y, "fft"), self._circular_gain(tuple(y.shape), t.to(y.dtype))), "fft", y.shape[-1])

    def kernels(self) -> Tensor:
        """The kernel of every step: (steps, taps), float64, each with sum 1."""
        i = torch.arange(self.steps, dtype=torch.float64)
        match self.routine:
            case "constant":
                std = torch.full_like(i, self.kernel_std)
            case "incremental":
                std = self.kernel_std * (i + 1)
            case "exponential":
                std = torch.exp(self.kernel_std * i)
            case "special-6":
                std = i / 100 + 0.35
        size = 11 if self.routine == "special-6" else self.kernel_size
        return gaussian_taps(size, std)

    def matrices(self, n: int) -> Tensor:
        """Cumulative products of the step's n x n convolution matrices."""
        out = [torch.eye(n, dtype=torch.float64)]
        for step in convolutions(self.kernels(), n, reflect=self.reflects):
            out.append(step @ out[-1])
        if self.discrete:  # the mean of the blurred picture, which mirrored edges make another than that of the clean one
            out[-1] = out[-1].mean(0, keepdim=True).expand(n, n)
        return torch.stack(out)

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Two small matrix products, or for large pictures a product of spectra: of the picture, or of its mirrored extension.

        The mean with which a `discrete` blur ends is no multiple of spectra of the mirrored extension: that one is always a table.
        """
        h, w = images(x, "recursive-blur")
        if self._tabled(x):
            return super().degrade(x, t, z)
        wide = mirrored(mirrored(x).mT).mT if self.reflects else x
        out = backward(forward(wide, "fft") * self._circular_gain(wide.shape, once(t).reshape(-1)), "fft", wide.shape[-1])
        return out[..., :h, :w].contiguous() if self.reflects else out

    def change(self, x: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Batch:
        """By the difference of the gains, where that is one transform and not two."""
        if self.reflects or x.dtype not in (torch.float32, torch.float64):  # half precisions have no FFT everywhere
            return super().change(x, t, s, z)
        t, s = (once(v).to(x.dtype) for v in (t, s))
        return backward(forward(x, "fft") * (self._circular_gain(x.shape, s) - self._circular_gain(x.shape, t)), "fft", x.shape[-1])

    def _tabled(self, x: Tensor) -> bool:
        """Whether pictures of this size go through the table of matrices."""
        side = max(images(x, "recursive-blur"))
        return (self.reflects and self.discrete) or by_matrix("mirrored" if self.reflects else "circular", side, x)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """The product of the kernels' transforms, per frequency: (b, 1, h, w // 2 + 1); circular edges only."""
        return super().gain(shape, t, z) if self.reflects else self._circular_gain(shape, t)

    def _circular_gain(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        rows, columns = (_gains(self, n, t.dtype, t.device) for n in shape[-2:])
        columns = columns[:, : shape[-1] // 2 + 1]
        below, on = knot(t, self.knots)
        if certain(on):
            at = below + on.long()
            return (rows[at][:, :, None] * columns[at][:, None, :])[:, None]
        low, high = (rows[i][:, :, None] * columns[i][:, None, :] for i in (below, below + 1))
        return torch.lerp(low, high, on.to(t.dtype)[:, None, None])[:, None]


def gaussian_taps(size: int, std: Tensor) -> Tensor:
    """Truncated Gaussian kernels, one for each standard deviation in px: (k, size), each with sum 1."""
    n = torch.arange(size, dtype=std.dtype) - size // 2
    taps = torch.exp(-0.5 * (n[None, :] / std[:, None]) ** 2)
    return taps / taps.sum(1, keepdim=True)


def mirrored(x: Tensor) -> Tensor:
    """The period of the extension that mirrors rows about their first and last pixel: (..., n) to (..., 2n - 2)."""
    return torch.cat([x, x[..., 1:-1].flip(-1)], dim=-1)


def convolutions(kernels: Tensor, n: int, *, reflect: bool) -> Sequence[Tensor]:
    """Matrices that convolve n samples with each of the kernels (k, taps), edges wrapped or mirrored."""
    taps = kernels.shape[1]
    reach = torch.arange(n)[:, None] + torch.arange(taps)[None, :] - taps // 2
    if reflect:
        period = max(2 * n - 2, 1)
        reach = reach % period
        reach = torch.where(reach >= n, period - reach, reach)
    else:
        reach = reach % n
    out = torch.zeros(len(kernels), n, n, dtype=kernels.dtype)
    rows = torch.arange(n)[:, None].expand(n, taps)
    for matrix, kernel in zip(out, kernels, strict=True):
        matrix.index_put_((rows, reach), kernel.expand(n, taps), accumulate=True)
    return list(out)


@functools.lru_cache(maxsize=32)
def _gains(blur: RecursiveBlur, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The gain of every frequency of an axis of n pixels at every knot: (T + 1, n), made in float64."""
    kernels = blur.kernels()
    taps = kernels.shape[1]
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] / n * (torch.arange(taps) - taps // 2)
    steps = (torch.cos(angle) @ kernels.mT).mT
    table = torch.cat([torch.ones(1, n, dtype=torch.float64), torch.cumprod(steps, 0)])
    if blur.discrete:
        table[-1] = torch.arange(n) == 0
    return table.to(device=device, dtype=dtype)
