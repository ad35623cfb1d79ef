r"""One method on all pictures: its row, and what each picture scored.

.. math:: \text{measurement error} = \sqrt{\tfrac1N \sum_i \tfrac1d \left\| D(\hat x_i, 1, z_i) - x_{1,i} \right\|^2}\; / \;2

is in the units of the RMSE, on [0, 1]. x_1 is what the restorer was given, with its noise floor and its rounding, so clean pictures score a
little too: the row *Clean* says how much. It is left out where a part of the draw is not known, for then D cannot be repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import intervals
from snowmelt.evaluation.methods import Entry, Kind
from snowmelt.evaluation.sets import ACCURACY, Judge
from snowmelt.evaluation.starts import start
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.types import Batch, State, severity

MEASUREMENT = "measurement error"
LAST = "RMSE of last estimate"


@dataclass
class Scores:
    """What one method scored, picture by picture.

    Attributes:
        end: of what it returns.
        last: of the last estimate of a walk.
        squares: mean squared measurement error of each picture, in units of [0, 1] squared.
        features, last_features: of the same pictures, where there is something to judge sets by.
        labels: whether each picture is given its own label.
    """

    end: Distortion = field(default_factory=Distortion)
    last: Distortion = field(default_factory=Distortion)
    squares: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    last_features: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)


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
) -> Scores:
    """Run one method on the pictures `ids` of `data`, degraded by `model`."""
    scores = Scores()
    for i in range(0, len(ids), batch):
        part = ids[i : i + batch]
        x0, state = start(model, data, part, seed=seed, device=device, handed=entry.kind == "handed")
        out, estimate = (x0, None) if entry.kind == "clean" else entry.method(entry.own or model, state, part)
        if entry.kind != "clean":
            scores.end.update(out, x0)
        if entry.kind not in ("degraded", "all") and _is_known(model, state):
            scores.squares.append(_measurement(model, out, state))
        if estimate is not None:
            scores.last.update(estimate, x0)
        if entry.kind != "all":
            _judged(scores, judge, entry.kind, out, estimate, part)
        tick(len(part))
    return scores


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


def _judged(scores: Scores, judge: Judge, kind: Kind, out: Batch, estimate: Batch | None, ids: Sequence[int]) -> None:
    features = None if kind == "clean" else judge.features(out)
    if features is not None:
        scores.features.append(features)
        if estimate is not None:
            scores.last_features.append(judge.features(estimate))  # type: ignore[arg-type]
    right = judge.right(out, ids)
    if right is not None:
        scores.labels.append(right)
