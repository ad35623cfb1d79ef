"""Classical restorers of scans: planes that stay planes, edges that stay edges, scipy where it knows the answer."""

import math

import numpy as np
import pytest
import torch
from scipy import interpolate, ndimage
from torch import Tensor

from snowmelt.evaluation import classical_scans as classical
from snowmelt.sensor import decode, encode, metres
from snowmelt.signals import Scan

SCAN = Scan(16, 64, 10.0, -20.0, farthest_m=60.0)
LOST = torch.arange(16) % 4 != 0


def scene(range_m: Tensor | float, reflectance: float = 0.4) -> Tensor:
    r = torch.as_tensor(range_m, dtype=torch.float64).expand(16, 64)
    return encode(r, torch.full((16, 64), reflectance), SCAN)[None]


def smooth() -> Tensor:
    """Ranges that vary slowly up and down and around the turn."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(64.0), indexing="ij")
    return 15 + 4 * torch.sin(rows / 5) + 3 * torch.cos(2 * math.pi * columns / 64)


def short(x: Tensor, lost: Tensor) -> Tensor:
    return torch.where(lost, -1.0, x)


def far(x: Tensor) -> Tensor:
    return metres(x[:, 0].double(), SCAN.farthest_m)


@pytest.mark.parametrize("space", ["range", "log", "inverse"])
def test_spaces_are_turned_back(space: classical.Space) -> None:
    x = scene(smooth())
    assert torch.allclose(classical.gathered(classical.spread(x, SCAN, space), SCAN, space), x[:, 0].double(), atol=1e-6)


def test_rows_are_interpolated_as_scipy_does() -> None:
    x, known = scene(smooth()), np.flatnonzero(~LOST.numpy())
    given = short(x, LOST[:, None])
    through = interpolate.interp1d(known, far(x)[0, known].numpy(), axis=0)
    found = classical.interpolated(given, LOST, SCAN, order=1, space="range")
    assert far(found)[0, :13].numpy() == pytest.approx(through(np.arange(13)), abs=1e-3)
    assert torch.equal(found[:, :, ~LOST], x[:, :, ~LOST])
    nearest = classical.interpolated(given, LOST, SCAN, order=0)
    assert torch.equal(nearest[0, :, 5], x[0, :, 4])
    assert torch.equal(nearest[0, :, 7], x[0, :, 8])
    assert torch.equal(nearest[0, :, 15], x[0, :, 12])


def test_cubics_have_the_weights_of_catmull_and_rom() -> None:
    x = scene(smooth())
    found = far(classical.interpolated(short(x, LOST[:, None]), LOST, SCAN, order=3, space="range"))[0]
    r = far(x)[0]
    assert found[6].numpy() == pytest.approx(((-r[0] + 9 * r[4] + 9 * r[8] - r[12]) / 16).numpy(), abs=1e-3)
    line = far(classical.interpolated(short(x, LOST[:, None]), LOST, SCAN, order=1, space="range"))[0]
    assert (found - r)[4:9].abs().mean() < (line - r)[4:9].abs().mean()


def test_inverse_ranges_keep_the_ground_flat() -> None:
    down = torch.arange(16.0)[:, None].expand(16, 64)
    x = scene(1 / (0.02 + 0.01 * down))
    found = [far(classical.interpolated(short(x, LOST[:, None]), LOST, SCAN, space=space)) for space in ("inverse", "range")]
    assert (found[0] - far(x))[:, :13].abs().max() < 1e-3
    assert (found[1] - far(x))[:, :13].abs().max() > 0.1


@pytest.mark.parametrize("order", [0, 1, 3])
def test_nothing_is_averaged_with_no_return(order: int) -> None:
    x = scene(smooth().where(torch.arange(16)[:, None] < 8, torch.tensor(0.0)))  # nothing comes back from the lower half
    found = classical.interpolated(short(x, LOST[:, None]), LOST, SCAN, order=order)  # type: ignore[arg-type]
    assert torch.allclose(found[:, :2, 5:8], x[:, :2, 4:5].expand(1, 2, 3, 64), atol=0.2 if order == 3 else 1e-6)
    assert (found[:, 2, 5] == 1).all()
    assert (found[:, 2, 7] == -1).all()
    assert (found[:, 0, 9:12] > -1).all()


def test_a_neighbour_without_return_is_left_out() -> None:
    r = torch.where(torch.arange(16)[:, None] < 6, 10.0, 40.0).expand(16, 64).clone()
    r[8, 30] = 0.0  # in a row of 40 m
    found = far(classical.interpolated(short(scene(r), LOST[:, None]), LOST, SCAN, space="range"))[0]
    assert found[5:8, 30].tolist() == pytest.approx([10, 10, 10], abs=1e-3)
    assert found[5:8, 29].tolist() == pytest.approx([17.5, 25, 32.5], abs=1e-3)


def test_the_nearest_may_lie_across_the_seam() -> None:
    r = torch.full((16, 64), 10.0)
    r[:, 63] = 40.0
    lost = (torch.arange(64) < 6).expand(1, 16, 64)
    found = far(classical.nearest(short(scene(r), lost[:, None]), lost, SCAN))[0, 3]
    assert found[:6].tolist() == pytest.approx([40, 40, 40, 10, 10, 10], abs=1e-3)


def test_edges_are_kept() -> None:
    x = scene(torch.where(torch.arange(16)[:, None] < 6, 40.0, 5.0))
    given = short(x, LOST[:, None])
    kept, mixed = (far(classical.interpolated(given, LOST, SCAN, edge=edge)) for edge in (0.5, math.inf))
    assert torch.minimum((kept - 40).abs(), (kept - 5).abs()).max() < 1e-3
    assert torch.minimum((mixed - 40).abs(), (mixed - 5).abs()).max() > 3


def test_columns_are_interpolated_around_the_turn() -> None:
    x, lost = scene(smooth()), torch.arange(64) % 4 != 0
    found = classical.interpolated(short(x, lost), lost, SCAN, along="columns", space="range")
    assert far(found)[0, :, 62].numpy() == pytest.approx(((far(x)[0, :, 60] + far(x)[0, :, 0]) / 2).numpy(), abs=1e-3)
    assert torch.equal(found[..., ~lost], x[..., ~lost])


def dropped() -> tuple[Tensor, Tensor, Tensor]:
    x = scene(smooth())
    lost = torch.rand(1, 16, 64, generator=torch.Generator().manual_seed(3)) < 0.5
    return x, lost, short(x, lost[:, None])


def test_the_nearest_is_that_of_scipy() -> None:
    x, lost, given = dropped()
    found = classical.nearest(given, lost, SCAN)
    known = torch.nonzero(~lost[0]).numpy()
    tree = np.concatenate([known + np.array([0, shift]) for shift in (-64, 0, 64)])
    for row, column in torch.nonzero(lost[0])[:100].tolist():
        steps = np.hypot(*(tree - [row, column]).T)
        ties = tree[steps <= steps.min() + 1e-9]
        assert any(torch.equal(found[0, :, row, column], x[0, :, i, j % 64]) for i, j in ties)
    assert torch.equal(found[:, :, ~lost[0]], x[:, :, ~lost[0]])


def test_lost_rays_are_filled() -> None:
    x, lost, given = dropped()
    ways = {
        "nearest": classical.nearest(given, lost, SCAN),
        "triangles": classical.triangles(given, lost, SCAN, space="range"),
        "convolved": classical.convolved(given, lost, SCAN),
        "medians": classical.medians(given, lost, SCAN),
    }
    error = {name: float((far(out) - far(x)).abs()[lost].mean()) for name, out in ways.items()}
    assert error["triangles"] < 0.5 * error["nearest"]
    assert error["convolved"] < error["nearest"] < 1
    assert error["medians"] < 1
    for out in ways.values():
        assert torch.equal(out[:, :, ~lost[0]], x[:, :, ~lost[0]])
        assert (out[:, 2] == 1).all()
    inner = interpolate.griddata(torch.nonzero(~lost[0]).numpy(), far(x)[0][~lost[0]].numpy(), (8, np.arange(20, 40)), method="linear")
    assert far(ways["triangles"])[0, 8, 20:40].numpy() == pytest.approx(inner, abs=0.2)  # of two ways to cut a square, either


@pytest.mark.parametrize("fill", [classical.nearest, classical.triangles, classical.convolved, classical.medians])
def test_empty_scans_stay_empty(fill: object) -> None:
    x = torch.full((1, 3, 16, 64), -1.0)
    assert torch.equal(fill(x, torch.ones(1, 16, 64, dtype=torch.bool), SCAN), x)  # type: ignore[operator]


def test_medians_are_those_of_scipy() -> None:
    x = scene(smooth() + torch.randn(16, 64, generator=torch.Generator().manual_seed(0)))
    found = classical.median(x, SCAN, window=(3, 5))
    wanted = ndimage.median_filter(x[0, 0].numpy(), size=(3, 5), mode="wrap")
    assert found[0, 0, 1:-1].numpy() == pytest.approx(wanted[1:-1])
    assert torch.equal(found[:, 1:], x[:, 1:])
    holes = scene(torch.where(torch.rand(16, 64) < 0.3, 0.0, smooth()))
    assert torch.equal(classical.median(holes, SCAN)[:, 0] == -1, holes[:, 0] == -1)


def test_the_bilateral_filter_smooths_surfaces_and_keeps_edges() -> None:
    clean = torch.where(torch.arange(64) < 32, 10.0, 20.0).expand(16, 64)
    noise = 0.3 * torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    x, truth = scene(clean + noise), far(scene(clean))
    once, twice = (far(classical.bilateral(x, SCAN, near_m=0.8, rounds=rounds)) for rounds in (1, 2))
    before = (far(x) - truth).abs()
    assert (once - truth).abs().mean() < 0.6 * before.mean()
    assert (twice - truth).abs().mean() < (once - truth).abs().mean()
    assert (twice - truth)[..., 30:34].abs().max() < 1.5


def test_a_road_goes_on_below_the_last_ring():
    scan = Scan(16, 32, -2.0, -24.0)
    down = torch.deg2rad(-torch.tensor(scan.beams_deg))
    r = (1.7 / down.sin())[:, None].expand(16, 32)
    x = encode(r, torch.full_like(r, 0.5), scan)[None]
    gone = torch.arange(16) % 4 != 0
    given = torch.where(gone[:, None], -1.0, x)
    line, copy = (classical.interpolated(given, gone, scan, space="inverse", beyond=how) for how in ("line", "copy"))
    off = [(decode(one[0], scan)[0] - decode(x[0], scan)[0]).abs()[13:].max() for one in (line, copy)]
    assert off[0] < 0.05
    assert off[1] > 0.5
    given[:, 0, 8] = 0.9  # a far thing above the last ring: no road, so the last ring is repeated
    edge = classical.interpolated(given, gone, scan, space="inverse", beyond="line")
    assert torch.equal(edge[:, :, 13:], classical.interpolated(given, gone, scan, space="inverse", beyond="copy")[:, :, 13:])


def test_rows_lie_as_far_apart_as_their_beams():
    scan = Scan(3, 8, elevations_deg=(10.0, 9.0, 0.0))
    x = encode(torch.tensor([10.0, 0.0, 20.0])[:, None].expand(3, 8), torch.zeros(3, 8), scan)[None]
    found = classical.interpolated(x, torch.tensor([False, True, False]), scan, space="range")
    assert torch.allclose(decode(found[0], scan)[0][1], torch.full((8,), 11.0), atol=1e-3)
