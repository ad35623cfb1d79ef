"""Damage of real photographs, against what is independent of it: Pillow's codec, SciPy's Poisson law, sums over shifted pictures."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, to_uint8
from snowmelt.degradations import Compose, GaussianBlur, GaussianNoise, Holes, Jpeg, Mixture, MotionBlur, Pixelate, PoissonNoise
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build
from snowmelt.restoration.memory import peak_bytes
from snowmelt.schedules import VE

DOUBLE = torch.float64
BLIND = Mixture((GaussianBlur(2.0), Pixelate(1), GaussianNoise(VE(0.4)), Jpeg(), Holes()), (0.3, 0.4, 0.5, 0.6, 0.7))


def full(t: float, n: int = 1) -> Tensor:
    return torch.full((n,), t, dtype=DOUBLE)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A crop of a photograph with sides that no block divides: (1, 3, 118, 121)."""
    return from_uint8(bundled.photos("validation", 128)[0][:1])[..., :118, :121].double()


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a.clamp(-1, 1) - b).square().mean()) / 4)


# --- jpeg ------------------------------------------------------------------------------------------------


def through_pillow(x: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(to_uint8(x[0])[..., 0] if x.shape[1] == 1 else to_uint8(x[0])).save(file, "JPEG", quality=quality, subsampling=2)
    pixels = np.asarray(Image.open(file))
    return from_uint8(pixels if pixels.ndim == 3 else pixels[..., None]).double()[None]


def severity_of(d: Jpeg, quality: int) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if d.in_units(middle)["quality"] < quality else (middle, high)
    return high


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [5, 10, 20, 50, 75, 90])
def test_jpeg_is_what_a_file_of_that_quality_loses(photo, channels, quality):
    d, x = Jpeg(quality=5), photo[:, :channels]
    ours, file = d(x, full(severity_of(d, quality))), through_pillow(x, quality)
    # The codec also rounds colours and pixels to levels, and clips: half a level is 54 dB, and a few of those roundings add up.
    assert psnr(ours, file) > psnr(file, x) + 6
    assert abs(psnr(ours, x) - psnr(file, x)) < (0.15 if quality < 80 else 2.5 if quality == 90 else 0.5)


def test_jpeg_says_which_quality_a_severity_is():
    d = Jpeg(quality=10)
    assert d.in_units(1)["quality"] == pytest.approx(10)
    assert d.in_units(0)["quality"] == 100
    assert d.in_units(0.5)["quality"] == pytest.approx(20)
    assert d.in_units(0.1)["quality"] == pytest.approx(75)


def test_jpeg_keeps_flat_blocks_and_refuses_two_channels():
    flat = from_uint8(np.full((1, 16, 16, 3), 128, np.uint8)).double()
    torch.testing.assert_close(Jpeg()(flat, full(1)), flat, rtol=0, atol=1e-6)  # 8-bit levels in float32
    with pytest.raises(ValueError, match="1 or 3 channels; these have 2"):
        Jpeg()(torch.zeros(1, 2, 8, 8, dtype=DOUBLE), full(1))


# --- poisson noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("photons", [0.3, 2.0, 20.0, 300.0])
def test_poisson_noise_has_the_moments_of_counting(photons):
    d = PoissonNoise(peak=photons)
    x = torch.ones(1, 1, 500, 500, dtype=DOUBLE)  # the brightest value
    counts = (d(x, full(1), d.draw(x, generator(0, "photons"))) + 1) / 2 * photons
    mean, variance, skew = (float(m) for m in stats.poisson.stats(photons, moments="mvs"))
    assert float(counts.min()) >= 0
    assert float(counts.mean()) == pytest.approx(mean, rel=0.01 if photons > 1 else 0.34)
    assert float(counts.var()) == pytest.approx(variance, rel=0.02 if photons > 10 else 0.1 if photons > 1 else 0.5)
    if photons > 10:
        assert float(stats.skew(counts.flatten().numpy())) == pytest.approx(skew, abs=0.03)


