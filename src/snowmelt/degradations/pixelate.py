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
from snowmelt.degradations.separable import SMALL_PX, SeparableTable
from snowmelt.registry import Range, register
from snowmelt.schedules import knot
from snowmelt.types import EMPTY, Batch, Draw, Severity, expand


@register("pixelate")
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
        """Two small matrix products, or for large pictures the means themselves, sample by sample: O(n^2), not O(n^3)."""
        if max(images(x, "pixelate")) <= SMALL_PX:
            return super().degrade(x, t, z)
        below, on = knot(t.reshape(-1), self.knots)
        rows = zip(x[:, None], below.tolist(), on.to(x.dtype), strict=True)
        mixed = (torch.lerp(block_means(row, 2**level), block_means(row, 2 ** (level + 1)), w) for row, level, w in rows)
        return torch.cat([x[:0], *mixed])  # the first for a batch of none


def block_means(x: Tensor, side: int) -> Tensor:
    """The picture (b, c, h, w) as means of its blocks of `side` px, each block shown at its old size."""
    if side == 1:
        return x
    h, w = x.shape[-2:]
    high, wide = min(side, h), min(side, w)
    small = _along_rows(_along_rows(x, wide).mT, high).mT
    tall = small[..., :, None, :].expand(*small.shape[:-1], high, small.shape[-1]).flatten(-3, -2)[..., :h, :]
    return tall[..., None].expand(*tall.shape, wide).flatten(-2)[..., :w]


def _along_rows(x: Tensor, side: int) -> Tensor:
    """Means of `side` neighbours in a row, of fewer at its end: (..., n) to (..., ceil(n / side))."""
    n = x.shape[-1]
    blocks = -(-n // side)
    sums: Tensor = functional.pad(x, (0, -n % side)).reshape(*x.shape[:-1], blocks, side).sum(-1)
    return sums / (n - side * torch.arange(blocks, device=x.device)).clamp(max=side)
