"""Do model, data and options belong together? Asked before the first step, so that no hour is spent on what could not have worked."""

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Blend, Degradation, chain
from snowmelt.losses import check_weight
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import label, spec
from snowmelt.restorers import Restorer
from snowmelt.signals import Scan
from snowmelt.training.options import TrainingOptions

_IDENTITY = 1e-3


def agree(model: Model, data: Dataset, options: TrainingOptions) -> None:
    """Refuse a training that could not work.

    Raises:
        ValueError: the operator is not the identity at t = 0; the data lack what the degradation or the restorer's conditions need of them, or
            hold what nobody has a use for.
        TypeError: a weight, a law of severities or a learned variance that only noise has.
    """
    degradation = model.degradation
    _require_identity(degradation, data.shape)
    _require_data(model, data)
    if options.severities in ("log-normal", "logit-normal") and not isinstance(degradation, Blend):
        raise TypeError(f"training.severities = {options.severities} is a law of noise levels, and {spec(degradation)} has none: take uniform")
    if isinstance(model.restorer, Restorer) and model.restorer.variance == "learned":
        chain.require(degradation)
        if degradation.basis != "any":
            raise TypeError(f"model.variance = learned needs one variance for all frequencies, which {spec(degradation)} has not: take fixed")
        if model.noise_floor > 0 or model.input == "8bit":
            added = f"model.noise_floor = {model.noise_floor:g}" if model.noise_floor > 0 else "model.input = 8bit"
            raise ValueError(f"{added} is no part of the chain whose variance is learned: leave it out, or take model.variance = fixed")
    if options.unfold and isinstance(model.restorer, Restorer) and model.restorer.variance == "learned":
        raise ValueError("training.unfold says nothing of the variance of a step: take model.variance = fixed, or leave it out")
    if options.counted != "all" and not isinstance(data.signal, Scan):
        raise ValueError(f"training.counted = {options.counted} is for scans, and these are {data.signal.many}: leave it out")
    check_weight(degradation, options.weight)


def _require_data(model: Model, data: Dataset) -> None:
    """Refuse data that lack something, or hold what there is no use for."""
    degradation = model.degradation
    name, wanted = spec(degradation), {entry.rpartition(".")[2] for entry in degradation.needs}
    missing = sorted(wanted - set(data.keys))
    if missing:
        raise ValueError(f"{name} is trained on two sets of {data.signal.many}, and there is no {', '.join(missing)}: give --data.endpoint")
    told = model.restorer.conditions.names if isinstance(model.restorer, Restorer) else ()
    untold = sorted({"endpoint" if one == "image" else one for one in told} - set(data.keys))
    if untold:
        raise ValueError(f"model.conditions needs {', '.join(untold)}, which the data do not have")
    usable = {"x0", "label", "vector", *(entry.rpartition(".")[2] for entry in degradation.given), *(("endpoint",) if "image" in told else ())}
    idle = sorted(set(data.keys) - usable)
    if idle:
        raise ValueError(f"{name} has no use for data.{', '.join(idle)}: leave it out, or train morph")


def _require_identity(degradation: Degradation, shape: tuple[int, ...]) -> None:
    """Refuse an operator that changes a sample at t = 0: a walk with it ends anywhere but at a clean sample.

    Raises:
        ValueError: it does; with by how much.
    """
    source = generator(0, "identity")
    x = normal(torch.empty(2, *shape), source) / 2
    off = float((degradation(x, torch.zeros(2), degradation.draw(x, source)) - x).abs().max())
    if not off < _IDENTITY:
        what = label(type(degradation))
        raise ValueError(f"{what} is not the identity at t = 0: it is off by {off:.2g}. 'snowmelt check-degradation' says more, and what to do")
