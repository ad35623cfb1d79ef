"""Backbones, statistics of the data, and the restorer that joins them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snowmelt.degradations.spectral import forward
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Residual, Restorer, Statistics, UNet
from snowmelt.testing import check_backbone, check_restorer

SMALL = UNet(widths=(8, 16), blocks=1)


def pixels(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype).uniform_(-1, 1, generator=generator(0, "pixels"))


def scattered(net: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    """The net with random weights everywhere: a fresh one would hide what F does."""
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(size * torch.randn(p.shape, generator=generator(i, "weights")))
    return net.eval()


# --- backbones -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "unet:widths=(8,16),blocks=1",
        "unet:widths=8,blocks=1,patch=1,attention=false",
        "unet:widths=(8,8,8),patch=4,groups=4",
        "unet:widths=(32,64),blocks=1",
    ],
)
def test_backbones_keep_their_contract_with_any_weights(text, monkeypatch):
    backbone = build(text, "backbone")
    check_backbone(backbone)
    whole = type(backbone).build
    monkeypatch.setattr(type(backbone), "build", lambda self, i, o: scattered(whole(self, i, o)))
    check_backbone(backbone)
    check_backbone(backbone, channels=(1, 2))


def test_a_fresh_net_returns_zero_and_a_trained_one_uses_position_severity_and_all_pixels():
    x, t = pixels(2, 3, 12, 20), torch.tensor([0.3, 0.3])
    net = SMALL.build(3, 3)
    assert net(x, t).abs().max() == 0
    net = scattered(net, 0.2)
    with torch.no_grad():
        out = net(x, t)
        assert (net(x, t + 0.01) - out).abs().max() > 1e-4
        moved = x.clone()
        moved[:, :, 0, 0] += 1
        far = (net(moved, t) - out).abs()[:, :, -1, -1].max()
    assert far > 0, "attention reaches across the picture"


def test_sizes_that_do_not_fit_are_filled_up_with_the_last_row_and_column():
    net, x, t = scattered(SMALL.build(3, 3)), pixels(1, 3, 13, 21), torch.tensor([0.3])
    with torch.no_grad():
        expected = net(torch.nn.functional.pad(x, (0, 3, 0, 3), mode="replicate"), t)[..., :13, :21]
        assert torch.equal(net(x, t), expected)


def test_a_fresh_net_learns_at_the_first_step():
    net = SMALL.build(3, 3)
    net(pixels(2, 3, 8, 8), torch.tensor([0.2, 0.9])).sum().backward()
    assert net.out.weight.grad.abs().max() > 0


def test_widths_must_be_multiples_of_groups():
    with pytest.raises(SpecError, match=r"unet\.widths = \(8, 12\) must each be a multiple of unet\.groups = 8"):
        UNet(widths=(8, 12))


# --- statistics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["pixel", "channel", "dct", "fft"])
def test_mean_and_variance_are_numpys_whatever_the_batches(basis):
    x = pixels(30, 3, 4, 6).double() + torch.linspace(0, 1, 6, dtype=torch.float64)
    stats = Statistics((3, 4, 6), basis).fit(x.split(7))
    np.testing.assert_allclose(stats.mean, x.mean(0), atol=1e-6)
    y = forward(x, basis).numpy()
    expected = (np.abs(y - y.mean(0)) ** 2).mean(0)
    if basis == "channel":
        expected = np.broadcast_to(expected.mean((1, 2), keepdims=True), expected.shape)
    np.testing.assert_allclose(stats.variance, expected, atol=1e-6)
    assert torch.equal(stats.at((3, 4, 6))[1], stats.variance)
    one = Statistics((3, 4, 6), basis).fit([x])
    torch.testing.assert_close(one.variance, stats.variance)


def test_statistics_are_buffers_and_travel_with_the_weights():
    restorer = Restorer(build("gaussian-blur"), SMALL, (3, 8, 8)).fit([pixels(10, 3, 8, 8)])
    state = restorer.state_dict()
    other = Restorer(build("gaussian-blur"), SMALL, (3, 8, 8))
    other.load_state_dict(state)
    assert torch.equal(other.statistics.mean, restorer.statistics.mean)
    assert torch.equal(other.statistics.variance, restorer.statistics.variance)
    assert not any(name.startswith("statistics") for name, _ in restorer.named_parameters())


def test_statistics_need_samples_of_their_shape():
    with pytest.raises(ValueError, match="statistics need at least one sample"):
        Statistics((1, 4, 4), "dct").fit([])
    with pytest.raises(ValueError, match=r"statistics of samples of shape \(1, 4, 4\) were given one of shape \(1, 4, 5\)"):
        Statistics((1, 4, 4), "dct").fit([torch.zeros(2, 1, 4, 5)])
    for odd in (float("nan"), float("inf")):
        third = torch.zeros(2, 1, 4, 4)
        third[1, 0, 2, 3] = odd
        with pytest.raises(ValueError, match="number 3, with a value that is not finite"):  # else all estimates of the restorer would be NaN for ever
            Statistics((1, 4, 4), "dct").fit([torch.zeros(2, 1, 4, 4), third])


def random_field(n: int, h: int, w: int, seed: int) -> Tensor:
    """Windows of one random field on the plane, whose correlation falls as exp(-distance^2 / 2 (1.5 px)^2) plus white noise."""
    side = 64
    f = np.fft.fftfreq(side)
    gain = np.exp(-0.5 * (2 * math.pi * 1.5 / math.sqrt(2)) ** 2 * (f[:, None] ** 2 + f[None] ** 2))
    source = np.random.default_rng(seed)
    smooth = np.fft.ifft2(np.fft.fft2(source.standard_normal((n, 1, side, side))) * gain).real * 5
    return torch.from_numpy((smooth + 0.3 * source.standard_normal(smooth.shape))[..., :h, :w].copy())


@pytest.mark.parametrize("size", [(32, 32), (24, 48), (16, 40), (11, 17)])
@pytest.mark.parametrize("basis", ["dct", "fft"])
def test_the_spectrum_at_another_size_is_the_spectrum_of_the_same_field(basis, size):
    small = Statistics((1, 16, 16), basis).fit([random_field(300, 16, 16, 0)])
    direct = Statistics((1, *size), basis).fit([random_field(300, *size, 1)])
    seen, expected = small.at((1, *size))[1], direct.variance
    assert seen.shape == expected.shape
    ratio = (seen / expected).log()
    assert ratio.median().abs() < 0.25  # edges leak into the spectrum, the more the smaller the window
    assert ratio.abs().quantile(0.9) < 0.6


def test_at_equal_index_the_spectrum_would_be_far_off():
    """What the rule of cycles per pixel is for."""
    small = Statistics((1, 16, 16), "dct").fit([random_field(300, 16, 16, 0)])
    direct = Statistics((1, 32, 32), "dct").fit([random_field(300, 32, 32, 1)])
    wrong = (small.variance[0] / direct.variance[0, :16, :16]).log()
    right = (small.at((1, 32, 32))[1][0, :16, :16] / direct.variance[0, :16, :16]).log()
    assert right.abs().mean() < 0.3 * wrong.abs().mean()


@pytest.mark.parametrize("basis", ["dct", "fft"])
def test_the_variance_of_the_mean_grey_value_does_not_depend_on_the_size(basis):
    level = torch.randn(500, 1, 1, 1, dtype=torch.float64, generator=generator(0, "level"))
    stats = Statistics((1, 8, 8), basis).fit([level.expand(500, 1, 8, 8)])
    direct = Statistics((1, 12, 20), basis).fit([level.expand(500, 1, 12, 20)])
    assert float(stats.at((1, 12, 20))[1][0, 0, 0]) == pytest.approx(float(direct.variance[0, 0, 0]), rel=1e-5)


@pytest.mark.parametrize("basis", ["dct", "fft"])
def test_the_mean_grey_value_does_not_leak_into_frequencies_between_it_and_the_first(basis):
    source = generator(0, "level")
    level = 10 * torch.randn(500, 1, 1, 1, dtype=torch.float64, generator=source)
    stats = Statistics((1, 8, 8), basis).fit([level + torch.randn(500, 1, 8, 8, dtype=torch.float64, generator=source)])
    seen = stats.at((1, 32, 32))[1][0]
    assert seen[0, 0] > 5_000
    assert seen.flatten()[1:].max() < 2, "white noise has the same variance everywhere"


def test_asking_for_another_size_does_not_change_what_was_learned():
    stats = Statistics((1, 8, 8), "fft").fit([pixels(20, 1, 8, 8)])
    before = stats.mean.clone(), stats.variance.clone()
    stats.at((1, 16, 9))
    assert torch.equal(stats.mean, before[0])
    assert torch.equal(stats.variance, before[1])


# --- the restorer ----------------------------------------------------------------------------------------

EVERY = [
    "gaussian-blur",
    "gaussian-blur:padding=circular",
    "recursive-blur",
    "mask",
    "pixelate",
    "noise",
    "grey",
    "gaussian-blur+noise",
    "mask+noise",
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("text", EVERY)
def test_any_size_any_channels_either_precision(text, precision):
    for channels in (1, 4):
        if text == "grey" and channels == 1:
            continue
        d = build(text)
        restorer = scattered(Restorer(d, SMALL, (channels, 16, 16)).fit([pixels(20, channels, 16, 16)]))
        restorer.precision = precision
        for h, w in ((16, 16), (9, 14), (23, 40)):
            x = pixels(3, channels, h, w)
            z = d.draw(x, generators(0, "z", range(3)))
            with torch.no_grad():
                out = restorer(x, torch.tensor([0.0, 0.4, 1.0]), z)
            assert out.shape == x.shape
            assert out.dtype == torch.float32
            assert out.isfinite().all()


def test_half_precision_is_near_and_is_used():
    restorer = scattered(Restorer(build("gaussian-blur"), SMALL, (3, 16, 16)).fit([pixels(20, 3, 16, 16)]))
    x, t = pixels(2, 3, 16, 16), torch.tensor([0.4, 1.0])
    with torch.no_grad():
        full = restorer(x, t)
        restorer.precision = "bf16"
        half = restorer(x, t)
    assert 0 < float((half - full).abs().max()) < 0.05 * float(full.abs().max())


@pytest.mark.parametrize("text", ["gaussian-blur", "noise", "pixelate", "grey"])
def test_restorers_keep_their_contract(text):
    check_restorer(scattered(Restorer(build(text), SMALL, (3, 12, 16)).fit([pixels(20, 3, 12, 16)])))


def test_a_row_does_not_depend_on_its_batch_and_float64_comes_in():
    d = build("mask")
    restorer = scattered(Restorer(d, SMALL, (3, 8, 8)).fit([pixels(20, 3, 8, 8)]))
    x, t = pixels(3, 3, 8, 8), torch.tensor([0.1, 0.5, 0.9])
    z = d.draw(x, generators(0, "z", range(3)))
    with torch.no_grad():
        whole = restorer(x, t, z)
        alone = restorer(x[1:2].double(), t[1:2].double(), {"centre": z["centre"][1:2]})
    torch.testing.assert_close(alone, whole[1:2], rtol=0, atol=1e-5)


def test_told_a_restorer_sees_the_mask_as_a_channel():
    d = build("mask")
    restorer = scattered(Restorer(d, SMALL, (3, 8, 8), parameterization=Residual()))
    assert restorer.context == ("centre",)
    x, t = pixels(1, 3, 8, 8), torch.tensor([0.7])
    z, other = {"centre": torch.tensor([[0.2, 0.2]])}, {"centre": torch.tensor([[0.8, 0.6]])}
    with torch.no_grad():
        expected = x + restorer.net(torch.cat([x, d.context((3, 8, 8), t, z)], 1), t)
        assert torch.equal(restorer(x, t, z), expected)
        assert not torch.equal(restorer(x, t, other), expected)
    with pytest.raises(
        ValueError, match=r"^this restorer was trained knowing centre of mask, which is missing here: give it in the draw z, or train one"
    ):
        restorer(x, t)


def test_untold_it_sees_nothing_of_the_draw():
    d = build("mask+noise")
    restorer = scattered(Restorer(d, SMALL, (3, 8, 8), told=False))
    assert restorer.context == ()
    x, t = pixels(1, 3, 8, 8), torch.tensor([0.7])
    with torch.no_grad():
        assert torch.equal(restorer(x, t), restorer(x, t, d.draw(x, generator(0, "z"))))


def test_noise_that_is_to_be_solved_for_is_never_told():
    assert Restorer(build("noise"), SMALL, (3, 8, 8)).context == ()
    assert Restorer(build("mask+noise"), SMALL, (3, 8, 8)).context == ("0.centre",)
    assert Restorer(build("gaussian-blur"), SMALL, (3, 8, 8)).context == ()


def test_only_what_a_context_reads_is_asked_for():
    assert Restorer(build("noise+mask"), SMALL, (3, 8, 8)).context == ("1.centre",)


def test_making_a_restorer_without_weights_leaves_the_ambient_generator_alone():
    """Weights are drawn from it by torch itself; the draw of the degradation should not be."""
    backbone = UNet(widths=(8,), blocks=1)
    torch.manual_seed(0)
    alone = backbone.build(3, 3).stem.weight
    torch.manual_seed(0)
    assert torch.equal(Restorer(build("noise"), backbone, (3, 8, 8)).net.stem.weight, alone)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8)])
def test_other_channels_are_refused(shape):
    with pytest.raises(ValueError, match=r"was trained on samples \(c, h, w\) with c = 3; got a batch of shape"):
        Restorer(build("gaussian-blur"), SMALL, (3, 8, 8))(torch.zeros(shape), torch.ones(shape[0]))
