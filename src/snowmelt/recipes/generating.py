"""Walks that generate, side by side: the same prior and seeds, as many pictures each; of a model that knows labels, at several scales of guidance.

Labels are asked for in turn, so that every class is asked for equally often. *Label accuracy* is the part of the pictures that a classifier gives
the label that was asked for.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation.generated import against
from snowmelt.evaluation.methods import calls, title
from snowmelt.evaluation.sets import matched
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.recipes.recipe import EvaluationOptions
from snowmelt.restoration import generated, guided
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler, default_walk
from snowmelt.training.progress import Bar
from snowmelt.types import EMPTY, Batch, Draw

_BATCH = 64  # not what fits in memory: numbers that are kept must not depend on the machine


def shown(o: EvaluationOptions, model: Model) -> Sampler:
    """The walk whose pictures are shown."""
    walk: Sampler = registry.build(o.walk, "sampler") if o.walk else default_walk(model)
    return walk


def asked(model: Model, n: int) -> Draw:
    """The labels of n pictures, class after class in turn; nothing of a model that knows none."""
    classes = model.restorer.conditions.classes if isinstance(model.restorer, Restorer) else 0
    return {"label": torch.arange(n) % classes} if classes else EMPTY


def make(model: Model, n: int, walk: Sampler, *, seed: int, guidance: float | None = None, device: torch.device | str = "cpu") -> Batch:
    """N pictures (n, c, h, w), on the CPU, under a progress bar."""
    said = f"generating, {registry.spec(walk)}" + ("" if guidance is None else f", guidance {guidance:g}")
    with Bar(said, n, unit="pictures") as bar:
        return made_by(model, n, walk, seed=seed, guidance=guidance, device=device, tick=bar.advance)


def made_by(
    model: Model,
    n: int,
    walk: Sampler,
    *,
    seed: int,
    guidance: float | None = None,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None],
) -> Batch:
    """The pictures of :func:`make`; `tick` is told how many more there are."""
    guiding = model if guidance is None else guided(model, guidance)
    parts = []
    for part in generated(guiding.to(device), n, sampler=walk, seed=seed, batch=_BATCH, conditions=asked(model, n)):
        parts.append(part)
        tick(len(part))
    return torch.cat(parts)


def scored(x: Batch, test: Dataset, features: Features | None, o: EvaluationOptions, read: Tensor | None = None) -> tuple[float, dict[str, Any]]:
    """The part of the pictures that diverged and, where none did, the row of the set; no set with such pictures has features.

    Args:
        x: generated pictures (n, c, h, w).
        test: pictures the model never saw.
        features: what is measured in; None measures no distances.
        o: seed and batch.
        read: the labels that were asked for, as numbers in the classes of the features.
    """
    lost = float((~x.flatten(1).isfinite().all(1)).double().mean())
    return lost, {"intervals": {}} if lost else against(x, test, features, labels=read, seed=o.seed, batch=o.batch)


def compare(
    model: Model,
    o: EvaluationOptions,
    test: Dataset,
    train: Dataset,
    features: Features | None,
    device: torch.device | str,
    made: Batch | None = None,
) -> tuple[list[dict[str, Any]], list[Batch]]:
    """A row for every walk and scale, real pictures last, and the first pictures of each.

    Args:
        model: one that has a prior.
        o: which walks and scales, and how many pictures of each.
        test: pictures the model never saw.
        train: where the floor comes from.
        features: what is measured in; None measures no distances.
        device: where to compute.
        made: what the walk that is :func:`shown` made, unguided, so that it is not walked again.

    Raises:
        ValueError: scales of guidance, and a model that knows no labels.
    """
    labels = asked(model, o.generate)
    if o.guidance and not labels:
        raise ValueError("evaluation.guidance guides by labels, and this model knows none: leave it out, or give model.conditions = label")
    read = _read(features, model, labels) if labels else None
    walks = [registry.build(spec, "sampler") for spec in o.generators] or [shown(o, model)]
    rows, sheets = [], []
    for walk in walks:
        for scale in o.guidance or (None,):
            known = made is not None and walk == shown(o, model) and scale in (None, 1)  # at scale 1 guidance changes nothing
            x = made if known and made is not None else make(model, o.generate, walk, seed=o.seed, guidance=scale, device=device)
            scale_cell = {} if scale is None else {"guidance": scale}
            cost = calls(walk, model.degradation) * (2 if scale not in (None, 0, 1) else 1)
            name, (lost, found) = title(walk), scored(x, test, features, o, read)
            if lost:  # a result, too
                name, x = f"{name}, diverged in {lost:.0%}", torch.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0)
            rows.append({"method": name, "sampler": registry.spec(walk), "calls": cost, **scale_cell, "N": o.generate, **found})
            sheets.append(x[:16])
    if features is not None:
        real = against(None, test, features, train=train, n=o.generate, seed=o.seed, batch=o.batch)
        rows.append({"method": "Floor: training pictures", "sampler": "", "calls": 0, "N": o.generate, **real})
    return rows, sheets


def _read(features: Features | None, model: Model, labels: Draw) -> Tensor | None:
    """What the classifier calls the labels that were asked for; None where it knows no such classes."""
    asked_for = labels["label"]
    own = model.notes.get("classes") or [str(i) for i in range(int(asked_for.max()) + 1)]
    return None if features is None else matched(features, asked_for, own)[0]
