r"""What converters do to recordings (b, c, n): fewer samples, fewer levels, too little room above.

**down-sample** keeps one sample in `factor`, after a filter against aliases, and interpolates the others with the same filter: the band above
is gone. The filter is the usual windowed sinc, :math:`h_k = \mathrm{sinc}(k/f)\, w_k` with :math:`|k| \le 10 f` and the Kaiser window of
:math:`\beta = 5`, its sum 1; beyond its ends the recording is silent. **bit-depth** moves every sample to the nearest of :math:`2^b` levels
between -1 and 1, evenly spaced or, as telephones have them, evenly after :math:`F(x) = \mathrm{sgn}(x) \ln(1 + 255 |x|) / \ln 256`. Both go
there in a straight line,

.. math:: x_t = x_0 + t\,(A(x_0) - x_0).

**clipping** cuts at a threshold that comes down from infinity, :math:`x_t = \max(-l/t, \min(l/t, x_0))`; it knows nothing of the recording's
peak, so a window of a recording is cut as the whole is.

Source: Crochiere and Rabiner 1983, "Multirate digital signal processing", chapter 4; Kaiser 1974, "Nonrecursive digital filter design using the
I0-sinh window function"; ITU-T G.711 for the mu-law; Bennett 1948, "Spectra of quantized signals".
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.base import LinearDegradation
from snowmelt.degradations.sound import OfSound, recordings
from snowmelt.references import When
from snowmelt.registry import Range, register
from snowmelt.types import Draw

_ZEROS, _BETA = 10, 5.0
_MU = 255


@register("down-sample", papers=("crochiere1983", "kaiser1974"))
@dataclass(frozen=True)
class DownSample(OfSound, LinearDegradation):
    """One sample in `factor` is left at t = 1, and those between are interpolated: the band above 1/factor of the Nyquist frequency is gone."""

    factor: Annotated[int, Range(2, 64)] = 4

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X + t (up(down(x)) - x)."""
        n, f, kernel = recordings(x, self), self.factor, _sinc(self.factor, x.dtype, x.device)
        kept = functional.conv1d(x.reshape(-1, 1, n), kernel, stride=f, padding=_ZEROS * f)
        back = functional.conv_transpose1d(kept, f * kernel, stride=f, padding=_ZEROS * f, output_padding=f - 1)
        return torch.lerp(x, back[..., :n].reshape(x.shape), t)

    def in_units(self, t: float) -> dict[str, float]:
        """left_above: the share of the amplitudes above the new Nyquist frequency that is left."""
        return {"left_above": 1 - t}


@functools.lru_cache(maxsize=16)
def _sinc(factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The filter that passes 1/factor of the band: (1, 1, 2 * 10 factor + 1), its sum 1."""
    k = torch.arange(-_ZEROS * factor, _ZEROS * factor + 1, dtype=torch.float64)
    window = torch.special.i0(_BETA * (1 - (k / (_ZEROS * factor)).square()).clamp(min=0).sqrt())
    taps = torch.sinc(k / factor) * window
    whole: Tensor = taps / taps.sum()
    return whole.to(device, dtype)[None, None]


@register("clipping")
@dataclass(frozen=True)
class Clipping(OfSound):
    """Whatever is louder than a threshold is cut there; the threshold falls to `level` at t = 1."""

    level: Annotated[float, Range(1e-4, 1), "greatest amplitude at t = 1, full scale is 1"] = 0.1

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X between -level / t and level / t."""
        recordings(x, self)
        threshold = self.level / t  # infinite at t = 0
        return torch.maximum(torch.minimum(x, threshold), -threshold)

    def in_units(self, t: float) -> dict[str, float]:
        """threshold: the greatest amplitude, infinite at t = 0."""
        return {"threshold": self.level / t if t > 0 else math.inf}


@register("bit-depth", papers=("bennett1948", When("itu1988", lambda part: part.law == "mu-law")))
@dataclass(frozen=True)
class BitDepth(OfSound):
    """Each sample moves to the nearest of 2^bits levels; peaks beyond full scale find levels there, too."""

    bits: Annotated[int, Range(1, 24)] = 4
    law: Annotated[Literal["uniform", "mu-law"], "spacing of the levels: even, or that of telephones (G.711)"] = "uniform"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X + t (Q(x) - x)."""
        recordings(x, self)
        return torch.lerp(x, self._rounded(x), t)

    def _rounded(self, x: Tensor) -> Tensor:
        """Q(x)."""
        step = 2.0 ** (1 - self.bits)
        if self.law == "uniform":
            return step * torch.round(x / step)
        whole = math.log1p(_MU)
        pressed = step * torch.round(torch.log1p(_MU * x.abs()) / (whole * step))
        return x.sign() * torch.expm1(whole * pressed) / _MU

    def in_units(self, t: float) -> dict[str, float]:
        """rounded: the share of the way to the nearest level."""
        return {"rounded": t}
