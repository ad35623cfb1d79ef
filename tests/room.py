"""A room to scan: what a LiDAR on a pole sees of a floor, four walls and a box, by the geometry of its own beams."""

import math

import torch
from torch import Tensor

from snowmelt.signals import Scan

FLOOR_M = -1.7


def rays(scan: Scan, *, jitter: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Directions (rings, azimuths, 3), float64, at the centres of the cells, off by up to `jitter` cells."""
    off = torch.zeros(2, scan.rings, scan.azimuths, dtype=torch.float64)
    if jitter:
        off = torch.rand(off.shape, generator=generator, dtype=torch.float64) - 0.5
    column = torch.arange(scan.azimuths, dtype=torch.float64) + 0.5 + 2 * jitter * off[0]
    beams = torch.tensor(scan.beams_deg, dtype=torch.float64)[:, None]
    gap = float(beams[0] - beams[-1]) / max(scan.rings - 1, 1)
    theta, phi = math.pi * (1 - 2 * column / scan.azimuths), torch.deg2rad(beams + jitter * gap * off[1])
    return torch.stack(torch.broadcast_tensors(torch.cos(phi) * torch.cos(theta), torch.cos(phi) * torch.sin(theta), torch.sin(phi)), -1)


def cast(directions: Tensor, *, half_m: tuple[float, float] = (12.0, 7.0)) -> Tensor:
    """The range of the first surface along each direction: (...,), float64; infinite where a ray leaves upwards."""
    x, y, z = directions.unbind(-1)
    walls = torch.minimum(half_m[0] / x.abs().clamp(min=1e-12), half_m[1] / y.abs().clamp(min=1e-12))
    floor = torch.where(z < 0, FLOOR_M / z.clamp(max=-1e-12), torch.inf)
    found = torch.minimum(walls, floor)
    return torch.where(found * z > 2.0, torch.inf, found)  # above the walls is sky


def cloud(scan: Scan, *, jitter: float = 0.0, seed: int = 0, half_m: tuple[float, float] = (12.0, 7.0)) -> Tensor:
    """The points (n, 4) of one turn, float32, column after column as most drivers have them, reflectance by place."""
    directions = rays(scan, jitter=jitter, generator=torch.Generator().manual_seed(seed)).transpose(0, 1).reshape(-1, 3)
    r = cast(directions, half_m=half_m)
    points = directions[r.isfinite()] * r[r.isfinite(), None]
    light = (0.5 + 0.4 * torch.sin(points[:, 0] + 2 * points[:, 1])).clamp(0, 1)
    return torch.cat([points, light[:, None]], 1).float()
