"""Fit the prior that new samples start from: to training samples degraded to t = 1, as the restorer sees them.

The noise floor is left out, for every walk adds it at its start. Samples come in the order of the training's first epoch, which is
keyed by the seed, so that a limit on their number takes a fair share of a sorted data set; draws are keyed by the sample's number. Nothing
here touches the weights.
"""

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
from snowmelt.training.loop import ends_in_noise
from snowmelt.training.progress import Bar
from snowmelt.types import State

_IMAGES = 20_000
_BATCH = 256


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
    if isinstance(prior, Normal) and not ends_in_noise(degradation):
        raise ValueError(f"the prior {name} does not fit {what}, which does not end in pure noise: take gaussian-mixture or from-data")
    drawn = frozenset(entries(degradation))
    missing = sorted(brought(degradation) - prior.gives(drawn))
    if missing:
        raise ValueError(f"the prior {name} does not fit {what}: it lacks {', '.join(missing)}, a part of the draw that walks read; take from-data")
    prior.require(shape)
