"""Networks of sound: any length, exact reconstruction, zero at first, and what they are told."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from snowmelt.registry import SpecError, build
from snowmelt.restorers import Backbone, Residual, Restorer, StftUNet, UNet, WaveUNet
from snowmelt.restorers.waves import Stft, compressed, decompressed
from snowmelt.testing import ContractError, check_backbone

WAVE = "wave-unet:widths=(8,16),patch=4,kernel=3,blocks=1,groups=4"
STFT = "stft-unet:window=32,hop=8,widths=(8,16),frames=2,bins=2,blocks=1,groups=4"
SMALL = [WAVE, STFT, STFT + ",answer=whole"]


def awake(net: nn.Module) -> nn.Module:
    """The network with layers that start at zero set to something."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.05, generator=generator)
    return net.eval()


@pytest.mark.parametrize(("window", "hop"), [(256, 64), (256, 128), (64, 4), (4, 1)])
@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_a_spectrum_goes_back_exactly(window, hop, n):
    stft, x = Stft(window, hop).double(), torch.randn(2, 3, n, dtype=torch.float64)
    stft.analysis, stft.weight = (value.double() for value in _exact(window))
    spectrum = stft(x)
    assert spectrum.shape == (2, 3, 2, -(-n // hop), window // 2)
    torch.testing.assert_close(stft.back(spectrum, n), x, rtol=0, atol=1e-12)


def _exact(window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The transform by its definition, number by number."""
    at = [(m + 0.5) for m in range(window)]
    bins = range(window // 2)
    angle = [[2 * math.pi * m * (k + 0.5) / window for k in bins] for m in at]
    sine = [math.sin(math.pi * m / window) * math.sqrt(2 / window) for m in at]
    rows = [[s * math.cos(a) for a in row] + [-s * math.sin(a) for a in row] for s, row in zip(sine, angle, strict=True)]
    return torch.tensor(rows, dtype=torch.float64), torch.tensor([math.sin(math.pi * m / window) ** 2 for m in at], dtype=torch.float64)


def test_the_spectrum_is_that_of_its_definition_and_a_tone_lies_in_its_bin():
    stft, n = Stft(64, 16), 512
    torch.testing.assert_close(stft.analysis, _exact(64)[0].float())
    tone = torch.sin(2 * math.pi * 10.5 / 64 * torch.arange(n))[None, None]
    power = stft(tone).square().sum((0, 1, 2))[8:-8].mean(0)
    assert int(power.argmax()) == 10
    assert float(power[9:12].sum() / power.sum()) > 0.99


def test_white_noise_keeps_half_its_power_in_every_bin():
    power = Stft(256, 64)(torch.randn(4, 1, 64_000, generator=torch.Generator().manual_seed(0))).square().mean((0, 1, 2, 3))
    assert power.shape == (128,)
    assert float((power - 0.5).abs().max()) < 0.05


def test_compression_is_undone_and_has_a_gradient_in_silence():
    spectrum = torch.cat([torch.zeros(1, 1, 2, 3, 4), torch.randn(1, 1, 2, 300, 4)], 3).double() * torch.logspace(-4, 2, 4).double()
    spectrum.requires_grad_()
    c = compressed(spectrum)
    torch.testing.assert_close(decompressed(c), spectrum, rtol=1e-5, atol=1e-9)
    assert float(c.detach().abs().max()) < float(spectrum.detach().abs().max()) / 4
    (slope,) = torch.autograd.grad(c.sum(), spectrum)
    assert slope.isfinite().all()
    assert float(slope[..., :3, :].min()) > 1
    rest = torch.zeros(1, 1, 2, 1, 1, requires_grad=True)
    decompressed(rest).sum().backward()
    assert float(rest.grad.min()) > 0.1, "from silence nothing could be learned"


@pytest.mark.parametrize("spec", SMALL)
def test_any_length_and_rows_by_themselves(spec):
    check_backbone(build(spec, "backbone"))
    net = awake(build(spec, "backbone").build(2, 1))
    for n in (1, 37, 129):
        x, t = torch.randn(3, 2, n), torch.tensor([0.1, 0.5, 0.9])
        with torch.no_grad():
            y = net(x, t)
            assert y.shape == (3, 1, n)
            torch.testing.assert_close(net(x[2:], t[2:]), y[2:], rtol=0, atol=1e-4)
            assert (net(x, t.flip(0)) - y).abs().amax() > 1e-5, "the severity is not heard"


@pytest.mark.parametrize("spec", SMALL)
@pytest.mark.parametrize("channels", [(1, 1), (3, 2), (1, 2), (2, 4)])
def test_it_starts_at_zero_and_learns_from_there(spec, channels):
    net = build(spec, "backbone").build(*channels)
    x = torch.randn(2, channels[0], 100)
    x[..., 30:70] = 0  # a gap
    y = net(x, torch.ones(2))
    assert y.shape == (2, channels[1], 100)
    assert not y.any()
    (y - torch.randn(2, channels[1], 100)).square().sum().backward()
    last = net.net.out.weight.grad
    assert last.isfinite().all()
    assert all(channel.any() for channel in last), "an output from which nothing is learned"


@pytest.mark.parametrize("spec", SMALL[1:])
def test_silence_and_guidance_have_finite_gradients(spec):
    net = awake(build(spec, "backbone").build(1, 1))
    x = torch.zeros(1, 1, 80, requires_grad=True)
    net(x, torch.ones(1)).square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("spec", SMALL)
def test_what_it_is_told_counts(spec):
    net = awake(build(spec, "backbone").build(1, 1, features=3))
    x, t = torch.randn(2, 1, 64), torch.ones(2)
    with torch.no_grad():
        assert (net(x, t, torch.ones(2, 3)) - net(x, t, torch.zeros(2, 3))).abs().amax() > 1e-4


class Shorter(nn.Module):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x[:, :3, : x.shape[-1] // 4 * 4]


@dataclass(frozen=True)
class Mistaken(Backbone):
    axes: ClassVar[int | None] = 1

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """A net that drops what is no multiple of 4."""
        return Shorter()


def test_a_net_of_sound_that_drops_samples_is_found():
    with pytest.raises(ContractError, match=r"turned \(2, 4, 271\) into \(2, 3, 268\)"):
        check_backbone(Mistaken())


@pytest.mark.parametrize("spec", SMALL)
def test_a_restorer_of_sound_is_its_input_at_first(spec):
    restorer = Restorer(build("noise"), build(spec, "backbone"), (2, 64), parameterization=Residual())
    x = torch.randn(3, 2, 50)
    assert torch.equal(restorer(x, torch.ones(3)), x)


def test_a_mask_is_seen_in_every_bin():
    net = awake(build(STFT, "backbone").build(2, 1))
    x = torch.cat([torch.randn(1, 1, 256), torch.ones(1, 1, 256)], 1)
    lost = x.clone()
    lost[:, 1, 96:160] = 0
    planes = [net._planes(value, compressed(net.stft(value))) for value in (x, lost)]
    changed = (planes[0] - planes[1]).abs().amax((0, 1))
    assert (changed[12:20] > 0.9).all()
    assert not changed[:8].any()


def test_a_recording_shifted_by_patches_gives_a_shifted_result():
    net = awake(build(WAVE + ",attention=false", "backbone").build(1, 1)).double()
    inside = torch.randn(1, 1, 64, dtype=torch.float64)
    x = torch.zeros(1, 1, 2048, dtype=torch.float64)
    x[..., 1024:1088] = inside
    with torch.no_grad():
        y, moved = net(x, torch.ones(1).double()), net(x.roll(net.multiple, -1), torch.ones(1).double())
    torch.testing.assert_close(moved[..., 960:1200], y[..., 960 - net.multiple : 1200 - net.multiple], rtol=0, atol=1e-10)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match=r"wave-unet.kernel = 4 has no middle"):
        WaveUNet(kernel=4)
    with pytest.raises(SpecError, match=r"stft-unet.hop = 96 must divide half of stft-unet.window = 256"):
        StftUNet(hop=96)
    with pytest.raises(SpecError, match=r"wave-unet.widths = .* multiple of wave-unet.groups = 8"):
        WaveUNet(widths=(12,))
    with pytest.raises(SpecError, match=r"stft-unet is made for sound .*use unet"):
        StftUNet().check((3, 32, 32))
    with pytest.raises(SpecError, match=r"unet is made for pictures .*use stft-unet"):
        UNet().check((1, 8192))
