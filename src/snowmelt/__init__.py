"""snowmelt: undo any degradation.

Name or write a degradation D(x, t, z), point at your data, get a trained restorer R, then restore, generate and evaluate::

    import snowmelt

    model = snowmelt.load("runs/demo")
    clean = snowmelt.restore(model, x, severity=0.5)

Everything is loaded when it is first used: ``import snowmelt`` alone does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from snowmelt._version import __version__

_HOME = {
    "build": "snowmelt.registry",
    "register": "snowmelt.registry",
    "Range": "snowmelt.registry",
    "spec": "snowmelt.registry",
    "State": "snowmelt.types",
    "Draw": "snowmelt.types",
    "Degradation": "snowmelt.degradations",
    "LinearDegradation": "snowmelt.degradations",
    "Compose": "snowmelt.degradations",
    "Restorer": "snowmelt.restorers",
    "Backbone": "snowmelt.restorers",
    "Prior": "snowmelt.priors",
    "Model": "snowmelt.model",
    "load": "snowmelt.model",
    "save": "snowmelt.model",
    "Sampler": "snowmelt.samplers",
    "restoration_loss": "snowmelt.losses",
    "show": "snowmelt.pictures",
    "restore": "snowmelt.restoration",
    "generate": "snowmelt.restoration",
    "translate": "snowmelt.restoration",
    "interpolate": "snowmelt.restoration",
    "edit": "snowmelt.restoration",
    "solve": "snowmelt.restoration",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the names are strings

if TYPE_CHECKING:
    from snowmelt.degradations import Compose, Degradation, LinearDegradation
    from snowmelt.losses import restoration_loss
    from snowmelt.model import Model, load, save
    from snowmelt.pictures import show
    from snowmelt.priors import Prior
    from snowmelt.registry import Range, build, register, spec
    from snowmelt.restoration import edit, generate, interpolate, restore, solve, translate
    from snowmelt.restorers import Backbone, Restorer
    from snowmelt.samplers import Sampler
    from snowmelt.types import Draw, State


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        try:
            value = importlib.import_module(f"snowmelt.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"snowmelt.{name}":
                raise
            raise AttributeError(f"module 'snowmelt' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
