r"""Linear operators that act on rows and columns alike: :math:`x_t = A_t\, x\, A_t^\top`, from tables of matrices.

A recursive operator, "convolve once more at every step", costs O(T) per sample and O(T^2) per trajectory. Its
powers are known beforehand, so here it is a *table* of cumulative n x n matrices at the knots t = i/T: two small
matrix products per sample whatever t is, a different t for every sample of a batch, any boundary rule. Between
knots the outputs are interpolated linearly.

Source: the recursions of Bansal et al. 2022 (arXiv 2208.09392), appendix; the closed form is ours.
"""

import abc
import functools

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation, images
from snowmelt.registry import label
from snowmelt.schedules import certain, knot
from snowmelt.types import Draw, once

_LARGEST_BYTES = 2_000_000_000


class SeparableTable(LinearDegradation):
    """A linear operator given by one table of matrices per axis length. Hashable, as every degradation."""

    @property
    @abc.abstractmethod
    def knots(self) -> int:
        """T: the table holds T + 1 matrices, the first of them the identity."""

    @abc.abstractmethod
    def matrices(self, n: int) -> Tensor:
        """A_0 = I, A_1, ..., A_T for an axis of n pixels: (T + 1, n, n), float64."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """A x A^T at the knot below t and at the one above, mixed linearly."""
        h, w = images(x, label(type(self)))
        rows, columns = self.table(h, x), self.table(w, x)
        below, on = knot(once(t).reshape(-1), self.knots)
        if certain(on):
            at = below + on.long()
            return separably(rows[at], columns[at], x)
        low, high = (separably(rows[at], columns[at], x) for at in (below, below + 1))
        return torch.lerp(low, high, on.to(x.dtype).reshape(-1, 1, 1, 1))

    def table(self, n: int, like: Tensor) -> Tensor:
        """The table for an axis of n pixels in the dtype and on the device of `like`; made once, then kept."""
        return _table(self, n, like.dtype, like.device)


def separably(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """R x C^T for every channel: rows (b, h, h) and columns (b, w, w), or one of each for all, and x (b, c, h, w).

    One matrix for all is two products with all samples at once. With a matrix a sample, channels stand beside each other, so
    that no matrix is copied for each of them. The two agree to rounding, and so do a sample alone and in a batch.
    """
    b, c, h, w = x.shape
    if len(rows) == 1:
        return rows[0] @ (x @ columns[0].mT)
    across = (rows @ x.transpose(1, 2).reshape(b, h, c * w)).reshape(b, h * c, w)
    return (across @ columns.mT).reshape(b, h, c, w).transpose(1, 2).contiguous()


@functools.lru_cache(maxsize=16)
def _table(operator: SeparableTable, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    size = (operator.knots + 1) * n * n * 8
    if size > _LARGEST_BYTES:
        raise ValueError(
            f"{label(type(operator))} of {operator.knots} knots on {n} px needs a table of {size / 1e9:.1f} GB: "
            "use smaller pictures, fewer knots, or an operator with a formula (gaussian-blur)"
        )
    return operator.matrices(n).to(device=device, dtype=dtype)
