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

from snowmelt.degradations.separable import SeparableTable
from snowmelt.registry import Range, register


@register("pixelate")
@dataclass(frozen=True)
class Pixelate(SeparableTable):
    """Block means of 2, 4, ..., 2^levels pixels a side; linear between the levels."""

    levels: Annotated[int, Range(1, 12), "the blocks have 2^levels pixels a side at t = 1"] = 3

    @property
    def knots(self) -> int:
        """`levels`."""
        return self.levels

    def matrices(self, n: int) -> Tensor:
        """Block means of 1, 2, 4, ... pixels: (levels + 1, n, n)."""
        index = torch.arange(n)
        same = torch.stack([index[:, None] >> level == index[None, :] >> level for level in range(self.levels + 1)])
        return same.to(torch.float64) / same.sum(-1, keepdim=True)
