"""The walk that --sampler and --steps mean."""

import dataclasses

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.samplers import Sampler, default_sampler


def walk_of(sampler: str | None, steps: int | None, degradation: Degradation) -> Sampler:
    """The sampler of a spec, by default the one that suits the degradation, with `steps` calls if they were given, on its knots if it has them.

    Raises:
        SpecError: an unknown sampler, or a number of steps that it refuses.
    """
    walk: Sampler = default_sampler(degradation) if sampler is None else registry.build(sampler, "sampler")
    return dataclasses.replace(walk, steps=walk.steps if steps is None else steps, snap=walk.snap or degradation.knots is not None)
