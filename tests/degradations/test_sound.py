"""What is done to recordings, against the definition of each and against scipy; and walks on them, against the line they should be on."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import fft, signal
from torch import Tensor

from snowmelt.degradations import Background, BitDepth, Clipping, Degradation, DownSample, LowPass, PacketLoss, Reverberation, SpectralMask
from snowmelt.degradations.reverberation import _fast
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, build
from snowmelt.samplers import Ancestral, Naive, TACoS, default_sampler
from snowmelt.testing import check_degradation, constant, perfect
from snowmelt.testing.samples import recordings
from snowmelt.types import State

DOUBLE = torch.float64
EVERY = [
    "background",
    "background:kind=recording,snr_db=-5",
    "low-pass",
    "packet-loss",
    "packet-loss:packet=20,burst=3",
    "down-sample",
    "down-sample:factor=3",
    "clipping",
    "bit-depth",
    "bit-depth:law=mu-law,bits=6",
    "reverberation:decay=200",
    "spectral-mask",
    "spectral-mask:axis=time,window=64",
    "reverberation:decay=50+low-pass+background",
]


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype)


def drawn(d: Degradation, x: Tensor) -> dict[str, Tensor]:
    return dict(d.draw(x, generator(0, "z")))


def power(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


def snr_db(clean: Tensor, noisy: Tensor) -> Tensor:
    return 10 * torch.log10(power(clean) / power(noisy - clean))


def close(seen: Tensor, expected: Tensor | np.ndarray, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(seen, torch.as_tensor(expected, dtype=seen.dtype), rtol=0, atol=tolerance)


# --- what all of them have in common -----------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("shape", [(2, 400), (1, 333), (1, 1)])
def test_every_operator_keeps_its_contract_at_any_length(text, shape):
    if shape == (1, 1) and "+" in text:
        pytest.skip("one sample, filtered, is silent: no noise can be heard beside it")
    assert {"identity", "rows_independent", "oracle_exact"} <= set(check_degradation(build(text), shape=shape))


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_nothing_happens_at_severity_0_to_the_last_bit(text, dtype):
    d, x = build(text), recordings(3, (2, 500)).to(dtype)
    assert torch.equal(d(x, at(0.0, x), drawn(d, x)), x)
    assert not torch.equal(d(x, at(1.0, x), drawn(d, x)), x)


@pytest.mark.parametrize("text", EVERY)
def test_silence_stays_silence(text):
    d, x = build(text), torch.zeros(2, 1, 300, dtype=DOUBLE)
    assert torch.equal(d(x, at(0.7, x), drawn(d, x)), x)


@pytest.mark.parametrize("text", EVERY)
def test_walks_with_a_perfect_restorer_end_at_the_truth(text):
    d, x = build(text), recordings(3, (1, 300))
    samplers = [Naive(steps=4), TACoS(steps=4), TACoS(steps=4, order=2), *([Ancestral(steps=4, eta=0.0), Ancestral(steps=3)] if d.recovers else [])]
    for sampler in samplers:
        model = Model(d, perfect(x))
        close(sampler.sample(model, model.corrupt(x, 1.0, generator(0, "z")), generator(1, "walk")), x, 1e-9)


@pytest.mark.parametrize("text", [text for text in EVERY if build(text).linear])
def test_tacos_corrects_a_wrong_answer_by_what_the_start_shows(text):
    d, x = build(text), recordings(3, (1, 300))
    z, answer = drawn(d, x), x.flip(0)
    start, told = d(x, at(1.0, x), z), d(answer, at(1.0, x), z)
    close(TACoS(steps=5).sample(Model(d, constant(answer)), State(start, 1.0, z)), answer + start - told, 1e-10)


def test_pictures_are_refused_by_name():
    x = torch.zeros(2, 1, 8, 8)
    for text in EVERY[:-1]:
        d = build(text)
        assert d.takes == "sound"
        z = {} if text.startswith("low") else {"mask": x, "endpoint": x, "impulse": x, "places": x[:, 0, 0, :2]}
        with pytest.raises(ValueError, match=rf"^{text.partition(':')[0]} degrades recordings of shape \(b, c, n\); got \(2, 1, 8, 8\)$"):
            d(x, at(0.5, x), z)


@pytest.mark.parametrize("text", EVERY)
def test_units_are_finite_but_for_ratios_at_0_and_say_more_as_t_grows(text):
    rows = [build(text).in_units(i / 8) for i in range(9)]
    assert all(row.keys() == rows[0].keys() and row for row in rows)
    for name in rows[0]:
        values = [row[name] for row in rows]
        assert all(map(math.isfinite, values[1:]))
        assert all(a >= b for a, b in pairwise(values)) or all(a <= b for a, b in pairwise(values))
        assert values[0] != values[-1]


# --- background --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [-5.0, 0.0, 12.5])
@pytest.mark.parametrize("kind", ["white", "recording"])
def test_the_ratio_at_the_end_is_exact_for_every_recording_whatever_its_loudness(kind, wanted):
    d, x = Background(wanted, kind), recordings(4, (2, 500)) * torch.tensor([0.01, 1, 3, 30], dtype=DOUBLE)[:, None, None]
    z = drawn(d, x)
    close(snr_db(x, d(x, at(1.0, x), z)), torch.full((4,), wanted, dtype=DOUBLE), 1e-9)
    for t in (0.1, 0.5):
        close(snr_db(x, d(x, at(t, x), z)), torch.full((4,), d.in_units(t)["snr_db"], dtype=DOUBLE), 1e-9)
    louder = {"endpoint": 7 * z["endpoint"]}
    close(d(x, at(1.0, x), louder), d(x, at(1.0, x), z), 1e-12)


def test_a_walk_that_believes_its_estimate_is_on_the_straight_line_whatever_the_ratio_was():
    """x_s = x0_hat + s/t (x_t - x0_hat): cold speech enhancement, on a file that is 9 dB cleaner than the model was trained for."""
    d, x = Background(0.0), recordings(3, (1, 400))
    noisy = Background(9.0)(x, at(1.0, x), drawn(d, x))
    for wrong in (0.3 * x.flip(0), torch.zeros_like(x), noisy):
        x_t, t = noisy, 1.0
        z = {}
        for s in (0.8, 0.3, 0.1):
            moved, z = Ancestral(eta=0.0).move(d, x_t, wrong, at(t, x), at(s, x), z, None)
            close(moved, wrong + s / t * (x_t - wrong), 1e-12)
            x_t, t = moved, s


def test_the_noise_is_kept_where_nothing_was_heard_of_it():
    d, x = Background(3.0), recordings(2, (1, 100))
    z = drawn(d, x)
    found = d.recover(x, x, torch.zeros(2, dtype=DOUBLE), z)
    assert torch.equal(found["endpoint"], z["endpoint"])
    close(d(x, at(1.0, x), found), d(x, at(1.0, x), z), 1e-12)


def test_gradients_pass_through_silence():
    d, x = Background(), torch.zeros(2, 1, 50, dtype=DOUBLE, requires_grad=True)
    z = drawn(d, x)
    found = d.recover(z["endpoint"], x, at(0.5, x), z)
    (pulled,) = torch.autograd.grad((d(x, at(0.5, x), z) + d(x, at(0.2, x), found)).sum(), x)
    assert pulled.isfinite().all()


def test_nobody_knows_the_noise_yet_a_walk_solves_for_it():
    white, other = Background(), Background(kind="recording")
    assert (white.noise, white.recovered, white.hidden, white.given, white.needs) == ((), ("endpoint",), ("endpoint",), (), ())
    assert (other.given, other.needs, other.hidden) == (("endpoint",), ("endpoint",), ("endpoint",))
    assert not white.linear
    assert isinstance(default_sampler(white), Ancestral)
    assert other.given_by({"x0": torch.ones(1), "endpoint": torch.zeros(1)}).keys() == {"endpoint"}


def test_a_background_that_is_missing_or_does_not_fit_is_refused():
    x = recordings(2, (1, 100))
    with pytest.raises(ValueError, match=r"background needs the noise it adds: give it as z\[\"endpoint\"\]"):
        Background()(x, at(0.5, x))
    with pytest.raises(ValueError, match=r"endpoint of shape \(2, 1, 99\) and recordings of shape \(2, 1, 100\): both must be equal"):
        Background()(x, at(0.5, x), {"endpoint": x[..., 1:]})


# --- low-pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [400, 401, 5000])
def test_the_cosine_spectrum_is_whole_below_the_cutoff_and_nothing_above_its_edge(n):
    d, x = LowPass(cutoff=0.25, edge=0.1), recordings(2, (2, n))
    for t in (0.4, 1.0):
        y = fft.dct(d(x, at(t, x)).numpy(), norm="ortho")
        share, cut = np.arange(n) / n, d.in_units(t)["cutoff"]
        whole = fft.dct(x.numpy(), norm="ortho")
        close(torch.as_tensor(y[..., share <= cut]), whole[..., share <= cut], 1e-11)
        assert abs(y[..., share > 1.1 * cut]).max() < 1e-11
        edge = (share > cut * 1.001) & (share < 1.099 * cut)
        assert (abs(y[..., edge]) < abs(whole[..., edge])).all()
    assert d.in_units(1.0) == {"cutoff": 0.25}


def test_a_tone_passes_below_the_cutoff_and_is_gone_above():
    n = torch.arange(4000, dtype=DOUBLE)
    low, high = (torch.cos(math.pi * f * (n + 0.5))[None, None] for f in (0.2, 0.3))
    d = LowPass(0.25)
    close(d(low + high, at(1.0, low)), low, 1e-10)


# --- packet loss -------------------------------------------------------------------------------------------


def test_so_many_packets_are_lost_whole_and_a_restorer_is_told_which():
    d, x = PacketLoss(lost=0.4, packet=20), recordings(64, (1, 1000)) + 3  # nowhere 0
    z = drawn(d, x)
    y = d(x, at(1.0, x), z)
    gone = y == 0
    assert torch.equal(y[~gone], x[~gone])
    assert torch.equal(d.context((1, 1000), torch.ones(64, dtype=DOUBLE), z), (~gone).to(DOUBLE))
    assert float(gone.double().mean()) == pytest.approx(0.4, abs=0.01)
    for row in gone[:, 0].tolist():
        runs = np.diff(np.flatnonzero(np.diff(np.array(row, dtype=int))))
        assert not len(runs) or set(runs % 20) == {0}, "packets are lost whole"


def test_lost_packets_grow_in_number_and_each_fades_continuously():
    d, x = PacketLoss(lost=0.5, packet=10), torch.ones(8, 1, 600, dtype=DOUBLE)
    z = drawn(d, x)
    left = torch.stack([d(x, at(i / 100, x), z) for i in range(101)])
    assert (left.diff(dim=0) <= 1e-12).all()
    assert left.diff(dim=0).abs().max() < 0.041, "no packet vanishes at once"
    gone = (left == 0).double().mean((1, 2, 3))
    assert gone[0] == gone[20] == 0
    assert 0 < gone[40] < gone[60] < gone[80] < gone[100] == pytest.approx(0.5, abs=0.02)
    assert float(gone[60]) == pytest.approx(d.in_units(0.6)["lost"], abs=0.04)


def test_bursts_are_lost_together_and_a_mask_may_be_given():
    x = torch.ones(32, 1, 1200, dtype=DOUBLE)
    single, burst = (PacketLoss(0.3, 10, b) for b in (1, 4))
    runs = [float((d(x, at(1.0, x), drawn(d, x)) == 0).double().diff().abs().sum()) for d in (single, burst)]
    assert runs[1] < 0.5 * runs[0]
    mask = (torch.arange(1200) % 7 > 2).to(DOUBLE).expand(32, 1, 1200)
    close(single(2 * x, at(1.0, x), {"mask": mask}), 2 * mask)
    assert "mask" in single.given
    assert torch.equal(single.absent((1, 1200), torch.ones(32)), torch.ones(32, 1, 1200))


# --- converters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "n"), [(2, 400), (3, 401), (4, 1000), (4, 3)])
def test_down_sampling_is_that_of_scipy(factor, n):
    d, x = DownSample(factor), recordings(2, (2, n))
    expected = signal.resample_poly(signal.resample_poly(x.numpy(), 1, factor, axis=-1), factor, 1, axis=-1)[..., :n]
    close(d(x, at(1.0, x)), expected, 1e-9)
    close(d(x, at(0.3, x)), 0.7 * x.numpy() + 0.3 * expected, 1e-9)


def test_clipping_cuts_at_a_threshold_that_comes_down():
    d, x = Clipping(0.1), recordings(3, (1, 400))
    for t in (0.2, 0.5, 1.0):
        assert d.in_units(t)["threshold"] == pytest.approx(0.1 / t)
        close(d(x, at(t, x)), np.clip(x.numpy(), -0.1 / t, 0.1 / t))
    assert float(d(x, at(1.0, x)).abs().max()) == pytest.approx(0.1)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_levels_are_evenly_spaced_and_the_noise_is_a_twelfth_of_a_step_squared(bits):
    d, x = BitDepth(bits), torch.empty(2, 1, 20_000, dtype=DOUBLE).uniform_(-1, 1, generator=generator(0, "x"))
    y, step = d(x, at(1.0, x)), 2 / 2**bits
    close(y / step, (y / step).round())
    assert (y - x).abs().max() <= step / 2 + 1e-12
    assert float((y - x).square().mean()) == pytest.approx(step**2 / 12, rel=0.05)
    assert len(y.unique()) == 2**bits + 1
    close(d(x, at(0.25, x)), x + 0.25 * (y - x))


def test_the_levels_of_telephones_are_finer_where_it_is_quiet():
    d, x = BitDepth(8, "mu-law"), torch.linspace(-1, 1, 20_001, dtype=DOUBLE)[None, None]
    y = d(x, at(1.0, x))
    pressed = np.sign(x.numpy()) * np.log1p(255 * abs(x.numpy())) / np.log(256)
    rounded = np.round(pressed * 128) / 128
    close(y, np.sign(rounded) * (256 ** abs(rounded) - 1) / 255, 1e-12)
    assert (y - x).abs()[x.abs() < 0.01].max() < 0.05 * (y - x).abs().max()


# --- rooms and bands ---------------------------------------------------------------------------------------


def test_a_recording_in_a_room_is_its_convolution_and_a_measured_room_may_be_given():
    d, x = Reverberation(decay=120), recordings(3, (2, 300))
    z = drawn(d, x)
    measured = {"impulse": torch.randn(3, 1, 700, dtype=DOUBLE, generator=generator(0, "room"))}  # longer than the recording
    for room in (z, measured):
        wet = np.stack([signal.lfilter(h[0], 1, x_i, axis=-1) for h, x_i in zip(room["impulse"].numpy(), x.numpy(), strict=True)])
        close(d(x, at(1.0, x), room), wet, 1e-10)
        close(d(x, at(0.4, x), room), 0.6 * x.numpy() + 0.4 * wet, 1e-10)


def test_a_drawn_room_dies_away_by_60_db_and_its_tail_has_the_energy_it_should():
    d = Reverberation(decay=4000, direct_db=3.0)
    h = d.draw(torch.zeros(64, 1, 10, dtype=DOUBLE), generator(0, "z"))["impulse"][:, 0]
    assert torch.equal(h[:, 0], torch.ones(64, dtype=DOUBLE))
    close(10 * torch.log10(1 / h[:, 1:].square().sum(1)), torch.full((64,), 3.0), 1e-9)
    blocks = 10 * torch.log10(h[:, 1:3961].reshape(64, 9, 440).square().mean((0, 2)))
    assert float(blocks[0] - blocks[-1]) == pytest.approx(60 * 8 * 440 / 4000, abs=1.0)
    assert d.hidden == d.given == ("impulse",)
    assert isinstance(default_sampler(d), Naive)
    assert all(_fast(n) >= n for n in range(1, 3000))


@pytest.mark.parametrize("axis", ["frequency", "time"])
@pytest.mark.parametrize("n", [300, 513, 1024])
def test_masked_cells_are_taken_out_of_the_short_time_spectrum(axis, n):
    d, x = SpectralMask(axis=axis, share=0.4, bands=3, window=64), recordings(2, (1, n))
    z = drawn(d, x)
    hann, mask = torch.hann_window(64, dtype=DOUBLE), 1 - d.mask(n, z)
    cells = torch.stft(x[:, 0], 64, 16, window=hann, pad_mode="constant", return_complex=True)
    close(d(x, at(1.0, x), z)[:, 0], torch.istft(cells * mask, 64, 16, window=hann, length=n), 1e-10)
    assert float(mask.mean()) == pytest.approx(0.6, abs=0.12)
    edges = torch.cat([mask.flatten(1), mask.new_ones(2, 1)], 1).diff(dim=1)
    assert ((edges < 0).sum(1) <= 3).all()


def test_a_band_of_frequency_takes_tones_away_and_leaves_others():
    d, n = SpectralMask(share=0.5, bands=1), torch.arange(4000, dtype=DOUBLE)
    tones = {f: torch.sin(math.pi * f * n)[None, None] for f in (0.1, 0.45)}
    z = {"places": torch.zeros(1, 1, dtype=DOUBLE)}  # the lower half
    inner = slice(300, 3700)
    assert float(d(tones[0.45], at(1.0, tones[0.45]), z)[..., inner].abs().max()) < 0.01
    z = {"places": torch.ones(1, 1, dtype=DOUBLE)}
    close(d(tones[0.1], at(1.0, tones[0.1]), z)[..., inner], tones[0.1][..., inner], 1e-3)


def test_a_window_that_cannot_be_cut_in_quarters_is_refused():
    with pytest.raises(SpecError, match=r"spectral-mask.window = 66 is no multiple of 4"):
        SpectralMask(window=66)


def test_a_recording_is_not_degraded_together_with_a_scan_or_a_picture():
    assert build("low-pass+background").takes == "sound"
    assert build("mixture:parts=(low-pass,packet-loss,background)").takes == "sound"
    with pytest.raises(SpecError, match="degrade scan and sound: no sample is both"):
        build("low-pass+ray-drop")
