"""Which model a result comes from: its name and the SHA-256 of its weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from snowmelt.model import Model, load, located, weights_of
from snowmelt.restorers import Restorer


class Opened(NamedTuple):
    """A model, what it is called, and the SHA-256 of its weights."""

    model: Model
    name: str
    weights: str


def opened(model: Model | Opened | str | Path) -> Opened:
    """A model that is at hand, in a run directory, or comes with the package under a name; raises as :func:`snowmelt.load` does."""
    if isinstance(model, Opened):
        return model
    if isinstance(model, Model):
        return Opened(model, "", digest(model))
    found = load(model)
    # The last part only: where a run lies on somebody's disk is nothing to write into pictures that are passed on.
    return Opened(found, Path(model).resolve().name, weights_of(located(model)))


def digest(model: Model) -> str:
    """The SHA-256 of the weights in memory: names, shapes and bytes; of a plain function, nothing."""
    if not isinstance(model.restorer, Restorer):
        return ""
    return digest_of(model.restorer.state_dict())


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of named tensors: names, shapes and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
