r"""What neighbours say of the lost cells of a scan: where a network begins that need not learn to interpolate.

A degradation that drops rings, columns or rays tells what is left of every cell, m. Where m is above a twentieth the cell is known,
:math:`x = (x_t + 1) / m - 1`; elsewhere range and reflectance are a mean over the nearest returns above, below, and on either side around the turn,

.. math:: \hat x = \frac{\sum_i x_i / d_i}{\sum_i 1 / d_i},

with distances d in cells. Between two rings, where whole rows are lost and nothing lies on the sides, that is linear interpolation. Whether something
comes back is such a mean too, over the nearest known cells, whether they have a return or not. All of it is done with running maxima over the whole
batch, in a time that does not depend on how much is lost.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_KNOWN = 0.05  # of a cell, from here on what it was is known


class Filled(NamedTuple):
    """Scans (b, 3, h, w) with neighbours' values in their lost cells, and which cells are known, (b, 1, h, w) bool."""

    x: Tensor
    known: Tensor


@torch.no_grad()
def filled(x_t: Tensor, left: Tensor) -> Filled:
    """Scans x_t (b, 3, h, w), of whose cells `left` (b, 1, h, w) in [0, 1] is left, completed from their neighbours."""
    known = left > _KNOWN
    x = torch.where(known, (x_t + 1) / torch.where(known, left, 1) - 1, -1)
    there = known & (x[:, 2:] > 0)
    values = torch.cat([_mean(x[:, :2], there), _mean(x[:, 2:], known)], dim=1)
    return Filled(torch.where(known, x, values), known)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of `values` (b, c, h, w) over the nearest valid cells in four directions, weighted by one over their distance; -1 where there is none."""
    total, weights = torch.zeros_like(values), torch.zeros_like(valid, dtype=values.dtype)
    w = values.shape[3]
    around, circle = (torch.cat([part, part, part], dim=3) for part in (values, valid))
    ways: list[tuple[Tensor, Tensor, int, slice]] = [(values, valid, 2, slice(0, w)), (around, circle, 3, slice(w, 2 * w))]
    for held, ok, dim, inside in ways:
        for reverse in (False, True):
            at = _last(ok, dim, reverse=reverse)
            here = torch.arange(ok.shape[dim], device=ok.device).reshape(-1, *(1,) * (3 - dim))
            weight = torch.where(at >= 0, 1 / (at - here).abs().clamp(min=1), 0)[..., inside].to(values)
            found = held.gather(dim, at.clamp(min=0).expand(-1, held.shape[1], -1, -1))[..., inside]
            total += weight * found
            weights += weight
    return torch.where(weights > 0, total / torch.where(weights > 0, weights, 1), -1)


def _last(valid: Tensor, dim: int, *, reverse: bool) -> Tensor:
    """The place along an axis of the last valid cell at or before every cell, or of the next one; -1 where there is none."""
    n = valid.shape[dim]
    places = torch.arange(n, device=valid.device).reshape(-1, *(1,) * (3 - dim))
    if not reverse:
        return torch.where(valid, places, -1).cummax(dim).values
    found = torch.where(valid, n - 1 - places, -1).flip(dim).cummax(dim).values.flip(dim)
    return torch.where(found >= 0, n - 1 - found, -1)
