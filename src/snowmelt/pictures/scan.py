"""Scans as they are looked at: strips of range, and bird's-eye views of their points.

A *strip* is the range image itself, one turn unrolled, its middle ahead: near is bright, far is dark, and black is where nothing came back. Its
rows are enlarged, since beams lie further apart than columns do. A *bird's-eye view* looks down on the points, the sensor in the middle and ahead
upwards; colour is their height, and where several points fall on one pixel the highest is seen. Faint rings lie 10 m apart.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.pictures.colours import MAGMA, VIRIDIS, coloured
from snowmelt.sensor import returns, to_points
from snowmelt.signals import Scan
from snowmelt.types import Batch

WIDTH_PX, HEIGHT_PX = 1024, 128  # of a strip, about
SIDE_PX, REACH_M = 256, 40.0  # of a bird's-eye view, and how far it looks to each side
LOWEST_M, HIGHEST_M = -2.5, 2.0  # heights over the sensor from the dark end of the colours to the bright one
NEAREST_M = 2.0  # the bright end of a strip: hardly anything is nearer
RING_M = 10.0
_GAP_PX = 2
_BLACK, _GROUND, _RING, _SENSOR = -1.0, -0.93, -0.78, 1.0


def strips(x: Batch, scan: Scan) -> Batch:
    """Scans x (b, 3, h, w) as pictures of about 128 x 1024 px, (b, 3, ·, ·) in [-1, 1]; larger ones are shown as large as they are.

    Raises:
        ValueError: `x` is not (b, 3, h, w), or has no pixels.
    """
    require(x)
    x = x.detach().float().cpu()
    return _strips(x, (1 - (x[:, 0] + 1) / 2) / (1 - _log_share(NEAREST_M, scan)), VIRIDIS)


def portraits(x: Batch, scan: Scan) -> Batch:
    """All there is to see of scans x (b, 3, h, w): strips of range over strips of reflectance, a bird's-eye view beside them.

    Raises:
        ValueError: `x` is not (b, 3, h, w), or has no pixels.
    """
    above = strips(x, scan)
    x = x.detach().float().cpu()
    below = _strips(x, ((x[:, 1] + 1) / 2).clamp(min=0).sqrt(), MAGMA)  # most things reflect little
    side = 2 * above.shape[2] + _GAP_PX
    left = torch.cat([above, above.new_ones(*above.shape[:2], _GAP_PX, above.shape[3]), below], 2)
    return torch.cat([left, left.new_ones(*left.shape[:3], _GAP_PX), birds_eye(x, scan, size_px=side)], 3)


def birds_eye(x: Batch, scan: Scan, *, size_px: int = SIDE_PX, reach_m: float | None = None) -> Batch:
    """The points of scans x (b, 3, h, w) from above: (b, 3, size_px, size_px) in [-1, 1].

    Args:
        x: the scans.
        scan: their sensor.
        size_px: the side of a view.
        reach_m: how far it looks ahead, behind and to each side; by default 40 m, or as far as the sensor sees.

    Raises:
        ValueError: `x` is not (b, 3, h, w), or has no pixels.
    """
    require(x)
    reach = reach_m or min(REACH_M, scan.farthest_m)
    ground = _ground(size_px, reach)
    return torch.stack([_view(to_points(one.detach().float().cpu(), scan), ground, reach) for one in x])


def explained_portraits(scan: Scan) -> str:
    """What a portrait shows, as a sentence for a caption."""
    return f"{explained(scan)} Beneath each its reflectance; beside them the view from above. {explained_views(scan)}"


def explained(scan: Scan) -> str:
    """What a strip shows, as a sentence for a caption."""
    shown = f"range on a logarithmic scale, from {NEAREST_M:g} m (bright) to {scan.farthest_m:g} m (dark)"
    return f"Strips: one turn of the sensor, straight ahead in the middle; {shown}; black where nothing came back."


def explained_views(scan: Scan) -> str:
    """What a bird's-eye view shows, as a sentence for a caption."""
    reach = min(REACH_M, scan.farthest_m)
    heights = f"colour from {-LOWEST_M:g} m below the sensor (dark) to {HIGHEST_M:g} m above it (bright)"
    return f"From above, ahead upwards, {reach:g} m to each side, a ring every {RING_M:g} m; {heights}."


def require(x: Tensor) -> None:
    """Refuse what is no batch of scans.

    Raises:
        ValueError: it is none.
    """
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ValueError(f"shape {tuple(x.shape)} is no batch of scans (b, 3, rings, azimuths)")


def _strips(x: Batch, level: Tensor, colours: tuple[tuple[int, int, int], ...]) -> Batch:
    """Levels (b, h, w) in [0, 1] as enlarged strips, black where x (b, 3, h, w) has no return."""
    shown = torch.where(returns(x)[..., None], coloured(level, colours), _BLACK)
    shown = (shown + torch.where(x.isnan().any(1), torch.nan, 0.0)[..., None]).permute(0, 3, 1, 2)
    h, w = shown.shape[2:]
    return functional.interpolate(shown, scale_factor=(_times(HEIGHT_PX, h), _times(WIDTH_PX, w)), mode="nearest")


def _view(points: Tensor, ground: Tensor, reach: float) -> Tensor:
    """One view (3, s, s) of points (n, 4): x ahead, y to the left, z upwards, in metres, and reflectance."""
    s = ground.shape[-1]
    ahead, left, up = (points[:, i] for i in range(3))
    row, column = ((1 - ahead / reach) * s / 2).floor(), ((1 - left / reach) * s / 2).floor()
    seen = (row >= 0) & (row < s) & (column >= 0) & (column < s)  # false for NaN, too
    place = (row[seen] * s + column[seen]).long()
    top = torch.full((s * s,), -math.inf).scatter_reduce(0, place, up[seen], "amax").reshape(s, s)
    colours = coloured((top - LOWEST_M) / (HIGHEST_M - LOWEST_M), VIRIDIS).permute(2, 0, 1)
    return torch.where(top.isfinite(), colours, ground)


def _ground(s: int, reach: float) -> Tensor:
    """The dark ground (s, s) with its rings and the sensor."""
    at = (torch.arange(s) + 0.5 - s / 2) * (2 * reach / s)
    away = (at[:, None].square() + at[None, :].square()).sqrt()
    off = (away / RING_M - (away / RING_M).round()).abs() * RING_M
    ground = torch.where((off < reach / s) & (away > RING_M / 2), _RING, _GROUND)
    return torch.where(away < 3 * reach / s, _SENSOR, ground)


def _log_share(r: float, scan: Scan) -> float:
    """Where a range in m lies in [0, 1], as samples hold it."""
    return math.log2(1 + r) / math.log2(1 + scan.farthest_m)


def _times(aim: int, have: int) -> int:
    return max(1, round(aim / have))
