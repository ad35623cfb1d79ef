"""The work of Generate, Translate and Interpolate: the library's own walks, taken a step at a time. Nothing here knows of a page or a request.

What comes of a walk here is what :func:`snowmelt.generate`, :func:`snowmelt.translate`, :func:`snowmelt.interpolate` and
:func:`snowmelt.restoration.blend` return, bit for bit. But between two steps it asks whether anybody still waits, and it keeps a few of the states to
be looked at.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.data.checks import Check
from snowmelt.data.images import shrunk
from snowmelt.model import Model
from snowmelt.pictures.sheets import evenly, severity_label
from snowmelt.randomness import generator, generators
from snowmelt.restoration import blending, guided
from snowmelt.restoration.generation import STREAM, beginning, fits, intended, interpolating
from snowmelt.restoration.memory import Fitting
from snowmelt.restoration.told import device_of
from snowmelt.restoration.translation import Endpoint, translation
from snowmelt.restoration.translation import walk_for as translating_walk
from snowmelt.restorers.guidance import conditions_of
from snowmelt.samplers import Sampler, default_walk
from snowmelt.studio.limits import Limits, Refused
from snowmelt.studio.work.looking import Mode, Walked
from snowmelt.types import EMPTY, Batch, State, severity

FRAMES = 24  # of a walk are shown; a longer one is thinned evenly
BOUNDS = Limits()
Labels = str | Sequence[str] | None
_LEAST_PX = 32


def generated(
    model: Model,
    n: int,
    *,
    mode: Mode | Sampler = "best",
    calls: int | None = None,
    seed: int = 0,
    label: Labels = None,
    guidance: float | None = None,
    limits: Limits = BOUNDS,
    check: Check,
) -> Walked:
    """N new samples; sample i depends on (seed, i) and its label alone, as in :func:`snowmelt.generate`.

    Args:
        model: one with a prior.
        n: how many.
        mode: a sampler; else the model's own walk, which "fast" and "best" both mean: fast is a model of its own, the tuned copy.
        calls: of the restorer, with the model's own walk; by default as many as suit it.
        seed: of the prior and of samplers that draw.
        label: the name of a class, or several that share the samples evenly in this order; None for whatever comes.
        guidance: how strongly the label guides: 1 is the model as it was trained, 2 and more exaggerate.
        limits: what may be asked for.
        check: called between two steps; what it raises ends the work.

    Raises:
        Refused: more than the limits allow, one call, or a label that the model does not know.
        ValueError: as :func:`snowmelt.generate`.
    """
    began = time.perf_counter()
    require_samples(n, limits)
    walk = _walk(model, mode, calls)
    conditions = {} if not label else {"label": shared(numbers_of(model, label), n)}
    if guidance is not None and guidance != 1:
        if not label:
            raise Refused("guidance has nothing to guide towards: choose a label too")
        model = guided(model, guidance)
    require_steps(intended(model, seed=seed, sampler=walk, conditions=conditions), model, limits)
    check()
    batch, sampler = fits(model, seed=seed, sampler=walk, conditions=conditions)
    seen: dict[int, list[State]] = {}

    def make(numbers: range) -> Batch:
        own = generators(seed, STREAM, numbers)
        rows = {name: value[numbers.start : numbers.stop] for name, value in conditions.items()}
        states, x = _gone(model, beginning(model, len(numbers), own, conditions=rows), sampler, own, small(n, limits), check)
        seen[numbers.start] = states
        return x

    fitting = Fitting(batch)
    x = torch.cat([fitting(range(first, min(first + batch, n)), make) for first in range(0, n, batch)])
    parts = [seen[first] for first in sorted(seen)]
    frames = [torch.cat([part[i].x for part in parts]) for i in range(len(parts[0]))]
    said = _said(sampler, model, seed, **{"label": ", ".join(words(label)), "guidance": guidance if guidance != 1 else None})
    return Walked(frames, _levels(parts[0]), x, said, time.perf_counter() - began)


def translated(
    model: Model,
    x: Batch,
    *,
    calls: int | None = None,
    endpoint: Endpoint = "estimated",
    noise: float | None = None,
    answers: int = 1,
    seed: int = 0,
    key: str = "",
    limits: Limits = BOUNDS,
    check: Check,
) -> Walked:
    """What a picture turns into: one answer or, with noise, several.

    Frames hold three times as many pictures as there are answers: x_t of all answers, then what the restorer believes of the result, then
    what it believes of the picture that was given.

    Args:
        model: one of ``morph``.
        x: the picture (1, c, h, w) as :func:`snowmelt.restoration.fitted` makes it.
        calls: of the restorer; by default as many as suit the model.
        endpoint: "estimated" solves the picture given anew at every step, "fixed" keeps it.
        noise: standard deviation of what is added to the picture, on [-1, 1]; by default the model's noise floor.
        answers: how many; answer i has the noise of seed + i.
        seed: of the noise.
        key: the name of the picture's file, by which ``snowmelt translate`` draws.
        limits: what may be asked for.
        check: called between two steps; what it raises ends the work.

    Raises:
        Refused: more than the limits allow, or several answers without noise, which are all the same.
        ValueError: as :func:`snowmelt.translate`.
    """
    began = time.perf_counter()
    require_samples(answers, limits)
    if answers > 1 and not (model.noise_floor if noise is None else noise):
        raise Refused("without noise there is one answer only: add a little noise, 0.05 say, or ask for one")
    walk = require_steps(translating_walk(model, endpoint, calls), model, limits)
    draws = [generator(seed + i, f"restore/{key}") for i in range(answers)]
    start = x.to(device_of(model, x)).expand(answers, -1, -1, -1)
    shrink, keep = small(3 * answers, limits), _kept(walk, model)
    frames, labels = [], []
    state = None
    for i, state in enumerate(translation(model, start, endpoint=endpoint, steps=calls, noise=noise, generator=draws)):
        check()
        if i in keep:
            believed = state.x0 if state.x0 is not None else state.x
            frames.append(torch.cat([shrink(one) for one in (state.x, believed, state.z["endpoint"])]))
            labels.append(severity_label(state.t))
    assert state is not None  # noqa: S101 - a walk has its start at least
    said = _said(walk, model, seed, **{"endpoint": endpoint, "noise": noise})
    return Walked(frames, labels, state.x.cpu(), said, time.perf_counter() - began)


def interpolated(
    model: Model,
    numbers: tuple[int, int],
    n: int,
    *,
    seed: int = 0,
    calls: int | None = None,
    label: Labels = None,
    limits: Limits = BOUNDS,
    check: Check,
) -> Tensor:
    """The samples (n, c, h, w) on the way from one sample of a seed to another, as :func:`snowmelt.interpolate` makes them.

    Args:
        model: one with a prior.
        numbers: of the two samples, as :func:`generated` counts those of this seed.
        n: how many, both ends among them.
        seed: of the draws.
        calls: of the restorer for each; by default as many as suit the model.
        label: one class all the way, or two: that of the start, from the middle on that of the end.
        limits: what may be asked for.
        check: called between two steps; what it raises ends the work.

    Raises:
        Refused: more than the limits allow, or a label that the model does not know.
        ValueError: as :func:`snowmelt.interpolate`.
    """
    require_samples(n, limits)
    conditions = {} if not label else {"label": shared(numbers_of(model, label), n)}
    walk = _walk(model, "best", calls)
    sampler = require_steps(intended(model, seed=seed, sampler=walk, conditions=conditions), model, limits)
    out = []
    for start, own in interpolating(model, n, seed=seed, pair=numbers, conditions=conditions):
        out.append(_gone(model, start, sampler, own, None, check)[1])
    return torch.cat(out)


def blended(
    model: Model, a: Batch, b: Batch, n: int, *, severity: float, seed: int = 0, limits: Limits = BOUNDS, check: Check
) -> Tensor:
    """The way between two pictures of one's own, (n, c, h, w), as :func:`snowmelt.restoration.blend` makes it.

    Args:
        model: one that edits.
        a: the one end (1, c, h, w) as :func:`snowmelt.restoration.fitted` makes it.
        b: the other end, likewise.
        n: how many, both ends among them.
        severity: in (0, 1], how much is made anew.
        seed: of the draw.
        limits: what may be asked for.
        check: called between two steps; what it raises ends the work.

    Raises:
        Refused: more than the limits allow.
        ValueError: as :func:`snowmelt.restoration.blend`.
    """
    require_samples(n, limits)
    require_steps(default_walk(model), model, limits)
    return torch.cat([_last(walk, check) for walk in blending(model, a, b, severity, n, seed=seed)])


def classes_of(model: Model) -> tuple[str, ...]:
    """The names of the classes a model knows, or their numbers; empty if it knows none."""
    known = conditions_of(model.restorer)
    count = known.classes if known is not None else 0
    names = tuple(map(str, model.notes.get("classes") or ()))
    return names if len(names) == count else tuple(map(str, range(count)))


def numbers_of(model: Model, label: Labels) -> list[int]:
    """The numbers of the classes that are named.

    Raises:
        Refused: the model knows no classes, or none of this name.
    """
    names = classes_of(model)
    if not names:
        raise Refused("this model was trained without labels: leave the label out, or train one with them (--model.conditions label)")
    strange = next((word for word in words(label) if word not in names), None)
    if strange is not None:
        few = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        raise Refused(f"this model knows no label {strange!r}{registry.nearest(strange, names)}: it knows {few}")
    return [names.index(word) for word in words(label)]


def words(label: Labels) -> list[str]:
    """One label or several, as a list."""
    return [] if label is None else [label] if isinstance(label, str) else [str(one) for one in label]


def shared(chosen: Sequence[int], n: int) -> Tensor:
    """The label (n,) of every sample: the classes in their order, evenly, as ``snowmelt sample --label`` shares them.

    Raises:
        Refused: there are more classes than samples.
    """
    if len(chosen) > n:
        raise Refused(f"{len(chosen)} labels share {n} picture{'' if n == 1 else 's'}: ask for at least {len(chosen)}, or choose fewer labels")
    return torch.tensor([chosen[i * len(chosen) // n] for i in range(n)])


def require_samples(n: int, limits: Limits) -> None:
    """Refuse none, and more than may be asked for.

    Raises:
        Refused: n lies outside [1, limits.samples].
    """
    if not 1 <= n <= limits.samples:
        raise Refused(f"{n} pictures at once lie outside 1 to {limits.samples}: ask for fewer, or several times with other seeds")


def require_steps(walk: Sampler | None, model: Model, limits: Limits) -> Sampler | None:
    """The walk, unless it is longer than may be asked for.

    Raises:
        Refused: it is.
    """
    calls = 1 if walk is None else walk.calls(model.degradation)
    if calls > limits.steps:
        raise Refused(f"{calls} calls of the restorer are more than {limits.steps}, the most of one wish: give fewer calls")
    return walk


def small(n: int, limits: Limits) -> Callable[[Tensor], Tensor]:
    """Makes pictures small enough for n of them on one board, and brings them to the CPU."""
    most = max(limits.walk_px // math.ceil(math.sqrt(n)), _LEAST_PX)
    return lambda x: shrunk(x.detach().float().cpu(), most)


def _walk(model: Model, mode: Mode | Sampler, calls: int | None) -> Sampler:
    """The walk that is meant.

    Raises:
        Refused: one call.
    """
    if mode == "faithful" or (calls == 1 and model.most_calls is None):
        raise Refused("one call makes the mean of all pictures that could be meant, a blur of them: ask for a walk, of two calls at least")
    walk = mode if isinstance(mode, Sampler) else default_walk(model)
    if calls is None or calls == walk.steps:
        return walk
    return dataclasses.replace(walk, steps=calls, times=(), snap=walk.snap or model.degradation.knots is not None)


def _kept(walk: Sampler | None, model: Model) -> frozenset[int]:
    """The numbers of the states of a walk that are shown."""
    return frozenset(evenly(range(2 if walk is None else len(walk.walk(model.degradation))), FRAMES))


def _gone(
    model: Model,
    start: State,
    sampler: Sampler | None,
    own: list[torch.Generator],
    shrink: Callable[[Tensor], Tensor] | None,
    check: Check,
) -> tuple[list[State], Tensor]:
    """A walk to its end: the states to be shown (none without `shrink`), and the result on the CPU."""
    check()
    if sampler is None:
        with torch.no_grad():
            x = model.estimate(start.x, severity(start.t, start.x), start.z)
        return ([State(shrink(one), t, EMPTY) for one, t in ((start.x, 1.0), (x, 0.0))] if shrink else []), x.cpu()
    states, keep, state = [], _kept(sampler, model), start
    for i, state in enumerate(sampler.trajectory(model, start, own)):
        check()
        if shrink is not None and i in keep:
            states.append(State(shrink(state.x), state.t, EMPTY))
    return states, state.x.cpu()


def _last(states: Iterable[State], check: Check) -> Tensor:
    """The end of a walk, on the CPU."""
    last: State | None = None
    for last in states:  # noqa: B007
        check()
    assert last is not None  # noqa: S101 - a walk has its start at least
    return last.x.cpu()


def _levels(states: Sequence[State]) -> list[str]:
    return [severity_label(state.t) for state in states]


def _said(walk: Sampler | None, model: Model, seed: int, **further: object) -> str:
    """How it was made, in one line."""
    spec = "one call of the restorer" if walk is None else registry.spec(walk)
    told = [f"{name} {value}" for name, value in further.items() if value not in (None, "")]
    return ", ".join([f"{registry.spec(model.degradation)} undone by {spec}", f"seed {seed}", *told])
