r"""Generate: the walks of a finished model from its prior to new samples.

A walk begins where the prior says, brought into agreement with the degradation, then with its symmetry broken, then with the model's
noise floor, each exactly once:

.. math:: x_1 = P \bar x_1 + \varepsilon\, n + \sigma_{floor}\, z_{floor},

where P is D(., 1, z) if that is a projection (block means, a discrete blur) and the identity if it is not.

One seed a sample: sample i is drawn from a generator keyed by (seed, i), so it is the same whatever the number asked for
and the batches it is made in, but for the last digits of its convolutions (:mod:`snowmelt.restoration.sampling` keeps these too).
*Conditions*, a class for instance, have one row a sample; sample i depends on (seed, i) and its own row alone.
"""

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.priors import Prior
from snowmelt.randomness import generator as keyed
from snowmelt.randomness import generators
from snowmelt.registry import label
from snowmelt.restoration.memory import Fitting, batch_for
from snowmelt.restoration.told import device_of, moved, require_known, require_rows
from snowmelt.restoration.walks import Walk, begin, choose, walked
from snowmelt.samplers import Sampler, brought, entries
from snowmelt.types import EMPTY, Batch, Draw, Generators, State, severity

STREAM = "sample"
_SHARED = 64  # with one generator for all: what each gets of it depends on the batch, which therefore is no matter of memory
_SETTLED = 1e-5


def generate(
    model: Model,
    n: int,
    *,
    sampler: Walk = "default",
    generator: Generators = None,
    seed: int | None = None,
    noise: float | None = None,
    batch: int | None = None,
    conditions: Draw = EMPTY,
) -> Batch:
    """N new samples (n, *d), walked from the model's prior at t = 1.

    Args:
        model: one that has a prior.
        n: how many.
        sampler: a sampler, its spec, or "default"; None for one call.
        generator: one, or one per sample, for the prior and for samplers that draw.
        seed: instead of generators: sample i depends on the seed and i alone.
        noise: another broken symmetry than the prior's own, 0 for none.
        batch: how many at a time; by default what fits in memory (:func:`~snowmelt.restoration.memory.batch_for`), or 64 where a
            single generator is shared.
        conditions: what is asked for, one row a sample: "label" (n,), "vector" (n, k), "image" (n, c, h, w), as far as the model was trained
            with them; what is missing is unknown. See :mod:`snowmelt.restorers.conditions`, and :func:`~snowmelt.restoration.guided`.

    Raises:
        ValueError: the model has no prior, or one that does not fit it; both generator and seed are given; or conditions that
            the model does not know, or not one row a sample.
    """
    if generator is not None and seed is not None:
        raise ValueError("give generator or seed, not both: a seed makes one generator for each sample")
    if isinstance(generator, Sequence) and len(generator) != n:
        raise ValueError(f"{len(generator)} generators were given for {n} samples: give one per sample, or a single one")
    if seed is not None:
        return torch.cat(list(_seeded(model, n, seed, sampler, noise, batch, conditions)))
    return torch.cat(list(_batches(model, n, generator, sampler, noise, batch or _SHARED, conditions)))


def generated(
    model: Model,
    n: int,
    *,
    seed: int = 0,
    sampler: Walk = "default",
    noise: float | None = None,
    batch: int | None = None,
    conditions: Draw = EMPTY,
) -> Iterator[Batch]:
    """The samples of :func:`generate`, a batch at a time on the CPU: memory does not grow with n.

    Raises:
        ValueError: as :func:`generate`.
    """
    for x in _seeded(model, n, seed, sampler, noise, batch, conditions):
        yield x.cpu()


def numbered(
    model: Model, numbers: range, *, seed: int, sampler: Sampler | None, noise: float | None = None, conditions: Draw = EMPTY
) -> Batch:
    """The samples with these numbers, one batch, where the model is: sample i depends on the seed, i and its own row of `conditions` alone.

    Args:
        model: one that has a prior.
        numbers: which of the samples of this seed.
        seed: as in :func:`generate`.
        sampler: the walk, or one call.
        noise: another broken symmetry than the prior's own, 0 for none.
        conditions: one row for each of all samples, of which those of `numbers` are taken.
    """
    own = generators(seed, STREAM, numbers)
    start = beginning(model, len(numbers), own, noise=noise, conditions=_rows(conditions, numbers.start, numbers.stop))
    return walked(model, start, sampler, own)


