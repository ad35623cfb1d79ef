"""Colour maps: a number as a colour, so that equal steps of the number look equally large.

A map is a few control points, equally far apart and joined by straight lines. Lightness rises steadily along both of them, so they are read in grey
and by the colour-blind too.

Source: Smith and van der Walt 2015, the maps *magma* and *viridis* of Matplotlib, which are in the public domain (CC0); here nine points of each.
"""

import torch
from torch import Tensor

# Red, green and blue from 0 to 255, dark first.
MAGMA = (
    (0, 0, 4),
    (28, 16, 68),
    (79, 18, 123),
    (129, 37, 129),
    (181, 54, 122),
    (229, 80, 100),
    (251, 135, 97),
    (254, 194, 135),
    (252, 253, 191),
)
VIRIDIS = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)


def coloured(level: Tensor, points: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Levels (...,) in [0, 1], clipped there, as colours (..., 3) in [-1, 1]; what is NaN stays so."""
    table = torch.tensor(points, device=level.device, dtype=torch.float32) / 127.5 - 1
    place = level.float().clamp(0, 1) * (len(points) - 1)
    below = place.nan_to_num().long().clamp(max=len(points) - 2)
    part = (place - below)[..., None]
    return table[below] * (1 - part) + table[below + 1] * part
