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
from snowmelt.schedules import knot
from snowmelt.types import Draw

SMALL_PX = 96  # small pictures by two matrix products; larger ones, whose table grows with n^2, by a formula if there is one
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
        below, on = knot(t.reshape(-1), self.knots)
        low = rows[below, None] @ x @ columns[below, None].mT
        high = rows[below + 1, None] @ x @ columns[below + 1, None].mT
        return torch.lerp(low, high, on.to(x.dtype).reshape(-1, 1, 1, 1))

    def table(self, n: int, like: Tensor) -> Tensor:
        """The table for an axis of n pixels in the dtype and on the device of `like`; made once, then kept."""
        return _table(self, n, like.dtype, like.device)


@functools.lru_cache(maxsize=16)
def _table(operator: SeparableTable, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    size = (operator.knots + 1) * n * n * 8
    if size > _LARGEST_BYTES:
        raise ValueError(
            f"{label(type(operator))} of {operator.knots} knots on {n} px needs a table of {size / 1e9:.1f} GB: "
            "use smaller pictures, fewer knots, or an operator with a formula (gaussian-blur)"
        )
    return operator.matrices(n).to(device=device, dtype=dtype)
