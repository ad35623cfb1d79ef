r"""Pixelation: down the area pyramid, level by level.

At level l the picture is replaced by the means of blocks of :math:`2^l` pixels a side, shown at the old size. A mean
of means over full blocks is the mean of the larger block, so the levels are nested projections,
:math:`P_{l+1} P_l = P_{l+1}` and :math:`P_l^2 = P_l`: Algorithm 2 then returns a picture that reproduces the
given block means exactly, whatever the restorer says. Blocks are counted from the top left, and a size that
they do not divide has smaller ones at its end.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.3. (Its code begins with a bicubic step: another operator.)
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.base import Inverse, images
from snowmelt.degradations.inverse import LEAST_GAIN
from snowmelt.degradations.pyramid import between_levels
from snowmelt.degradations.separable import SeparableTable
from snowmelt.degradations.ways import by_matrix
from snowmelt.registry import Range, register
from snowmelt.schedules import knot
from snowmelt.types import EMPTY, Batch, Draw, Severity, expand


@register("pixelate", papers=("bansal2022",))
@dataclass(frozen=True)
class Pixelate(SeparableTable):
    """Block means of 2, 4, ..., 2^levels pixels a side; linear between the levels."""

    levels: Annotated[int, Range(1, 12), "the blocks have 2^levels pixels a side at t = 1"] = 3

    @property
    def knots(self) -> int:
        """`levels`."""
        return self.levels

    @property
    def inverse(self) -> Inverse:
        """Means are projections, nested in each other."""
        return "exact"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """(1 - w) P + w Q of nested projections P and Q is undone by P / (1 - w) - w / (1 - w) Q; at a knot, w = 0, by itself."""
        below, on = knot(t, self.knots)
        fine, coarse = (self(y, level.to(y.dtype) / self.knots, z) for level in (below, below + 1))
        w = expand(on.to(y.dtype), y)
        gone = 1 - w <= LEAST_GAIN
        return torch.where(gone, coarse, fine - w / torch.where(gone, 1, 1 - w) * (coarse - fine))

    def matrices(self, n: int) -> Tensor:
        """Block means of 1, 2, 4, ... pixels: (levels + 1, n, n)."""
        index = torch.arange(n)
        same = torch.stack([index[:, None] >> level == index[None, :] >> level for level in range(self.levels + 1)])
        return same.to(torch.float64) / same.sum(-1, keepdim=True)

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Two small matrix products, or for large pictures the means themselves, level by level: O(n^2), not O(n^3)."""
        if by_matrix("blocks", max(images(x, "pixelate")), x):
            return super().degrade(x, t, z)
        return between_levels(self._pyramid(x), t, 2)

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """The means of blocks of 1, 2, 4, ... px, one value a block; smaller blocks at the end are means of what they have."""
        h, w = x.shape[-2:]
        sums, out = x.float() if x.dtype.itemsize < 4 else x, [x]  # of 256 x 256 pixels, the sum would be infinite in float16
        for level in range(1, self.levels + 1):
            sums = _doubled(sums)
            rows, columns = (_sizes(n, 2**level, sums) for n in (h, w))
            out.append((sums / (rows[:, None] * columns)).to(x.dtype))
        return out


def _doubled(sums: Tensor) -> Tensor:
    """Sums of 2 x 2 neighbours, of fewer at the ends: (..., h, w) to (..., ceil(h / 2), ceil(w / 2))."""
    h, w = sums.shape[-2:]
    whole = functional.pad(sums, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else sums
    tall = whole[..., ::2, :] + whole[..., 1::2, :]
    return tall[..., ::2] + tall[..., 1::2]


def _sizes(n: int, side: int, like: Tensor) -> Tensor:
    """How many of n pixels each block of `side` px has: (ceil(n / side),)."""
    first = torch.arange(0, n, side, dtype=like.dtype, device=like.device)
    return (n - first).clamp(max=side)
