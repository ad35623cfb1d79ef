r"""What neighbours say of the lost cells of a scan: where a network begins that need not learn to interpolate.

A degradation that drops rings, columns or rays tells what is left of every cell, m. Where m is above a twentieth the cell is known,
:math:`x = (x_t + 1) / m - 1`; elsewhere range and reflectance are a mean over the nearest returns above, below, and on either side around the turn,

.. math:: \hat x = \frac{\sum_i e^{g_i} x_i / d_i}{\sum_i e^{g_i} / d_i},

with distances d in cells and g = 0. Between two rings, where whole rows are lost and nothing lies on the sides, that is linear interpolation. A
network may say by g which neighbour it believes: at an edge a lost cell lies on one side or the other, and what a neighbour says keeps the detail
that a network of coarse patches would have to paint. Whether something comes back is a plain mean over the nearest known cells, with a return or
without. Neighbours are found with running maxima over the whole batch, in a time that does not depend on how much is lost.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 4
_KNOWN = 0.05  # of a cell, from here on what it was is known


class Nearby(NamedTuple):
    """Scans with what is known of them.

    Attributes:
        x: (b, 3, h, w), -1 where nothing is known.
        known: (b, 1, h, w), bool.
        values: range and reflectance of the four neighbours, (b, 4, 2, h, w).
        weights: 1 / d of each, 0 where there is none: (b, 4, 1, h, w).
        flags: whether something comes back, (b, 1, h, w), in [-1, 1].
    """

    x: Tensor
    known: Tensor
    values: Tensor
    weights: Tensor
    flags: Tensor

    def filled(self, believed: Tensor | None = None) -> Tensor:
        """The scans (b, 3, h, w) with their lost cells filled; `believed` (b, 4, h, w) is g."""
        weights = self.weights
        if believed is not None:
            weights = weights * (believed - believed.amax(1, keepdim=True)).exp()[:, :, None]
        lost = torch.cat([_mean(self.values, weights), self.flags], dim=1)
        return torch.where(self.known, self.x, lost)


@torch.no_grad()
def nearby(x_t: Tensor, left: Tensor) -> Nearby:
    """What is known of scans x_t (b, 3, h, w), of whose cells `left` (b, 1, h, w) in [0, 1] is left, and their neighbours."""
    known = left > _KNOWN
    x = torch.where(known, (x_t + 1) / torch.where(known, left, 1) - 1, -1)
    values, weights = _neighbours(x[:, :2], known & (x[:, 2:] > 0))
    return Nearby(x, known, values, weights, _mean(*_neighbours(x[:, 2:], known)))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over neighbours (b, 4, ...); -1 where there is none."""
    total = weights.sum(1)
    return torch.where(total > 0, (values * weights).sum(1) / torch.where(total > 0, total, 1), -1)


def _neighbours(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Of every cell the nearest valid cells above, below, left and right around the turn: values (b, 4, c, h, w), and one over their distance."""
    found, weights, w = [], [], values.shape[3]
    around, circle = (torch.cat([part, part, part], dim=3) for part in (values, valid))
    ways: list[tuple[Tensor, Tensor, int, slice]] = [(values, valid, 2, slice(0, w)), (around, circle, 3, slice(w, 2 * w))]
    for held, ok, dim, inside in ways:
        here = torch.arange(ok.shape[dim], device=ok.device).reshape(-1, *(1,) * (3 - dim))
        for reverse in (False, True):
            at = _last(ok, dim, reverse=reverse)
            weights.append(torch.where(at >= 0, 1 / (at - here).abs().clamp(min=1), 0)[..., inside].to(values))
            found.append(held.gather(dim, at.clamp(min=0).expand(-1, held.shape[1], -1, -1))[..., inside])
    return torch.stack(found, 1), torch.stack(weights, 1)


def _last(valid: Tensor, dim: int, *, reverse: bool) -> Tensor:
    """The place along an axis of the last valid cell at or before every cell, or of the next one; -1 where there is none."""
    n = valid.shape[dim]
    places = torch.arange(n, device=valid.device).reshape(-1, *(1,) * (3 - dim))
    if not reverse:
        return torch.where(valid, places, -1).cummax(dim).values
    found = torch.where(valid, n - 1 - places, -1).flip(dim).cummax(dim).values.flip(dim)
    return torch.where(found >= 0, n - 1 - found, -1)
