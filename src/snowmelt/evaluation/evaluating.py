"""The comparison: every method on the same pictures, from the same degraded ones, by the same measures."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import classical, filters, intervals, methods
from snowmelt.evaluation.facts import facts_of
from snowmelt.evaluation.kept import Kept
from snowmelt.evaluation.methods import Entry, Method
from snowmelt.evaluation.report import INPUTS, Input, Report, inputs_for
from snowmelt.evaluation.scoring import GAINS, Scores, row, score
from snowmelt.evaluation.sets import ACCURACY, NOT_COMPUTED, Judge, floor_row, judge_for
from snowmelt.evaluation.severities import POINTS, per_severity, points
from snowmelt.evaluation.verdicts import verdict
from snowmelt.metrics import Measures, measures_for
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.randomness import permutation
from snowmelt.samplers import Sampler
from snowmelt.signals import PICTURE, Signal

_SHOWN = 4


def evaluate(
    model: Model,
    test: Dataset,
    validation: Dataset,
    train: Dataset,
    *,
    samplers: Iterable[Sampler],
    images: int,
    seed: int = 0,
    batch: int = 250,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None] = lambda n: None,
    inputs: Sequence[Input] | None = None,
    features: Features | None = None,
    handed: Iterable[Sampler] = (),
    severities: int = POINTS,
    kept: Kept | None = None,
) -> Report:
    """Score a model on test pictures, or on whatever other samples it is of.

    Args:
        model: what was trained; its degradation may be another than the one its restorer was trained for.
        test: clean samples it never saw; read once.
        validation: clean samples on which the diagonal Wiener filter's noise level is chosen.
        train: clean samples that give the Wiener filters what they know, and the floor.
        samplers: the walks to compare.
        images: how many test samples, drawn by the seed.
        seed: of that choice and of all draws.
        batch: samples at a time.
        device: where to compute.
        tick: called with the number of samples done, once a method and batch; see :func:`work`.
        inputs: how the samples are degraded: in floating point, rounded to 8 bits, or both; by default both for pictures, floating point for others.
        features: what sets of pictures and labels are judged by; None computes neither.
        handed: walks to show beside the comparison, with the part of the draw that nobody could know in their hands.
        severities: at how many severities one call is scored; 0 for none.
        kept: what is done of it already, and who shares it; by default it is done here and now.

    Raises:
        ValueError: no input, or an unknown one, or 8 bits or features for what are no pictures; samples of another signal than the model's;
            or a sampler reads what is not known, and is not among those that are handed it.
    """
    inputs = inputs_for(test.signal) if inputs is None else inputs
    _check(inputs, model, test.signal, features)
    model, chosen = model.to(device), permutation(seed, "evaluation", 0, len(test))[:images].tolist()
    kept = kept or Kept()
    how: dict[str, Any] = {"seed": seed, "batch": batch, "device": device, "kept": kept}
    looking, judge = judge_for(features, test, chosen, seed=seed, batch=batch, kept=kept)
    fixed = _fixed(model, train, validation, list(samplers), list(handed), seed=seed, device=device)
    measures, statistics = measures_for(test.signal), filters.statistics(model, train)
    floor = None
    if features is not None and len(chosen) > 1:
        floor = kept.later("floor", floor_row(features, judge, train, len(chosen), seed=seed, batch=batch, kept=kept))
    rows: list[Callable[[], dict[str, Any]]] = []
    main = model.input if model.input in inputs else inputs[0]
    once: Callable[[], Scores] = Scores
    for name in inputs:
        seen = dataclasses.replace(model, input=name)  # how the pictures were degraded, whatever the restorer was trained for
        diagonal = filters.diagonal_wiener(seen, statistics, validation, seed=seed, device=device)
        rivals: dict[str, Callable[[], Scores]] = {}
        for entry in _with_diagonal(fixed, diagonal):
            own = entry if entry.own else entry._replace(own=model)
            scores = score(seen, own, test, chosen, looking, tick=_unless(entry.kind == "clean", tick), **how)
            once = scores if entry.kind == "direct" and name == main else once
            if entry.kind in ("degraded", "filter") and test.signal != PICTURE:
                rivals[entry.title] = scores
            beaten = dict(rivals) if entry.kind in ("direct", "walk") else {}
            head = {**_head(entry, name, len(chosen)), **_gaps(looking, entry, test.signal)}
            rows.append(kept.later(f"row of {entry.title}, {entry.kind}, {entry.calls}, {name}", partial(_row, head, scores, judge, seed, beaten)))
        rows += [partial(_floor, floor, name)] if floor else []
        rows += _anchor(seen, test, len(chosen), name, **how)
    curve = per_severity(model, test, chosen, severities, tick=tick, **how) if severities else list
    made = kept.told("rows", rows)
    facts = facts_of(model, test, chosen, judge(), made, seed)
    said = verdict([r for r in made if r["input"] == main], test.signal)
    return Report(made, facts, said, curve(), _extremes(once(), test, chosen, measures))


def work(
    model: Model, shape: tuple[int, ...], images: int, samplers: int, *, inputs: Sequence[Input] | None = None, severities: int = POINTS
) -> int:
    """How many samples of `shape` `tick` will be told of in all; `samplers` counts those that are handed the draw, too."""
    inputs = inputs_for(model.signal) if inputs is None else inputs
    along = len(points(model.degradation, severities)) if severities else 0
    return images * (len(inputs) * (2 + filters.count(model, shape) + classical.count(model) + samplers) + along)


def _check(inputs: Sequence[Input], model: Model, signal: Signal, features: Features | None) -> None:
    strange = [name for name in inputs if name not in INPUTS]
    if strange or not inputs:
        raise ValueError(f"inputs = {tuple(inputs)}: give float, 8bit or both")
    if model.signal != signal:
        ours, theirs = (registry.spec(one) for one in (model.signal, signal))
        raise ValueError(f"the model restores {ours}, and the test data are {theirs}: open them as the model has them")
    if signal != PICTURE and "8bit" in inputs:
        raise ValueError(f"inputs = {tuple(inputs)}: 8 bits are those of a picture file, and these are {signal.many}: give float")
    if signal != PICTURE and features is not None:
        raise ValueError(f"features = {features.name} are of pictures, and these are {signal.many}: leave them out")


def _fixed(
    model: Model, train: Dataset, validation: Dataset, samplers: list[Sampler], handed: list[Sampler], *, seed: int, device: torch.device | str
) -> list[Entry]:
    """All methods but the diagonal filter, which depends on the input."""
    best_linear = filters.full_wiener(model, train)
    linear = [Entry("Linear Wiener", "filter", 1, best_linear)] if best_linear is not None else []
    walks = [(s, methods.title(s), methods.calls(s, model.degradation), methods.walk(s, seed)) for s in (*samplers, *handed)]
    return [
        Entry("Degraded", "degraded", 0, methods.degraded),
        *linear,
        *classical.methods_for(model, train, validation, seed=seed, device=device),
        Entry("Direct", "direct", 1, methods.direct),
        *(Entry(title, "walk", n, walk) for _, title, n, walk in walks[: len(samplers)]),
        *(Entry(title + methods.HANDED, "handed", n, walk) for _, title, n, walk in walks[len(samplers) :]),
        Entry("Clean: the truth itself", "clean", 0, methods.degraded),
    ]


def _with_diagonal(entries: list[Entry], diagonal: tuple[Model, Method] | None) -> list[Entry]:
    """The methods with the diagonal filter before Direct, where there is one."""
    if diagonal is None:
        return entries
    at = next(i for i, entry in enumerate(entries) if entry.kind == "direct")
    return [*entries[:at], Entry("Diagonal Wiener", "filter", 1, diagonal[1], diagonal[0]), *entries[at:]]


def _head(entry: Entry, input: Input, images: int) -> dict[str, Any]:
    return {"method": entry.title, "kind": entry.kind, "input": input, "calls": entry.calls, "images": images}


def _gaps(judge: Judge, entry: Entry, signal: Signal) -> dict[str, str]:
    """What cannot be computed without features, or of classes they do not tell, said in every row that would have it."""
    wanted = judge.network is None and entry.kind != "clean" and signal == PICTURE  # no features are made for others
    without = {"FD": NOT_COMPUTED, "KID": NOT_COMPUTED} if wanted else {}
    return without | ({ACCURACY: NOT_COMPUTED} if judge.strange else {})


def _row(
    head: dict[str, Any], scores: Callable[[], Scores], judge: Callable[[], Judge], seed: int, rivals: Mapping[str, Callable[[], Scores]]
) -> dict[str, Any]:
    own = scores()
    gains = {title: _gain(own, other(), seed) for title, other in rivals.items()}
    return {**head, **row(own, judge(), seed=seed), **({GAINS: gains} if gains else {})}


def _gain(own: Scores, other: Scores, seed: int) -> dict[str, Any] | None:
    """By how much a method's main measure is better than another's, with its interval; None where there is no such number."""
    found = intervals.of_difference(own.end, other.end, own.end.measures.first, seed)
    return None if found is None else {"by": found[0], "interval": found[1]}


def _floor(floor: Callable[[], dict[str, Any]], input: Input) -> dict[str, Any]:
    return {**floor(), "input": input}


def _anchor(seen: Model, test: Dataset, chosen: int, input: Input, **how: Any) -> list[Callable[[], dict[str, Any]]]:
    """Degraded over all test pictures, the number that published tables share; none where all were chosen anyway."""
    if chosen == len(test):
        return []
    entry = Entry(f"Degraded, all {len(test):,}", "all", 0, methods.degraded)
    scores = score(seen, entry, test, range(len(test)), Judge(), tick=lambda n: None, **how)
    return [how["kept"].later(f"row of {entry.title}, {input}", partial(_row, _head(entry, input, len(test)), scores, Judge, how["seed"], {}))]


def _unless(silent: bool, tick: Callable[[int], None]) -> Callable[[int], None]:
    return (lambda n: None) if silent else tick


def _extremes(scores: Scores, test: Dataset, chosen: Sequence[int], measures: Measures) -> dict[str, list[dict[str, Any]]]:
    """The samples that one call restores worst, and those around the median, by the main measure: number in the test set, name, value."""
    main = measures.first
    values = scores.end.parts[main.part].tolist()
    there = [i for i in range(len(chosen)) if not math.isnan(values[i])]
    order = sorted(there, key=lambda i: values[i] if main.better == "high" else -values[i])
    middle = max(0, len(order) // 2 - _SHOWN // 2)
    parts = {"worst": order[:_SHOWN], "median": order[middle : middle + _SHOWN]}
    return {name: [{"number": chosen[i], "name": test.ids[chosen[i]], main.name: values[i]} for i in part] for name, part in parts.items()}