def intended(model: Model, *, seed: int, sampler: Walk, noise: float | None = None, conditions: Draw = EMPTY) -> Sampler | None:
    """The walk that is meant, or None for one call, once everything that is asked for fits the model.

    Raises:
        ValueError: as :func:`generate`.
    """
    return choose(model, _first(model, seed, noise, conditions), sampler)


def fits(model: Model, *, seed: int, sampler: Walk, noise: float | None = None, conditions: Draw = EMPTY) -> tuple[int, Sampler | None]:
    """How many samples to make at a time, and the walk that is meant; measured on walks of one and two samples.

    Raises:
        ValueError: as :func:`generate`.
    """

    def start(n: int) -> State:
        given = {name: value[:1].expand(n, *value.shape[1:]) for name, value in conditions.items()}
        return beginning(model, n, generators(seed, STREAM, range(n)), noise=noise, conditions=given)

    state = _first(model, seed, noise, conditions)
    walk = choose(model, state, sampler)
    return batch_for(model, tuple(state.x.shape[1:]), walk=walk, device=state.x.device, start=start), walk


def interpolate(
    model: Model,
    steps: int = 8,
    *,
    seed: int = 0,
    pair: tuple[int, int] = (0, 1),
    sampler: Walk = "default",
    noise: float | None = None,
    conditions: Draw = EMPTY,
) -> Batch:
    """The samples (steps, *d) on the way from one draw of the prior to another: along the sphere for noise, else straight.

    What is random beside the prior (the broken symmetry, the noise floor, a sampler that draws) is that of the first sample all along, so
    that only the prior's draw changes.

    Args:
        model: one that has a prior.
        steps: how many samples, both ends among them.
        seed: of the draws.
        pair: the numbers of the two samples, as :func:`generate` counts them with this seed.
        sampler: a sampler, its spec, or "default"; None for one call.
        noise: another broken symmetry than the prior's own, 0 for none.
        conditions: as in :func:`generate`, one row a step: all equal, or on a way of their own.

    Raises:
        ValueError: fewer than 2 steps, or as :func:`generate`.
    """
    starts = interpolating(model, steps, seed=seed, pair=pair, noise=noise, conditions=conditions)
    return torch.cat([_walk(model, start, sampler, own) for start, own in starts])


def interpolating(
    model: Model, steps: int, *, seed: int = 0, pair: tuple[int, int] = (0, 1), noise: float | None = None, conditions: Draw = EMPTY
) -> Iterator[tuple[State, list[torch.Generator]]]:
    """Where the walks of :func:`interpolate` begin, one sample after the other, and the generator of each; arguments and errors are its."""
    if steps < 2:
        raise ValueError(f"steps = {steps}: an interpolation has at least its two ends")
    prior = _prior(model, noise)
    require_rows(conditions, steps)
    a, b = (prior.start(1, generators(seed, STREAM, [number])) for number in pair)
    states = prior.between(a, b, torch.linspace(0, 1, steps))
    for i in range(steps):
        own = [keyed(seed, STREAM, pair[0])]
        prior.start(1, own)  # what the first sample's generator has been through before its noise
        state = State(states.x[i : i + 1], states.t, _rows(states.z, i, i + 1))
        yield _prepared(model, prior, state, own, _rows(conditions, i, i + 1)), own


def beginning(model: Model, n: int, generator: Generators = None, *, noise: float | None = None, conditions: Draw = EMPTY) -> State:
    """N states at t = 1 that walks begin from, on the model's device, with their conditions in the draw.

    Raises:
        ValueError: as :func:`generate`.
    """
    prior = _prior(model, noise)
    require_rows(conditions, n)
    return _prepared(model, prior, prior.start(n, generator), generator, conditions)


