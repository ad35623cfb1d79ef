r"""Editing: your own picture, degraded to a severity of your choice by the model's own D, and walked back.

The walk from :math:`x_t = D(x, t, z)` to t = 0 keeps what t left of the picture and makes the rest anew, as the training pictures have it: the lower
the severity, the nearer to what went in. With noise, which leaves the coarse and hides the fine, a rough sketch becomes a picture.

With a mask m, 1 where the picture is to stay and 0 where it is to be made anew, every estimate of the walk keeps what is known,

.. math:: \hat x_0 \leftarrow m \odot x + (1 - m) \odot \hat x_0,

and so does the end. In an ancestral walk the known part of every x_s then follows its exact posterior, that of the truth. What is made anew sees what
is known only through the network, so that early moves may not fit: ``again`` = R lets every move be undone by a step of the
chain forwards and made again, R - 1 times. At severity 1, the default, a hole starts as noise alone; below it, as what you put there.

Source: Meng et al. 2021, SDEdit (arXiv 2108.01073); Lugmayr et al. 2022, RePaint (arXiv 2201.09865), algorithm 1.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation, Mixture
from snowmelt.degradations.chain import require
from snowmelt.model import Model
from snowmelt.restoration.consistency import keep
from snowmelt.restoration.told import device_of, moved, require_known
from snowmelt.restoration.walks import Walk, choose, within
from snowmelt.restorers.guidance import CONDITIONS
from snowmelt.samplers import Ancestral, Sampler
from snowmelt.types import EMPTY, Batch, Draw, Generators, State
from snowmelt.types import severity as severities

CALLS = 50


def edit(
    model: Model,
    x: Batch,
    severity: float | None = None,
    *,
    mask: Tensor | None = None,
    sampler: Walk = "default",
    again: int = 1,
    z: Draw = EMPTY,
    generator: Generators = None,
) -> Batch:
    """The pictures x, degraded to a severity and walked back: (b, c, h, w).

    Args:
        model: one of noise, or of another degradation that leaves less and less of a picture; with a mask, one of noise.
        x: your pictures (b, c, h, w), in the model's range.
        severity: in (0, 1]: how much is made anew; with a mask 1 unless told.
        mask: (b, 1, h, w), or (1, 1, h, w) for all: 1 where a picture is kept, to the last bit, and 0 where it is made anew.
        sampler: a sampler or its spec; "default" is that of the degradation, with a mask or `again` that of DDPM at 50 moves.
        again: how often every move of the walk but the last is made, the same moves as without; above 1 for ancestral samplers alone.
        z: what of the draw is to be another than drawn, and conditions, one row a picture: {"label": ...}.
        generator: one, or one per sample, for the draw and for samplers that draw.

    Raises:
        ValueError: severity outside (0, 1], values or a mask that cannot be used, a degradation without a walk to edit by.
        TypeError: a mask, or `again`, with a model that has no noise.
    """
    return deque(editing(model, x, severity, mask=mask, sampler=sampler, again=again, z=z, generator=generator), maxlen=1)[0].x


def editing(
    model: Model,
    x: Batch,
    severity: float | None = None,
    *,
    mask: Tensor | None = None,
    sampler: Walk = "default",
    again: int = 1,
    z: Draw = EMPTY,
    generator: Generators = None,
) -> Iterator[State]:
    """The walk of :func:`edit`, from the degraded pictures to t = 0; arguments and errors are its."""
    check(model.degradation, masked=mask is not None)
    level = _level(severity, mask)
    _check_picture(x, mask)
    device = device_of(model, x)
    x, z, mask = x.to(device), moved(z, device), None if mask is None else mask.to(device)
    start = _start(model, x, level, mask, z, generator)
    walk = walk_for(model, start, sampler, again=again, masked=mask is not None)
    if mask is None:
        yield from walk.trajectory(model, start, generator)
        return
    known = mask

    def post(estimate: Tensor) -> Tensor:
        return keep(x.to(estimate), estimate, known)

    yield from walk.trajectory(model, start, generator, post=post)


def check(degradation: Degradation, *, masked: bool = False) -> None:
    """Refuse a degradation by which nothing can be edited.

    Raises:
        ValueError: it has no walk from a picture of one's own.
        TypeError: with a mask, it has no noise in which a hole could start.
    """
    name = registry.spec(degradation)
    if degradation.needs:
        raise ValueError(f"a model of {name} turns pictures into others: translate them instead of editing")
    if isinstance(degradation, Mixture):
        raise ValueError(f"a model of {name} restores in one call, whatever the damage: it has no walk to edit by; take a model of noise")
    if set(degradation.hidden) - set(degradation.recovered):
        hidden = ", ".join(sorted(set(degradation.hidden) - set(degradation.recovered)))
        raise ValueError(f"a model of {name} has no walk to edit by, since {hidden} of its draw cannot be told from x_t: take a model of noise")
    if masked:
        require(degradation)


def walk_for(model: Model, start: State, sampler: Walk, *, again: int = 1, masked: bool = False) -> Sampler:
    """The sampler of an edit; arguments as in :func:`edit`.

    Raises:
        ValueError: none at all, or one whose moves cannot be made again.
        TypeError: moves are to be made again without noise.
    """
    if again > 1:
        require(model.degradation)
    if sampler == "default" and (masked or again > 1):
        walk: Sampler | None = Ancestral(steps=CALLS, snap=model.degradation.knots is not None)
    else:
        walk = choose(model, start, sampler)
    if walk is None:
        raise ValueError(f"an edit is a walk, and {registry.spec(model.degradation)} has none without its draw: give a sampler")
    if again == 1:
        return walk
    if not isinstance(walk, Ancestral):
        raise ValueError(f"again = {again} makes the moves of ancestral samplers again, not those of {registry.spec(walk)}: take ancestral")
    moves = len(walk.levels()) - 1
    return dataclasses.replace(walk, again=again, steps=again * (moves - 1) + 1)


def _level(severity: float | None, mask: Tensor | None) -> float:
    """The severity at which the walk begins."""
    if severity is None and mask is None:
        raise ValueError("how much is to be made anew? Give severity in (0, 1]: .3 touches up, .8 keeps the coarse")
    level = float(within(1.0 if severity is None else severity))
    if level == 0:
        raise ValueError("severity = 0 makes nothing anew: give one in (0, 1]")
    return level


def _check_picture(x: Batch, mask: Tensor | None) -> None:
    """Refuse what is no picture, and a mask that says neither known nor not."""
    if mask is not None:
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[-2:] != x.shape[-2:] or len(mask) not in (1, len(x)):
            raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit pictures of shape {tuple(x.shape)}: give (b, 1, h, w)")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("the mask holds other values than 0 (make anew) and 1 (keep)")
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; samples are floating-point numbers in the model's range (snowmelt.data.images.from_uint8 converts)")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds values that are not finite (NaN or infinity): repair or leave out those samples")


def _start(model: Model, x: Batch, level: float, mask: Tensor | None, z: Draw, generator: Generators) -> State:
    """Where the walk begins, with what a walk may know of the draw; at severity 1 nothing of what lies in a hole."""
    require_known(model, x, {name: value for name, value in z.items() if name in CONDITIONS})
    drawn = {**model.draw(x, generator), **z}
    content = x if mask is None or level < 1 else x * mask.to(x)
    x_t = model.degrade(content, severities(level, x), drawn)
    return State(x_t, level, {name: value for name, value in drawn.items() if name not in model.degradation.hidden})
