"""Backbones: what they promise beyond the shape of their output."""

import pytest
import torch
from torch import nn

from snowmelt.registry import SpecError, build, schema, spec, table
from snowmelt.restorers import UNet
from snowmelt.restorers.backbones import SIZES
from snowmelt.restorers.lean import _Norm
from snowmelt.testing import check_backbone


def awake(net: nn.Module) -> nn.Module:
    """The network with layers that start at zero set to something, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.05, generator=generator)
    return net.double().eval()


@pytest.mark.parametrize(
    "spec",
    [
        "local-unet:widths=(4,6,8),blocks=1",
        "local-unet:widths=(4,6),blocks=2,patch=1",
        "local-unet:widths=(5),blocks=3,patch=4",
    ],
)
def test_a_local_unet_sees_as_far_as_it_says(spec):
    net = awake(build(spec, "backbone").build(3, 2))
    size, grid = 2 * net.radius + 4 * net.multiple, net.multiple
    x, t = torch.randn(1, 3, size, size, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    at = size // 2 // grid * grid
    with torch.no_grad():
        before, reach = net(x, t), 0
        for offset in range(grid):  # wherever the pixel lies on the grid
            changed = x.clone()
            changed[..., at + offset, at + offset] += 100
            rows, columns = ((net(changed, t) - before).abs().amax((0, 1)) > 0).nonzero().unbind(1)
            reach = max(reach, *(int((where - at - offset).abs().max()) for where in (rows, columns)))
    assert reach <= net.radius
    assert reach > net.radius / 2, "it says it sees much farther than it does: tiles would be wasted on margins"


def test_a_local_unet_gives_tiles_what_the_whole_picture_gives():
    net = awake(build("local-unet:widths=(4,6),blocks=1", "backbone").build(1, 1))
    x, t = torch.randn(1, 1, 160, 96, dtype=torch.float64), torch.full((1,), 0.3, dtype=torch.float64)
    top, margin = 64, -(-net.radius // net.multiple) * net.multiple
    with torch.no_grad():
        whole, tile = net(x, t), net(x[..., top - margin : top + 32 + margin, :], t)
    torch.testing.assert_close(tile[..., margin : margin + 32, :], whole[..., top : top + 32, :], rtol=0, atol=1e-12)


def test_a_local_unet_starts_at_zero_and_knows_the_severity():
    net = build("local-unet:widths=(4,6),blocks=1", "backbone").build(3, 3)
    x = torch.randn(2, 3, 17, 31)
    assert not net(x, torch.ones(2)).any()
    net = awake(net).float()
    assert not torch.equal(net(x, torch.ones(2)), net(x, torch.zeros(2)))
    check_backbone(build("local-unet:widths=(4,6),blocks=1", "backbone"))


def test_a_local_unet_needs_a_level():
    with pytest.raises(SpecError, match=r"local-unet.widths is empty"):
        build("local-unet:widths=()", "backbone")


@pytest.mark.parametrize(("size", "millions"), [("xs", (0.9, 1.3)), ("s", (3.3, 4.2)), ("m", (16, 19)), ("l", (36, 60))])
def test_a_size_stands_for_widths_and_what_is_saved_is_those(size, millions):
    named = build(f"unet:size={size},patch=4", "backbone")
    assert named == UNet(widths=SIZES[size], patch=4)
    assert named.called == size
    assert build(spec(named), "backbone") == named
    assert "size" not in table(named), "a model would change with the meaning of the word"
    assert build(table(named), "backbone") == named
    with torch.device("meta"):
        count = sum(p.numel() for p in named.build(3, 3).parameters())
    assert millions[0] <= count / 1e6 <= millions[1]


@pytest.mark.parametrize("words", ["widths=(64,96)", "widths=(32,64)", "blocks=3"])
def test_a_size_beside_other_widths_is_refused(words):
    with pytest.raises(SpecError, match=r"unet\.size = s means (widths|blocks) = .*leave one of the two out"):
        build(f"unet:size=s,{words}", "backbone")
    with pytest.raises(SpecError, match=r"unet\.size = xxl is unknown.*choose one of xs, s, m, l"):
        build("unet:size=xxl", "backbone")


def test_the_same_widths_beside_a_size_are_no_contradiction():
    assert build("unet:size=s,widths=(64,96,128),blocks=2", "backbone") == UNet(size="s")


def test_what_was_written_before_there_were_sizes_means_what_it_meant():
    assert spec(UNet()) == "unet"
    assert table(UNet()) == {"name": "unet", "widths": [64, 96], "patch": 2, "blocks": 2, "attention": True, "groups": 8}
    assert build("unet:patch=4", "backbone").widths == (64, 96)
    assert UNet().called is None
    field = next(field for field in schema(UNet) if field.name == "size")
    assert (field.choices, field.type) == (("xs", "s", "m", "l"), "choice or none")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_thin_groups_in_half_precision_are_normalised_as_torch_does(dtype):
    for channels, groups in ((32, 8), (128, 8), (12, 4)):
        ours, theirs = _Norm(groups, channels), nn.GroupNorm(groups, channels)
        for norm in (ours, theirs):
            nn.init.uniform_(norm.weight, 0.5, 2, generator=torch.Generator().manual_seed(0))
        x = torch.randn(3, channels, 9, 8).to(dtype, memory_format=torch.channels_last)
        assert ours(x).dtype == dtype
        exact = theirs(x.float())
        assert float((ours(x) - exact).abs().max()) <= float((theirs(x).float() - exact).abs().max()) * 1.01 + 1e-6
        assert torch.equal(ours(x.float()), exact), "in fp32 nothing changes"
        assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("spec", ["unet:widths=(8,16),patch=2,groups=4,blocks=1", "unet:widths=(8,8,16),patch=1,groups=4,blocks=1"])
@pytest.mark.parametrize("size", [(2500, 4), (64, 4), (4, 2500)])
def test_a_strip_of_a_few_columns_is_in_bf16_what_it_is_in_fp32(spec: str, size: tuple[int, int]) -> None:
    """On processors with AMX, oneDNN's convolutions with strides give anything where they leave one column."""
    torch.manual_seed(0)
    net = build(spec, "backbone").build(3, 3).to(memory_format=torch.channels_last)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.05)
    x, t = torch.randn(1, 3, *size), torch.tensor([0.5])
    with torch.inference_mode():
        exact = net(x, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for _ in range(5):
                torch.full((100_000,), torch.nan)  # what was in the memory before
                rough = net(x, t).float()
                assert rough.isfinite().all()
                assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()
