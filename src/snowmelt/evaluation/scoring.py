r"""One method on all pictures: its row, and what each picture scored.

.. math:: \text{measurement error} = \sqrt{\tfrac1N \sum_i \tfrac1d \left\| D(\hat x_i, 1, z_i) - x_{1,i} \right\|^2}\; / \;2

is in the units of the RMSE: for pictures on [0, 1], for other signals without the 2, in those of the samples. x_1 is what the restorer was given,
with its noise floor and its rounding, so clean pictures score a little too: the row *Clean* says how much. It is left out where a part of the
draw is not known, for then D cannot be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import intervals
from snowmelt.evaluation.kept import Kept, Result
from snowmelt.evaluation.methods import Entry, Kind
from snowmelt.evaluation.sets import ACCURACY, Judge
from snowmelt.evaluation.starts import start
from snowmelt.metrics import Gathered, Measures, measures_for
from snowmelt.model import Model
from snowmelt.signals import PICTURE
from snowmelt.types import Batch, State, severity

MEASUREMENT = "measurement error"
LAST = "RMSE of last estimate"
LEFT_OUT = "left out"
GAINS = "gains"


def _pictures() -> Gathered:
    return Gathered(measures_for(PICTURE))


@dataclass
class Scores:
    """What one method scored, sample by sample.

    Attributes:
        end: of what it returns.
        last: of the last estimate of a walk.
        squares: mean squared measurement error of each picture, in units of the RMSE, squared.
        features, last_features: of the same pictures, where there is something to judge sets by.
        labels: whether each picture is given its own label.
        lost: how many pictures of each batch diverged.
    """

    end: Gathered = field(default_factory=_pictures)
    last: Gathered = field(default_factory=_pictures)
    squares: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    last_features: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    lost: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, results: Sequence[Result], measures: Measures) -> "Scores":
        """The scores of all batches, in their order."""
        scores = cls(Gathered(measures), Gathered(measures))
        for one in results:
            for gathered, of in ((scores.end, "end "), (scores.last, "last ")):
                gathered.extend({name.removeprefix(of): values for name, values in one.items() if name.startswith(of)})
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
        diverging: count pictures that diverged, and score them as grey or silence, in place of an error.
    """
    measures = measures_for(data.signal)

    def scored(part: Sequence[int]) -> Result:
        x0, state = start(model, data, part, seed=seed, device=device, handed=entry.kind == "handed")
        out, estimate = (x0, None) if entry.kind == "clean" else entry.method(entry.own or model, state, part)
        found: dict[str, Tensor] = {}
        if diverging:
            found["lost"] = _lost(out, estimate).sum()
            out, estimate = out.nan_to_num(0.0, 0.0, 0.0), None if estimate is None else estimate.nan_to_num(0.0, 0.0, 0.0)
        if entry.kind != "clean":
            found |= named("end", measures.each(out, x0))
        if entry.kind not in ("degraded", "all") and _is_known(model, state):
            found["squares"] = _measurement(model, out, state, measures.scale)
        if estimate is not None:
            found |= named("last", measures.each(estimate, x0))
        return found if entry.kind == "all" else found | _judged(judge, entry.kind, out, estimate, part)

    parts = [ids[i : i + batch] for i in range(0, len(ids), batch)]
    name = f"{entry.title}, {entry.kind}, {entry.calls}, {model.input}"
    found = (kept or Kept()).each(name, parts, scored, lambda part: tick(len(part)))
    return lambda: Scores.of(found(), measures)


def row(scores: Scores, judge: Judge, *, seed: int) -> dict[str, Any]:
    """The numbers of a method and, under "intervals", how sure they are; no distance to itself for the clean pictures."""
    found: dict[str, Any] = dict(scores.end.compute()) if len(scores.end) else {}
    sure: dict[str, Any] = dict(intervals.of_gathered(scores.end, seed)) if len(scores.end) else {}
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
        sure[LAST] = intervals.of_gathered(scores.last, seed)["rmse"]
    if left_out := scores.end.left_out():
        found[LEFT_OUT] = left_out
    return {**found, "intervals": sure}


def _is_known(model: Model, state: State) -> bool:
    return all(name in state.z for name in model.degradation.hidden)


def _measurement(model: Model, out: Batch, state: State, scale: float) -> Tensor:
    """The squared measurement error of each sample of `out`, not clamped, as D would see it: (b,), in units of the RMSE."""
    again = model.degradation(out, severity(state.t, out), state.z)
    return (again - state.x).mul(scale).square().flatten(1).mean(1).cpu()


def named(of: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a measure under names that tell what was measured: "end mse"."""
    return {f"{of} {name}": values for name, values in parts.items()}


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
