"""Walks against calls: which walks fit a model, at how many calls, and what one of them scores on the test pictures.

A *walk* here is one sampler at rising numbers of calls:

========================  =====================================================================================================
Algorithm 1               the estimate degraded again (Cold Diffusion); with *fresh noise* where there is some to draw
Algorithm 2               TACoS; where the noise has to be solved for, *DDIM*
order 2                   the same, with the estimate extrapolated from the one before
Heun                      two calls a move
DDPM                      where noise can be renewed
one call                  the restorer itself
tuned                     the same two algorithms with the copy that is tuned for few calls, up to as many calls as it is good for
========================  =====================================================================================================

A walk that would read what nobody could know of a stranger's picture does not fit, nor does one that the degradation or the model refuses.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.evaluation import methods
from snowmelt.evaluation.methods import Entry
from snowmelt.evaluation.scoring import row, score
from snowmelt.evaluation.sets import Judge
from snowmelt.model import Model
from snowmelt.samplers import Ancestral, Heun, Naive, Sampler, TACoS, default_walk

ONCE, FIRST, SECOND, TUNED = "one call", ("Algorithm 2", "DDIM"), "order 2", "tuned"
_FRESH = "fresh noise"
_ALGORITHM_1 = ("Algorithm 1", f"Algorithm 1, {_FRESH}")
WALKS = (ONCE, *_ALGORITHM_1, *FIRST, SECOND, "Heun", "DDPM")  # in the order of tables and colours


class Planned(NamedTuple):
    """A walk at a number of calls; no sampler for the restorer's one call."""

    walk: str
    calls: int
    sampler: Sampler | None = None
    tuned: bool = False


def planned(model: Model, calls: Iterable[int], tuned: Model | None = None) -> list[Planned]:
    """One call, every walk that fits the model at every number of calls, and the tuned copy's; none twice.

    Heun has an odd number of calls, the largest that is not above the one asked for; on a table of few knots walks are as short as that.

    Args:
        model: what is walked with.
        calls: numbers of calls.
        tuned: its tuned copy.
    """
    numbers = sorted(set(calls))
    found = {(ONCE, 1): Planned(ONCE, 1)}
    for name, make in _walks(model.degradation).items():
        for n in numbers:
            _add(found, model, name, make(n), _least(make(n)))
    if tuned is not None and tuned.most_calls is not None:
        once = False
        for name, walk in _few(tuned).items():
            least = 2 if once and not isinstance(walk, TACoS) else 1  # one call of the others is the restorer's own answer
            for n in dict.fromkeys((*(2**k for k in range(16) if 2**k < tuned.most_calls), tuned.most_calls)):
                _add(found, tuned, name, dataclasses.replace(walk, steps=n), least, tuned=True)
            once = once or (not isinstance(walk, TACoS) and (name, 1) in found)
        if not any(one.tuned for one in found.values()):  # no walk could know the draw: its one call
            name = f"{TUNED}, g = {tuned.gap:g}, {ONCE}"
            found[name, 1] = Planned(name, 1, None, tuned=True)
    return list(found.values())


def usual(tuned: Model) -> str:
    """What a tuned copy does when nothing is said, as a spec, or "one call"."""
    walk = default_walk(tuned)
    return registry.spec(walk) if _fits(walk, tuned) else ONCE


