"""The prior that new samples start from: known where the degradation ends in noise, else fitted to training samples degraded to t = 1.

The noise floor is left out, for every walk adds it at its start. Samples come in the order of the training's first epoch, which is
keyed by the seed, so that a limit on their number takes a fair share of a sorted data set; draws are keyed by the sample's number. Nothing
here touches the weights.
"""

import dataclasses
from collections.abc import Iterator

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.priors import Normal, Prior
from snowmelt.randomness import generators
from snowmelt.registry import label
from snowmelt.samplers import brought, entries
from snowmelt.training.progress import Bar
from snowmelt.types import State

_IMAGES = 20_000
_BATCH = 256
_LEFT = 0.1  # of the sample at t = 1, in units of the noise
_NEAR = 0.01  # to 1, as the tables of DDPM end


def prior_for(model: Model) -> Model:
    """The model with the prior its degradation ends in, where that is known: pure noise for one that ends in it."""
    scale = noise_at_end(model.degradation)
    return model if scale is None else dataclasses.replace(model, prior=Normal(scale=scale))


def noise_at_end(degradation: Degradation) -> float | None:
    """The standard deviation of x at t = 1, if that is noise, or nearly so, and that noise is all that is drawn; else None."""
    noise = degradation.noise
    if len(noise) != 1 or degradation.recovered != noise or set(entries(degradation)) != set(noise) or degradation.basis is None:
        return None
    one = torch.ones(1, dtype=torch.float64)
    sigma = float(degradation.sigma(one))
    scale = round(sigma, 6)
    if float(degradation.gain((1, 8, 8), one, {}).abs().max()) >= _LEFT * sigma:
        return None
    return 1.0 if abs(scale - 1) < _NEAR else scale


def fit(model: Model, prior: Prior, data: Dataset, *, images: int = _IMAGES, seed: int = 0) -> Prior:
    """The prior, fitted to at most `images` samples of `data` as `model` degrades them to t = 1; the same for the same arguments.

    Args:
        model: its degradation and rounding make the samples; its restorer is not used.
        prior: what to fit.
        data: clean training samples.
        images: at most this many of them.
        seed: of the order, the crops and the draws.

    Raises:
        ValueError: the prior does not describe where this degradation ends.
    """
    require(prior, model.degradation, data.shape)
    return prior.fit(degraded(model, data, images=images, seed=seed))


def degraded(model: Model, data: Dataset, *, images: int = _IMAGES, seed: int = 0, batch: int = _BATCH) -> Iterator[State]:
    """At most `images` samples of `data` at t = 1, without noise floor, with their draws, a batch at a time."""
    degradation = model.degradation
    count = min(len(data), images)
    with Bar("fitting the prior", count) as bar:
        for first in range(0, count, batch):
            numbers = range(first, min(first + batch, count))
            item = data.numbered(seed, numbers)
            x0 = item["x0"]
            z = {**degradation.draw(x0, generators(seed, "prior-draw", numbers)), **degradation.given_by(item)}
            bar.advance(len(numbers))
            yield State(model.finish(degradation(x0, torch.ones(len(x0)), z), {}), 1.0, z)


def require(prior: Prior, degradation: Degradation, shape: tuple[int, ...]) -> None:
    """Refuse a prior that cannot be where the walks of this degradation start.

    Raises:
        ValueError: it cannot, with the reason and the way out.
    """
    name, what = label(type(prior)), registry.spec(degradation)
    if isinstance(prior, Normal) and noise_at_end(degradation) is None:
        raise ValueError(f"the prior {name} does not fit {what}, which does not end in pure noise: take gaussian-mixture or from-data")
    drawn = frozenset(entries(degradation))
    missing = sorted(brought(degradation) - prior.gives(drawn))
    if missing:
        raise ValueError(f"the prior {name} does not fit {what}: it lacks {', '.join(missing)}, a part of the draw that walks read; take from-data")
    prior.require(shape)
