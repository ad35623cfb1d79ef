"""What scans lose: rings, azimuths, rays, ranges, returns."""

import itertools
import math

import pytest
import torch
from tests.room import cloud

from snowmelt.degradations import AzimuthDrop, BeamDrop, Fog, Rain, RangeNoise, RayDrop
from snowmelt.degradations.weather import moved
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, build
from snowmelt.sensor import NEAREST, decode, encode, returns, to_image
from snowmelt.signals import Scan
from snowmelt.testing import check_degradation

SCAN = Scan(64, 64, 15.0, -25.0)
ALL = (
    "beam-drop:beams=16",
    "beam-drop:beams=8",
    "azimuth-drop:factor=4",
    "ray-drop:lost=0.5",
    "ray-drop:lost=1",
    "range-noise:sigma_m=0.5",
    "fog:visibility_m=50",
    "fog:visibility_m=50,clutter=0.5",
    "rain:rate_mm_h=50",
    "beam-drop:beams=16+range-noise",
)


@pytest.fixture(scope="module")
def x():
    return to_image(cloud(SCAN), SCAN).x[None].expand(2, -1, -1, -1)


def _at(t, n=2):
    return torch.full((n,), t)


@pytest.mark.parametrize("spec", ALL)
def test_every_operator_keeps_the_contract_and_walks_home_with_an_oracle(spec):
    d = build(spec)
    assert d.takes == "scan"
    assert "oracle_exact" in check_degradation(d)


@pytest.mark.parametrize("spec", ALL)
def test_nothing_changes_at_severity_0_bit_for_bit(spec, x):
    d = build(spec)
    assert torch.equal(d(x, _at(0.0), d.draw(x, generator(0, "d"))), x)


@pytest.mark.parametrize("spec", ALL)
def test_small_steps_of_severity_make_small_changes(spec, x):
    d = build(spec)
    z = d.draw(x, generator(0, "d"))
    t = torch.linspace(0, 1, 2049)
    before, worst = d(x, _at(0.0), z), 0.0
    for s in t[1::64]:
        a, b = d(x, _at(float(s)), z), d(x, _at(float(s) - 1 / 2048), z)
        worst = max(worst, float((a - b).abs().max()))
    assert worst < 0.1
    assert not torch.equal(d(x, _at(1.0), z), before)


@pytest.mark.parametrize("spec", ["beam-drop:beams=16", "azimuth-drop:factor=4", "ray-drop:lost=0.5", "fog:visibility_m=5"])
def test_at_severity_1_a_cell_is_there_or_not_and_never_half(spec, x):
    d = build(spec)
    y = d(x, _at(1.0), d.draw(x, generator(0, "d")))
    gone = ~returns(y)
    assert torch.equal(y.movedim(1, -1)[gone], torch.full((int(gone.sum()), 3), -1.0))
    assert bool((gone & returns(x)).any())
    assert bool((y[:, 2][~gone] == 1).all())


def test_beams_are_halved_from_knot_to_knot(x):
    d = BeamDrop(8)
    z = d.draw(x)
    assert d.knots == 3
    assert d.in_units(1 / 3)["beams"] == pytest.approx(32)
    for i, every in enumerate((1, 2, 4, 8)):
        for dtype in (torch.float32, torch.float64):
            t = torch.full((2,), i / 3, dtype=dtype)
            y = d(x.to(dtype), t, z)
            kept = torch.arange(64) % every == 0
            assert torch.equal(y[:, :, kept], x[:, :, kept].to(dtype))
            assert bool((y[:, :, ~kept] == -1).all())
            assert torch.equal(d.context((3, 64, 64), t, z)[0, 0, :, 0], kept.to(dtype))


def test_azimuths_are_halved_and_rays_are_lost_one_by_one(x):
    d = AzimuthDrop(4)
    y = d(x, _at(1.0), d.draw(x))
    assert torch.equal(y[..., ::4], x[..., ::4])
    assert not bool(returns(y)[..., 1:4].any())
    ray = RayDrop(0.3)
    z = ray.draw(x, generator(0, "d"))
    lost = [ray.context((3, 64, 64), _at(t), z) < 1 for t in (0.25, 0.5, 1.0)]
    assert all(bool((b | ~a).all()) for a, b in itertools.pairwise(lost))  # what is lost stays lost
    assert float(lost[-1].float().mean()) == pytest.approx(0.3, abs=0.02)


def test_a_users_mask_hides_what_it_says(x):
    d = RayDrop(0.5)
    mask = torch.ones(2, 1, 64, 64)
    mask[..., 10:20] = 0
    y = d(x, _at(1.0), {"mask": mask})
    assert torch.equal(y[..., 20:], x[..., 20:])
    assert bool((y[..., 10:20] == -1).all())
    assert torch.equal(d.context((3, 64, 64), _at(1.0), {"mask": mask}), mask)


