"""The walk that --sampler and --steps mean."""

import dataclasses

import torch

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.restoration import choose
from snowmelt.samplers import Sampler, default_sampler
from snowmelt.types import EMPTY, State


def walk_of(sampler: str | None, steps: int | None, degradation: Degradation) -> Sampler:
    """The sampler of a spec, by default the one that suits the degradation, with `steps` calls if they were given, on its knots if it has them.

    Raises:
        SpecError: an unknown sampler, or a number of steps that it refuses.
    """
    walk: Sampler = default_sampler(degradation) if sampler is None else registry.build(sampler, "sampler")
    return dataclasses.replace(walk, steps=walk.steps if steps is None else steps, snap=walk.snap or degradation.knots is not None)


def default_of(model: Model, *, knows_draw: bool) -> Sampler | None:
    """What restoring uses when nothing is said; None, one call, where the walk would need a draw that nobody knows."""
    like = torch.zeros(1, 3, 1, 1)
    return choose(model, State(like, 1.0, model.draw(like, torch.Generator()) if knows_draw else EMPTY), "default")
