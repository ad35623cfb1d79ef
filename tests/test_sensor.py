"""The geometry of scans: clouds become range images and come back, bit for bit where nothing collides."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.room import cast, cloud, rays

from snowmelt.registry import SpecError
from snowmelt.sensor import (
    HDL_64E,
    SENSORS,
    Misfit,
    decode,
    elevations_deg,
    encode,
    encoded,
    metres,
    returns,
    sensor,
    sweeps,
    to_image,
    to_points,
)
from snowmelt.signals import Scan

SMALL = Scan(16, 64, 15.0, -15.0)
RANDOM = torch.Generator()


def _bits(points):
    return sorted(row.tobytes() for row in points.numpy())


def _kitti_order(points, rows):
    turn = torch.atan2(points[:, 1].double(), points[:, 0].double()) % (2 * math.pi)
    by = turn.argsort(stable=True)
    return by[rows[by].argsort(stable=True)]


def test_a_ray_cast_room_lands_in_its_own_cells_at_its_own_range():
    found = to_image(cloud(SMALL), SMALL)
    r, _, there = decode(found.x, SMALL)
    truth = cast(rays(SMALL))
    assert torch.equal(there, truth.isfinite() & (truth <= SMALL.farthest_m))
    assert float((r.double() - truth)[there].abs().max()) < 1e-3
    assert (found.collisions, found.outside, found.far, found.invalid) == (0, 0, 0, 0)


@pytest.mark.parametrize("jitter", [0.0, 0.45])
def test_a_cloud_comes_back_bit_for_bit(jitter):
    points = cloud(SMALL, jitter=jitter)
    found = to_image(points, SMALL)
    assert found.collisions == 0
    assert _bits(found.points(found.x)) == _bits(points)


def test_an_image_comes_back_bit_for_bit_through_its_cloud():
    x = to_image(cloud(SMALL, jitter=0.45), SMALL).x
    assert torch.equal(to_image(to_points(x, SMALL), SMALL).x, x)
    noise = torch.rand(3, 16, 64, generator=RANDOM.manual_seed(1))  # any image on the grid, not only of a room
    x = encode(noise[0] * 79 + 0.5, noise[1], SMALL)
    x = torch.where(noise[2] < 0.3, -1.0, x)
    assert torch.equal(to_image(to_points(x, SMALL), SMALL).x, x)


@pytest.mark.parametrize("name", sorted(SENSORS))
def test_every_known_sensor_keeps_its_images(name):
    scan = SENSORS[name].scan
    x = encode(torch.full((scan.rings, scan.azimuths), 7.25), torch.full((scan.rings, scan.azimuths), 0.5), scan)
    assert torch.equal(to_image(to_points(x, scan), scan).x, x)
    assert SENSORS[name].source
    assert sensor(name) == scan


def test_the_nearest_of_several_wins_and_the_others_stay_with_the_cloud():
    near, far = torch.tensor([[5.0, 0.1, 0.0, 0.25]]), torch.tensor([[9.0, 0.18, 0.0, 0.75]])
    scan = replace(SMALL, azimuths=8)
    for points, first in ((torch.cat([near, far]), 0), (torch.cat([far, near]), 1)):
        found = to_image(points, scan)
        assert found.collisions == 1
        assert int((found.index >= 0).sum()) == 1
        assert int(found.index.max()) == first
        assert _bits(found.points(found.x)) == _bits(near)
        assert _bits(found.points(found.x, behind=True)) == _bits(points)


def test_what_cannot_be_used_is_counted():
    good = cloud(SMALL)
    strange = torch.tensor([[math.nan, 0, 0, 0], [0, 0, 0, 0.5], [math.inf, 1, 1, 0], [200, 0, 0, 0], [1, 0, 30, 0]], dtype=torch.float32)
    found = to_image(torch.cat([strange, good]), SMALL)
    assert (found.invalid, found.far, found.outside) == (3, 1, 1)
    assert _bits(found.points(found.x)) == _bits(good)


def test_a_changed_cell_moves_its_own_point_along_the_ray_and_a_new_one_is_at_its_centre():
    points = cloud(SMALL, jitter=0.4)
    found = to_image(points, SMALL)
    row, column = (int(i) for i in (found.index >= 0).nonzero()[0])
    mine = points[found.index[row, column]]
    x = torch.full_like(found.x, -1.0)
    x[:, row, column] = torch.stack([encoded(torch.tensor(10.0), 80.0), torch.tensor(0.0), torch.tensor(1.0)])
    moved = found.points(x)
    assert moved.shape == (1, 4)
    ray = mine[:3] / mine[:3].norm()
    torch.testing.assert_close(moved[0, :3], 10 * ray, atol=1e-4, rtol=0)
    empty = to_image(points[:0], SMALL)
    torch.testing.assert_close(empty.points(x), to_points(x, SMALL))


def test_new_points_follow_the_rings_that_the_scan_shows():
    """A sensor that looks 0.4 of a ring lower than its description: what is filled in must lie between what was measured."""
    gap = 2.0
    lower = replace(SMALL, up_deg=15.0 - 0.4 * gap, down_deg=-15.0 - 0.4 * gap)
    found = to_image(cloud(lower), SMALL)
    shown = torch.tensor(lower.beams_deg, dtype=torch.float64)
    rows = found.rows
    torch.testing.assert_close(found.beams_deg()[rows], shown[rows], atol=1e-4, rtol=0)
    half = found.index.clone()
    half[1::2] = -1
    torch.testing.assert_close(replace(found, index=half).beams_deg(), shown, atol=1e-4, rtol=0)


def _off(points, rows, degrees):
    """Points whose elevations are off by so many degrees, different for every ring: as near things are seen by beams that start elsewhere."""
    r, flat = points[:, :3].norm(dim=1), points[:, :2].norm(dim=1, keepdim=True)
    phi = torch.asin(points[:, 2] / r) + torch.deg2rad(degrees[rows])
    return torch.cat([points[:, :2] / flat * (r * torch.cos(phi))[:, None], (r * torch.sin(phi))[:, None], points[:, 3:]], 1)


def test_the_order_of_a_file_tells_rings_where_elevations_mislead():
    points = cloud(SMALL, jitter=0.2)
    true = to_image(points, SMALL)
    rows = true.cells // SMALL.azimuths
    shaken = _off(points, rows, 1.6 * torch.sin(torch.arange(16.0)))
    order = _kitti_order(shaken, rows)
    found = to_image(shaken[order], SMALL)
    assert found.ordered
    assert torch.equal(found.cells // SMALL.azimuths, rows[order])
    assert torch.equal(sweeps(shaken[order]), rows[order])
    mixed = to_image(shaken, SMALL)
    assert not mixed.ordered
    assert not torch.equal(mixed.cells // SMALL.azimuths, rows)
    again = to_image(found.points(found.x), SMALL)  # what is written has the order too
    assert again.ordered
    assert torch.equal(again.x, found.x)


@pytest.mark.parametrize("start", [0.0, math.pi])
@pytest.mark.parametrize("way", [1, -1])
def test_sweeps_are_found_from_either_start_and_in_either_direction(start, way):
    points = cloud(SMALL)
    rows = to_image(points, SMALL).cells // SMALL.azimuths
    turn = (way * (torch.atan2(points[:, 1].double(), points[:, 0].double()) - start)) % (2 * math.pi)
    by = turn.argsort(stable=True)
    order = by[rows[by].argsort(stable=True)]
    assert torch.equal(sweeps(points[order]), rows[order])


def test_every_fourth_ring_of_a_file_is_put_where_it_was():
    points = cloud(SMALL, jitter=0.2)
    rows = to_image(points, SMALL).cells // SMALL.azimuths
    shaken = _off(points, rows, 1.6 * torch.sin(torch.arange(16.0)))
    kept = rows % 4 == 0
    found = to_image(shaken[kept][_kitti_order(shaken[kept], rows[kept])], SMALL)
    assert found.ordered
    assert found.rows.nonzero().flatten().tolist() == [0, 4, 8, 12]


def test_a_description_that_does_not_fit_is_refused():
    points = cloud(SMALL)
    rows = to_image(points, SMALL).cells // SMALL.azimuths
    ordered = points[_kitti_order(points, rows)]
    with pytest.raises(Misfit, match=r"above or below all beams.*-15.0 to .*its beams go from 40.0 to 70.0: give the sensor"):
        to_image(points, Scan(16, 64, 70.0, 40.0))
    with pytest.raises(Misfit, match=r"its points lie in 16 rings, and the sensor of the description has 8"):
        to_image(ordered, Scan(8, 64, 15.0, -15.0))
    with pytest.raises(Misfit, match=r"its 16 rings look at 15.0 to -15.0 degrees, those of the sensor at 60.0 to -60.0"):
        to_image(ordered, Scan(16, 64, 60.0, -60.0))
    with pytest.raises(ValueError, match=r"a cloud has shape \(n, 3\) or \(n, 4\)"):
        to_image(torch.zeros(3, 5), SMALL)


def test_sensors_are_named_or_spelled():
    assert sensor("scan:rings=8,azimuths=32,up_deg=3,down_deg=-3") == Scan(8, 32, 3.0, -3.0)
    with pytest.raises(SpecError, match=r'unknown sensor "hdl-65e".*hdl-64e.*spell others out'):
        sensor("hdl-65e")
    assert len(HDL_64E.beams_deg) == 64


def test_metres_are_encoded_and_decoded():
    r = torch.linspace(0, 80, 41, dtype=torch.float64)
    torch.testing.assert_close(metres(encoded(r, 80.0), 80.0), r)
    assert float(encoded(torch.tensor(0.0), 80.0)) == -1
    assert abs(float(encoded(torch.tensor(80.0), 80.0)) - 1) < 1e-6
    x = encode(torch.tensor([[0.0, 1e-4, 80.0, 80.1, math.nan]]), torch.tensor([[0.5, 0.5, 2.0, 0.5, 0.5]]), Scan(1, 8))
    assert returns(x).tolist() == [[False, True, True, False, False]]
    assert torch.equal(x[:, ~returns(x)], torch.full((3, 3), -1.0))
    assert float(x[1, 0, 2]) == 1.0


def test_raw_kitti_scans_unfold_into_their_64_rings():
    root = os.environ.get("SNOWMELT_DATA")
    path = None if root is None else Path(root) / "lidar" / "kitti_raw_scans.npz"
    if path is None or not path.exists():
        pytest.skip("no KITTI scans: set SNOWMELT_DATA to the folder with lidar/kitti_raw_scans.npz")
    raw = np.load(path)
    for name, images in (("driveA_000000", "kitti_range_train.npz"), ("driveC_000000", "kitti_range_val.npz")):
        points = torch.from_numpy(raw[name])
        found = to_image(points, HDL_64E)
        given = np.load(path.with_name(images))["range"][0] / 500
        r, _, there = decode(found.x, HDL_64E)
        assert found.ordered
        assert np.array_equal(there.numpy(), given > 0)
        assert (np.abs(r.numpy() - given) < 0.0025).mean() > 0.9995
        used = points[found.cells >= 0]
        assert _bits(found.points(found.x, behind=True)) == _bits(used)
        assert torch.equal(to_image(to_points(found.x, HDL_64E), HDL_64E).x, found.x)


@pytest.mark.parametrize("seed", range(4))
def test_sparse_images_come_back_bit_for_bit_too(seed):
    scan = SENSORS["vlp-16"].scan
    some = torch.rand(16, 1024, generator=torch.Generator().manual_seed(seed)) < 0.002
    x = encode(torch.where(some, 20.0, 0.0), torch.zeros(16, 1024), scan)
    assert torch.equal(to_image(to_points(x, scan), scan).x, x)


def test_a_sensor_that_misses_a_fifth_of_the_points_is_refused():
    points = cloud(Scan(16, 64, 15.0, -15.0), jitter=0.2)
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))]
    up = elevations_deg(points)
    low = float(up.quantile(0.25))
    with pytest.raises(Misfit, match=r"above or below all beams .* one of hdl-64e, hdl-32e, vlp-16"):
        to_image(points, Scan(16, 64, 30.0, low))
    assert to_image(points, Scan(16, 64, 30.0, float(up.quantile(0.15)))).outside
