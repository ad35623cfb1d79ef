"""Classical restorers of noisy and narrow recordings, against formulas, scipy and sounds of which the answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, signal
from torch import Tensor

from snowmelt.evaluation import classical_sound as classical
from snowmelt.metrics.sound import Recordings, si_sdr


def phrases(k: int, n: int = 8000, seed: int = 0) -> Tensor:
    """Chirps with pauses between them, (k, 1, n), of a root mean square of 0.2."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 8000
    out = []
    for _ in range(k):
        pitch = rng.uniform(120, 200)
        tones = sum(np.sin(2 * np.pi * h * (pitch * t + 20 * t**2) + rng.uniform(0, 6)) / h for h in range(1, 12))
        out.append(tones * (np.sin(2 * np.pi * rng.uniform(1.5, 3) * t) > 0))
    x = torch.tensor(np.array(out), dtype=torch.float32)[:, None]
    return 0.2 * x / x.square().mean(-1, keepdim=True).sqrt()


def noisy(x: Tensor, seed: int = 0) -> Tensor:
    return x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [128, 256])
def test_spectra_are_turned_back(window: int) -> None:
    x = torch.randn(2, 2, 1234)
    assert torch.allclose(classical.sound(classical.spectrum(x, window), x, window), x, atol=1e-5)


def test_white_noise_has_the_power_it_is_said_to_have() -> None:
    x = 0.3 * torch.randn(1, 1, 200_000, generator=torch.Generator().manual_seed(0))
    spectra, said = classical.spectrum(x, 256), classical.white(torch.tensor([0.3]), 256)
    assert float(spectra[:, 1:-1].abs().square().mean() / said) == pytest.approx(1, rel=0.02)
    for quantile in (0.1, 0.5):
        assert float(classical.noise_in(spectra, quantile, flat=True) / said) == pytest.approx(1, rel=0.05)
        assert (classical.noise_in(spectra, quantile)[:, 1:-1] / said).sub(1).abs().mean() < 0.1


def test_noise_is_read_through_speech() -> None:
    spectra = classical.spectrum(noisy(phrases(4, 32_000)), 256)
    found = classical.noise_in(spectra, 0.25).mean(1).flatten() / classical.white(torch.full((4,), 0.2), 256).flatten()
    assert bool(((found > 0.8) & (found < 1.5)).all())


def test_the_gains_are_the_formulas() -> None:
    prior, posterior = np.array([0.1, 1.0, 30.0]), np.array([0.5, 2.0, 40.0])
    wiener = prior / (1 + prior)
    tail = [integrate.quad(lambda t: math.exp(-t) / t, w * p, np.inf)[0] for w, p in zip(wiener, posterior, strict=True)]
    assert classical._gain(prior, posterior, "wiener") == pytest.approx(wiener)
    assert classical._gain(prior, posterior, "log") == pytest.approx(np.minimum(wiener * np.exp(0.5 * np.array(tail)), 1), rel=1e-6)


def test_the_frame_before_decides() -> None:
    power = np.random.default_rng(0).exponential(2.0, 9)
    wanted, before = [], max(power[0] - 1, 0)
    for now in power:
        prior = max(0.9 * before + 0.1 * max(now - 1, 0), classical._LEAST)
        before = (prior / (1 + prior)) ** 2 * now
        wanted.append(prior)
    assert classical._priors(power[None, None], 0.9, "wiener")[0, 0] == pytest.approx(wanted)


def test_noise_is_reduced_told_and_blind() -> None:
    clean = phrases(3, 16_000)
    x = noisy(clean)
    told = classical.white(torch.full((3,), 0.2), 512)
    blind = classical.noise_in(classical.spectrum(x, 512), 0.25)

    def gain(out: Tensor) -> float:
        return float((si_sdr(out[:, 0], clean[:, 0]) - si_sdr(x[:, 0], clean[:, 0])).mean())

    first = gain(classical.decided(x, told))
    assert first > 8
    assert gain(classical.decided(x, told, again=1)) > first
    assert gain(classical.decided(x, told, ahead=False)) < first - 0.2
    assert gain(classical.decided(x, told, gain="log", window=512)) > 7
    assert gain(classical.subtracted(x, told, window=512)) > 7
    assert gain(classical.decided(x, blind)) > 6


@pytest.mark.parametrize("restore", [classical.decided, classical.subtracted])
def test_where_there_is_no_noise_nothing_changes(restore: object) -> None:
    x = phrases(1)
    assert torch.allclose(restore(x, torch.zeros(1, 1, 1)), x, atol=1e-4)  # type: ignore[operator]
    silence = torch.zeros(1, 1, 2000)
    assert not restore(silence, torch.full((1, 1, 1), 0.1)).any()  # type: ignore[operator]


def test_late_echoes_fade_at_the_rate_of_the_room() -> None:
    click = torch.zeros(1, 1, 8000)
    click[..., 1000] = 1
    found = classical.late(classical.spectrum(click, 256), 2000, 256, 1.0)[0, 10]
    first = int(found.argmax())
    assert first > int(classical.spectrum(click, 256)[0, 10].abs().argmax())
    assert float(10 * torch.log10(found[first + 20] / found[first])) == pytest.approx(-60 * 20 * 64 / 2000, abs=0.5)


@pytest.mark.parametrize(("n", "factor"), [(1200, 4), (1200, 2), (1000, 8)])
def test_sinc_is_the_resampling_of_scipy(n: int, factor: int) -> None:
    x = torch.randn(2, 1, n, dtype=torch.float64)
    assert classical.sinc(x, factor).numpy() == pytest.approx(signal.resample(x[..., ::factor].numpy(), n, axis=-1), abs=1e-9)
    assert classical.sinc(x[..., :-3], factor).shape[-1] == n - 3


def test_splines_go_through_what_is_kept() -> None:
    t = torch.arange(401, dtype=torch.float64)
    x = torch.sin(2 * math.pi * t / 50)[None, None]
    out = classical.spline(x, 4)
    assert torch.allclose(out[..., ::4], x[..., ::4])
    assert (out - x).abs().max() < 1e-3
    assert classical.spline(x[..., :3], 4).tolist() == [[[0.0] * 3]]


def test_bins_are_mirrored_at_the_edge() -> None:
    assert [classical._mirrored(k, 5) for k in range(5, 16)] == [5, 4, 3, 2, 1, 2, 3, 4, 5, 4, 3]


def narrow(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x)
    spectrum[..., spectrum.shape[-1] // 4 :] = 0
    return torch.fft.irfft(spectrum, x.shape[-1])


def test_a_band_is_extended() -> None:
    def hiss(k: int, seed: int) -> Tensor:
        """Noise that falls with frequency and swells, so that the low band says when there is a high one."""
        white = torch.randn(k, 1, 16_000, generator=torch.Generator().manual_seed(seed))
        spectrum = torch.fft.rfft(white) / torch.linspace(1, 10, 8001)
        return torch.fft.irfft(spectrum) * (1 + torch.linspace(0, 40, 16_000).sin()).square()

    train, test = hiss(8, 0), hiss(4, 1)
    band, few = classical.Bandwidth(train, narrow(train), 0.25), narrow(test)
    lsd = Recordings(8000).lsd
    before, folded, envelope = (float(lsd(out[:, 0], test[:, 0]).mean()) for out in (few, band(few, 1.0), band(few)))
    assert envelope < before / 2
    assert folded < before / 2
    low = slice(0, band.first - 2)
    kept = [classical.spectrum(out, 256)[:, low] for out in (few, band(few))]
    assert (kept[0] - kept[1]).abs().max() < 0.05 * kept[0].abs().max()
