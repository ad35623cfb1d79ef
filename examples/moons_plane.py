"""The plane that moons.py walks in: what presses it flat, its points, how they are drawn, how far two clouds lie apart."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import make_moons
from torch import Tensor

import snowmelt

COLOURS = ((0, 114, 178), (213, 94, 0))  # of the moon at which a walk ends


@snowmelt.register("press")
@dataclass(frozen=True)
class Press(snowmelt.Degradation):
    """Press the plane flat onto its horizontal axis: at t = 1 the height is gone."""

    def degrade(self, x: Tensor, t: Tensor, z: snowmelt.Draw) -> Tensor:
        return torch.cat([x[:, :1], (1 - t) * x[:, 1:]], 1)


def moons(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n points (n, 2) about the origin, and the moon that each belongs to."""
    points, moon = make_moons(n, noise=0.06, random_state=seed)
    return torch.from_numpy((points - (0.5, 0.25)) / 0.75), torch.from_numpy(moon)


def ends(path: Tensor) -> Tensor:
    """The moon (n,) that each walk comes closest to in the end."""
    points, moon = moons(1500, seed=0)
    return moon[torch.cdist(path[-1], points).argmin(1)]


def drawn(x: Tensor, moon: Tensor, path: Tensor | None = None, side: int = 168) -> Tensor:
    """Points (n, 2), or some of their paths, as a picture (3, side, side) in [-1, 1]."""
    image = Image.new("RGB", (side * 2, side * 2), "white")
    draw, pixels = ImageDraw.Draw(image), lambda p: [((a + 2.6) / 5.2 * 2 * side, (2.6 - b) / 5.2 * 2 * side) for a, b in p.tolist()]
    for i in range(0 if path is None else 60):
        draw.line(pixels(path[:, i]), fill=COLOURS[moon[i]], width=1)
    for (a, b), which in zip(pixels(x), moon.tolist(), strict=True):
        draw.ellipse((a - 2, b - 2, a + 2, b + 2), fill=COLOURS[which])
    small = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    return torch.tensor(small).permute(2, 0, 1) / 127.5 - 1


def distance(a: Tensor, b: Tensor) -> float:
    """The energy distance of two clouds: 0 for the same law."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())
