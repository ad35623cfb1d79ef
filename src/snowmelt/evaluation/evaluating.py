"""The comparison: every method on the same pictures, from the same degraded ones, by the same measures."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import filters, methods
from snowmelt.evaluation.intervals import RESAMPLES
from snowmelt.evaluation.kept import Kept
from snowmelt.evaluation.methods import Entry, Method
from snowmelt.evaluation.report import INPUTS, Input, Report
from snowmelt.evaluation.scoring import Scores, row, score
from snowmelt.evaluation.sets import ACCURACY, NOT_COMPUTED, Judge, floor_row, judge_for, names
from snowmelt.evaluation.severities import POINTS, per_severity, points
from snowmelt.evaluation.verdicts import verdict
from snowmelt.metrics.distribution import RESAMPLES as SET_RESAMPLES
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.randomness import permutation
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler

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
    inputs: Sequence[Input] = INPUTS,
    features: Features | None = None,
    handed: Iterable[Sampler] = (),
    severities: int = POINTS,
    kept: Kept | None = None,
) -> Report:
    """Score a model on test pictures.

    Args:
        model: what was trained; its degradation may be another than the one its restorer was trained for.
        test: clean pictures it never saw; read once.
        validation: clean pictures on which the diagonal Wiener filter's noise level is chosen.
        train: clean pictures that give the Wiener filters what they know, and the floor.
        samplers: the walks to compare.
        images: how many test pictures, drawn by the seed.
        seed: of that choice and of all draws.
        batch: pictures at a time.
        device: where to compute.
        tick: called with the number of pictures done, once a method and batch; see :func:`work`.
        inputs: how the pictures are degraded: in floating point, rounded to 8 bits, or both.
        features: what sets of pictures and labels are judged by; None computes neither.
        handed: walks to show beside the comparison, with the part of the draw that nobody could know in their hands.
        severities: at how many severities one call is scored; 0 for none.
        kept: what is done of it already, and who shares it; by default it is done here and now.

    Raises:
        ValueError: no input, or an unknown one; or a sampler reads what is not known, and is not among those that are handed it.
    """
    _check(inputs)
    model, chosen = model.to(device), permutation(seed, "evaluation", 0, len(test))[:images].tolist()
    kept = kept or Kept()
    how: dict[str, Any] = {"seed": seed, "batch": batch, "device": device, "kept": kept}
    looking, judge = judge_for(features, test, chosen, seed=seed, batch=batch, kept=kept)
    fixed, statistics = _fixed(model, train, list(samplers), list(handed), seed), filters.statistics(model, train)
    floor = None
    if features is not None and len(chosen) > 1:
        floor = kept.later("floor", floor_row(features, judge, train, len(chosen), seed=seed, batch=batch, kept=kept))
    rows: list[Callable[[], dict[str, Any]]] = []
    main = model.input if model.input in inputs else inputs[0]
    once: Callable[[], Scores] = Scores
    for name in inputs:
        seen = dataclasses.replace(model, input=name)  # how the pictures were degraded, whatever the restorer was trained for
        diagonal = filters.diagonal_wiener(seen, statistics, validation, seed=seed, device=device)
        for entry in _with_diagonal(fixed, diagonal):
            own = entry if entry.own else entry._replace(own=model)
            scores = score(seen, own, test, chosen, looking, tick=_unless(entry.kind == "clean", tick), **how)
            once = scores if entry.kind == "direct" and name == main else once
            head = {**_head(entry, name, len(chosen)), **_gaps(looking, entry)}
            rows.append(kept.later(f"row of {entry.title}, {entry.kind}, {entry.calls}, {name}", partial(_row, head, scores, judge, seed)))
        rows += [partial(_floor, floor, name)] if floor else []
        rows += _anchor(seen, test, len(chosen), name, **how)
    curve = per_severity(model, test, chosen, severities, tick=tick, **how) if severities else list
    made = kept.told("rows", rows)
    facts = _facts(model, test, chosen, judge(), made, seed)
    return Report(made, facts, verdict([r for r in made if r["input"] == main]), curve(), _extremes(once(), test, chosen))


def work(
    model: Model, shape: tuple[int, ...], images: int, samplers: int, *, inputs: Sequence[Input] = INPUTS, severities: int = POINTS
) -> int:
    """How many pictures of `shape` `tick` will be told of in all; `samplers` counts those that are handed the draw, too."""
    along = len(points(model.degradation, severities)) if severities else 0
    return images * (len(inputs) * (2 + filters.count(model, shape) + samplers) + along)


def _check(inputs: Sequence[Input]) -> None:
    strange = [name for name in inputs if name not in INPUTS]
    if strange or not inputs:
        raise ValueError(f"inputs = {tuple(inputs)}: give float, 8bit or both")


def _fixed(model: Model, train: Dataset, samplers: list[Sampler], handed: list[Sampler], seed: int) -> list[Entry]:
    """All methods but the diagonal filter, which depends on the input."""
    best_linear = filters.full_wiener(model, train)
    linear = [Entry("Linear Wiener", "filter", 1, best_linear)] if best_linear is not None else []
    walks = [(s, methods.title(s), methods.calls(s, model.degradation), methods.walk(s, seed)) for s in (*samplers, *handed)]
    return [
        Entry("Degraded", "degraded", 0, methods.degraded),
        *linear,
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


def _gaps(judge: Judge, entry: Entry) -> dict[str, str]:
    """What cannot be computed without features, or of classes they do not tell, said in every row that would have it."""
    without = {"FD": NOT_COMPUTED, "KID": NOT_COMPUTED} if judge.network is None and entry.kind != "clean" else {}
    return without | ({ACCURACY: NOT_COMPUTED} if judge.strange else {})


def _row(head: dict[str, Any], scores: Callable[[], Scores], judge: Callable[[], Judge], seed: int) -> dict[str, Any]:
    return {**head, **row(scores(), judge(), seed=seed)}


def _floor(floor: Callable[[], dict[str, Any]], input: Input) -> dict[str, Any]:
    return {**floor(), "input": input}


def _anchor(seen: Model, test: Dataset, chosen: int, input: Input, **how: Any) -> list[Callable[[], dict[str, Any]]]:
    """Degraded over all test pictures, the number that published tables share; none where all were chosen anyway."""
    if chosen == len(test):
        return []
    entry = Entry(f"Degraded, all {len(test):,}", "all", 0, methods.degraded)
    scores = score(seen, entry, test, range(len(test)), Judge(), tick=lambda n: None, **how)
    return [how["kept"].later(f"row of {entry.title}, {input}", partial(_row, _head(entry, input, len(test)), scores, Judge, how["seed"]))]


def _unless(silent: bool, tick: Callable[[int], None]) -> Callable[[int], None]:
    return (lambda n: None) if silent else tick


def _extremes(scores: Scores, test: Dataset, chosen: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """The pictures that one call restores worst, and those around the median: number in the test set, name, PSNR in dB."""
    order = sorted(range(len(chosen)), key=lambda i: scores.end.psnr[i])
    middle = max(0, len(order) // 2 - _SHOWN // 2)
    parts = {"worst": order[:_SHOWN], "median": order[middle : middle + _SHOWN]}
    return {name: [{"number": chosen[i], "name": test.ids[chosen[i]], "psnr": scores.end.psnr[i]} for i in part] for name, part in parts.items()}


def _facts(model: Model, test: Dataset, chosen: list[int], judge: Judge, rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    restorer = model.restorer
    facts: dict[str, Any] = {
        "degradation": registry.spec(model.degradation),
        "test pictures": f"{len(chosen):,} of {len(test):,}, drawn with seed {seed}",
        "scored": "x at t = 0, clamped to [-1, 1], all values of all these pictures; the last estimate of a walk in its own column",
        "intervals": f"95 %, bootstrap over pictures, {RESAMPLES:,} resamples ({SET_RESAMPLES} of sets), seed {seed}",
        "told of the draw": (", ".join((*restorer.held, *restorer.context)) or "nothing") if isinstance(restorer, Restorer) else "unknown",
        "trained for": f"{'pictures rounded to 8 bits' if model.input == '8bit' else 'floating point'}, noise floor {model.noise_floor:g}",
    }
    if isinstance(restorer, Restorer) and restorer.degradation != model.degradation:
        facts["restorer trained for"] = registry.spec(restorer.degradation)
    if judge.network is None:
        facts["distances of sets"] = f"{NOT_COMPUTED}: no features were given (--features mnist-v1, a directory or a file model.onnx)"
    else:
        facts["distances of sets"] = f"{' and '.join(names(judge.network))} against the same {len(chosen):,} pictures, clean (paired)"
        facts |= {"caveat": caveat} if (caveat := judge.caveat()) else {}
    if judge.strange:
        facts[ACCURACY] = f"{NOT_COMPUTED}: {judge.strange}"
    if any(r["kind"] == "handed" for r in rows):
        facts["handed the draw"] = f"{', '.join(model.degradation.hidden)}: nobody could know it of a stranger's picture; these rows are no result"
    return facts
