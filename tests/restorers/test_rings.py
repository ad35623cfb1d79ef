"""The network of scans: a circle along azimuth."""

import pytest
import torch
from torch import nn

from snowmelt.registry import SpecError, build
from snowmelt.restorers import RingUNet
from snowmelt.restorers.lean import Lattice, _Circular, folded, unfolded
from snowmelt.testing import check_backbone

SMALL = "ring-unet:widths=(8,16),rows=2,columns=4,blocks=1,groups=4"


def awake(net: nn.Module) -> nn.Module:
    """The network with layers that start at zero set to something."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.2, generator=generator)
    return net.double().eval()


@torch.no_grad()
@pytest.mark.parametrize("spec", [SMALL, SMALL + ",attention=false", "ring-unet:widths=(4,4,8),rows=4,columns=2,blocks=2,groups=2"])
def test_a_turned_scan_gives_a_turned_result(spec):
    net = awake(build(spec, "backbone").build(3, 2))
    columns = net.net.sides[1]
    x, t = torch.randn(2, 3, 13, 4 * columns, dtype=torch.float64), torch.tensor([0.2, 0.9], dtype=torch.float64)
    y = net(x, t)
    for turn in (columns, 2 * columns, -columns):
        torch.testing.assert_close(net(x.roll(turn, -1), t), y.roll(turn, -1), rtol=0, atol=1e-10)
    assert (net(x.roll(1, -1), t) - y.roll(1, -1)).abs().amax() > 1e-3, "nothing in it depends on columns: the test shows nothing"


@torch.no_grad()
def test_the_seam_is_nowhere_where_the_circle_is_no_multiple():
    torch.manual_seed(0)
    net = awake(build(SMALL + ",attention=false", "backbone").build(1, 1))
    x, t = torch.randn(1, 1, 16, 252, dtype=torch.float64), torch.ones(1).double()  # 8 does not divide it
    y = net(x, t)
    assert y.shape == x.shape
    turned = net(x.roll(8, -1), t)[..., 8:]  # these columns did not cross the end: they lie on the grid of patches as before
    assert float((turned - y[..., :-8]).abs().max()) < 0.2 * float(y.abs().max())
    far = x.clone()
    far[..., 0] += 1
    change = (net(far, t) - y).abs().amax((0, 1, 2))
    assert float(change[-4:].min()) > 1e-3 * float(change.max()), "the last columns do not see the first"


@torch.no_grad()
def test_azimuth_tells_ahead_from_behind():
    net = awake(build(SMALL + ",azimuth=true", "backbone").build(1, 1))
    x, t = torch.ones(1, 1, 8, 32, dtype=torch.float64), torch.ones(1).double()
    y = net(x, t)
    assert (y - y.roll(16, -1)).abs().amax() > 1e-3
    blind = awake(build(SMALL, "backbone").build(1, 1))(x, t)
    torch.testing.assert_close(blind, blind.roll(8, -1), rtol=0, atol=1e-10)
    assert (blind[..., 1:, :] - blind[..., :-1, :]).abs().amax() > 1e-3, "rings are not told apart"


@pytest.mark.parametrize("shape", [(64, 96), (5, 7), (1, 8), (32, 30)])
def test_any_rings_and_azimuths_zero_at_first(shape):
    net = build(SMALL, "backbone").build(4, 3, features=2)
    y = net(torch.randn(2, 4, *shape), torch.ones(2), torch.ones(2, 2))
    assert y.shape == (2, 3, *shape)
    assert not y.any()


def test_the_backbone_keeps_its_contract():
    check_backbone(build(SMALL, "backbone"))
    with pytest.raises(SpecError, match=r"ring-unet is made for pictures and scans"):
        RingUNet().check((1, 100))
    with pytest.raises(SpecError, match=r"ring-unet.widths = .* multiple of ring-unet.groups = 8"):
        RingUNet(widths=(20,))


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((3, 3), 2), ((1, 5), 1), ((3, 1), 1)])
def test_the_way_back_around_the_circle_is_exact(kernel, stride):
    circle = _Circular(2, 3, kernel, stride=stride, padding=(kernel[0] // 2, kernel[1] // 2)).double()
    x = torch.randn(2, 2, 5, 8, dtype=torch.float64, requires_grad=True)
    y = circle(x)
    wrapped = torch.cat([x] * 3, -1)
    expected = nn.functional.conv2d(wrapped, circle.weight, circle.bias, stride, circle.padding)
    third = y.shape[-1]
    torch.testing.assert_close(y, expected[..., third : 2 * third], rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(circle, (x,))
    assert torch.equal(circle(x.detach()), y.detach())


@pytest.mark.parametrize("patch", [(2, 2), (1, 4), (4, 2)])
def test_patches_go_back(patch):
    x = torch.randn(2, 3, 8, 16)
    small = folded(x, patch)
    assert small.shape == (2, 3 * patch[0] * patch[1], 8 // patch[0], 16 // patch[1])
    assert torch.equal(unfolded(small, patch), x)
    assert torch.equal(small[:, : patch[0] * patch[1], 0, 0], x[:, 0, : patch[0], : patch[1]].flatten(1))
    assert Lattice(patch).sides(3) == (4 * patch[0], 4 * patch[1])
