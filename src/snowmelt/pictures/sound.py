r"""Sound as it is looked at and listened to: spectrograms over a thin waveform, and WAV files in memory.

A spectrogram shows the power of each frequency over time. With the window w of K samples and its hop H,

.. math:: S_{kj} = 20 \log_{10} \Bigl| \frac{2}{\sum_i w_i} \sum_i w_i\, x_{jH + i}\, e^{-2 \pi \mathrm{i} k i / K} \Bigr|,

so that a sine of full scale has 0 dB. Every spectrogram has the same range of dB, or no two could be compared; recordings come at one
loudness, so nothing is lost by it. Frequency goes upwards, from 0 to half the sampling rate, all equally far apart.
"""

import io

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.pictures.colours import MAGMA, coloured
from snowmelt.signals import Sound
from snowmelt.types import Batch

BINS, ACROSS = 129, 256  # rows and columns of a spectrogram
LOWEST_DB, HIGHEST_DB = -75.0, -5.0
WAVE_PX, GAP_PX = 31, 2
PEAK, LOUDEST = 0.97, 0.25  # of what is played: a sample that went astray must hurt nobody's ears
LONGEST_S = 30.0  # of what is played in a page, which would otherwise grow beyond reason
_HOP = 64  # at most: a quarter of the window, or short sounds would fall between two
_WAVE, _GROUND = 0.72, -0.97


def spectrograms(x: Batch) -> Batch:
    """Recordings x (b, c, n) as pictures (b, 3, 162, 256) in [-1, 1]: the spectrogram of the mean power of the channels, the waveform beneath.

    The waveform goes from -1 to 1, and is clipped there.

    Raises:
        ValueError: `x` is not (b, c, n), or has no values.
    """
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"shape {tuple(x.shape)} is no batch of recordings (b, c, n)")
    x = x.detach().float().cpu()
    above = coloured((_decibels(x) - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB), MAGMA)
    gap = x.new_ones(len(x), GAP_PX, ACROSS, 3)
    return torch.cat([above, gap, _waveforms(x.mean(1))], 1).permute(0, 3, 1, 2)


def _decibels(x: Tensor) -> Tensor:
    """The power in dB (b, 129, 256) of recordings (b, c, n), the highest frequency first."""
    b, c, n = x.shape
    window = torch.hann_window(2 * (BINS - 1))
    hop = max(1, min(_HOP, n // ACROSS))
    spectrum = torch.stft(x.reshape(b * c, n), 2 * (BINS - 1), hop, window=window, pad_mode="constant", return_complex=True)
    power = (spectrum.abs() * 2 / window.sum()).square().reshape(b, c, BINS, -1).mean(1)
    # Long recordings have several frames a column, whose mean is shown; short ones have fewer frames than columns, and each is repeated.
    power = functional.adaptive_avg_pool1d(power, ACROSS) if power.shape[-1] >= ACROSS else functional.interpolate(power, ACROSS)
    return (10 * power.clamp(min=1e-12).log10()).flip(1)


def _waveforms(x: Tensor) -> Tensor:
    """The range of values in each column, as colours (b, 31, 256, 3), of recordings x (b, n)."""
    n = x.shape[-1]
    if n < ACROSS:
        x = functional.interpolate(x[:, None], ACROSS)[:, 0]
    high = functional.adaptive_max_pool1d(x, ACROSS).clamp(-1, 1)
    low = -functional.adaptive_max_pool1d(-x, ACROSS).clamp(-1, 1)
    rows = torch.linspace(1, -1, WAVE_PX)[None, :, None]
    half = 1 / (WAVE_PX - 1)  # so that silence is a line, not nothing
    inside = (rows <= high[:, None] + half) & (rows >= low[:, None] - half)
    ink = coloured(torch.full(inside.shape, _WAVE), MAGMA)
    lost = torch.where((high + low).isnan(), torch.nan, 0.0)[:, None, :, None]
    return torch.where(inside[..., None], ink, _GROUND) + lost


def explained(sound: Sound) -> str:
    """What a spectrogram shows, as a sentence for a caption."""
    top = f"{sound.rate_hz / 2000:g} kHz"
    shown = f"frequency upwards from 0 to {top}, colour from {LOWEST_DB:g} dB of full scale (dark) to {HIGHEST_DB:g} dB (bright)"
    return f"Spectrograms: time to the right, {shown}; beneath each the waveform."


def audible(x: Tensor) -> Tensor:
    """A recording (c, n) that can be played without harm: finite, not louder than a root mean square of 0.25, no peak over 0.97; else as it is."""
    x = x.detach().float().cpu().nan_to_num(0, 0, 0)
    peak, level = float(x.abs().max()), float(x.double().square().mean().sqrt())
    return x * min(1.0, PEAK / max(peak, PEAK), LOUDEST / max(level, LOUDEST))


def wav_bytes(x: Tensor, rate_hz: int) -> bytes:
    """A recording (c, n) as the bytes of a WAV file of 16 bits, :func:`audible`.

    Raises:
        ValueError: `x` is not (c, n) with one channel or two, or has no samples.
    """
    import soundfile

    if x.ndim != 2 or x.shape[0] not in (1, 2) or not x.shape[1]:
        raise ValueError(f"shape {tuple(x.shape)} is no recording (c, n) of one channel or two")
    buffer = io.BytesIO()
    soundfile.write(buffer, audible(x).T.numpy(), rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
