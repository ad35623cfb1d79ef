r"""Likelihoods of Gaussian steps: what the variational bound of a chain is made of, in nats, value by value.

A step of a chain draws :math:`x_s` from a Gaussian that knows x0; the model draws it from one that knows only an estimate. What that
costs is the divergence of the two, in every coefficient in which the chain is diagonal

.. math:: \mathrm{KL} = \tfrac12\left(\log\frac{v_p}{v_q} + \frac{v_q + (\mu_q - \mu_p)^2}{v_p} - 1\right).

The last step ends in pixels of 8 bits, which are no real numbers but levels. Its *decoder* gives every level the mass of a Gaussian in
the level's own bin, the outermost bins reaching to infinity, so that the 256 of them add up to 1:

.. math:: -\log p(x_0 | x_1) = -\log \int_{x_0 - 1/255}^{x_0 + 1/255} \mathcal N(x; \mu, v)\, dx .

Far from the mean both ends of that integral round to 0 or to 1. So it is taken on the side on which the tail is the thin one, as a difference of
logarithms.

Source: Sohl-Dickstein et al. 2015 (arXiv 1503.03585), eq. 14; Ho et al. 2020 (arXiv 2006.11239), eq. 5 and 13; Nichol and Dhariwal 2021
(arXiv 2102.09672), eq. 15, for the variance between two bounds.
"""

import math

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, Degradation
from snowmelt.degradations.several import Several

LEVELS = 256
STEPS = 1000  # of a chain that has no table
_POINT = 1e-24  # squared: two points that are closer are one, but for rounding


def steps(degradation: Degradation) -> int:
    """T of a degradation seen as a chain: the most knots of any table in it, or 1,000."""
    parts = degradation.parts if isinstance(degradation, Several) else (degradation,)
    return max((part.knots for part in parts if part.knots), default=STEPS)


def divergence(gap: Tensor, of: Tensor, to: Tensor) -> Tensor:
    """KL(N(a, of) || N(b, to)) in nats, element by element.

    Args:
        gap: |a - b|^2.
        of: the variance of the first.
        to: the variance of the second. Where it is 0 both must be one point: then 0, else infinite.

    Example:
        >>> float(divergence(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0)))
        0.5
    """
    certain = to <= 0
    safe = torch.where(certain, 1, to)
    ratio = torch.where(certain, 1, of / safe)
    value = (ratio - 1 - ratio.log() + gap / safe) / 2
    return torch.where(certain, torch.where((gap > _POINT) | (of > _POINT), math.inf, 0.0), value)


def between(small: Tensor, large: Tensor, spread: Tensor) -> Tensor:
    """The variance that lies at `spread` from `small` (0) to `large` (1), along the logarithm."""
    tiny = torch.finfo(large.dtype).tiny
    low, high = small.clamp(min=tiny).log(), large.clamp(min=tiny).log()
    return torch.where(large > 0, torch.lerp(low, high, spread.to(low)).exp(), 0.0)


def log_level(x: Tensor, mean: Tensor, variance: Tensor, levels: int = LEVELS) -> Tensor:
    """The logarithm of the mass that N(mean, variance) puts on the level of x, one of `levels` evenly spaced ones on [-1, 1]; element by element.

    Args:
        x: values on those levels; others count as their nearest one.
        mean: of the Gaussian.
        variance: of the Gaussian, above 0.
        levels: how many there are, the first at -1, the last at 1.

    Example:
        >>> every = torch.linspace(-1, 1, 256, dtype=torch.float64)
        >>> round(float(log_level(every, torch.tensor(0.3).double(), torch.tensor(0.2).double()).exp().sum()), 12)
        1.0
    """
    half = 1 / (levels - 1)
    number = ((x.clamp(-1, 1) + 1) / (2 * half)).round()
    centre, deviation = number * 2 * half - 1, variance.sqrt()
    low, high = (centre - half - mean) / deviation, (centre + half - mean) / deviation
    low = torch.where(number == 0, -math.inf, low)
    high = torch.where(number == levels - 1, math.inf, high)
    # Mirrored, so that both ends lie where the distribution function is small and its logarithm exact.
    right = low + high > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    upper = torch.special.log_ndtr(high)
    apart = torch.special.log_ndtr(low) - upper
    mass: Tensor = upper + torch.log(-torch.expm1(apart))
    return mass


def log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The logarithm of the density of N(mean, variance) at x, element by element: the decoder of data that are no levels."""
    return -((x - mean).square() / variance + variance.log() + math.log(2 * math.pi)) / 2


def summed(values: Tensor, basis: Basis | None, shape: tuple[int, ...]) -> Tensor:
    """One number a sample, (b,): the sum over the coefficients of samples of `shape`, those that a real FFT leaves out included."""
    if basis == "fft":
        width = shape[-1]
        twice = torch.full((width // 2 + 1,), 2.0, dtype=values.dtype, device=values.device)
        twice[0] = 1
        if width % 2 == 0:
            twice[-1] = 1
        values = values * twice
        shape = (*shape[:-1], width // 2 + 1)
    return values.expand(len(values), *shape).flatten(1).sum(1)
