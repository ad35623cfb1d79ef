"""Error per severity: what one call of the restorer makes of the same pictures, degraded less and more.

Doing nothing is exact at t = 0; a restorer that does harm to hardly degraded pictures shows here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.evaluation import intervals
from snowmelt.evaluation.starts import drawn, known
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.types import severity

POINTS = 8


def points(degradation: Degradation, n: int) -> list[float]:
    """n severities from 1/n to 1, on the nearest knots of a table; fewer where it has fewer knots."""
    even, knots = [(i + 1) / n for i in range(n)], degradation.knots
    return even if knots is None else sorted({max(1, round(t * knots)) / knots for t in even})


@torch.no_grad()
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
) -> list[dict[str, Any]]:
    """RMSE of Degraded and Direct, each with its interval, at `n` severities; every picture keeps its draw throughout."""
    out = []
    for t in points(model.degradation, n):
        nothing, once = Distortion(), Distortion()
        for i in range(0, len(ids), batch):
            part = ids[i : i + batch]
            x0, z = drawn(model, data, part, seed=seed)
            at = severity(t, x0) if model.degradation.knots else model.degradation.snapped(severity(t, x0), z)  # parts keep their own knots
            x = model.degrade(x0, at, z).to(device)
            seen = {name: value.to(device) for name, value in known(model, z).items()}
            nothing.update(x.cpu(), x0)
            once.update(model.estimate(x, at.to(x), seen).cpu(), x0)
            tick(len(part))
        found: dict[str, Any] = {"t": t, "units": dict(model.degradation.in_units(t))}
        for name, scores in (("degraded", nothing), ("direct", once)):
            found[name] = scores.compute()["rmse"]
            found[f"{name} interval"] = intervals.of_distortion(scores, seed)["rmse"]
        out.append(found)
    return out
