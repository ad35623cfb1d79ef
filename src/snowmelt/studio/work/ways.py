"""Ways from a degraded picture to a clean one, next to each other: one call, Naive, TACoS, and TACoS of order 2, each of as many calls."""

import dataclasses
from typing import Any, NamedTuple

from torch import Tensor

from snowmelt import registry
from snowmelt.data.checks import Check
from snowmelt.degradations import Degradation, Mixture
from snowmelt.model import Model
from snowmelt.restoration.picture import Loaded, compute, finished
from snowmelt.restoration.work import with_precision
from snowmelt.samplers import Sampler, entries
from snowmelt.studio.limits import Refused
from snowmelt.studio.work.looking import clean_of, made_ready, measured, watched, work_of


class Beside(NamedTuple):
    """One way from a degraded picture to a clean one, next to others.

    Attributes:
        name: of the way.
        x: what it ends with (1, c, h, w).
        calls: of the restorer.
        psnr: in dB, next to the clean picture; None if nobody knows it.
        ssim: likewise; None also of pictures that are too small for it.
    """

    name: str
    x: Tensor
    calls: int
    psnr: float | None = None
    ssim: float | None = None


def side_by_side(
    model: Model,
    x: Tensor,
    severity: float | None,
    steps: int,
    check: Check,
    *,
    seed: int = 0,
    degrade: bool = False,
    turn: int = 1,
    key: str = "",
) -> list[Beside]:
    """One picture by several ways of as many calls: degraded, direct (one call), Naive (Algorithm 1), TACoS (Algorithm 2), and TACoS of order 2.

    Where there is noise that can be solved for, TACoS solves it anew in every move, and Naive draws it anew. Nothing makes the walks agree with
    the picture (data consistency), so that they differ by their algorithms alone. Arguments as for :func:`~snowmelt.studio.work.looking.restored`.

    Args:
        model: where it computes.
        x: the picture (1, c, h, w).
        severity: how degraded it is.
        steps: calls of every walk.
        check: called before every call of the network.
        seed: of what is random.
        degrade: the picture is clean: degrade it first. Then measures are known.
        turn: the orientation in which the file held it.
        key: what random numbers are keyed by.

    Raises:
        Refused: the model restores in one call, or the walks need a draw that nobody knows.
    """
    if isinstance(model.degradation, Mixture) or model.gap:
        why = "is blind and restores in one call" if not model.gap else f"is tuned for {model.most_calls} calls"
        raise Refused(f"this model {why}, so there are no walks to compare: choose a model of one degradation")
    work = with_precision(dataclasses.replace(work_of(model, x, severity, "faithful", seed, degrade=degrade, anyway=True), consistent=False))
    ways = _ways(model.degradation, steps)
    if not _walks(model.degradation, ways, knows_draw=degrade):
        raise Refused("the walks need to know what was drawn, and of a picture from elsewhere nobody does: degrade a clean one here")
    one = made_ready(work, x[0], turn, key)
    found: list[Beside] = []
    with watched(work.model, check) as watching:
        for name, sampler in ways.items():
            states = compute(dataclasses.replace(work, model=watching, sampler=sampler), [one])
            if not found:
                found.append(_beside("Degraded", finished(one, states[0].x[0])[None], 0, one, known=degrade))
            calls = 1 if sampler is None else sampler.calls(model.degradation, one.severity)
            found.append(_beside(name, finished(one, states[-1].x[0])[None], calls, one, known=degrade))
    return found


def _ways(D: Degradation, steps: int) -> dict[str, Sampler | None]:
    """The ways that are put side by side."""
    snap = D.knots is not None
    naive = {"fresh": True} if D.noise else {}
    tacos, further = ("ancestral", {"eta": 0.0}) if D.recovers else ("tacos", {})
    tables: dict[str, dict[str, Any]] = {
        "Naive (Algorithm 1)": {"name": "naive", "steps": steps, "snap": snap, **naive},
        "TACoS (Algorithm 2)": {"name": tacos, "steps": steps, "snap": snap, **further},
        "TACoS, order 2": {"name": tacos, "steps": steps, "snap": snap, "order": 2, **further},
    }
    return {"Direct": None, **{name: registry.build(table, "sampler") for name, table in tables.items()}}


def _walks(D: Degradation, ways: dict[str, Sampler | None], *, knows_draw: bool) -> bool:
    """Whether what is known of the draw is all that the walks read."""
    known = set(entries(D)) - set(D.hidden) if knows_draw else set[str]()
    return all(way.reads(D) <= known for way in ways.values() if way is not None)


def _beside(name: str, x: Tensor, calls: int, one: Loaded, *, known: bool) -> Beside:
    return Beside(name, x, calls, *(measured(x, clean_of(one)) if known else (None, None)))
