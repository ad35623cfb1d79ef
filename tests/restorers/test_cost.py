"""What a restorer costs: held against formulas that fit on a line."""

import copy

import pytest
import torch
from torch import nn

from snowmelt.degradations import GaussianBlur, Mask
from snowmelt.restorers import Residual, Restorer, UNet, Zero
from snowmelt.restorers.cost import _ATTENTION, FlopCounterMode, Peak, cost, kept_bytes, size
from snowmelt.restorers.lean import _Attention
from snowmelt.restorers.tiles import WHOLE_PX

SMALL = UNet(widths=(16, 32), blocks=1)


def plain(backbone=SMALL, shape=(3, 16, 16)):
    return Restorer(GaussianBlur(), backbone, shape, parameterization=Residual())


def test_a_convolution_costs_two_operations_a_tap_for_every_value_it_writes():
    class One(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.conv = net

        def forward(self, x, t):
            return self.conv(x)

    restorer = plain(Zero())
    restorer.net = One(nn.Conv2d(3, 3, 3, padding=1))
    found = cost(restorer, (3, 16, 16), batch=5)
    assert found.flops == 2 * 9 * 3 * 3 * 16 * 16
    assert found.parameters == 9 * 3 * 3 + 3
    assert found.weight_bytes == 4 * found.parameters
    assert found.state_bytes == 5 * found.weight_bytes


def test_a_picture_beyond_the_limit_of_tiles_is_counted_whole():
    restorer = plain(Zero(), (1, 8, 8))
    restorer.net = nn.Sequential()
    restorer.net.conv = nn.Conv2d(1, 1, 1)
    restorer.net.forward = lambda x, t: restorer.net.conv(x)
    height, width = 1100, 1000
    assert height * width > WHOLE_PX
    found, tiles = cost(restorer, (1, height, width)), restorer.tiles
    assert found.flops == 2 * height * width  # tiles that overlap would count some pixels twice
    assert tiles is None  # it stays as it is


def test_attention_is_counted_on_cpus_too():
    net = _Attention(32, 8).eval()
    for grad in (False, True):
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
            net(torch.randn(2, 32, 6, 5))
        positions, projections = 30, 4 * 2 * 32 * 32 * 30
        assert counter.get_total_flops() == 2 * (projections + 2 * 2 * positions * positions * 32)


def test_a_network_on_twice_the_side_costs_four_times_but_for_attention_and_embedding():
    backbone = UNet(widths=(16, 32), blocks=1, attention=False)
    small, large = (cost(plain(backbone), (3, side, side)) for side in (16, 32))
    assert large.flops == pytest.approx(4 * small.flops, rel=0.01)
    assert large.call_bytes == pytest.approx(4 * small.call_bytes, rel=0.05)
    assert large.parameters == small.parameters


def test_memory_grows_with_the_batch_and_operations_for_each_sample_do_not():
    restorer = plain()
    one, many = cost(restorer, (3, 16, 16)), cost(restorer, (3, 16, 16), batch=8)
    assert many.activation_bytes == pytest.approx(8 * one.activation_bytes, rel=0.1)
    assert many.flops == pytest.approx(one.flops, rel=1e-6)
    x, t = torch.randn(8, 3, 16, 16), torch.full((8,), 0.5)
    restorer.train()
    assert many.activation_bytes == pytest.approx(kept_bytes(lambda: restorer(x, t), restorer.parameters()), rel=1e-3)
    with torch.no_grad(), Peak() as peak:
        restorer(x, t)
    assert many.call_bytes == pytest.approx(peak.most, rel=1e-3)


def test_the_peak_is_of_what_lives_at_once():
    with Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b * 2
        view = c.view(10, 100)
        torch.relu_(c)
        assert peak.now == 8000
        del b, c
        assert peak.now == 4000
        del view
    assert (peak.now, peak.most) == (0, 8000)


def test_what_is_kept_counts_a_storage_once_and_no_weights():
    weight, x = torch.ones(100, requires_grad=True), torch.ones(100)
    assert kept_bytes(lambda: weight * x) == 400
    assert kept_bytes(lambda: (weight * x + weight * x.view(100)).sum()) == 400, "one storage, saved twice"
    assert kept_bytes(lambda: weight.square()) == 400
    assert kept_bytes(lambda: weight.square(), [weight]) == 0


def test_half_precision_keeps_about_half():
    restorer = plain(UNet(widths=(32, 32), blocks=1, attention=False))
    full = cost(restorer, (3, 16, 16), batch=32)
    restorer.precision = "bf16"
    half = cost(restorer, (3, 16, 16), batch=32)
    assert half.flops == full.flops
    assert half.activation_bytes < 0.75 * full.activation_bytes


def test_a_restorer_that_is_told_its_draw_is_counted_and_nothing_of_it_changes():
    restorer = Restorer(Mask(), SMALL, (1, 16, 16)).eval()
    restorer.compiled = True
    before = copy.deepcopy(restorer.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    found = cost(restorer, (1, 16, 16))
    assert torch.equal(torch.rand(1), expected)
    assert (restorer.compiled, restorer.training) == (True, False)
    assert all(torch.equal(value, before[name]) for name, value in restorer.state_dict().items())
    assert all(p.grad is None for p in restorer.parameters())
    assert set(found.said()) == {"parameters", "operations", "memory"}
    assert f"{found.parameters:,}" in found.said()["parameters"]
    with pytest.raises(ValueError, match="batch = 0 lies under 1"):
        cost(restorer, (1, 16, 16), batch=0)


def test_sizes_as_one_reads_them():
    assert [size(n) for n in (3_400_000, 999_900_000, 2_500_000_000)] == ["3.4 MB", "999.9 MB", "2.5 GB"]