def _seeded(model: Model, n: int, seed: int, sampler: Walk, noise: float | None, batch: int | None, conditions: Draw) -> Iterator[Batch]:
    """Batches of numbered samples, by halves where memory runs out."""
    _require(n, batch)
    require_rows(conditions, n)
    if batch is None:
        batch, walk = fits(model, seed=seed, sampler=sampler, noise=noise, conditions=conditions)
    else:
        walk = intended(model, seed=seed, sampler=sampler, noise=noise, conditions=conditions)
    make = Fitting(batch)
    for first in range(0, n, batch):
        numbers = range(first, min(first + batch, n))
        yield make(numbers, functools.partial(numbered, model, seed=seed, sampler=walk, noise=noise, conditions=conditions))


def _first(model: Model, seed: int, noise: float | None, conditions: Draw) -> State:
    """Where the walk of the first sample starts, once the conditions of all fit."""
    state = beginning(model, 1, generators(seed, STREAM, [0]), noise=noise)
    for value in conditions.values():
        require_known(model, state.x.expand(len(value), *state.x.shape[1:]), conditions)
        break
    return state


def _batches(model: Model, n: int, generator: Generators, sampler: Walk, noise: float | None, batch: int, conditions: Draw) -> Iterator[Batch]:
    _require(n, batch)
    require_rows(conditions, n)
    for first in range(0, n, batch):
        count = min(batch, n - first)
        own = generator[first : first + count] if isinstance(generator, Sequence) else generator
        given = _rows(conditions, first, first + count)
        yield _walk(model, beginning(model, count, own, noise=noise, conditions=given), sampler, own)


def _require(n: int, batch: int | None) -> None:
    if n < 1 or (batch is not None and batch < 1):
        raise ValueError(f"n = {n} samples in batches of {batch or 'what fits'}: both must be at least 1")


def _walk(model: Model, start: State, sampler: Walk, generator: Generators) -> Batch:
    return walked(model, start, choose(model, start, sampler), generator)


def _prior(model: Model, noise: float | None) -> Prior:
    """The model's prior, with its broken symmetry."""
    if model.prior is None:
        raise ValueError(
            f"a model of {registry.spec(model.degradation)} has no prior to generate from: "
            "fit one with 'snowmelt sample RUN --prior gaussian-mixture' (snowmelt.recipes.run.fit_prior), restore with it, "
            "or train one of the degradation noise"
        )
    return model.prior if noise is None else model.prior.with_noise(noise)


def _rows(z: Draw, start: int, stop: int) -> Draw:
    """The rows of some samples."""
    return {name: value[start:stop] for name, value in z.items()}


def _prepared(model: Model, prior: Prior, state: State, generator: Generators, conditions: Draw) -> State:
    """A state of the prior, ready to walk: in agreement with D, its symmetry broken, the noise floor added, with its conditions."""
    degradation = model.degradation
    drawn = entries(degradation)
    missing = sorted(brought(degradation) - state.z.keys())
    if missing:
        name, what = label(type(prior)), registry.spec(degradation)
        raise ValueError(f"the prior {name} does not fit {what}: it lacks {', '.join(missing)}, a part of the draw that walks read; take from-data")
    require_known(model, state.x, conditions)
    z = {name: value for name, value in state.z.items() if name in drawn}
    state = prior.broken(State(_settled(degradation, state.x, z), state.t, z), generator)
    state = begin(model, state.x, state.t, state.z, generator)
    state = state._replace(z={**state.z, **conditions})
    device = device_of(model, state.x)
    return State(state.x.to(device), state.t, moved(state.z, device))


def _settled(degradation: Degradation, x: Batch, z: Draw) -> Tensor:
    """X as the degradation leaves it at t = 1, where that changes nothing the second time; else x."""
    if not degradation.linear or degradation.recovers:
        return x
    one = severity(1.0, x)
    once = degradation(x, one, z)
    return once if torch.allclose(degradation(once, one, z), once, atol=_SETTLED, rtol=0) else x
