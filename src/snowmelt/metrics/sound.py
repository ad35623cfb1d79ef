r"""Measures of sound: SI-SDR, log-spectral distance and segmental SNR between restored and clean recordings.

All channels of a recording count alike, and none is clamped. With a clean channel s and its estimate :math:`\hat s`, means removed,

.. math:: \text{SI-SDR} = 10 \log_{10} \frac{\|\alpha s\|^2}{\|\alpha s - \hat s\|^2}, \qquad \alpha = \frac{\langle \hat s, s \rangle}{\|s\|^2},

which no change of loudness moves, in [-60, 100] dB: silence in the place of a sound scores -60, which nobody hears, and not the 0 dB that a small
number in numerator and denominator would give it. With frames l of 32 ms, a Hann window, every 8 ms, and their power spectra :math:`|S(l, k)|^2`
at K frequencies,

.. math::
    \text{LSD} = \frac1L \sum_l \sqrt{\frac1K \sum_k
        \left(10 \log_{10} \frac{\max(|S(l, k)|^2, \epsilon)}{\max(|\hat S(l, k)|^2, \epsilon)}\right)^2},

in dB. The floor :math:`\epsilon` lies 60 dB below the loudest cell of the *clean* channel, in every method's spectra alike: what is fainter is
hardly heard, and without a floor the digits of silence would decide. It hears a band that is missing, or invented, and no phases. On the same
frames, in time,

.. math::
    \text{segmental SNR} = \frac1L \sum_l \min\left(35, \max\left(-10, 10 \log_{10}
        \frac{\sum_n w_n^2 s_{l,n}^2}{\sum_n w_n^2 (s_{l,n} - \hat s_{l,n})^2}\right)\right),

over the frames in which the clean channel is not silent: an error weighs more where the sound is soft.

A recording whose clean channels are all silent has none of the three; a silent channel beside one with sound is left out.

Sources: Le Roux et al. 2019, "SDR - half-baked or well done?" (arXiv 1811.02508); Gray and Markel 1976, "Distance measures for speech processing"
(IEEE Trans. ASSP 24, 380) for the log-spectral distance; Hansen and Pellom 1998, "An effective quality evaluation protocol for speech enhancement
algorithms" (ICSLP) for the limits of -10 and 35 dB.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from snowmelt.metrics.measures import RMSE, Column, Measures, checked
from snowmelt.types import Batch

WINDOW_S = 0.032
FLOOR_DB = 60.0
SI_SDR_DB = (-60.0, 100.0)
SEGMENTAL_DB = (-10.0, 35.0)
_FRAMES = 20_000  # spectra held at a time
_ROUNDING = 1e-24


class Recordings(Measures):
    """SI-SDR, log-spectral distance, segmental SNR and RMSE of recordings (b, c, n).

    Args:
        rate_hz: samples per second, for the length of a frame.
    """

    columns: ClassVar[tuple[Column, ...]] = (
        Column("si_sdr", "SI-SDR", "dB", "high", 2),
        Column("lsd", "LSD", "dB", "low", 2),
        Column("segmental_snr", "segmental SNR", "dB", "high", 2),
        RMSE,
    )
    main: ClassVar[str] = "si_sdr"

    def __init__(self, rate_hz: int = 8000) -> None:
        self.rate_hz = rate_hz
        self.window = max(4, 4 * round(WINDOW_S * rate_hz / 4))
        self.hop = self.window // 4

    def each(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        """See :meth:`Measures.each`."""
        if x.ndim != 3:
            raise ValueError(f"x has shape {tuple(x.shape)}; recordings are (b, c, n)")
        found = self.common(x, clean)
        x, clean = (one.cpu() for one in checked(x, clean))
        shape = x.shape[:2]
        x, clean = x.flatten(0, 1), clean.flatten(0, 1)
        few = max(1, _FRAMES // (1 + x.shape[1] // self.hop))
        parts = {"si_sdr": si_sdr(x, clean)}
        for name, measure in (("lsd", self.lsd), ("segmental_snr", self.segmental_snr)):
            pairs = zip(torch.split(x, few), torch.split(clean, few), strict=True)
            parts[name] = torch.cat([measure(a, b) for a, b in pairs]) if len(x) else x.new_empty(0)
        return {name: values.reshape(shape).nanmean(1) for name, values in parts.items()} | found

    def lsd(self, x: Tensor, clean: Tensor) -> Tensor:
        """The log-spectral distance in dB of channels (m, n): (m,), NaN where the clean one is silent."""
        power, true = self.power(x), self.power(clean)
        loudest = true.amax((1, 2), keepdim=True)
        floor = loudest * 10 ** (-FLOOR_DB / 10)
        safe = floor.clamp(min=torch.finfo(floor.dtype).tiny)
        apart = 10 * (true.maximum(safe).log10() - power.maximum(safe).log10())
        found = apart.square().mean(1).sqrt().mean(1)
        return torch.where(loudest[:, 0, 0] > 0, found, math.nan)

    def segmental_snr(self, x: Tensor, clean: Tensor) -> Tensor:
        """The segmental SNR in dB of channels (m, n): (m,), NaN where the clean one is silent."""
        weights = self._hann(x).square()
        signal, error = (self._frames(one).square() @ weights for one in (clean, clean - x))
        ratio = torch.where(error > 0, 10 * (signal / error).log10(), math.inf).clamp(*SEGMENTAL_DB)
        return torch.where(signal > 0, ratio, math.nan).nanmean(1)

    def power(self, x: Tensor) -> Tensor:
        """Power spectra (m, k, l) of channels (m, n)."""
        spectra: Tensor = torch.fft.rfft(self._frames(x) * self._hann(x))
        return spectra.abs().square().mT

    def _frames(self, x: Tensor) -> Tensor:
        """Channels (m, n) in frames (m, l, window), the first and the last of them half beyond the ends, where there is silence."""
        half = self.window // 2
        more = -x.shape[1] % self.hop
        return torch.nn.functional.pad(x, (half, half + more)).unfold(1, self.window, self.hop)

    def _hann(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.window, dtype=like.dtype, device=like.device)


def si_sdr(x: Tensor, clean: Tensor) -> Tensor:
    """The scale-invariant signal-to-distortion ratio in dB of channels (m, n): (m,), in [-60, 100], NaN where the clean one is silent."""
    x, clean = _centred(x.double()), _centred(clean.double())
    energy = clean.square().sum(1)
    scaled = clean * ((x * clean).sum(1) / energy.where(energy > 0, 1.0))[:, None]
    heard, error = scaled.square().sum(1), (scaled - x).square().sum(1)
    ratio = torch.where(heard > 0, 10 * (heard / error).log10(), -math.inf)  # over 0: infinite, as it should be
    return torch.where(energy > 0, ratio.clamp(*SI_SDR_DB), math.nan)


def _centred(x: Tensor) -> Tensor:
    """Without its mean; a channel that was nothing but its mean is silent, not full of the digits that rounding left."""
    centred = x - x.mean(1, keepdim=True)
    silent = centred.square().sum(1) <= _ROUNDING * x.square().sum(1)
    return centred.masked_fill(silent[:, None], 0.0)