def test_poisson_noise_knows_darkness_and_grows_with_t():
    d = PoissonNoise(peak=10)
    dark, light = torch.full((1, 1, 99, 99), -1.0, dtype=DOUBLE), torch.full((1, 1, 99, 99), 0.5, dtype=DOUBLE)
    z = d.draw(light, generator(0, "photons"))
    assert torch.equal(d(dark, full(1), z), dark)
    stds = [float(d(light, full(t), z).std()) for t in (0.25, 0.5)]
    assert stds[1] / stds[0] == pytest.approx(2, rel=0.02)
    assert d.in_units(0.5) == {"peak": 40}


# --- motion blur -----------------------------------------------------------------------------------------


def test_motion_blur_along_a_row_is_the_mean_of_shifted_pictures():
    n, length = 64, 8.0
    at = torch.arange(n, dtype=DOUBLE)
    wave = torch.cos(math.pi / n * 6 * (at + 0.5)).expand(1, 1, 20, n)  # mirrored at its edges, as the picture is
    d = MotionBlur(length_px=length)
    for turn in (0.0, 0.5):
        x = wave if turn == 0 else wave.mT.contiguous()
        seen = d(x, full(0.75), {"turn": torch.full((1, 1), turn, dtype=DOUBLE)})
        shifts = torch.linspace(-0.5, 0.5, 2001, dtype=DOUBLE) * length * 0.75
        expected = torch.stack([torch.cos(math.pi / n * 6 * (at + s + 0.5)) for s in shifts]).mean(0).expand(1, 1, 20, n)
        torch.testing.assert_close(seen, expected if turn == 0 else expected.mT, rtol=0, atol=2e-3)


@pytest.mark.parametrize("turn", [0.0, 0.15, 0.25, 0.5, 0.75])
def test_motion_blur_smears_in_its_direction_only_and_keeps_the_mean(turn):
    at = torch.arange(61, dtype=DOUBLE) - 30
    x = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))[None, None]  # a spot, fine enough to be sampled without error
    y = MotionBlur(length_px=12)(x, full(1), {"turn": torch.full((1, 1), turn, dtype=DOUBLE)})
    assert float(y.sum()) == pytest.approx(float(x.sum()), abs=1e-3)
    along = at * math.cos(math.pi * turn) + at[:, None] * math.sin(math.pi * turn)
    across = at * math.sin(math.pi * turn) - at[:, None] * math.cos(math.pi * turn)
    spread = [float((y[0, 0] * axis**2).sum() / y.sum()) for axis in (along, across)]
    assert spread[0] == pytest.approx(1.5**2 + 12**2 / 12, rel=0.01)  # a uniform law of 12 px adds its variance
    assert spread[1] == pytest.approx(1.5**2, rel=0.01)


# --- holes -----------------------------------------------------------------------------------------------


def test_holes_keep_what_is_known_and_empty_the_rest():
    d, x = Holes(strokes=3, width_px=6), torch.rand(8, 3, 40, 60, dtype=DOUBLE) * 2 - 1
    z = d.draw(x, generators(0, "holes", range(8)))
    mask = z["mask"].expand_as(x)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    hidden = 1 - z["mask"].mean((1, 2, 3))
    assert ((hidden > 0) & (hidden < 0.5)).all()
    y = d(x, full(1, 8), z)
    assert torch.equal(y[mask == 1], x[mask == 1])
    assert not y[mask == 0].any()
    assert torch.equal(d.context((3, 40, 60), full(1, 8), z), z["mask"])


def test_a_stroke_is_as_wide_as_it_says():
    like = torch.zeros(200, 1, 64, 64, dtype=DOUBLE)
    thin, wide = (Holes(strokes=1, width_px=w).draw(like, generator(0, "holes"))["mask"] for w in (2, 20))
    assert (wide <= thin).all()
    assert 3 < float((1 - wide).sum() / (1 - thin).sum()) < 12


def test_a_thousand_strokes_take_no_more_memory_than_some_and_are_the_same(monkeypatch: pytest.MonkeyPatch):
    """Each stroke is as large as the picture, and there may be hundreds."""
    like = torch.zeros(2, 3, 48, 64)
    masks = {}
    for pixels in (1, 5 * 2 * 48 * 64, 10**9):  # one stroke at a time, five, all
        monkeypatch.setattr("snowmelt.degradations.holes._AT_ONCE", pixels)
        masks[pixels] = Holes(strokes=12).draw(like, generators(0, "holes", range(2)))["mask"]
    first, *others = masks.values()
    assert all(torch.equal(first, one) for one in others)
    monkeypatch.undo()
    photograph = torch.zeros(1, 3, 512, 768)
    assert peak_bytes(lambda: Holes(strokes=40).draw(photograph, generators(0, "holes", [0]))) < 32 * 2**20
    assert Holes(strokes=3).draw(torch.zeros(0, 3, 8, 8))["mask"].shape == (0, 1, 8, 8)


