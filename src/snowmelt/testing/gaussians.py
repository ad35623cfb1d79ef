r"""Laws of clean samples that are known exactly: mixtures of Gaussians, :math:`p(x_0) = \sum_k w_k\, N(m_k, C_k)`.

With such data the posterior mean of every linear degradation with Gaussian noise is known in closed form
(:mod:`snowmelt.testing.exact`), and fresh samples to compare with are free. So a sampler can be judged without a network in between,
whose errors would blur the answer: what is wrong then is the sampler.

Source: Bishop 2006, "Pattern recognition and machine learning", sections 2.3 and 9.2.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import one_hot

from snowmelt.data import bundled
from snowmelt.priors import GaussianMixture
from snowmelt.randomness import normal, uniform
from snowmelt.types import Batch, Generators


class Gaussians(NamedTuple):
    """A mixture of Gaussians over samples of shape (*d), of n values.

    Attributes:
        means: (k, *d), float64.
        covariances: (k, n, n), float64.
        weights: (k,), float64, of sum 1.
        labels: (k,), int64: the class that each component belongs to.
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """*d, the shape of one sample."""
        return tuple(self.means.shape[1:])

    def sample(self, n: int, generator: Generators = None, *, label: int | None = None) -> tuple[Batch, Tensor]:
        """Fresh clean samples (n, *d), float64, and their labels (n,); of one class only, where `label` names it.

        Raises:
            ValueError: no component has that label.
        """
        weights = self.weights if label is None else self.weights * (self.labels == label)
        if not bool(weights.sum() > 0):
            raise ValueError(f"label = {label} is that of no component: give one of {sorted(set(self.labels.tolist()))}")
        like = torch.empty(n, dtype=torch.float64)
        u, noise = uniform(like, generator, (1,))[:, 0], normal(like, generator, (self.covariances.shape[-1],))
        which = torch.searchsorted((weights / weights.sum()).cumsum(0), u, right=True).clamp(max=len(weights) - 1)
        values, vectors = torch.linalg.eigh(self.covariances)  # not Cholesky: a Gaussian may be flat
        # The symmetric root: another would depend on the signs of eigenvectors, which are the processor's.
        roots = (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT
        x = self.means.flatten(1)[which] + (roots[which] @ noise[:, :, None])[:, :, 0]
        return x.reshape(n, *self.shape), self.labels[which]


def gaussians(
    means: Tensor, covariances: Tensor | float | None = None, weights: Tensor | None = None, labels: Tensor | None = None
) -> Gaussians:
    """A mixture from what one has of it.

    Args:
        means: (k, *d), n values each.
        covariances: (k, n, n), or (k, n) for their diagonals, or one variance for all; None is 1.
        weights: (k,), positive, of any sum; None: all equal.
        labels: (k,) int64, each component's class; None: each its own.

    Raises:
        ValueError: the shapes do not fit, or a weight is not positive.
    """
    means = means.detach().double().cpu()
    k, n = len(means), means[0].numel()
    spread = torch.as_tensor(1.0 if covariances is None else covariances).detach().double().cpu()
    if spread.ndim == 0:
        spread = spread.expand(k, n)
    if spread.shape == (k, n):
        spread = torch.diag_embed(spread)
    weights = torch.ones(k) if weights is None else weights
    labels = torch.arange(k) if labels is None else labels
    for name, value, wanted in (("covariances", spread, (k, n, n)), ("weights", weights, (k,)), ("labels", labels, (k,))):
        if tuple(value.shape) != wanted:
            raise ValueError(f"mixture.{name} has shape {tuple(value.shape)}; for means {tuple(means.shape)} it has to be {wanted}")
    if not bool((weights > 0).all()):
        raise ValueError(f"mixture.weights: {float(weights.min()):g} is not positive: leave that component out")
    if bool((labels < 0).any()):
        raise ValueError(f"mixture.labels: {int(labels.min())} lies under 0, and -1 means unknown: number classes from 0")
    weights = weights.detach().double().cpu()
    return Gaussians(means, spread, weights / weights.sum(), labels.cpu().long())


@functools.lru_cache(maxsize=4)
def digits_mixture(components: int = 25, regularisation: float = 1e-3) -> Gaussians:
    """The mixture with full covariances that fits the bundled digits best: 8 x 8 px on [-1, 1], shape (1, 8, 8). Takes a few seconds, once.

    It is fitted to all 1,797 digits without their labels; afterwards each component is labelled as the digit that most of its members show.

    Args:
        components: Gaussians. Of 25, most show one digit only.
        regularisation: variance added to every pixel of every component: pixels in the corners are black in all digits.
    """
    x = torch.from_numpy(bundled.digits()).double().permute(0, 3, 1, 2) / 127.5 - 1
    prior = GaussianMixture(components=components, grid=x.shape[-1], regularisation=regularisation).fit([x])
    found = prior.tensors()
    roots, weights = found["roots"], found["weights"]
    law = MultivariateNormal(found["means"], scale_tril=roots)
    component = law.log_prob(x.flatten(1)[:, None]) + weights.log()  # type: ignore[no-untyped-call]
    shows = one_hot(torch.from_numpy(bundled.digit_labels().numbers)).double()
    labels = (component.softmax(1).mT @ shows).argmax(1)
    return Gaussians(found["means"].reshape(components, *x.shape[1:]), roots @ roots.mT, weights, labels)
