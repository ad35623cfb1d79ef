r"""One method on all pictures: its row, and what each picture scored.

.. math:: \text{measurement error} = \sqrt{\tfrac1N \sum_i \tfrac1d \left\| D(\hat x_i, 1, z_i) - x_{1,i} \right\|^2}\; / \;2

is in the units of the RMSE, on [0, 1]. x_1 is what the restorer was given, with its noise floor and its rounding, so clean pictures score a
little too: the row *Clean* says how much. It is left out where a part of the draw is not known, for then D cannot be repeated.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import intervals
from snowmelt.evaluation.kept import Kept, Result
from snowmelt.evaluation.methods import Entry, Kind
from snowmelt.evaluation.sets import ACCURACY, Judge
from snowmelt.evaluation.starts import start
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.types import Batch, State, severity

MEASUREMENT = "measurement error"
LAST = "RMSE of last estimate"
_ERRORS = tuple(one.name for one in fields(Distortion))  # one number a picture each


@dataclass
class Scores:
    """What one method scored, picture by picture.

    Attributes:
        end: of what it returns.
        last: of the last estimate of a walk.
        squares: mean squared measurement error of each picture, in units of [0, 1] squared.
        features, last_features: of the same pictures, where there is something to judge sets by.
        labels: whether each picture is given its own label.
        lost: how many pictures of each batch diverged.
    """

    end: Distortion = field(default_factory=Distortion)
    last: Distortion = field(default_factory=Distortion)
    squares: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    last_features: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    lost: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Scores":
        """The scores of all batches, in their order."""
        scores = cls()
        for one in results:
            for distortion, of in ((scores.end, "end"), (scores.last, "last")):
                for name in _ERRORS:
                    if (values := one.get(f"{of} {name}")) is not None:
                        found = values.tolist()
                        getattr(distortion, name).extend(None if isinstance(x, float) and math.isnan(x) else x for x in found)
            for name in ("squares", "features", "last_features", "labels", "lost"):
                if name in one:
                    getattr(scores, name).append(one[name])
        return scores


def score(
    model: Model,
    entry: Entry,
    data: Dataset,
    ids: Sequence[int],
    judge: Judge,
    *,
    seed: int,
    batch: int,
    device: torch.device | str,
    tick: Callable[[int], None],
    kept: Kept | None = None,
    diverging: bool = False,
) -> Callable[[], Scores]:
    """Run one method on the pictures `ids` of `data`, degraded by `model`: its scores, once all pieces are there.

    Args:
        model: degrades, and restores where the method has no model of its own.
        entry: the method.
        data: clean pictures.
        ids: their numbers.
        judge: of sets of pictures.
        seed: of the draws.
        batch: pictures at a time.
        device: where to compute.
        tick: told of the pictures that are done.
        kept: the pieces of the evaluation that this is part of; by default it is one by itself.
        diverging: count pictures that diverged, and score them as grey, in place of an error.
    """

    def scored(part: Sequence[int]) -> Result:
        x0, state = start(model, data, part, seed=seed, device=device, handed=entry.kind == "handed")
        out, estimate = (x0, None) if entry.kind == "clean" else entry.method(entry.own or model, state, part)
        found: dict[str, Tensor] = {}
        if diverging:
            found["lost"] = _lost(out, estimate).sum()
            out, estimate = out.nan_to_num(0.0, 0.0, 0.0), None if estimate is None else estimate.nan_to_num(0.0, 0.0, 0.0)
        if entry.kind != "clean":
            found |= errors("end", out, x0)
        if entry.kind not in ("degraded", "all") and _is_known(model, state):
            found["squares"] = _measurement(model, out, state)
        if estimate is not None:
            found |= errors("last", estimate, x0)
        return found if entry.kind == "all" else found | _judged(judge, entry.kind, out, estimate, part)

    parts = [ids[i : i + batch] for i in range(0, len(ids), batch)]
    name = f"{entry.title}, {entry.kind}, {entry.calls}, {model.input}"
    found = (kept or Kept()).each(name, parts, scored, lambda part: tick(len(part)))
    return lambda: Scores.of(found())


def row(scores: Scores, judge: Judge, *, seed: int) -> dict[str, Any]:
    """The numbers of a method and, under "intervals", how sure they are; no distance to itself for the clean pictures."""
    found: dict[str, Any] = dict(scores.end.compute()) if len(scores.end) else {}
    sure: dict[str, Any] = dict(intervals.of_distortion(scores.end, seed)) if len(scores.end) else {}
    if scores.squares:
        squares = torch.cat(scores.squares)
        found[MEASUREMENT], sure[MEASUREMENT] = float(squares.mean().sqrt()), intervals.of_root_mean(squares, seed)
    if scores.features:
        numbers, ranges = judge.against_clean(torch.cat(scores.features))
        found, sure = found | numbers, sure | ranges
    if scores.labels:
        right = torch.cat(scores.labels).double()
        found[ACCURACY], sure[ACCURACY] = float(right.mean()), intervals.of_mean(right, seed)
    if len(scores.last):
        last: dict[str, Any] = dict(scores.last.compute())
        if scores.last_features:
            last |= judge.against_clean(torch.cat(scores.last_features))[0]
        found |= {LAST: last["rmse"], "last estimate": last}
        sure[LAST] = intervals.of_distortion(scores.last, seed)["rmse"]
    return {**found, "intervals": sure}


def _is_known(model: Model, state: State) -> bool:
    return all(name in state.z for name in model.degradation.hidden)


def _measurement(model: Model, out: Batch, state: State) -> Tensor:
    """The squared measurement error of each picture of `out`, not clamped, as D would see it: (b,), in units of [0, 1]."""
    again = model.degradation(out, severity(state.t, out), state.z)
    return (again - state.x).div(2).square().flatten(1).mean(1).cpu()


def errors(of: str, out: Batch, x0: Batch) -> dict[str, Tensor]:
    """The errors of each picture, in float64; NaN where there is no such number, which no error is."""
    distortion = Distortion()
    distortion.update(out, x0)
    columns = {name: getattr(distortion, name) for name in _ERRORS}
    wide = {name: torch.float64 if name != "values" else torch.int64 for name in columns}
    return {f"{of} {name}": torch.tensor([math.nan if x is None else x for x in column], dtype=wide[name]) for name, column in columns.items()}


def _lost(out: Batch, estimate: Batch | None) -> Tensor:
    """Which pictures diverged, on the way or at the end: (b,) bool."""
    lost = ~out.isfinite().flatten(1).all(1)
    return lost if estimate is None else lost | ~estimate.isfinite().flatten(1).all(1)


def _judged(judge: Judge, kind: Kind, out: Batch, estimate: Batch | None, ids: Sequence[int]) -> dict[str, Tensor]:
    found: dict[str, Tensor | None] = {"features": None if kind == "clean" else judge.features(out)}
    if found["features"] is not None and estimate is not None:
        found["last_features"] = judge.features(estimate)
    found["labels"] = judge.right(out, ids)
    return {name: value for name, value in found.items() if value is not None}
