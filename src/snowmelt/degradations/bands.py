r"""Spectral masks: bands of frequency, or stretches of time, that are taken out of the short-time Fourier transform.

.. math:: x_t = x_0 - t\, S^+ (1 - m) \odot S x_0, \qquad m \in \{0, 1\},

with S the transform by a Hann window that moves on by a quarter of its length, and S^+ its least-squares inverse, so that what is not masked
is reconstructed perfectly. There are `bands` of equal width, one in each of as many equal parts of the axis, at a place that is drawn. Windows
overlap, and the spectra that remain say a little of what was masked beside them.

Source: Griffin and Lim 1984, "Signal estimation from modified short-time Fourier transform"; Park et al. 2019 (arXiv 1904.08779), SpecAugment,
for the masks.
"""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.base import LinearDegradation
from snowmelt.degradations.sound import OfSound, recordings
from snowmelt.randomness import uniform
from snowmelt.registry import Range, SpecError, register
from snowmelt.types import Batch, Draw, Generators


@register("spectral-mask", papers=("griffin1984", "park2019"))
@dataclass(frozen=True)
class SpectralMask(OfSound, LinearDegradation):
    """Bands of frequency or stretches of time are gone, `share` of the axis in all; where they are is drawn."""

    axis: Literal["frequency", "time"] = "frequency"
    share: Annotated[float, Range(0, 1), "of the axis that is masked at t = 1"] = 0.3
    bands: Annotated[int, Range(1, 100), "into how many pieces it is cut"] = 2
    window: Annotated[int, Range(8, 65_536, "samples"), "length of the Hann window, a multiple of 4"] = 256

    def __post_init__(self) -> None:
        """Check the fields, and that the window can be cut in quarters.

        Raises:
            SpecError: it cannot.
        """
        super().__post_init__()
        if self.window % 4:
            raise SpecError(f"spectral-mask.window = {self.window} is no multiple of 4: it moves on by quarters")

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """places (b, bands): where in its part of the axis each band lies, 0 at the beginning, 1 at the end."""
        return {"places": uniform(like, generator, (self.bands,))}

    def mask(self, n: int, z: Draw) -> Tensor:
        """1 - m of recordings of n samples: (b, window / 2 + 1, 1) or (b, 1, frames), 1 where masked."""
        places = z["places"]
        frames = 1 + n // (self.window // 4)
        points = self.window // 2 + 1 if self.axis == "frequency" else frames
        at = (torch.arange(points).to(places) + 0.5) / points
        first = (torch.arange(self.bands).to(places) + places * (1 - self.share)) / self.bands
        beyond = at - first[..., None]
        masked = ((beyond >= 0) & (beyond < self.share / self.bands)).any(1).to(places)
        return masked[:, :, None] if self.axis == "frequency" else masked[:, None]

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X less t times what lies in the bands."""
        n, c = recordings(x, self), x.shape[1]
        hop, (window, weight) = self.window // 4, _windows(self.window, n, x.dtype, x.device)
        cells = torch.stft(x.reshape(-1, n), self.window, hop, window=window, pad_mode="constant", return_complex=True)
        masked = cells * self.mask(n, z).to(x).repeat_interleave(c, 0)
        lost = _added(torch.fft.irfft(masked, self.window, dim=1) * window[:, None], hop)[..., self.window // 2 :]
        return x - t * (lost[..., :n] / weight).reshape(x.shape)

    def in_units(self, t: float) -> dict[str, float]:
        """left: the share of the amplitudes in the bands that is left."""
        return {"left": 1 - t}


@functools.lru_cache(maxsize=16)
def _windows(size: int, n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Hann window (size,), and the sum of its shifted squares over n samples, by which S^+ divides: made without a look at values on a device."""
    window = torch.hann_window(size, dtype=torch.float64)
    frames = 1 + n // (size // 4)
    weight = _added(window.square()[None, :, None].expand(1, size, frames), size // 4)[0, size // 2 : size // 2 + n]
    return window.to(device, dtype), weight.to(device, dtype)


def _added(frames: Tensor, hop: int) -> Tensor:
    """Frames (b, size, k), each `hop` after the one before, added up where they overlap: (b, size + (k - 1) hop)."""
    size, k = frames.shape[1:]
    out = functional.fold(frames, (1, size + (k - 1) * hop), (1, size), stride=(1, hop))
    return out[:, 0, 0]
