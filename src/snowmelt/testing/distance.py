r"""How far two sets of samples are apart, for laws in some dozens of dimensions: the sliced Wasserstein distance.

Along one direction :math:`\theta` the Wasserstein-2 distance of two sets of equal size is that of their sorted projections; the sliced distance is
the root of its mean square over directions,

.. math:: SW_2(a, b)^2 = \frac1L \sum_{l=1}^L \frac1n \sum_{i=1}^n
          \big(\langle a, \theta_l \rangle_{(i)} - \langle b, \theta_l \rangle_{(i)}\big)^2.

It needs no features and no network, and it sees the whole law where a Fréchet distance sees two moments. Two sets of one law are not at 0, but
at a *floor* that falls with n: measure it and say it beside the number.

Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures"; Rabin et al. 2011, for the sliced distance.
"""

import torch
from torch import Tensor

from snowmelt.randomness import generator, normal
from snowmelt.types import Batch

DIRECTIONS = 512


def sliced_wasserstein(a: Batch, b: Batch, *, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """The sliced Wasserstein-2 distance of two sets of samples (n, *d), in the units of the samples.

    Args:
        a: one set.
        b: the other, of the same size.
        directions: random ones, the same for the same seed and number of values.
        seed: of the directions.

    Raises:
        ValueError: the sets are not of one shape, or empty.
    """
    if a.shape != b.shape or not len(a):
        raise ValueError(f"sets of shapes {tuple(a.shape)} and {tuple(b.shape)}: the sliced distance needs as many samples in both, of one shape")
    x, y = (v.detach().double().cpu().flatten(1) for v in (a, b))
    theta: Tensor = normal(torch.empty(directions, x.shape[1], dtype=torch.float64), generator(seed, "directions"))
    theta = theta / theta.norm(dim=1, keepdim=True)
    gap = (x @ theta.mT).sort(0).values - (y @ theta.mT).sort(0).values
    return float(gap.square().mean().sqrt())
