r"""Reverberation: a recording heard in a room.

.. math:: x_t = x_0 + t\,(h * x_0 - x_0), \qquad h_0 = 1, \quad h_k = a\, e_k\, 10^{-3 k / d}, \quad e_k \sim N(0, 1),

with * the convolution, silence before the beginning and what rings on after the end cut off. The impulse response h is the draw: the direct path, and
noise that dies away by 60 dB within d samples, scaled so that direct path and tail are `direct_db` apart in energy. A measured response may be
given in its place, of any length and with any direct path; then t = 1 is the recording convolved with it.

Nobody knows the room of a stranger's recording, so the response is hidden: a restorer answers in one call.

Source: Polack 1988, "La transmission de l'énergie sonore dans les salles", the statistical model of late reverberation; ISO 3382-1 for the
reverberation time; Habets 2007, "Single- and multi-microphone speech dereverberation using spectral enhancement", section 2.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation
from snowmelt.degradations.sound import OfSound, recordings
from snowmelt.randomness import normal
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Draw, Generators


@register("reverberation", papers=("polack1988", "habets2007"))
@dataclass(frozen=True)
class Reverberation(OfSound, LinearDegradation):
    """Convolution by the impulse response of a room, drawn or given."""

    decay: Annotated[int, Range(2, 1_000_000, "samples"), "until the tail is 60 dB fainter: the reverberation time"] = 2000
    direct_db: Annotated[float, Range(-60, 120, "dB"), "energy of the direct path over that of the tail at t = 1"] = 0.0

    @property
    def hidden(self) -> tuple[str, ...]:
        """The room."""
        return ("impulse",)

    @property
    def given(self) -> tuple[str, ...]:
        """The room, where it was measured."""
        return ("impulse",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """impulse (b, 1, decay): h, of which h_0 = 1 is the direct path."""
        noise = normal(like, generator, (1, self.decay - 1))
        tail = noise * 10 ** (-3 * torch.arange(1, self.decay).to(like) / self.decay)
        size = 10 ** (-self.direct_db / 20) / tail.square().sum(-1, keepdim=True).clamp(min=1e-30).sqrt()
        return {"impulse": torch.cat([torch.ones_like(tail[..., :1]), size * tail], dim=-1)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X + t (h * x - x), by a Fourier transform long enough that no echo comes round to the beginning."""
        n, impulse = recordings(x, self), z["impulse"].to(x)[..., : x.shape[-1]]
        size = _fast(n + impulse.shape[-1] - 1)
        heard = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(impulse, size), size)[..., :n]
        return torch.lerp(x, heard, t)

    def in_units(self, t: float) -> dict[str, float]:
        """direct_db: energy of the direct path over that of a drawn tail, infinite at t = 0."""
        return {"direct_db": self.direct_db - 20 * math.log10(t) if t > 0 else math.inf}


def _fast(n: int) -> int:
    """The next power of 2, or three quarters of it where that is enough."""
    whole = 1 << (n - 1).bit_length()
    return whole * 3 // 4 if n <= whole * 3 // 4 and whole >= 4 else whole
