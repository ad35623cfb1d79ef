"""Restore and generate: the walks of a finished model, as functions of batches."""

from typing import Literal

import torch

from snowmelt import registry
from snowmelt.model import Model
from snowmelt.randomness import normal
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler, default_sampler
from snowmelt.types import EMPTY, Batch, Draw, Generators, State
from snowmelt.types import severity as severities

Choice = Sampler | str | Literal["default"] | None


def restore(
    model: Model,
    x: Batch,
    *,
    severity: float | torch.Tensor,
    sampler: Choice = "default",
    z: Draw = EMPTY,
    generator: Generators = None,
) -> Batch:
    """The clean samples behind x, which is *already degraded*: (b, *d).

    Args:
        model: what :func:`snowmelt.load` returned.
        x: degraded samples (b, *d) in the model's range; any height and width.
        severity: how degraded they are, in [0, 1]: one number, or one a sample.
        sampler: a sampler or its spec ("tacos:steps=20"); None for one call of the restorer, the posterior mean;
            "default" for :func:`snowmelt.samplers.default_sampler`, or one call where that would need an unknown draw.
        z: what is known of the draw (a mask's centre, say).
        generator: for the noise floor and for samplers that draw.

    Raises:
        ValueError: severity outside [0, 1], values that are not finite, a draw that is needed and missing.
    """
    start = begin(model, x, severity, z, generator)
    chosen = choose(model, start, sampler)
    if chosen is None:
        with torch.no_grad():
            return model.estimate(start.x, severities(start.t, start.x), start.z)
    return chosen.sample(model, start, generator)


def begin(model: Model, x: Batch, severity: float | torch.Tensor, z: Draw = EMPTY, generator: Generators = None) -> State:
    """The state a restoration starts from: x checked, the model's noise floor added once.

    Raises:
        ValueError: severity outside [0, 1], or values of x that are not finite.
    """
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; samples are floating-point numbers in the model's range (snowmelt.data.images.from_uint8 converts)")
    t = torch.as_tensor(severity, dtype=torch.float64)
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"severity = {severity} lies outside [0, 1]: 0 is a clean picture, 1 the strongest this model has seen")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds values that are not finite (NaN or infinity): repair or leave out those samples")
    if model.noise_floor > 0 and "floor" not in z:
        z = {**z, "floor": normal(x, generator)}
        x = model.finish(x, z)
    return State(x, severity, z)


def choose(model: Model, start: State, sampler: Choice) -> Sampler | None:
    """The sampler meant by `sampler`; None means one call."""
    if sampler is None or isinstance(sampler, Sampler):
        return sampler
    if sampler != "default":
        built: Sampler = registry.build(sampler, "sampler")
        return built
    default = default_sampler(model.degradation)
    return default if default.reads(model.degradation) <= start.z.keys() else None


def generate(model: Model, n: int, *, sampler: Choice = "default", generator: Generators = None) -> Batch:
    """n new samples (n, *d), walked from the model's prior at t = 1.

    Args:
        model: one that has a prior.
        n: how many.
        sampler: a sampler, its spec, or "default"; None for one call.
        generator: one, or one per sample, for the prior and for samplers that draw.

    Raises:
        ValueError: the model has no prior.
    """
    if model.prior is None:
        raise ValueError(
            f"a model of {registry.spec(model.degradation)} has no prior to generate from: restore with it, "
            "or train one of the degradation noise"
        )
    start = model.prior.sample(n, generator)
    if isinstance(model.restorer, Restorer):
        device = next(model.restorer.parameters()).device
        start = State(start.x.to(device), start.t, {k: v.to(device) for k, v in start.z.items()})
    chosen = choose(model, start, sampler)
    if chosen is None:
        with torch.no_grad():
            return model.estimate(start.x, severities(start.t, start.x), start.z)
    return chosen.sample(model, start, generator)
