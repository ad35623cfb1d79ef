r"""What LiDAR scans were completed and cleaned with before networks: neighbours.

Missing rings, columns or single rays take their ranges from cells near by. A range is averaged as it is, as its logarithm or as its
inverse: on a plane with normal n and distance c the inverse range in direction u is :math:`1/r = n \cdot u / c`, linear in the direction, so
that straight lines of inverse range keep planes plane. Which does best is chosen on validation scans.

Nothing is averaged with a cell from which nothing came back: of two neighbours the one with a return is taken alone. Whether a lost cell has a
return itself is a vote of the cells around it; its range is estimated either way, from the nearest returns, since the measures take the range
of an estimate as it stands.

Rows are interpolated along columns, and columns along rows, around the turn. Bicubic interpolation of an image of which whole rows are missing
is cubic interpolation along its columns, for at a known column the other axis has weight 1 in one place: there are three orders, 0 (nearest),
1 and 3, with Catmull and Rom's tangents for any spacing. Averages across edges make ranges at which nothing is: with `edge`, neighbours whose
ranges differ by more are not averaged but the nearer one taken.

Source: Keys 1981, Cubic convolution interpolation, and Catmull and Rom 1974; Knutsson and Westin 1993, Normalized and differential
convolution; Tomasi and Manduchi 1998, Bilateral filtering; Delaunay triangles as in scipy's griddata.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.sensor import encoded, metres, returns
from snowmelt.signals import Scan

Space: TypeAlias = Literal["range", "log", "inverse"]
_NEAREST_M = 0.05
_ROAD = 0.5  # difference of the logarithms of two ranges of which a line goes on beyond the second


def spread(x: Tensor, scan: Scan, space: Space) -> Tensor:
    """The ranges of scans x (b, 3, h, w) as `space` has them: (b, h, w), float64."""
    r = metres(x[:, 0].double().clamp(-1, 1), scan.farthest_m).clamp(min=_NEAREST_M)
    return r if space == "range" else r.log() if space == "log" else 1 / r


def gathered(values: Tensor, scan: Scan, space: Space) -> Tensor:
    """The inverse of :func:`spread`, clamped to what the sensor can see: channel 0 of a scan, (b, h, w)."""
    r = values if space == "range" else values.exp() if space == "log" else 1 / values.clamp(min=0.5 / scan.farthest_m)
    return encoded(r.clamp(_NEAREST_M, scan.farthest_m), scan.farthest_m)


def interpolated(
    x: Tensor,
    lost: Tensor,
    scan: Scan,
    *,
    order: Literal[0, 1, 3] = 1,
    space: Space = "log",
    edge: float = math.inf,
    along: Literal["rows", "columns"] = "rows",
    beyond: Literal["copy", "line"] = "copy",
) -> Tensor:
    """Scans x (b, 3, h, w) with the lost rows, or columns, interpolated.

    Args:
        x: scans.
        lost: (h,), or (w,) of columns, bool.
        scan: the sensor.
        order: 0 takes the nearest, 1 draws lines, 3 cubics, where all four neighbours have returns.
        space: what is averaged.
        edge: difference of the logarithms of two ranges beyond which they are not averaged.
        along: which axis is missing; rows lie as far apart as their beams.
        beyond: what rows above the first or below the last that is there take: a copy of it, or the line through the last two, where both have
            returns at about one range, as on a road.
    """
    if not bool(lost.any()) or bool(lost.all()):
        return x.clone()
    if along == "columns":
        return _columns(x, lost, scan, order=order, space=space, edge=edge)
    place = -torch.tensor(scan.beams_deg, dtype=torch.float64, device=x.device)
    return _rows(x, lost, scan, place, order=order, space=space, edge=edge, beyond=beyond)


def _rows(x: Tensor, lost: Tensor, scan: Scan, place: Tensor, *, order: int, space: Space, edge: float, beyond: str = "copy") -> Tensor:
    """Scans x (b, 3, h, w) with the lost rows, (h,) bool, interpolated between rows that lie at `place`, (h,)."""
    known = torch.nonzero(~lost).flatten().to(x.device)
    at = torch.nonzero(lost).flatten().to(x.device)
    rows = x.index_select(2, known)
    there = returns(rows)
    filled = _dense(rows, there)
    values = torch.stack([spread(filled, scan, space), filled[:, 1].double()], 1)
    after = torch.searchsorted(known, at).clamp(1, max(len(known) - 1, 1))
    after = after.clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    step = torch.where(after > before, place[known[after]] - place[known[before]], 1.0)
    line = (((place[at] - place[known[before]]) / step * 1e9).round() / 1e9)[:, None]  # halves stay halves
    share = line.clamp(0, 1)  # beyond the last: the last
    a, b = there[:, before], there[:, after]
    weight = torch.where(a & ~b, 0.0, torch.where(b & ~a, 1.0, share if order else (share > 0.5).double()))
    if edge < math.inf or beyond == "line":
        far = spread(filled, scan, "log")
        apart = (far[:, before] - far[:, after]).abs()
        weight = torch.where(apart > edge, (weight > 0.5).double(), weight)
    found = torch.lerp(values[:, :, before], values[:, :, after], weight[:, None])
    if beyond == "line":
        outside = (line != share) & a & b & (apart < min(edge, _ROAD))
        found[:, 0] = torch.where(outside, torch.lerp(values[:, 0, before], values[:, 0, after], line), found[:, 0])
    if order == 3:
        smooth = _smooth(values, place[known], before, after, share)
        inner = _four(there, before, after) & (weight == share) & (share > 0) & (share < 1)
        found = torch.where(inner[:, None], smooth, found)
    votes = torch.lerp(a.double(), b.double(), share)
    flags = torch.where(share > 0.5, b, a) if order == 0 else votes >= 0.5
    out = x.clone()
    out[:, :, at] = torch.stack([gathered(found[:, 0], scan, space), found[:, 1].clamp(-1, 1), torch.where(flags, 1.0, -1.0).double()], 1).to(x)
    return out


def _columns(x: Tensor, lost: Tensor, scan: Scan, **how: Any) -> Tensor:
    """Columns are the rows of the scan on its side, with half a turn more on either end."""
    w = x.shape[-1]
    around = torch.arange(-(w // 2), w + w // 2, device=x.device) % w
    turned = x.index_select(3, around).transpose(2, 3)
    out = _rows(turned, lost[around.to(lost.device)], scan, torch.arange(len(around), dtype=torch.float64, device=x.device), **how)
    return out.transpose(2, 3)[..., w // 2 : w // 2 + w].contiguous()


def _smooth(values: Tensor, place: Tensor, before: Tensor, after: Tensor, share: Tensor) -> Tensor:
    """Hermite cubics with the tangents of Catmull and Rom, (b, 2, lost, w), between rows at `place` of values (b, 2, known, w)."""
    last = len(place) - 1
    place = place[:, None]
    index = torch.arange(last + 1, device=place.device)
    up, down = (index - 1).clamp(min=0), (index + 1).clamp(max=last)
    tangents = (values[:, :, down] - values[:, :, up]) / (place[down] - place[up])
    step = place[after] - place[before]
    s = share
    return (
        (2 * s**3 - 3 * s**2 + 1) * values[:, :, before]
        + (s**3 - 2 * s**2 + s) * step * tangents[:, :, before]
        + (3 * s**2 - 2 * s**3) * values[:, :, after]
        + (s**3 - s**2) * step * tangents[:, :, after]
    )


def _four(there: Tensor, before: Tensor, after: Tensor) -> Tensor:
    outer = there[:, (before - 1).clamp(min=0)] & there[:, (after + 1).clamp(max=there.shape[1] - 1)]
    return outer & there[:, before] & there[:, after]


def nearest(x: Tensor, lost: Tensor, scan: Scan, *, tall: float = 1.0) -> Tensor:
    """Scans x (b, 3, h, w) whose lost cells (b, h, w) take the flag of the nearest cell that is there, and their range from the nearest return.

    Args:
        x: scans.
        lost: bool.
        scan: the sensor.
        tall: how many columns away a ring counts.
    """
    out = x.clone()
    known = returns(x) & ~lost
    dense = _dense(x, known, tall)
    flags = _dense(x, ~lost, tall)[:, 2]
    out[:, :2] = torch.where(lost[:, None], dense[:, :2], x[:, :2])
    out[:, 2] = torch.where(lost, flags, x[:, 2])
    return out


def triangles(x: Tensor, lost: Tensor, scan: Scan, *, tall: float = 1.0, space: Space = "log") -> Tensor:
    """Scans x (b, 3, h, w) whose lost cells (b, h, w) lie on Delaunay triangles of the returns around them; see :func:`nearest` for the rest."""
    from scipy.interpolate import LinearNDInterpolator

    out = nearest(x, lost, scan, tall=tall)
    w = x.shape[-1]
    for i in range(len(x)):
        rows, columns = (v.cpu().numpy() for v in torch.nonzero(returns(x[i]) & ~lost[i], as_tuple=True))
        if len(rows) < 4 or len(np.unique(rows)) < 2:
            continue
        values = torch.stack([spread(x[i : i + 1], scan, space)[0], x[i, 1].double()], -1).cpu().numpy()[rows, columns]
        margin = max(8, w // 16)  # around the turn
        left, right = columns >= w - margin, columns < margin
        points = np.stack([rows * tall, columns], 1)
        points = np.concatenate([points, points[left] - [0, w], points[right] + [0, w]])
        values = np.concatenate([values, values[left], values[right]])
        where = torch.nonzero(lost[i]).cpu().numpy()
        made = torch.from_numpy(LinearNDInterpolator(points, values)(where * np.array([tall, 1.0])))
        inside = made[:, 0].isfinite()
        at = torch.from_numpy(where)[inside]
        out[i, 0, at[:, 0], at[:, 1]] = gathered(made[inside, 0], scan, space).to(x)
        out[i, 1, at[:, 0], at[:, 1]] = made[inside, 1].clamp(-1, 1).to(x)
        out[i, 2] = torch.where(lost[i], _votes(x[i : i + 1], ~lost[i : i + 1])[0].to(x), x[i, 2])
    return out


def convolved(
    x: Tensor, lost: Tensor, scan: Scan, *, sigma: tuple[float, float] = (0.7, 1.4), space: Space = "log", edge: float = math.inf, tall: float = 1.0
) -> Tensor:
    """Scans x (b, 3, h, w) whose lost cells (b, h, w) are Gaussian averages of the returns around them.

    Args:
        x: scans.
        lost: bool.
        scan: the sensor.
        sigma: of the Gaussian, in rings and in columns.
        space: what is averaged.
        edge: standard deviation of a second Gaussian, over the difference of the logarithm of a range from that of the nearest return.
        tall: see :func:`nearest`, which fills what has no return within reach.
    """
    out = nearest(x, lost, scan, tall=tall)
    there = returns(x) & ~lost
    pilot = spread(out, scan, "log")
    total, weights = _averaged(x, there, scan, sigma, space, pilot, edge)
    reached = lost & (weights > 1e-6)
    out[:, 0] = torch.where(reached, gathered(total[:, 0] / weights.clamp(min=1e-12), scan, space).to(x), out[:, 0])
    out[:, 1] = torch.where(reached, (total[:, 1] / weights.clamp(min=1e-12)).clamp(-1, 1).to(x), out[:, 1])
    out[:, 2] = torch.where(lost, _votes(x, ~lost).to(x), x[:, 2])
    return out


def bilateral(
    x: Tensor, scan: Scan, *, sigma: tuple[float, float] = (1.0, 2.0), near_m: float = 1.0, space: Space = "range", rounds: int = 2
) -> Tensor:
    """Scans x (b, 3, h, w) with every range an average of those around it that differ little from it.

    Args:
        x: scans.
        scan: the sensor.
        sigma: of the Gaussian in rings and in columns.
        near_m: of the Gaussian over the difference of ranges in metres.
        space: what is averaged.
        rounds: how often; each but the first compares ranges with what the one before made, which is less noisy, and averages what was measured.
    """
    there, out = returns(x), x.clone()
    for _ in range(rounds):
        total, weights = _averaged(x, there, scan, sigma, space, spread(out, scan, "range"), near_m, "range")
        enough = there & (weights > 1e-6)
        out[:, 0] = torch.where(enough, gathered(total[:, 0] / weights.clamp(min=1e-12), scan, space).to(x), out[:, 0])
    return out


def median(x: Tensor, scan: Scan, *, window: tuple[int, int] = (3, 3)) -> Tensor:
    """Scans x (b, 3, h, w) with every range the median of the returns in a window of odd numbers of rings and columns around it."""
    there = returns(x)
    out = x.clone()
    out[:, 0] = torch.where(there, _middle(x[:, 0], there, window), x[:, 0])
    return out


def medians(x: Tensor, lost: Tensor, scan: Scan, *, window: tuple[int, int] = (3, 3), tall: float = 1.0) -> Tensor:
    """Scans x (b, 3, h, w) whose lost cells (b, h, w) are medians of the returns in a window around them; see :func:`nearest` for cells with none."""
    out, there = nearest(x, lost, scan, tall=tall), returns(x) & ~lost
    for channel in (0, 1):
        found = _middle(x[:, channel], there, window)
        out[:, channel] = torch.where(lost & found.isfinite(), found, out[:, channel])
    out[:, 2] = torch.where(lost, _votes(x, ~lost).to(x), x[:, 2])
    return out


def _middle(values: Tensor, there: Tensor, window: tuple[int, int]) -> Tensor:
    """The median of those values (b, h, w) around each cell that are there, the mean of the two in the middle; NaN where there are none."""
    masked = torch.where(there, values, math.nan)
    seen = torch.stack([torch.where(inside, moved, math.nan) for moved, inside, *_ in _around(masked, window[0] // 2, window[1] // 2)])
    return (seen.nanmedian(0).values - (-seen).nanmedian(0).values) / 2


def _averaged(
    x: Tensor, there: Tensor, scan: Scan, sigma: tuple[float, float], space: Space, guide: Tensor, near: float, compared: Space = "log"
) -> tuple[Tensor, Tensor]:
    """Weighted sums (b, 2, h, w) of ranges in `space` and reflectances over the neighbours that are there, and the sums of weights (b, h, w)."""
    values = torch.stack([spread(x, scan, space), x[:, 1].double(), there.double(), spread(x, scan, compared)], 1)
    total, weights = torch.zeros_like(values[:, :2]), torch.zeros_like(values[:, 0])
    reach = [max(1, math.ceil(3 * s)) for s in sigma]
    for moved, inside, i, j in _around(values, *reach):
        weight = moved[:, 2] * inside * math.exp(-((i / sigma[0]) ** 2 + (j / sigma[1]) ** 2) / 2)
        if near < math.inf:
            weight = weight * torch.exp(-((moved[:, 3] - guide) / near).square() / 2)
        total += weight[:, None] * moved[:, :2]
        weights += weight
    return total, weights


def patched(x: Tensor) -> Tensor:
    """Scans x (b, 3, h, w) with the range and reflectance of the nearest return where there is none; that there is none stays."""
    return torch.cat([_dense(x, returns(x))[:, :2], x[:, 2:]], dim=1)


def _around(values: Tensor, rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """`values` (..., h, w) seen from every offset in a window, around the turn; whether that ring exists, (h, 1); the offset."""
    h = values.shape[-2]
    place = torch.arange(h, device=values.device)[:, None]
    for i in range(-rows, rows + 1):
        inside = (place + i >= 0) & (place + i < h)
        for j in range(-columns, columns + 1):
            yield values.roll((-i, -j), (-2, -1)), inside, i, j


def _votes(x: Tensor, known: Tensor) -> Tensor:
    """1 or -1 for every cell (b, h, w): what the known cells around it say of returns, by a Gaussian of one cell; the nearest where there is none."""
    nearest_flag = _dense(x, known)[:, 2]
    flags = torch.stack([torch.where(x[:, 2] > 0, 1.0, -1.0).double() * known, known.double()], 1)
    total = torch.zeros_like(flags)
    for moved, inside, i, j in _around(flags, 2, 2):
        total += moved * inside * math.exp(-(i * i + j * j) / 2)
    vote = torch.where(total[:, 0] >= 0, 1.0, -1.0).to(nearest_flag)
    return torch.where(total[:, 1] > 0, vote, nearest_flag)


def _dense(x: Tensor, there: Tensor, tall: float = 1.0) -> Tensor:
    """X (b, 3, h, w) with every cell that is not `there` (b, h, w) a copy of the nearest that is, around the turn."""
    from scipy.ndimage import distance_transform_edt

    w = x.shape[-1]
    around = np.arange(-(w // 2), w + w // 2) % w
    out = x.clone()
    for i in range(len(x)):
        holes: NDArray[np.bool_] = ~there[i].cpu().numpy()
        if not holes.any() or holes.all():
            continue
        found = distance_transform_edt(holes[:, around], sampling=(tall, 1.0), return_distances=False, return_indices=True)
        inner = slice(w // 2, w // 2 + w)
        rows, columns = torch.from_numpy(found[0][:, inner].copy()).long(), torch.from_numpy(around[found[1][:, inner]].copy()).long()
        out[i] = x[i][:, rows.to(x.device), columns.to(x.device)]
    return out