# --- noise on top ----------------------------------------------------------------------------------------


def test_ve_adds_noise_and_leaves_the_sample():
    d = build("noise:schedule=ve(sigma_max=0.2)")
    x = torch.rand(1, 1, 300, 300, dtype=DOUBLE)
    z = d.draw(x, generator(0, "noise"))
    assert float((d(x, full(0.5), z) - x).std()) == pytest.approx(0.1, rel=0.02)
    assert d.recover(d(x, full(0.5), z), x, full(0.5), {})["endpoint"].allclose(z["endpoint"], atol=1e-12)


def test_noise_on_top_ends_in_no_prior():
    from snowmelt.model import Model
    from snowmelt.training.prior import prior_for

    assert prior_for(Model(build("noise:schedule=ve"), lambda x, t: x)).prior is None
    assert prior_for(Model(build("noise"), lambda x, t: x)).prior is not None


# --- mixtures --------------------------------------------------------------------------------------------


def test_a_mixture_is_the_composition_at_its_own_severities():
    x = torch.rand(3, 3, 32, 24, dtype=DOUBLE) * 2 - 1
    z = BLIND.draw(x, generators(0, "mixture", range(3)))
    expected = x
    for i, part in enumerate(BLIND.parts):
        share = {name.partition(".")[2]: value for name, value in z.items() if name.startswith(f"{i}.")}
        expected = part(expected, 0.5 * z[f"{i}.severity"], share)
    torch.testing.assert_close(BLIND(x, full(0.5, 3), z), expected, rtol=0, atol=0)
    whole = Compose(BLIND.parts)
    every = {**z, **{f"{i}.severity": torch.ones(3, dtype=DOUBLE) for i in range(5)}}
    torch.testing.assert_close(BLIND(x, full(1, 3), every), whole(x, full(1, 3), z), rtol=0, atol=0)


def test_parts_are_there_by_chance_and_uniformly_strong():
    like = torch.zeros(4000, 1, 1, 1, dtype=DOUBLE)
    z = BLIND.draw(like, generator(0, "mixture"))
    severities = torch.stack([z[f"{i}.severity"] for i in range(5)])
    there = severities > 0
    torch.testing.assert_close(there.double().mean(1), torch.tensor(BLIND.chances, dtype=DOUBLE), rtol=0, atol=0.03)
    assert float(severities[2][there[2]].mean()) == pytest.approx(0.5, abs=0.02)
    assert set(severities[1].tolist()) == {0.0, 1.0}  # a part with knots is asked at them
    assert abs(float(np.corrcoef(there[2], there[3])[0, 1])) < 0.05
    unknown = BLIND.unknowns(full(0.5, 4000), z)
    assert list(unknown) == ["gaussian-blur", "pixelate", "noise", "jpeg", "holes"]
    assert torch.equal(unknown["jpeg"], 0.5 * severities[3])


def test_what_a_mixture_is_not_told_is_absent():
    shape, mask = (3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=DOUBLE)
    assert torch.equal(BLIND.context(shape, full(1, 2), {}), torch.ones(2, 1, 8, 8, dtype=DOUBLE))
    assert torch.equal(BLIND.context(shape, full(1, 2), {"4.mask": mask}), mask)
    drawn = {"4.mask": mask, "4.severity": torch.tensor([0.0, 1.0], dtype=DOUBLE)}
    assert BLIND.context(shape, full(1, 2), drawn).mean((1, 2, 3)).tolist() == [1.0, 0.0]


def test_a_mixture_refuses_chances_that_do_not_fit():
    with pytest.raises(SpecError, match="mixture.chances has 2 numbers for 3 parts"):
        Mixture((Holes(), Jpeg(), Pixelate()), (0.1, 0.2))
    with pytest.raises(SpecError, match=r"mixture.parts is empty"):
        Mixture(())
    assert Mixture((Jpeg(), Jpeg())).names == ("jpeg-1", "jpeg-2")
