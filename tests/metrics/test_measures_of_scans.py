"""Measures of scans against numpy, and a Chamfer distance by brute force; bird's-eye distances against scipy and sums written out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snowmelt.metrics import Gathered, birds_eye, chamfer, jensen_shannon, measures_for, mmd, points_of
from snowmelt.metrics.scans import Scans
from snowmelt.sensor import encode, to_points
from snowmelt.signals import Scan

SCAN = Scan(rings=8, azimuths=32, up_deg=5.0, down_deg=-20.0)


def world(seed: int, lost: float = 0.2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A scan (3, 8, 32), its ranges in metres, its reflectances and its returns."""
    g = torch.Generator().manual_seed(seed)
    r, light = 2 + 60 * torch.rand(8, 32, generator=g), torch.rand(8, 32, generator=g)
    r[torch.rand(8, 32, generator=g) < lost] = 0
    return encode(r, light, SCAN), r, light, r > 0


def test_ranges_are_compared_in_metres_where_the_truth_has_a_return() -> None:
    (a, ra, la, va), (b, rb, lb, vb) = world(0), world(1, 0.4)
    (c, rc, lc, vc), (d, rd, ld, vd) = world(2), world(3)
    scores = Gathered(measures_for(SCAN))
    scores.update(a[None], b[None])
    scores.update(c[None], d[None])
    apart = np.concatenate([(ra - rb)[vb].numpy(), (rc - rd)[vd].numpy()])  # a lost cell counts as 0 m
    light = np.concatenate([(la * va - lb)[vb].numpy(), (lc * vc - ld)[vd].numpy()])
    found = scores.compute()
    assert found["mae_m"] == pytest.approx(np.abs(apart).mean(), rel=1e-4)
    assert found["rmse_m"] == pytest.approx(np.sqrt((apart**2).mean()), rel=1e-4)
    assert found["mae_reflectance"] == pytest.approx(np.abs(light).mean(), rel=1e-4)
    assert found["return_error"] == pytest.approx(float(((va != vb).double().mean() + (vc != vd).double().mean()) / 2))
    assert found["rmse"] == pytest.approx(float(torch.stack([a - b, c - d]).double().square().mean().sqrt()))


def brute(p: Tensor, q: Tensor) -> float:
    there = np.linalg.norm(p.numpy()[:, None, :3].astype(float) - q.numpy()[None, :, :3], axis=2)
    return float(there.min(1).mean() + there.min(0).mean()) / 2


def test_the_chamfer_distance_is_that_of_brute_force_over_all_returns() -> None:
    (a, *_), (b, *_) = world(0), world(1, 0.6)
    found = Scans(SCAN).each(a[None], b[None])["chamfer_m"]
    assert float(found) == pytest.approx(brute(to_points(a, SCAN), to_points(b, SCAN)), rel=1e-9)
    assert float(Scans(SCAN).each(b[None], a[None])["chamfer_m"]) == pytest.approx(float(found))
    p, q = torch.tensor([[0.0, 0, 0], [4, 0, 0]]), torch.tensor([[0.0, 3, 0]])
    assert chamfer(p, q) == pytest.approx(((3 + 5) / 2 + 3) / 2)
    assert [len(cloud) for cloud in points_of(SCAN, torch.stack([a, b]))] == [int((one[2] > 0).sum()) for one in (a, b)]


def test_an_estimate_is_read_as_it_would_be_written() -> None:
    clean, r, _, valid = world(0)
    x = clean.clone()
    x[2] = 0.01  # every cell is a return
    x[0] += 10  # beyond what the sensor sees
    found = {name: float(value) for name, value in Scans(SCAN).each(x[None], clean[None]).items()}
    assert found["return_error"] == pytest.approx(float((~valid).double().mean()))
    assert found["mae_m"] == pytest.approx(float((80 - r[valid]).mean()), rel=1e-4)
    x = clean.clone()
    x[2] = -0.01  # none is, and yet the ranges are right
    found = {name: float(value) for name, value in Scans(SCAN).each(x[None], clean[None]).items()}
    assert found["mae_m"] == 0
    assert found["return_error"] == pytest.approx(float(valid.double().mean()))
    assert found["chamfer_m"] == 80.0