def test_range_noise_is_in_metres_along_the_ray_and_only_where_something_came_back(x):
    d = RangeNoise(0.2)
    y = d(x, _at(1.0), d.draw(x, generator(0, "d")))
    (r, light, there), (clean, dim, valid) = decode(y, SCAN), decode(x, SCAN)
    off = (r - clean)[valid]
    assert float(off.std()) == pytest.approx(0.2, rel=0.05)
    assert abs(float(off.mean())) < 0.01
    assert torch.equal(light, dim)
    assert torch.equal(there, valid)
    wide = d.__class__(100.0)
    far = decode(wide(x, _at(1.0), wide.draw(x, generator(0, "d"))), SCAN)[0]
    assert float(far.min()) >= 0
    assert float(far.max()) <= SCAN.farthest_m * (1 + 1e-5)


def _wall(r, light, n=64):
    return encode(torch.full((8, n), float(r)), torch.full((8, n), float(light)), SCAN)[None]


def test_fog_takes_the_far_and_the_dark_first_by_the_law_of_beer_and_lambert():
    d = Fog(100.0)
    alpha = math.log(20) / 100

    def kept(r, light):
        x = _wall(r, light)
        y = d(x, _at(1.0, 1), d.draw(x, generator(0, "d")))
        return float(returns(y).float().mean()), y

    assert kept(5, 0.9)[0] == 1
    assert kept(75, 0.9)[0] == 0
    assert kept(40, 0.9)[0] > kept(40, 0.1)[0]
    dim = decode(kept(10, 0.5)[1], SCAN)[1]
    assert float(dim.mean()) == pytest.approx(0.5 * math.exp(-2 * alpha * 10), rel=1e-3)


def test_the_share_that_fog_takes_is_that_of_the_reserves():
    """What a target has in hand at r is 2 ln(80 / r) nepers, the air takes 2 alpha r, and the reserve of a ray is exponential with mean 0.25."""
    for r, visibility in ((36.0, 150.0), (47.0, 200.0)):
        over = 2 * math.log(20) / visibility * r - 2 * math.log(80 / r)
        d, x = Fog(visibility), _wall(r, 0.9, 4096)
        share = float(returns(d(x, _at(1.0, 1), d.draw(x, generator(0, "d")))).float().mean())
        assert -0.5 < over < 0.5
        assert share == pytest.approx(math.exp(-max(over, 0) / 0.25), abs=0.02)


def test_clutter_lies_near_the_sensor_and_before_what_it_hides():
    x = _wall(60, 0.5)
    d = Fog(30.0, clutter=0.4)
    y = d(x, _at(1.0, 1), d.draw(x, generator(0, "d")))
    r, _, there = decode(y, SCAN)
    assert float(there.float().mean()) == pytest.approx(0.4, abs=0.05)
    assert float(r[there].min()) >= 1
    assert float(r[there].max()) < 60
    assert float(r[there].median()) < 15


def test_rain_scatters_ranges_and_thickens_with_its_rate():
    x = _wall(30, 0.9)
    r = decode(Rain(50.0)(x, _at(1.0, 1), Rain(50.0).draw(x, generator(0, "d"))), SCAN)[0]
    assert float((r - 30)[r > 0].std()) == pytest.approx(0.02 * 30, rel=0.15)
    far = _wall(75, 0.3)
    kept = [float(returns(d(far, _at(1.0, 1), d.draw(far, generator(0, "d")))).float().mean()) for d in (Rain(5.0), Rain(50.0), Rain(500.0))]
    assert kept[0] > kept[1] > kept[2]


def test_what_cannot_be_is_refused(x):
    with pytest.raises(SpecError, match=r"beam-drop.beams = 24 cannot be had by halving beam-drop.rings = 64"):
        BeamDrop(24)
    with pytest.raises(SpecError, match=r"azimuth-drop.factor = 6 is no power of 2"):
        AzimuthDrop(6)
    for spec in ALL[:-1]:
        d = build(spec)
        z = d.draw(x)
        with pytest.raises(ValueError, match=r"degrades scans of shape \(b, 3, rings, azimuths\)"):
            d(x[:, :1], _at(1.0), z)


def test_noise_brings_no_return_to_no_distance():
    x = torch.tensor([NEAREST, -0.99, 0.0, 1.0]).view(1, 1, 1, 4)
    near = moved(x, torch.full_like(x, -1000.0), 80.0)
    assert torch.equal(near, torch.full_like(x, NEAREST))
    assert torch.equal(moved(x, torch.zeros_like(x), 80.0), x)
