r"""Pyramids: a picture at several sizes, each shown at the old one, and every sample at a level of its own.

Going up from the smallest, every picture either comes from the level below, enlarged, or stays what it is:

.. math:: y_L = p_L, \qquad y_l = \begin{cases} U y_{l+1} & \text{where the sample's level is above } l \\ p_l & \text{else,} \end{cases}

so that :math:`y_0` shows each sample at its level. That is a loop over levels and none over samples, it looks at no value, and as the pictures shrink
geometrically, all levels together cost little more than the first.

Source: Burt and Adelson 1983, "The Laplacian pyramid as a compact image code", for the pyramid; the selection is ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.schedules import certain, knot
from snowmelt.types import once


def between_levels(pyramid: Sequence[Tensor], t: Tensor, factor: int) -> Tensor:
    """The levels of a pyramid as a table over t (b, 1, 1, 1) in [0, 1], linear between them, at the size of the first: (b, c, h, w)."""
    below, on = knot(once(t), len(pyramid) - 1)
    if certain(on):
        return shown(pyramid, below + on.long(), factor)
    low, high = (shown(pyramid, level, factor) for level in (below, below + 1))
    return torch.lerp(low, high, on.to(low.dtype))


def shown(pyramid: Sequence[Tensor], level: Tensor, factor: int) -> Tensor:
    """Every sample at its level (b, 1, 1, 1) of a pyramid, at the size of the first.

    Args:
        pyramid: (b, c, h, w) and smaller, each a `factor` times as small as the one before it, rounded up.
        level: from 0, the first, to the last; (1, 1, 1, 1) where all samples share one.
        factor: whole.
    """
    out = pyramid[-1]
    for i in range(len(pyramid) - 2, -1, -1):
        h, w = pyramid[i].shape[-2:]
        large = functional.interpolate(out, scale_factor=float(factor), mode="nearest")[..., :h, :w]
        out = torch.where(level > i, large, pyramid[i])
    return out