def test_a_scan_without_returns_has_no_range_errors_and_counts_for_none() -> None:
    (a, *_), (b, *_), nothing = world(0), world(1), torch.full((3, 8, 32), -1.0)
    scores, without = Gathered(measures_for(SCAN)), Gathered(measures_for(SCAN))
    scores.update(torch.stack([a, a]), torch.stack([b, nothing]))
    without.update(a[None], b[None])
    for name in ("mae_m", "rmse_m", "chamfer_m", "mae_reflectance"):
        assert scores.compute()[name] == without.compute()[name]
    assert scores.left_out() == {"MAE of range": 1, "RMSE of range": 1, "Chamfer": 1, "MAE of reflectance": 1}
    empty = Gathered(measures_for(SCAN))
    empty.update(nothing[None], nothing[None])
    assert empty.compute() == {"return_error": 0.0, "rmse": 0.0}
    assert math.isnan(chamfer(torch.empty(0, 4), torch.empty(0, 4)))
    assert chamfer(torch.empty(0, 4), torch.zeros(1, 4)) == math.inf


def test_scans_of_another_sensor_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scans of this sensor are \(b, 3, 8, 32\)"):
        Scans(SCAN).each(torch.zeros(1, 3, 8, 16), torch.zeros(1, 3, 8, 16))


def test_birds_eye_cells_are_those_of_numpy() -> None:
    g = torch.Generator().manual_seed(0)
    points = 60 * torch.randn(500, 4, generator=g)
    points[:, 2] = torch.randn(500, generator=g)
    far = np.linalg.norm(points[:, :3].numpy(), axis=1)
    kept = points.numpy()[(far > 3) & (far < 70)]
    by_hand, *_ = np.histogram2d(kept[:, 0], kept[:, 1], bins=100, range=[[-80, 80], [-80, 80]])
    assert len(kept) < 500
    assert birds_eye.counted(points).reshape(100, 100).tolist() == by_hand.tolist()


def test_the_distances_of_sets_are_those_of_scipy_and_of_the_sums() -> None:
    from scipy.spatial.distance import jensenshannon

    g = torch.Generator().manual_seed(1)
    a, b = torch.poisson(torch.rand(6, 50, generator=g) * 3, generator=g), torch.poisson(torch.rand(9, 50, generator=g) ** 2 * 5, generator=g)
    assert jensen_shannon(a, b) == pytest.approx(float(jensenshannon(a.sum(0).double().numpy(), b.sum(0).double().numpy())), rel=1e-9)
    p, q = ((x / x.sum(1, keepdim=True)).double().numpy() for x in (a, b))
    kernel = lambda x, y: np.mean([[math.exp(-(np.linalg.norm(i - j) ** 2) / (2 * 0.5**2)) for j in y] for i in x])  # noqa: E731
    assert mmd(a, b) == pytest.approx(kernel(p, p) + kernel(q, q) - 2 * kernel(p, q), rel=1e-6)
    assert jensen_shannon(a, a) == pytest.approx(0, abs=1e-7)
    assert mmd(a, a) == pytest.approx(0, abs=1e-12)
    (low, high), (least, most) = birds_eye.intervals(a, b)
    assert low < jensen_shannon(a, b) < high
    assert least < mmd(a, b) < most
    assert birds_eye.intervals(a, b) == birds_eye.intervals(a, b)


def test_sets_without_points_are_as_far_as_can_be() -> None:
    a, nothing = torch.ones(3, 10), torch.zeros(2, 10)
    assert jensen_shannon(a, nothing) == pytest.approx(math.sqrt(math.log(2)))
    assert math.isnan(jensen_shannon(nothing, nothing))
    apart = torch.zeros(3, 10)
    apart[:, 0] = 1
    assert jensen_shannon(apart, apart.roll(1, 1)) == pytest.approx(math.sqrt(math.log(2)))
    assert mmd(a, nothing) > 0
    with pytest.raises(ValueError, match="of at least one scan each"):
        mmd(a, nothing[:, 1:])
