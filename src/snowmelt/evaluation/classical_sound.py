r"""What sound was restored with before networks: noise by its spectrum, missing bands by copying the band that is there.

With Y the short-time spectrum of what is heard, :math:`\lambda` the power of the noise in a bin and G a gain in [0, 1], all of noise
reduction is :math:`\hat X = G Y`. The a-posteriori and a-priori signal-to-noise ratios are :math:`\gamma = |Y|^2 / \lambda` and
:math:`\xi = E|X|^2 / \lambda`:

====================  ==============================================================================================================
spectral subtraction  :math:`G^2 = \max(1 - \alpha / \gamma, \beta / \gamma)`, alpha falling with the SNR of the frame
Wiener                :math:`G = \xi / (1 + \xi)`, the least squared error of a bin
log spectra           :math:`G = \frac{\xi}{1 + \xi} \exp(\tfrac12 E_1(v)),\ v = \frac{\xi}{1 + \xi} \gamma`, the least error of its logarithm
====================  ==============================================================================================================

where :math:`\xi` is *decision-directed*: the frame before says what to expect of this one,
:math:`\hat\xi_m = a\, G_{m-1}^2 \gamma_{m-1} + (1 - a) \max(\gamma_m - 1, 0)`. What a frame is told by its past it can as well be told by
its future when the recording is all there, so both are averaged; and what a first filter found is a better :math:`\hat\xi` for a second. The
power of the noise is either told or read from the recording itself: speech pauses in every bin, so a low quantile over time is noise; |N|^2
is exponential, its q-quantile :math:`-\lambda \ln(1 - q)`. Late echoes are noise, too, whose power is that of earlier frames, faded.

Sources: Berouti, Schwartz and Makhoul 1979, "Enhancement of speech corrupted by acoustic noise"; Ephraim and Malah 1984 and 1985, "Speech
enhancement using a minimum mean-square error (log-)spectral amplitude estimator"; Scalart and Filho 1996, "Speech enhancement based on a
priori signal to noise estimation", for the Wiener filter; Cohen 2005, "Relaxed statistical model for speech enhancement and a priori SNR
estimation", for looking ahead; Plapous, Marro and Scalart 2006, "Improved signal-to-noise ratio estimation for speech enhancement", for the
second step; Stahl, Fischer and Bippus 2000, "Quantile based noise estimation for spectral subtraction and Wiener filtering"; Lebart, Boucher
and Denbigh 2001, "A new method based on spectral subtraction for speech dereverberation"; Makhoul and Berouti 1979, "High-frequency
regeneration in speech coding systems", for folding.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TINY = 1e-12
_FAINTEST = 10 ** (-60 / 20)
_LEAST = 10 ** (-25 / 10)  # of the a-priori SNR, the usual floor against musical noise


def spectrum(x: Tensor, window: int) -> Tensor:
    """Short-time spectra of recordings (b, c, n): (b c, window / 2 + 1, frames) complex, Hann windows a quarter apart."""
    flat = x.reshape(-1, x.shape[-1])
    return torch.stft(flat, window, window // 4, window=_hann(x, window), pad_mode="constant", return_complex=True)


def sound(spectra: Tensor, like: Tensor, window: int) -> Tensor:
    """The recordings (b, c, n) whose spectra are nearest to `spectra`, in the shape of `like`."""
    flat = torch.istft(spectra, window, window // 4, window=_hann(like, window), length=like.shape[-1])
    return flat.reshape(like.shape)


def _hann(like: Tensor, window: int) -> Tensor:
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def white(sigma: Tensor, window: int) -> Tensor:
    """The power of white noise of standard deviation sigma (b c,) in every bin of :func:`spectrum`: (b c, 1, 1)."""
    return (sigma.square() * _hann(sigma, window).square().sum())[:, None, None]


def noise_in(spectra: Tensor, quantile: float, *, flat: bool = False) -> Tensor:
    """The power of the noise in every bin, read from the recordings' own quiet frames: (b c, f, 1).

    Args:
        spectra: (b c, f, frames).
        quantile: of the power over time, in (0, 1), that is taken for noise.
        flat: the noise is known to be white, so that the median over all bins says it better than each by itself: (b c, 1, 1).
    """
    power = spectra.abs().square()
    found = power.quantile(quantile, dim=2, keepdim=True) / -math.log1p(-quantile)
    return found.median(dim=1, keepdim=True).values if flat else found


def subtracted(x: Tensor, noise: Tensor, *, window: int = 256, over: float = 4.0, floor: float = 0.02) -> Tensor:
    """Spectral subtraction of `noise` (b c, f or 1, 1), the power in every bin, from recordings x (b, c, n).

    Args:
        x: recordings.
        noise: what to subtract, in units of :func:`spectrum` squared.
        window: samples of a frame.
        over: times the noise's power that is subtracted of a frame at 0 dB, alpha; less by 3/20 for each dB above and more below, from -5 to 20 dB.
        floor: times the noise's power that always stays, beta.
    """
    y = spectrum(x, window)
    power = y.abs().square()
    snr = 10 * torch.log10((power.mean(1, keepdim=True) / noise.mean(1, keepdim=True).clamp(min=_TINY) - 1).clamp(min=1e-3))
    alpha = (over - 3 / 20 * snr.clamp(-5, 20)).clamp(min=1)
    kept = torch.maximum(power - alpha * noise, torch.minimum(floor * noise, power))
    return sound(y * (kept / power.clamp(min=_TINY)).sqrt(), x, window)


def decided(
    x: Tensor,
    noise: Tensor,
    *,
    window: int = 512,
    memory: float = 0.94,
    gain: Literal["wiener", "log"] = "wiener",
    ahead: bool = True,
    again: int = 0,
) -> Tensor:
    """Recordings x (b, c, n) with decision-directed gains: the Wiener filter's or the log-spectral amplitude estimator's.

    Args:
        x: recordings.
        noise: its power in every bin, (b c, f or 1, frames or 1), in units of :func:`spectrum` squared.
        window: samples of a frame.
        memory: what the frame before says of this one, a, in [0, 1).
        gain: "wiener" or "log".
        ahead: ask the frame after as well as the one before.
        again: how many more times x is filtered, with what was found before as the a-priori SNR.
    """
    y = spectrum(x, window)
    posterior = (y.abs().square() / noise.clamp(min=_TINY)).double().cpu().numpy().clip(_TINY, 1e6)
    prior = _priors(posterior, memory, gain)
    if ahead:
        prior = (prior + _priors(posterior[..., ::-1], memory, gain)[..., ::-1]) / 2
    out = sound(y * _gains(prior, posterior, gain, y), x, window)
    for _ in range(again):
        found = spectrum(out, window).abs().square() / noise.clamp(min=_TINY)
        out = sound(y * _gains(found.double().cpu().numpy().clip(1e-4, 1e6), posterior, gain, y), x, window)
    return out


def late(spectra: Tensor, decay: int, window: int, share: float) -> Tensor:
    """The power (k, f, frames) that still rings from earlier frames, as :func:`decided` takes it for noise.

    Args:
        spectra: of what is heard, (k, f, frames).
        decay: samples until a tail is 60 dB fainter.
        window: samples of a frame.
        share: of what was heard a window earlier, faded, that is taken for echo.
    """
    frames = 4  # a whole window: nearer frames hear the same sound itself
    power = torch.nn.functional.pad(spectra.abs().square(), (frames, 0))[..., :-frames]
    faded = 10 ** (-6 * window / decay)
    found = torch.zeros_like(power)
    held = torch.zeros_like(power[..., 0])
    for m in range(power.shape[-1]):
        held = torch.maximum(power[..., m], 10 ** (-6 * (window / 4) / decay) * held)  # a tail dies no faster than the room lets it
        found[..., m] = share * faded * held
    return found.clamp(min=_TINY)


def _priors(posterior: NDArray[np.float64], memory: float, gain: str) -> NDArray[np.float64]:
    """The a-priori SNR of every bin (k, f, frames), frame by frame."""
    found = np.empty_like(posterior)
    before = np.maximum(posterior[..., 0] - 1, 0)
    for m in range(posterior.shape[-1]):
        now = posterior[..., m]
        found[..., m] = np.maximum(memory * before + (1 - memory) * np.maximum(now - 1, 0), _LEAST)
        before = _gain(found[..., m], now, gain) ** 2 * now
    return found


def _gains(prior: NDArray[np.float64], posterior: NDArray[np.float64], gain: str, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(_gain(prior, posterior, gain))).to(like.abs())


def _gain(prior: NDArray[np.float64], posterior: NDArray[np.float64], gain: str) -> NDArray[Any]:
    wiener: NDArray[Any] = prior / (1 + prior)
    if gain == "wiener":
        return wiener
    from scipy.special import exp1

    louder: NDArray[Any] = np.minimum(wiener * np.exp(0.5 * exp1(np.maximum(wiener * posterior, _TINY))), 1.0)
    return louder


def sinc(x: Tensor, factor: int) -> Tensor:
    """Every `factor`-th sample of x (b, c, n), from the first on, put back on the grid without anything above their own Nyquist frequency."""
    n = x.shape[-1]
    few = x[..., ::factor]
    whole = torch.fft.rfft(few)
    count = few.shape[-1] * factor
    whole = torch.nn.functional.pad(whole, (0, count // 2 + 1 - whole.shape[-1]))
    if few.shape[-1] % 2 == 0:
        whole[..., few.shape[-1] // 2] /= 2  # the bin at their Nyquist frequency stands for both sides
    found: Tensor = torch.fft.irfft(whole, count)[..., :n] * factor
    return found


def spline(x: Tensor, factor: int) -> Tensor:
    """Every `factor`-th sample of x (b, c, n), from the first on, with a natural cubic spline through them; constant after the last."""
    from scipy.interpolate import CubicSpline

    n = x.shape[-1]
    at = np.arange(0, n, factor)
    if len(at) < 2:
        return x[..., :1].expand_as(x).clone()
    through = CubicSpline(at, x[..., ::factor].double().cpu().numpy(), axis=-1, bc_type="natural")
    return torch.from_numpy(through(np.minimum(np.arange(n), at[-1]))).to(x)


class Bandwidth:
    r"""Missing high bands, folded up from the low one, with a gain for every bin, or an envelope that a linear map reads from the low band.

    A frame's high bins take phase and fine structure from the mirrored low bins, again and again; their level is fitted to training
    recordings by least squares of log spectra, of which the log-spectral distance is the root mean square:

    .. math:: \log|\hat X_k| = (1 - f)\,(a_k + b_k \cdot \log|X_{low}|) + f\,(\log|X_{k'}| + g_k),

    with f = 1 for folding with fitted gains and f = 0 for the envelope alone. As in that distance, nothing is fainter than 60 dB below the
    loudest bin.

    Args:
        clean: training recordings (k, c, n).
        degraded: the same without their high bands.
        cutoff: of these, in parts of the Nyquist frequency, in (0, 1).
        window: samples of a frame.
        ridge: weight of the map's squares against the mean squares of log spectra.
    """

    def __init__(self, clean: Tensor, degraded: Tensor, cutoff: float, *, window: int = 256, ridge: float = 1e-3) -> None:
        self.window, half = window, window // 2
        self.first = min(half, max(2, math.floor(cutoff * half) + 1))
        floor = _floor(spectrum(clean, window))
        wanted, low = _log(spectrum(clean, window), floor)[:, self.first :], _log(spectrum(degraded, window), floor)
        self.source = torch.tensor([_mirrored(k, self.first - 1) for k in range(self.first, half + 1)])
        features = self._features(low)
        self.mean = features.mean((0, 2), keepdim=True)
        inputs = (features - self.mean).transpose(1, 2).flatten(0, 1).double()
        outputs = wanted.transpose(1, 2).flatten(0, 1).double()
        self.offset = outputs.mean(0)
        gram = inputs.T @ inputs + ridge * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
        self.weights = torch.linalg.solve(gram, inputs.T @ (outputs - self.offset))
        self.gain = (wanted - low[:, self.source]).mean((0, 2))

    def __call__(self, x: Tensor, folded: float = 0.0) -> Tensor:
        """Recordings x (b, c, n) without a high band, with one: `folded` in [0, 1], f, is how much of it is a copy."""
        y = spectrum(x.cpu(), self.window)
        low = _log(y, _floor(y))
        envelope = torch.einsum("kft,fo->kot", (self._features(low) - self.mean).double(), self.weights) + self.offset[:, None]
        level = (1 - folded) * envelope.to(low) + folded * (low[:, self.source] + self.gain[:, None])
        level = torch.minimum(level, low.amax((1, 2), keepdim=True))
        made = torch.polar(level.exp(), torch.angle(y[:, self.source]))
        return sound(torch.cat([y[:, : self.first], made], 1), x.cpu(), self.window).to(x)

    def _features(self, low: Tensor) -> Tensor:
        """The log spectrum of the low band (k, f, frames) and the mean of the frames beside it, one below the other."""
        band = low[:, 1 : self.first]
        padded = torch.nn.functional.pad(band, (1, 1), mode="replicate")
        return torch.cat([band, (padded[..., 2:] + padded[..., :-2]) / 2], 1)


def _floor(spectra: Tensor) -> Tensor:
    return (spectra.abs().amax((1, 2), keepdim=True) * _FAINTEST).clamp(min=_TINY)


def _log(spectra: Tensor, floor: Tensor) -> Tensor:
    return spectra.abs().maximum(floor).log()


def _mirrored(k: int, edge: int) -> int:
    """The low bin that is folded to bin k: back and forth between 1 and the edge."""
    if edge <= 1:
        return edge
    place = (k - edge) % (2 * (edge - 1))
    return edge - place if place <= edge - 1 else place - edge + 2
