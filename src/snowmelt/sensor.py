r"""From points to range images and back: the geometry of a rotating LiDAR, as its description (:class:`~snowmelt.signals.Scan`) has it.

A point (x ahead, y to the left, z up, in metres) at range r falls into the cell of its beam and its azimuth:

.. math:: r = \sqrt{x^2 + y^2 + z^2}, \qquad \mathrm{column} = \left\lfloor \tfrac12 \left(1 - \tfrac1\pi \mathrm{atan2}(y, x)\right) w \right\rfloor,

and its row is the ring whose beam is nearest to its elevation :math:`\arcsin(z / r)`; of a scan in sensor order, which lists ring after ring,
it is the number of the sweep, recovered from where the azimuth starts anew. That is the better way where it can be had: the
beams of a real sensor do not start in one point, so that near things are seen at other elevations than the description says. Of several
points in a cell the nearest is kept, as in a z-buffer.

Values of an image lie on a grid of 2^-18, a millimetre at 80 m: coarse enough to outlive coordinates of single precision, so that
image -> cloud -> image changes no bit; and a cloud gets its own points back, bit for bit, from all cells that are as they were.

Source: Behley and Stachniss 2018, "Efficient surfel-based SLAM using 3D laser range data in urban environments", eq. 1, for the projection;
Triess et al. 2020 (arXiv 2004.11803) for rings from the order of a scan ("scan unfolding").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.registry import SpecError, build, nearest
from snowmelt.signals import Scan

_GRID = 2.0**18
NEAREST = -1 + 1 / _GRID  # the least range of a return, encoded
_BACK_DEG = 20.0  # a sweep begins where the azimuth falls back by more than this; less is jitter
_OFF = 2.0  # steps between rings that half of the rings of a scan may be off the description
_ON_BEAM = 0.1  # steps between rings that a sweep may be off a beam to be that of the beam
_MADE = 0.01  # the same of a point; by chance 2 % of those of a real scan are as near, and all of a cloud that was made of an image
_MOST_OUTSIDE = 0.15  # of the points, where their order says nothing; of KITTI's scans, shuffled, 1 to 9 % lie outside their own beams
_ALONE_DEG = 2.0  # how wide a ring is that has no neighbour
_SLACK_DEG = 1e-6  # rounding
_SPREAD = 0.1  # of the variance of all elevations that sweeps have within them, where they are rings
_DOWNWARDS = 0.8  # of the steps from sweep to sweep, in sensor order, go to a lower ring


_OUSTER = "Ouster OS1 datasheet, second generation: 45 degrees, evenly spaced, 120 m"


class Sensor(NamedTuple):
    """A description with its source."""

    scan: Scan
    source: str


SENSORS: Mapping[str, Sensor] = MappingProxyType(
    {
        "hdl-64e": Sensor(
            Scan(64, 1024, 2.4, -23.6, (*(2.4 - i / 3 for i in range(32)), *(-8.4 - 15.2 * i / 31 for i in range(32))), 80.0),
            "Velodyne HDL-64E S2 manual: 32 beams 1/3 degree apart above 32 about 1/2 degree apart; where they begin and end, as KITTI's scans show",
        ),
        "hdl-32e": Sensor(
            Scan(32, 1024, 10.67, -30.67, farthest_m=80.0),
            "Velodyne HDL-32E manual: +10.67 to -30.67 degrees in steps of 1.33; the sensor of nuScenes (Caesar et al. 2020, arXiv 1903.11027)",
        ),
        "vlp-16": Sensor(Scan(16, 1024, 15.0, -15.0, farthest_m=100.0), "Velodyne VLP-16 manual: +15 to -15 degrees in steps of 2"),
        "os1-64": Sensor(Scan(64, 1024, 22.5, -22.5, farthest_m=120.0), _OUSTER),
        "os1-32": Sensor(Scan(32, 1024, 22.5, -22.5, farthest_m=120.0), _OUSTER),
        "os1-128": Sensor(Scan(128, 1024, 22.5, -22.5, farthest_m=120.0), _OUSTER),
    }
)
HDL_64E = SENSORS["hdl-64e"].scan


class Misfit(ValueError):  # noqa: N818 - it says what is wrong
    """A cloud that the description of the sensor does not fit; the message says in which respect."""


def sensor(text: str) -> Scan:
    """The description that a text names (hdl-64e) or spells out (scan:rings=32,up_deg=10.67,down_deg=-30.67).

    Raises:
        SpecError: it does neither.
    """
    if text in SENSORS:
        return SENSORS[text].scan
    if not text.startswith("scan"):
        known = ", ".join(SENSORS)
        raise SpecError(f'unknown sensor "{text}"{nearest(text, SENSORS)}; known: {known}; spell others out: "scan:rings=32,up_deg=10,down_deg=-30"')
    found = build(text, kind="signal")
    if not isinstance(found, Scan):
        raise SpecError(f'"{text}" describes no sensor: spell it as "scan:rings=32,up_deg=10,down_deg=-30"')
    return found


def encoded(range_m: Tensor, farthest_m: float) -> Tensor:
    """Ranges in metres, any shape, on [-1, 1]: 2 log2(1 + r) / log2(1 + farthest_m) - 1."""
    return 2 * torch.log1p(range_m) / math.log1p(farthest_m) - 1


def metres(x: Tensor, farthest_m: float) -> Tensor:
    """The inverse of :func:`encoded`: ranges in metres, of values in [-1, 1]."""
    return torch.expm1((x + 1) / 2 * math.log1p(farthest_m))


def returns(x: Tensor) -> Tensor:
    """Where something came back: (..., h, w) bool, of images x (..., 3, h, w)."""
    return (x[..., 2, :, :] > 0) & (x[..., 0, :, :] > -1)


def measured(x: Tensor) -> Tensor:
    """Which values of scans x (b, 3, h, w) were measured, as 0 and 1: return or not always, how far and how bright where there is one."""
    there = returns(x)[:, None].to(x)
    return torch.cat([there, there, torch.ones_like(there)], dim=1)


def in_metres(x: Tensor, farthest_m: float) -> Tensor:
    """What small errors of scans x (b, 3, h, w) are multiplied by to be tens of metres where they are of range; 0 where nothing was measured."""
    slope = (1 + metres(x[:, :1].clamp(-1, 1), farthest_m)) * (math.log1p(farthest_m) / 2 / 10)
    return measured(x) * torch.cat([slope, torch.ones_like(x[:, 1:])], dim=1)


def encode(range_m: Tensor, reflectance: Tensor, scan: Scan) -> Tensor:
    """The image (3, h, w), float32 on the grid, of ranges in metres (0, or beyond what the sensor sees: no return) and reflectances in [0, 1]."""
    r = range_m.double()
    valid = r.isfinite() & (r > 0) & (r <= scan.farthest_m)
    x = torch.stack([encoded(torch.where(valid, r, 0), scan.farthest_m), 2 * reflectance.double().nan_to_num().clamp(0, 1) - 1, torch.ones_like(r)])
    x = (x * _GRID).round() / _GRID
    x[0].clamp_(min=NEAREST)  # a return at no distance would be none
    return torch.where(valid, x, -1).float()


def decode(x: Tensor, scan: Scan) -> tuple[Tensor, Tensor, Tensor]:
    """Ranges in metres and reflectances in [0, 1], both 0 where nothing came back, and where something did: each (..., h, w), of x (..., 3, h, w)."""
    valid = returns(x)
    near, light = x[..., 0, :, :].clamp(-1, 1).double(), x[..., 1, :, :].clamp(-1, 1)
    return torch.where(valid, metres(near, scan.farthest_m), 0).to(x.dtype), torch.where(valid, (light + 1) / 2, 0), valid


@dataclass(frozen=True, eq=False)
class Projected:
    """A cloud as a range image, and which of its points is where.

    Attributes:
        x: the image (3, rings, azimuths), float32 in [-1, 1].
        index: (rings, azimuths), the number of the point in each cell; -1 where there is none.
        cells: (n,), the cell (row * azimuths + column) of each point, also of those behind another one; -1 of those that were left out.
        cloud: the points as they came, (n, 3) or (n, 4), float32.
        scan: the sensor.
        invalid: points that are NaN, infinite or the origin itself.
        far: points beyond `scan.farthest_m`.
        outside: points above or below all beams.
        collisions: points that share their cell with a nearer one.
        ordered: whether rows were recovered from the order of the points, not from elevations.
    """

    x: Tensor
    index: Tensor
    cells: Tensor
    cloud: Tensor
    scan: Scan
    invalid: int = 0
    far: int = 0
    outside: int = 0
    collisions: int = 0
    ordered: bool = False

    @property
    def rows(self) -> Tensor:
        """Which rings have any return at all: (rings,), bool."""
        return (self.index >= 0).any(1)

    def beams_deg(self) -> Tensor:
        """The elevation of every ring as this scan shows it, (rings,), float64: the median of its points, or moved as those of its neighbours are."""
        beams = torch.tensor(self.scan.beams_deg, dtype=torch.float64)
        seen = elevations_deg(self.cloud)
        shown = self.rows.nonzero().flatten()
        if not len(shown):
            return beams
        moved = torch.stack([seen[self.index[row][self.index[row] >= 0]].median() - beams[row] for row in shown.tolist()])
        at = torch.arange(len(beams))
        above = (torch.searchsorted(shown, at, right=True) - 1).clamp(min=0)
        below = (above + 1).clamp(max=len(shown) - 1)
        share = ((at - shown[above]) / (shown[below] - shown[above]).clamp(min=1)).clamp(0, 1)
        return beams + torch.lerp(moved[above], moved[below], share.double())

    def points(self, x: Tensor, *, behind: bool = False) -> Tensor:
        """The cloud of an image x (3, rings, azimuths): (m, 4), float32, in sensor order.

        A cell that is as it was gives its own point, bit for bit; one that was changed moves its point along the ray; a new return is put in
        the centre of its cell, at the elevation that its ring has in this scan.

        Args:
            x: an image of the same sensor.
            behind: also the points that share such an unchanged cell with a nearer one.
        """
        x = x.detach().to("cpu", torch.float32)
        index, old, new = self.index.flatten(), _four(self.cloud), _at(x, self.scan, self.beams_deg())
        had, has = index >= 0, returns(x).flatten()
        same = had & has & (x == self.x).all(0).flatten()
        if len(old):
            mine = old[index.clamp(min=0)]
            ray = mine[:, :3].double()
            ray = ray / ray.norm(dim=1, keepdim=True).clamp(min=1e-12) * decode(x, self.scan)[0].flatten()[:, None]
            new = torch.where(had[:, None], torch.cat([ray.float(), new[:, 3:]], 1), new)
            new = torch.where(same[:, None], mine, new)
        cells = has.nonzero().flatten()
        if behind:
            first = torch.zeros(len(old), dtype=torch.bool)
            first[index[had]] = True
            others = ((self.cells >= 0) & ~first).nonzero().flatten()
            others = others[same[self.cells[others]]]
            new, cells = torch.cat([new[cells], old[others]]), torch.cat([cells, self.cells[others]])
        else:
            new = new[cells]
        return new[_sensor_order(new, cells // self.scan.azimuths)]


def to_image(points: Tensor, scan: Scan) -> Projected:
    """A cloud as the sensor of that description sees it.

    Args:
        points: (n, 3) or (n, 4): x ahead, y to the left, z up, in metres; reflectance in [0, 1], 0 where there is none.
        scan: the sensor.

    Raises:
        ValueError: `points` has another shape.
        Misfit: the description does not fit: more than 15 % of the points lie above or below its beams, or the rings that the order of the points
            shows are more than it has, or elsewhere.
    """
    if points.ndim != 2 or points.shape[1] not in (3, 4):
        raise ValueError(f"a cloud has shape (n, 3) or (n, 4), x, y, z in metres and reflectance, not {tuple(points.shape)}")
    cloud = points.detach().to("cpu", torch.float32)
    place = cloud[:, :3].double()
    r = place.norm(dim=1)
    sound = place.isfinite().all(1) & (r > 0)
    near = sound & (r <= scan.farthest_m)
    rows, inside, ordered = _rows(place, sound, near, scan)
    used = (near & inside).nonzero().flatten()
    theta = torch.atan2(place[used, 1], place[used, 0])
    columns = (0.5 * (1 - theta / math.pi) * scan.azimuths).floor().long().clamp(0, scan.azimuths - 1)
    cells = torch.full((len(cloud),), -1)
    cells[used] = rows[used] * scan.azimuths + columns
    far_first = used[r[used].argsort(descending=True, stable=True)].flip(0)
    keep, at = _firsts(cells[far_first])
    index = torch.full((scan.rings * scan.azimuths,), -1)
    index[at] = far_first[keep]
    index = index.view(scan.rings, scan.azimuths)
    x = torch.full((3, scan.rings, scan.azimuths), -1.0)
    if len(used):
        light = cloud[:, 3] if cloud.shape[1] == 4 else torch.zeros(len(cloud))
        chosen = index.clamp(min=0)
        x = encode(torch.where(index >= 0, r[chosen], 0), light[chosen], scan)
    counts = {"invalid": int((~sound).sum()), "far": int((sound & ~near).sum()), "outside": int((near & ~inside).sum())}
    return Projected(x, index, cells, cloud, scan, **counts, collisions=len(used) - len(at), ordered=ordered)


def to_points(x: Tensor, scan: Scan) -> Tensor:
    """The cloud of an image x (3, rings, azimuths), every return in the centre of its cell: (m, 4), float32 on the CPU, in sensor order."""
    if tuple(x.shape) != (3, scan.rings, scan.azimuths):
        raise ValueError(f"a scan of this sensor has shape (3, {scan.rings}, {scan.azimuths}), not {tuple(x.shape)}")
    x = x.detach().to("cpu", torch.float32)
    cells = returns(x).flatten().nonzero().flatten()
    points = _at(x, scan, torch.tensor(scan.beams_deg, dtype=torch.float64))[cells]
    return points[_sensor_order(points, cells // scan.azimuths)]


def elevations_deg(points: Tensor) -> Tensor:
    """The elevation of every point (n, 3 or more) in degrees: (n,), float64; NaN at the origin."""
    place = points[:, :3].double()
    return torch.rad2deg(torch.asin(place[:, 2] / place.norm(dim=1)))


def sweeps(points: Tensor) -> Tensor:
    """Which sweep each of the points (n, 3 or more), none of them at the origin, belongs to, counted from 0 in their order: (n,), int64.

    A sweep is what the order lists of one turn; it begins straight ahead or straight behind, whichever gives sweeps of one elevation.
    """
    theta = torch.rad2deg(torch.atan2(points[:, 1].double(), points[:, 0].double()))
    steps = (theta.diff() + 180) % 360 - 180
    theta = theta if len(steps) == 0 or steps.median() >= 0 else -theta
    elevation, found = elevations_deg(points), []
    for start in (0.0, 180.0):
        turns = ((theta - start) % 360).diff() < -_BACK_DEG
        number = torch.cat([torch.zeros(1, dtype=torch.int64), turns.long().cumsum(0)])[: len(points)]
        count = torch.bincount(number).clamp(min=1)
        mean = torch.bincount(number, elevation) / count
        found.append((float((elevation - mean[number]).abs().mean()) if len(points) else 0.0, number))
    return min(found, key=lambda pair: pair[0])[1]


def _rows(place: Tensor, sound: Tensor, near: Tensor, scan: Scan) -> tuple[Tensor, Tensor, bool]:
    """The row of every point, whether it is seen at all, and whether the order of the points said so."""
    beams = torch.tensor(scan.beams_deg, dtype=torch.float64)
    elevation = elevations_deg(place).nan_to_num(nan=999.0)
    middles = (beams[:-1] + beams[1:]) / 2
    rows = torch.searchsorted(-middles, -elevation)
    if bool(sound.any()):
        told = _told_by_order(place[sound], elevation[sound], beams)
        if told is not None:
            rows[sound] = told
            return rows, sound, True
    gaps = -beams.diff() if len(beams) > 1 else torch.tensor([_ALONE_DEG])
    inside = sound & (elevation <= beams[0] + gaps[0] / 2 + _SLACK_DEG) & (elevation >= beams[-1] - gaps[-1] / 2 - _SLACK_DEG)
    if int((near & ~inside).sum()) > _MOST_OUTSIDE * int(near.sum()):
        seen = elevation[near][:: max(1, int(near.sum()) // 10**6)].quantile(torch.tensor([0.01, 0.99], dtype=torch.float64))
        raise Misfit(
            f"{int((near & ~inside).sum()):,} of {int(near.sum()):,} points lie above or below all beams of the sensor: they are seen at "
            f"{float(seen[0]):.1f} to {float(seen[1]):.1f} degrees, its beams go from {float(beams[-1]):.1f} to {float(beams[0]):.1f}: "
            f"give the sensor of this scan (data.sensor), one of {', '.join(SENSORS)}, or spelled out"
        )
    return rows, inside, False


def _told_by_order(place: Tensor, elevation: Tensor, beams: Tensor) -> Tensor | None:
    """The rows of points in sensor order: as many sweeps as rings, or every second, fourth, ... of them; None where the order says nothing."""
    if _made(elevation, beams):
        return None
    number = sweeps(place)
    count, rings = int(number[-1]) + 1, len(beams)
    if count < 2 or count > 4 * rings + 4:
        return None
    mean = (torch.bincount(number, elevation) / torch.bincount(number).clamp(min=1))[number]
    if float((elevation - mean).square().mean()) > _SPREAD * float(elevation.var(correction=0)):
        return None
    medians = torch.stack([elevation[number == i].median() for i in range(count)])
    if float((medians.diff() < 0).double().mean()) < _DOWNWARDS:
        return None
    if count >= 1.5 * rings:
        raise Misfit(f"its points lie in {count} rings, and the sensor of the description has {rings}: give the sensor of this scan (data.sensor)")
    if rings % count or (count < rings and _clear(medians, beams)):
        return None
    kept = beams[:: rings // count]
    off, step = float((medians - kept).abs().median()), float((kept[0] - kept[-1]) / max(count - 1, 1))
    if off <= _OFF * step:
        return number * (rings // count)
    if count < rings:
        return None
    raise Misfit(
        f"its {count} rings look at {float(medians[0]):.1f} to {float(medians[-1]):.1f} degrees, those of the sensor at {float(beams[0]):.1f} to "
        f"{float(beams[-1]):.1f}: give the sensor of this scan (data.sensor)"
    )


def _made(elevation: Tensor, beams: Tensor) -> bool:
    """Whether points look exactly along beams: the cloud was made of an image, however few returns it has, and elevations say all."""
    if len(beams) < 2:
        return False
    at = torch.searchsorted(-(beams[:-1] + beams[1:]) / 2, -elevation)
    off = (elevation - beams[at]).abs()
    return float((off < _MADE * -beams.diff().max()).double().mean()) > 0.99


def _clear(medians: Tensor, beams: Tensor) -> bool:
    """Whether sweeps look exactly along beams, each along its own, so that elevations say all: as when a scan was made of an image."""
    at = (medians[:, None] - beams).abs().argmin(1)
    near = (medians - beams[at]).abs() < _ON_BEAM * (beams[0] - beams[-1]) / (len(beams) - 1)
    return len(set(at.tolist())) == len(at) and float(near.double().mean()) > 0.95


def _firsts(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Of cell numbers in some order, where each cell occurs first, and which cell that is."""
    ordered, by = cells.sort(stable=True)
    first = torch.ones(len(cells), dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return by[first], ordered[first]


def _sensor_order(points: Tensor, rows: Tensor) -> Tensor:
    """How to sort points of those rings: ring after ring, each from straight ahead counterclockwise, as KITTI's files are."""
    turn = torch.atan2(points[:, 1].double(), points[:, 0].double()) % (2 * math.pi)
    by = turn.argsort(stable=True)
    return by[rows[by].argsort(stable=True)]


def _at(x: Tensor, scan: Scan, beams_deg: Tensor) -> Tensor:
    """The centre of every cell of x (3, h, w) at its range: (h w, 4), float32, row by row."""
    r, light, _ = decode(x.double(), scan)
    theta = math.pi * (1 - 2 * (torch.arange(scan.azimuths, dtype=torch.float64) + 0.5) / scan.azimuths)
    phi = torch.deg2rad(beams_deg)[:, None]
    flat = r * torch.cos(phi)
    return torch.stack([flat * torch.cos(theta), flat * torch.sin(theta), r * torch.sin(phi), light], -1).reshape(-1, 4).float()


def _four(cloud: Tensor) -> Tensor:
    """Points with a reflectance, 0 where they came without."""
    return cloud if cloud.shape[1] == 4 else torch.cat([cloud, cloud.new_zeros(len(cloud), 1)], 1)
