r"""Clouds of points: those of a range image, and how far one lies from another.

The *Chamfer distance* of two clouds is the mean of both directions, of distances, not of their squares, in metres:

.. math:: d(P, Q) = \frac12 \left( \frac1{|P|} \sum_{p \in P} \min_{q \in Q} \|p - q\| + \frac1{|Q|} \sum_{q \in Q} \min_{p \in P} \|p - q\| \right),

exact, over all points of both, by a k-d tree.

Source: Barrow et al. 1977, "Parametric correspondence and chamfer matching" (IJCAI); Fan et al. 2017 (arXiv 1612.00603) for sets of points.
"""

import math

import torch
from torch import Tensor

from snowmelt.sensor import to_points
from snowmelt.signals import Scan
from snowmelt.types import Batch


def points_of(scan: Scan, x: Batch) -> list[Tensor]:
    """The clouds of scans x (b, 3, rings, azimuths): b times (n, 4), x, y, z in metres and reflectance; a point for every return, x_2 > 0."""
    return [to_points(one, scan) for one in x]


def chamfer(p: Tensor, q: Tensor, *, nothing: float = math.inf) -> float:
    """The Chamfer distance in metres of the clouds p (n, 3 or more) and q (m, 3 or more), of their first three columns.

    Args:
        p: points.
        q: points.
        nothing: the distance of a point to a cloud without points.

    Returns:
        NaN of two clouds without points.
    """
    if not len(p) or not len(q):
        return math.nan if len(p) == len(q) else nothing
    from scipy.spatial import cKDTree

    a, b = (one[:, :3].double().numpy() for one in (p, q))
    workers = torch.get_num_threads()
    there, back = (cKDTree(to).query(of, workers=workers)[0].mean() for of, to in ((a, b), (b, a)))
    return float(there + back) / 2
