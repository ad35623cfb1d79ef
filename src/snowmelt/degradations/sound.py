r"""What happens to recordings (b, c, n) on their way: noise beside them, a narrow band, packets that never arrive.

**background** adds noise, white or another recording v, at a signal-to-noise ratio that is exact for every sample:

.. math:: x_t = x_0 + t\, g\, v, \qquad g = 10^{-S/20}\, \frac{\mathrm{rms}(x_0)}{\mathrm{rms}(v)},

so at t = 1 the powers of x_0 and of what is added are S dB apart, at any other t they are :math:`S - 20 \log_{10} t`, and silence stays
silence. It is the straight line from a clean recording to a noisy one along which cold diffusion enhances speech. g knows x_0, so the
operator is not linear; yet the noise can be solved from x_t and an estimate, :math:`t g v = x_t - \hat x_0`, and a walk that believes
its estimate is :math:`x_s = \hat x_0 + \frac st (x_t - \hat x_0)`, whatever the true ratio of a stranger's recording is. For that the solved
draw holds g beside v: an estimate of another loudness must not change the noise that was heard.

**low-pass** takes away what lies above a cutoff that falls with t, from the Nyquist frequency on: a gain in the cosine transform, 1 below
the cutoff, exactly 0 above its edge.

**packet-loss** silences packets of equal length, one after another in an order that is drawn: each begins to fade at a severity m of its own and is
gone at m + 1/4, the last of the lost ones at t = 1. A user's mask of 0 and 1 is of the same kind. A restorer is told what is left of every sample.

Source: Yen et al. 2023 (arXiv 2211.02527), cold diffusion for speech enhancement; ITU-T P.862 and G.711 appendix I (packet loss);
Gilbert 1960, "Capacity of a burst-noise channel", for losses that come in bursts.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, Degradation, Inverse, LinearDegradation
from snowmelt.degradations.inverse import damped
from snowmelt.degradations.pixelwise import Pixelwise
from snowmelt.degradations.spectral import backward, forward, frequencies
from snowmelt.randomness import normal, uniform
from snowmelt.registry import Range, label, register
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity, expand, once

_FADE = 0.25  # of t that a packet takes to go


class OfSound(Degradation):
    """A degradation of recordings (b, c, n)."""

    @property
    def takes(self) -> str | None:
        """Sound."""
        return "sound"


def recordings(x: Tensor, part: Degradation) -> int:
    """The number of samples of a batch of recordings.

    Raises:
        ValueError: x is not (b, c, n).
    """
    if x.ndim != 3:
        raise ValueError(f"{label(type(part))} degrades recordings of shape (b, c, n); got {tuple(x.shape)}")
    return x.shape[-1]


def loudness(x: Batch) -> Tensor:
    """The root mean square of every sample, (b, 1, ..., 1), with a gradient of 0 at silence."""
    power = x.square().mean(tuple(range(1, x.ndim)), keepdim=True)
    heard = power > 0
    return torch.where(heard, torch.where(heard, power, 1).sqrt(), 0)


@register("background", papers=("yen2023",))
@dataclass(frozen=True)
class Background(OfSound):
    """Noise beside the recording, `snr_db` below it at t = 1: white, or another recording, which the data or the user gives."""

    snr_db: Annotated[float, Range(-60, 120, "dB"), "power of the recording over that of the noise at t = 1"] = 0.0
    kind: Literal["white", "recording"] = "white"

    @property
    def recovered(self) -> tuple[str, ...]:
        """The noise. It is not `noise` to a sampler, which would scale it by a sigma that no one knows: its size is a matter of the recording."""
        return ("endpoint",)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The noise, of either kind."""
        return ("endpoint",)

    @property
    def given(self) -> tuple[str, ...]:
        """The other recording."""
        return ("endpoint",) if self.kind == "recording" else ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The other recording: nothing that is drawn is one."""
        return self.given

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """endpoint (b, c, n): white noise with a root mean square of 1; pink noise as a stand-in for another recording."""
        noise = normal(like, generator)
        if self.kind == "recording":
            spectrum = torch.fft.rfft(noise)
            noise = torch.fft.irfft(spectrum * (1 + torch.arange(spectrum.shape[-1]).to(like)).rsqrt(), noise.shape[-1])
        return {"endpoint": noise / loudness(noise)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X + t g endpoint, with g from the powers of both, or from z["scale"], where :meth:`recover` left it.

        Raises:
            ValueError: the endpoint is missing, or has another shape than x.
        """
        recordings(x, self)
        if "endpoint" not in z:
            raise ValueError('background needs the noise it adds: give it as z["endpoint"], with the shape of x')
        noise = z["endpoint"]
        if noise.shape != x.shape:
            shapes = f"{tuple(noise.shape)} and recordings of shape {tuple(x.shape)}"
            raise ValueError(f"background has an endpoint of shape {shapes}: both must be equal")
        scale = expand(z["scale"].to(x), x) if "scale" in z else self._scale(x, noise)
        return x + t * scale * noise

    def recover(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Draw:
        """The noise that explains x_t if x0 is the truth, as loud as `draw` makes it, and its scale; at t = 0 the old one is kept."""
        t = expand(t.to(x_t.dtype), x_t)
        nothing = t == 0
        scale = self._share * loudness(x0)
        scale = torch.where(scale > 0, scale, 1)  # an estimate of silence: what was heard is noise all the same
        kept = z.get("endpoint", torch.zeros_like(x_t))
        endpoint = torch.where(nothing, kept, (x_t - x0) / (torch.where(nothing, 1, t) * scale))
        scale = torch.where(nothing, self._scale(x0, kept), scale)
        return {**z, "endpoint": endpoint, "scale": scale.flatten()}

    @property
    def _share(self) -> float:
        """Rms of the noise over rms of the recording, at t = 1."""
        return float(10 ** (-self.snr_db / 20))

    def _scale(self, x: Batch, noise: Batch) -> Tensor:
        """G, (b, 1, 1); 0 for silence of either."""
        loud = loudness(noise)
        return torch.where(loud > 0, self._share * loudness(x) / torch.where(loud > 0, loud, 1), 0)

    def in_units(self, t: float) -> dict[str, float]:
        """snr_db: signal-to-noise ratio, infinite at t = 0."""
        return {"snr_db": self.snr_db - 20 * math.log10(t) if t > 0 else math.inf}


@register("low-pass")
@dataclass(frozen=True)
class LowPass(OfSound, LinearDegradation):
    """The band above a cutoff is gone; the cutoff falls from the Nyquist frequency to `cutoff` of it, evenly in octaves."""

    cutoff: Annotated[float, Range(0.001, 1, "of the Nyquist frequency"), "what is kept whole at t = 1"] = 0.25
    edge: Annotated[float, Range(0.001, 1), "from whole to nothing, in parts of the cutoff"] = 0.1

    @property
    def basis(self) -> Basis:
        """The cosine transform of mirrored ends, of which all channels share the gain."""
        return "dct"

    @property
    def inverse(self) -> Inverse:
        """Frequency by frequency."""
        return "damped"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X less what is lost of each frequency, so that what loses nothing stays as it is to the last bit."""
        n = recordings(x, self)
        return x - backward((1 - self.gain(tuple(x.shape[1:]), once(t).reshape(-1), z)) * forward(x, self.basis), self.basis, n)

    def change(self, x: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Batch:
        """By the difference of the gains: one transform and not two."""
        n, shape = recordings(x, self), tuple(x.shape[1:])
        gain = self.gain(shape, once(s).to(x.dtype), z) - self.gain(shape, once(t).to(x.dtype), z)
        return backward(gain * forward(x, self.basis), self.basis, n)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """1 up to the cutoff, 0 from (1 + edge) times it on, a cubic between: (b, 1, n)."""
        frequency = 2 * frequencies(shape[-1], self.basis).to(t)
        beyond = ((frequency / (self.cutoff**t)[:, None] - 1) / self.edge).clamp(0, 1)
        return (1 - beyond.square() * (3 - 2 * beyond))[:, None]

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Each frequency by its damped inverse gain."""
        return backward(damped(forward(y, self.basis), self.gain(tuple(y.shape[1:]), t.to(y.dtype), z)), self.basis, y.shape[-1])

    def in_units(self, t: float) -> dict[str, float]:
        """The cutoff as a share of the Nyquist frequency."""
        return {"cutoff": float(self.cutoff**t)}


@register("packet-loss", papers=("gilbert1960", "itu1999"))
@dataclass(frozen=True)
class PacketLoss(OfSound, Pixelwise, LinearDegradation):
    """Packets fall silent one after another, `lost` of them at t = 1, in bursts of `burst`; the mask is drawn, or given."""

    lost: Annotated[float, Range(0, 1), "share of the packets that is gone at t = 1"] = 0.3
    packet: Annotated[int, Range(1, 1_000_000, "samples"), "length of a packet"] = 160
    burst: Annotated[int, Range(1, 1000), "packets that are lost together"] = 1

    @property
    def given(self) -> tuple[str, ...]:
        """The mask, where the recording is the user's."""
        return ("mask",)

    @property
    def tells(self) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """mask (b, 1, n): 1 where a sample is never lost, else the severity at which its packet begins to fade, from 0 to 3/4.

        The grid of packets begins anywhere. Of packets that the recording shows whole or in part, and of up to a burst before it,
        exactly the share `lost` is lost, to rounding.
        """
        n = recordings(like, self)
        span = self.packet * self.burst
        groups = -(-(n + span - 1) // span)
        drawn = uniform(like, generator, (1 + groups,))
        # Bursts in a random order, their packets one after the other: the rank of each packet in the order of loss.
        rank = drawn[:, 1:].argsort(1).argsort(1)[..., None] * self.burst + torch.arange(self.burst, device=like.device)
        packets = groups * self.burst
        gone = round(self.lost * packets)
        begins = torch.where(rank < gone, (1 - _FADE) * rank.to(like) / max(gone - 1, 1), 1).flatten(1)
        at = (torch.arange(n, device=like.device) + (drawn[:, :1] * span).long().clamp(max=span - 1)) // self.packet
        return {"mask": begins.gather(1, at)[:, None]}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """X times the gain."""
        recordings(x, self)
        return x * self.gain(tuple(x.shape[1:]), t.reshape(-1), z)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """What is left of each sample, nothing at t = 1 wherever the mask is at most 3/4: (b, 1, n)."""
        return (1 - (t[:, None, None] - z["mask"].to(t)) / _FADE).clamp(0, 1)

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """All is known; nothing has to be drawn to say so."""
        return t.new_ones(len(t), 1, shape[-1])

    def in_units(self, t: float) -> dict[str, float]:
        """lost: the share of the packets that is gone entirely."""
        return {"lost": self.lost * max((t - _FADE) / (1 - _FADE), 0.0)}