def measured(
    model: Model,
    one: Planned,
    data: Dataset,
    ids: Sequence[int],
    judge: Judge,
    *,
    tuned: Model | None = None,
    seed: int,
    batch: int,
    device: torch.device | str,
    tick: Callable[[int], None],
) -> dict[str, Any]:
    """What a walk makes of the pictures `ids` of `data`, degraded by `model`: a row; of one that diverged, the part of the pictures that did.

    Args:
        model: degrades, and walks where the walk is not the tuned copy's.
        one: the walk.
        data: clean pictures.
        ids: their numbers.
        judge: of sets of pictures.
        tuned: the copy.
        seed: of the draws.
        batch: pictures at a time.
        device: where to compute.
        tick: told of the calls that are done, times pictures.
    """
    own = tuned if one.tuned else None
    method = methods.direct if one.sampler is None else methods.walk(one.sampler, seed)
    entry = Entry(one.walk, "direct" if one.sampler is None else "walk", one.calls, method, own)
    how: dict[str, Any] = {"seed": seed, "batch": batch, "device": device, "diverging": True}
    scores = score(model, entry, data, ids, judge, tick=lambda n: tick(n * one.calls), **how)()
    if lost := sum(int(n) for n in scores.lost):  # a result, too; no set with such pictures has features
        return {**named(one), "images": len(ids), "diverged": lost / len(ids), "intervals": {}}
    return {**named(one), "images": len(ids), **_short(row(scores, judge, seed=seed))}


def named(one: Planned) -> dict[str, Any]:
    """The first cells of a row."""
    return {"walk": one.walk, "calls": one.calls, "sampler": "" if one.sampler is None else registry.spec(one.sampler)}


def beside(model: Model, kind: str, data: Dataset, ids: Sequence[int], judge: Judge, **how: Any) -> dict[str, Any]:
    """What doing nothing scores ("degraded"), or the measures say of the truth ("clean"): a row."""
    entry = Entry(kind, "clean" if kind == "clean" else "degraded", 0, methods.degraded)
    found = row(score(model, entry, data, ids, judge, **how)(), judge, seed=how["seed"])
    return {"walk": kind, "calls": 0, "sampler": "", "images": len(ids), **_short(found)}


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "last estimate"}


def _walks(degradation: Degradation) -> dict[str, Callable[[int], Sampler]]:
    """The walks there are, by name, for a number of calls."""
    snap = degradation.knots is not None
    solves = degradation.recovers
    out: dict[str, Callable[[int], Sampler]] = {
        _ALGORITHM_1[0]: lambda n: Naive(n, snap=snap),
        _ALGORITHM_1[1]: lambda n: Naive(n, fresh=True, snap=snap),
        FIRST[0]: lambda n: TACoS(n, snap=snap),
    }
    if solves:
        out |= {
            FIRST[1]: lambda n: Ancestral(n, eta=0.0, snap=snap),
            SECOND: lambda n: Ancestral(n, order=2, eta=0.0, snap=snap),
            "DDPM": lambda n: Ancestral(n, snap=snap),
        }
    else:
        out[SECOND] = lambda n: TACoS(n, order=2, snap=snap)
    return out | {"Heun": lambda n: Heun(n, snap=snap)}


def _few(tuned: Model) -> dict[str, Sampler]:
    """The walks of a tuned copy, by name, that which it takes when nothing is said first: of order 1, the only order it is good for."""
    usual = default_walk(tuned)
    second = FIRST[1] if tuned.degradation.recovers else FIRST[0]
    found = {name: make(usual.steps) for name, make in _walks(tuned.degradation).items() if name in (second, *_ALGORITHM_1)}
    first = sorted(found, key=lambda name: found[name] != usual)
    return {f"{TUNED}, g = {tuned.gap:g}, {name}": found[name] for name in first}


def _least(walk: Sampler) -> int:
    """The calls from which a walk is another one than that of order 1."""
    return 3 if walk.corrector else 2 if walk.order == 2 else 1


def _add(found: dict[tuple[str, int], Planned], model: Model, name: str, walk: Sampler, least: int, *, tuned: bool = False) -> None:
    n = walk.calls(model.degradation)
    if n >= least and _fits(walk, model):
        found.setdefault((name, n), Planned(name, n, walk, tuned))


def _fits(walk: Sampler, model: Model) -> bool:
    if walk.reads(model.degradation) & set(model.degradation.hidden):
        return False
    try:
        walk.require(model.degradation)
        walk.require_short(model)
    except (TypeError, ValueError):
        return False
    return True
