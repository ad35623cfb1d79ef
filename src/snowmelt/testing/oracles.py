"""Oracles: restorers that know, ignore or guess the truth, miss it by a known error, or know the law of the data and so its posterior mean.

With one of them in a :class:`~snowmelt.model.Model` a sampler or a degradation is tried in seconds: nothing has to be trained, and nothing that goes
wrong can be blamed on a network.

==============  ==========================================================================================================
perfect         the truth
constant        always the same answer
random          fresh noise
astray          the truth and a known error
wiener          the posterior mean of Gaussian data, for any linear degradation
mixture         the posterior mean of a mixture of Gaussians, for any linear degradation; also given a class
empirical       the posterior mean when the data are these points, for any degradation
==============  ==========================================================================================================

The last three are in :mod:`snowmelt.testing.exact`, laws to go with them in :mod:`snowmelt.testing.gaussians`.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.randomness import generator, normal
from snowmelt.restorers import Informed
from snowmelt.testing.exact import EmpiricalPosterior, MixturePosterior, SpectralWiener
from snowmelt.testing.gaussians import gaussians
from snowmelt.types import Batch


def perfect(x0: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns the truth."""
    return lambda x_t, t: x0


def constant(answer: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns `answer`, right or wrong."""
    return lambda x_t, t: answer.expand_as(x_t)


def random(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that returns fresh noise at every call."""
    source = generator(seed, "random-restorer")
    return lambda x_t, t: normal(x_t, source)


def astray(x0: Batch, size: float, how: Literal["smooth", "random"] = "smooth", seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer whose error is known: the truth and an error of root mean square `size`.

    Args:
        x0: the truth, (b, c, h, w) or (b, c, n).
        size: of the error, on the range of the data.
        how: "smooth" is one bias for all calls, half a wave along every axis of the picture or recording; "random" is fresh noise at every call.
        seed: of the noise.
    """
    source = generator(seed, "astray")
    if how == "random":
        return lambda x_t, t: x0 + size * normal(x0, source)
    bias = x0.new_ones(x0.shape[2:])
    for axis, n in enumerate(x0.shape[2:]):
        wave = torch.cos(math.pi * (torch.arange(n).to(x0) + 0.5) / n)
        bias = bias + wave.reshape(-1, *(1,) * (x0.ndim - 3 - axis))
    error = size * bias / bias.square().mean().sqrt()
    return lambda x_t, t: x0 + error


def wiener(
    degradation: Degradation, mean: Tensor, covariance: Tensor | float | None = None, *, spectrum: Tensor | None = None, noise_floor: float = 0.0
) -> Informed:
    """E[x0 | x_t] for Gaussian data: the best restorer there is for them, and the best linear one for any data of this mean and covariance.

    Args:
        degradation: linear in x0 for a known draw, its noise Gaussian.
        mean: of one sample, (*d), n values.
        covariance: (n, n), or (n,) for its diagonal, or one variance for all.
        spectrum: in its place, the variance of every coefficient in the degradation's basis: for samples of any size.
        noise_floor: the model's.

    Raises:
        TypeError: the degradation is not linear, or diagonal in no basis where a spectrum is given.
        ValueError: not exactly one of covariance and spectrum.
    """
    if (covariance is None) == (spectrum is None):
        raise ValueError("wiener: give either the covariance of the data or its spectrum")
    if spectrum is not None:
        return SpectralWiener(degradation, mean, spectrum, noise_floor)
    spread = covariance[None] if isinstance(covariance, Tensor) and covariance.ndim else covariance
    return mixture(degradation, mean[None], spread, noise_floor=noise_floor)


def mixture(
    degradation: Degradation,
    means: Tensor,
    covariances: Tensor | float | None = None,
    weights: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    noise_floor: float = 0.0,
) -> MixturePosterior:
    """E[x0 | x_t] for data from a mixture of Gaussians, which also knows p(component | x_t), p(label | x_t) and the density of x_t.

    ``mixture(D, *digits_mixture(), noise_floor=0.02)`` restores digits. A "label" in the draw makes it the conditional posterior mean.

    Args:
        degradation: linear in x0 for a known draw, its noise Gaussian.
        means: (k, *d), n values each.
        covariances: (k, n, n), or (k, n) for their diagonals, or one variance for all; None is 1.
        weights: (k,), positive, of any sum; None: all equal.
        labels: (k,) int64, each component's class; None: each its own.
        noise_floor: the model's.

    Raises:
        TypeError: the degradation is not linear, or hides more of its draw than Gaussian noise.
        ValueError: the shapes do not fit, or a weight is not positive.
    """
    return MixturePosterior(degradation, gaussians(means, covariances, weights, labels), noise_floor)


def empirical(degradation: Degradation, points: Batch, *, noise_floor: float = 0.0) -> EmpiricalPosterior:
    """E[x0 | x_t] when the clean sample is one of `points` (n, *d), all alike: for toys in two dimensions and small sets.

    It is what a network would learn that had learned its training set by heart. The degradation may be of any kind, its noise white.

    Raises:
        TypeError: the degradation hides more of its draw than white noise.
        ValueError: there are no points.
    """
    return EmpiricalPosterior(degradation, points, noise_floor)
