"""SI-SDR, log-spectral distance and segmental SNR against formulas written out by hand, and against torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snowmelt.metrics import Gathered, measures_for
from snowmelt.metrics.mel import LogMel
from snowmelt.metrics.sound import Recordings, si_sdr
from snowmelt.signals import Sound


def speech(b: int = 3, c: int = 1, n: int = 3000, seed: int = 0, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Noisy recordings whose loudness rises and falls, and the clean ones."""
    g = torch.Generator().manual_seed(seed)
    time = torch.arange(n) / 8000
    clean = 0.3 * (2 * math.pi * (300 + 900 * time) * time).sin() * (8 * time).sin().square() + 0.001 * torch.randn(b, c, n, generator=g)
    return clean + noise * torch.randn(b, c, n, generator=g), clean


def frames(x: np.ndarray, window: int = 256, hop: int = 64) -> np.ndarray:
    """Frame by frame, the first centred on the first sample, until the end is reached."""
    padded = np.concatenate([np.zeros(window // 2), x, np.zeros(window)])
    count = math.ceil(len(x) / hop) + 1
    return np.stack([padded[i * hop : i * hop + window] for i in range(count)])


def hann(window: int = 256) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def test_si_sdr_is_that_of_torchmetrics_and_of_the_formula() -> None:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    x, clean = speech()
    found = si_sdr(x[:, 0], clean[:, 0])
    assert torch.allclose(found, scale_invariant_signal_distortion_ratio(x[:, 0].double(), clean[:, 0].double(), zero_mean=True), atol=1e-6)
    s, e = (one[0, 0].double().numpy() - one[0, 0].double().numpy().mean() for one in (clean, x))
    scaled = (e @ s) / (s @ s) * s
    assert float(found[0]) == pytest.approx(10 * np.log10((scaled @ scaled) / ((scaled - e) @ (scaled - e))), rel=1e-9)


def test_si_sdr_hears_no_change_of_loudness_nor_of_a_constant() -> None:
    x, clean = speech()
    once = si_sdr(x[:, 0], clean[:, 0])
    assert torch.allclose(si_sdr(7 * x[:, 0] + 0.3, clean[:, 0]), once, atol=1e-4)
    assert torch.allclose(si_sdr(x[:, 0], 0.01 * clean[:, 0]), once, atol=1e-4)
    orthogonal = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    assert float(si_sdr(orthogonal[0] + orthogonal[1], orthogonal[0])) == pytest.approx(0)
    assert float(si_sdr(10 * orthogonal[0] + orthogonal[1], orthogonal[0])) == pytest.approx(20)


def test_lsd_is_that_of_the_formula() -> None:
    x, clean = speech()
    power = [np.abs(np.fft.rfft(frames(one[1, 0].double().numpy()) * hann())) ** 2 for one in (x, clean)]
    floor = power[1].max() * 1e-6
    apart = 10 * np.log10(np.maximum(power[0], floor) / np.maximum(power[1], floor))
    by_hand = np.sqrt((apart**2).mean(1)).mean()
    assert float(Recordings(8000).each(x, clean)["lsd"][1]) == pytest.approx(by_hand, rel=1e-9)
    assert by_hand > 5


def test_segmental_snr_is_that_of_the_formula_and_clamped() -> None:
    x, clean = speech()
    weighted = [(frames(one[2, 0].double().numpy()) * hann()) ** 2 for one in (clean, clean.double() - x.double())]
    ratio = 10 * np.log10(weighted[0].sum(1) / weighted[1].sum(1))
    assert ratio.min() < -10
    found = Recordings(8000)
    assert float(found.each(x, clean)["segmental_snr"][2]) == pytest.approx(np.clip(ratio, -10, 35).mean(), rel=1e-9)
    assert found.each(clean, clean)["segmental_snr"].tolist() == [35.0] * 3
    assert found.each(clean + 100 * x, clean)["segmental_snr"].tolist() == [-10.0] * 3


def test_a_recording_is_scored_against_itself_without_error() -> None:
    _, clean = speech()
    found = Gathered(measures_for(Sound()))
    found.update(clean, clean)
    assert found.compute() == {"si_sdr": pytest.approx(100.0), "lsd": 0.0, "segmental_snr": 35.0, "rmse": 0.0}


def test_nothing_is_clamped_and_the_rmse_is_in_units_of_the_samples() -> None:
    _, clean = speech()
    found = Gathered(measures_for(Sound()))
    found.update(clean + 3, clean)
    assert found.compute()["rmse"] == pytest.approx(3, rel=1e-6)


def test_lsd_hears_a_missing_band_that_si_sdr_hardly_does() -> None:
    g = torch.Generator().manual_seed(1)
    bands = torch.fft.rfft(torch.randn(2, 1, 4000, generator=g))
    bands[..., 1000:] *= 0.03
    clean = torch.fft.irfft(bands, 4000)
    bands[..., 1000:] = 0
    low = torch.fft.irfft(bands, 4000)
    scores = Recordings(8000).each(low, clean)
    assert bool((scores["si_sdr"] > 25).all())
    assert bool((scores["lsd"] > 10).all())


def test_silence_has_no_number_where_it_is_the_truth_and_a_clear_one_where_it_is_not() -> None:
    x, clean = speech()
    nothing = torch.zeros_like(clean)
    found = Recordings(8000).each(x, nothing)
    assert all(bool(found[name].isnan().all()) for name in ("si_sdr", "lsd", "segmental_snr"))
    found = Recordings(8000).each(nothing, clean)
    assert found["si_sdr"].tolist() == [-60.0] * 3
    assert bool((found["lsd"] > 8).all() & found["lsd"].isfinite().all())
    assert found["segmental_snr"] == pytest.approx(0)
    constant = Recordings(8000).each(clean, nothing + 0.1)["si_sdr"]
    assert bool(constant.isnan().all())
    assert bool((Recordings(8000).each(nothing + 0.1, clean)["si_sdr"] == -60).all())


def test_channels_count_alike_and_a_silent_one_is_left_out() -> None:
    x, clean = speech(c=2)
    both = Recordings(8000).each(x, clean)
    each = [Recordings(8000).each(x[:, i : i + 1], clean[:, i : i + 1]) for i in range(2)]
    for name in ("si_sdr", "lsd", "segmental_snr"):
        assert torch.allclose(both[name], (each[0][name] + each[1][name]) / 2)
    clean[:, 1] = 0
    left = Recordings(8000).each(x, clean)
    assert torch.allclose(left["si_sdr"], each[0]["si_sdr"])


def test_frames_are_as_long_at_any_rate_and_any_length_has_some() -> None:
    assert [Recordings(rate).window for rate in (8000, 16_000, 44_100)] == [256, 512, 1412]
    for n in (1, 63, 256, 257):
        x, clean = speech(n=n)
        found = Recordings(8000).each(x, clean)
        assert bool(found["lsd"].isfinite().all())
        assert found["values"].tolist() == [n] * 3


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from snowmelt.metrics import sound

    x, clean = speech(b=5)
    whole = Recordings(8000).each(x, clean)
    monkeypatch.setattr(sound, "_FRAMES", 1)
    assert all(torch.allclose(values, whole[name], rtol=1e-12) for name, values in Recordings(8000).each(x, clean).items())


def test_what_is_missing_is_left_out_of_one_column_only() -> None:
    x, clean = speech()
    clean[1] = 0
    scores = Gathered(measures_for(Sound()))
    scores.update(x[:2], clean[:2])
    scores.update(x[2:], clean[2:])
    found = scores.compute()
    assert found["si_sdr"] == pytest.approx(float(si_sdr(x[[0, 2], 0], clean[[0, 2], 0]).mean()))
    assert found["rmse"] == pytest.approx(float((x - clean).square().mean().sqrt()), rel=1e-5)
    assert scores.left_out() == {"SI-SDR": 1, "LSD": 1, "segmental SNR": 1}


def test_refusals() -> None:
    x, clean = speech()
    with pytest.raises(ValueError, match=r"recordings are \(b, c, n\)"):
        Recordings().each(x[:, 0], clean[:, 0])
    with pytest.raises(ValueError, match="shapes differ"):
        Recordings().each(x, clean[..., 1:])
    with pytest.raises(ValueError, match="NaN in 1 of 3"):
        Recordings().each(torch.where(torch.arange(3)[:, None, None] == 1, math.nan, x), clean)
    with pytest.raises(ValueError, match="nothing has been scored"):
        Gathered(Recordings()).compute()


def test_mel_bands_see_pitch_and_loudness_and_no_order() -> None:
    time = torch.arange(4000) / 8000
    features = LogMel(8000)
    tones = torch.stack([(2 * math.pi * f * time).sin() for f in (300.0, 2500.0)])[:, None] * 0.3
    means = features(tones)[:, :32]
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    assert [int(i) for i in means.argmax(1)] == [round(mel(f) / mel(4000) * 33) - 1 for f in (300.0, 2500.0)]
    assert torch.allclose(features(10 * tones)[:, :32].amax(1), means.amax(1) + 2, atol=1e-4)
    x, _ = speech(n=4096)
    assert torch.allclose(features(x), features(x.flip(-1)), atol=0.02)
    assert features(x[:0]).shape == (0, 64)
    assert torch.allclose(features(x)[:1], features(x[:1]))
    assert bool(features(torch.zeros(2, 1, 800)).isfinite().all())
    with pytest.raises(ValueError, match="of recordings"):
        features(x[:, 0])
