"""Error per severity: what one call of the restorer makes of the same pictures, degraded less and more.

Doing nothing is exact at t = 0; a restorer that does harm to hardly degraded pictures shows here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.evaluation import intervals
from snowmelt.evaluation.kept import Kept, Result
from snowmelt.evaluation.scoring import Scores, named
from snowmelt.evaluation.starts import drawn, known
from snowmelt.metrics import measures_for
from snowmelt.model import Model
from snowmelt.types import severity

POINTS = 8


def points(degradation: Degradation, n: int) -> list[float]:
    """n severities from 1/n to 1, on the nearest knots of a table; fewer where it has fewer knots."""
    even, knots = [(i + 1) / n for i in range(n)], degradation.knots
    return even if knots is None else sorted({max(1, round(t * knots)) / knots for t in even})


def per_severity(
    model: Model,
    data: Dataset,
    ids: Sequence[int],
    n: int,
    *,
    seed: int,
    batch: int,
    device: torch.device | str,
    tick: Callable[[int], None],
    kept: Kept | None = None,
) -> Callable[[], list[dict[str, Any]]]:
    """RMSE of Degraded and Direct, each with its interval, at `n` severities, once all pieces are there; a sample keeps its draw throughout."""
    kept, measures = kept or Kept(), measures_for(data.signal)

    @torch.no_grad()
    def scored(t: float, part: Sequence[int]) -> Result:
        x0, z = drawn(model, data, part, seed=seed)
        at = severity(t, x0) if model.degradation.knots else model.degradation.snapped(severity(t, x0), z)  # parts keep their own knots
        x = model.degrade(x0, at, z).to(device)
        seen = {name: value.to(device) for name, value in known(model, z).items()}
        once = model.estimate(x, at.to(x), seen).cpu()
        return named("end", measures.common(x.cpu(), x0)) | named("last", measures.common(once, x0))

    parts = [ids[i : i + batch] for i in range(0, len(ids), batch)]
    found = {t: kept.each(f"severity {t!r}", parts, partial(scored, t), lambda part: tick(len(part))) for t in points(model.degradation, n)}
    return lambda: [_point(model, t, Scores.of(results(), measures), seed) for t, results in found.items()]


def _point(model: Model, t: float, scores: Scores, seed: int) -> dict[str, Any]:
    """What doing nothing (`end`) and one call (`last`) score at a severity."""
    found: dict[str, Any] = {"t": t, "units": dict(model.degradation.in_units(t))}
    for name, one in (("degraded", scores.end), ("direct", scores.last)):
        found[name] = one.compute()["rmse"]
        found[f"{name} interval"] = intervals.of_gathered(one, seed)["rmse"]
    return found
