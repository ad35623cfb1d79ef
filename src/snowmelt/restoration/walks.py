"""Restore: the walks of a finished model from pictures that are degraded, as functions of batches."""

from typing import Literal

import torch

from snowmelt import registry
from snowmelt.degradations import Mixture
from snowmelt.model import Model
from snowmelt.randomness import normal
from snowmelt.restoration.consistency import consistency_for, keep, known_pixels
from snowmelt.samplers import Post, Sampler, default_walk, entries
from snowmelt.types import EMPTY, Batch, Draw, Generators, State
from snowmelt.types import severity as severities

Walk = Sampler | str | Literal["default"] | None


def restore(
    model: Model,
    x: Batch,
    *,
    severity: float | torch.Tensor | None = None,
    sampler: Walk = "default",
    z: Draw = EMPTY,
    consistent: bool | None = None,
    generator: Generators = None,
) -> Batch:
    """The clean samples behind x, which is *already degraded*: (b, *d).

    Args:
        model: what :func:`snowmelt.load` returned.
        x: degraded samples (b, *d) in the model's range; any height and width.
        severity: how degraded they are, in [0, 1]: one number, or one a sample; None lets the model tell, if it can.
        sampler: a sampler or its spec ("tacos:steps=20"); None for one call of the restorer, the posterior mean;
            "default" for :func:`snowmelt.samplers.default_walk`, or one call where that would need an unknown draw.
        z: what is known of the draw (a mask's centre, say).
        consistent: whether the result, degraded again, has to be x. None: where the operator and its draw are known, nothing was
            added, and it costs little (see :mod:`snowmelt.restoration.consistency`). True for a mixture whose z holds a
            mask: pixels known there are x.
        generator: for the noise floor and for samplers that draw.

    Raises:
        ValueError: severity outside [0, 1] or not to be told, values that are not finite, a draw that is needed and missing,
            consistency that is asked for and impossible.
    """
    level = severity_of(model, x) if severity is None else severity
    start = begin(model, x, level, z, generator)
    mask = known_pixels(model.degradation, z) if consistent else None
    post = None if mask is not None else consistency_for(model, x, level, z, wanted=consistent, guessed=severity is None)
    restored = walked(model, start, choose(model, start, sampler), generator, post)
    if mask is not None:
        return keep(x, restored, mask)
    return restored if post is None else post.settle(restored)


def walked(model: Model, start: State, sampler: Sampler | None, generator: Generators, post: Post | None = None) -> Batch:
    """The end of the walk, or of one call."""
    if sampler is not None:
        return sampler.sample(model, start, generator, post=post)
    with torch.no_grad():
        return model.estimate(start.x, severities(start.t, start.x), start.z)


def severity_of(model: Model, x: Batch) -> float | torch.Tensor:
    """How degraded x is, as far as the model can tell: one number, or one a sample (b,). Of a mixture, 1 is whatever it was.

    Raises:
        ValueError: it cannot.
    """
    if isinstance(model.degradation, Mixture):
        return 1.0
    if model.estimator is None:
        raise ValueError("how degraded is x? This model has no estimator to tell: give severity, in [0, 1]")
    found = model.estimator.estimate(x).severity
    if len(found) != 1:
        raise ValueError(f"how degraded is x? Of its {len(found)} severities ({', '.join(found)}) a walk needs one: give severity, in [0, 1]")
    return next(iter(found.values()))


def begin(model: Model, x: Batch, severity: float | torch.Tensor, z: Draw = EMPTY, generator: Generators = None) -> State:
    """The state a restoration starts from: x checked, the model's noise floor added once.

    Raises:
        ValueError: severity outside [0, 1], or values of x that are not finite.
    """
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; samples are floating-point numbers in the model's range (snowmelt.data.images.from_uint8 converts)")
    t = within(severity)
    if isinstance(model.degradation, Mixture):
        x = _seen_blindly(model.degradation, x, t, z)
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds values that are not finite (NaN or infinity): repair or leave out those samples")
    if model.noise_floor > 0 and "floor" not in z:
        z = {**z, "floor": normal(x, generator)}
        x = model.finish(x, z)
    return State(x, severity, z)


def within(severity: float | torch.Tensor) -> torch.Tensor:
    """A severity, or several, as float64.

    Raises:
        ValueError: outside [0, 1].
    """
    t = torch.as_tensor(severity, dtype=torch.float64)
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"severity = {severity} lies outside [0, 1]: 0 is a clean picture, 1 the strongest this model has seen")
    return t


def _seen_blindly(mixture: Mixture, x: Batch, t: torch.Tensor, z: Draw) -> Batch:
    """x as a blind model was shown such pictures: grey in the holes, whatever lies there.

    Raises:
        ValueError: a severity other than 1, or an entry of z that the mixture does not have.
    """
    if not bool((t == 1).all()):
        raise ValueError("a model of a mixture is blind: severity 1 is whatever the damage was, and it has seen no other; leave severity out")
    strange = sorted(z.keys() - entries(mixture).keys() - {"floor"})
    if strange:
        given = ", ".join(mixture.given) or "nothing that is given"
        raise ValueError(f"z holds {', '.join(strange)}, which this mixture does not draw: it has {given}")
    mask = known_pixels(mixture, z)
    return x if mask is None else x * mask.to(x)


def choose(model: Model, start: State, sampler: Walk) -> Sampler | None:
    """The sampler meant by `sampler`; None means one call."""
    if sampler is None or isinstance(sampler, Sampler):
        return sampler
    if sampler != "default":
        built: Sampler = registry.build(sampler, "sampler")
        return built
    default = default_walk(model)
    return default if default.reads(model.degradation) <= start.z.keys() else None
