"""What generate, edit and solve have in common before they walk: conditions that fit, and all tensors where the weights are."""

import torch
from torch import Tensor, nn

from snowmelt.model import Model
from snowmelt.restorers.guidance import conditions_of
from snowmelt.types import Batch, Draw


def require_rows(conditions: Draw, n: int) -> None:
    """Refuse conditions that have not one row a sample.

    Raises:
        ValueError: they have not.
    """
    for name, value in conditions.items():
        if value.ndim < 1 or len(value) != n:
            raise ValueError(f"the condition {name} has shape {tuple(value.shape)} for {n} samples: give one row per sample")


def require_known(model: Model, x: Batch, conditions: Draw) -> None:
    """Refuse conditions of samples x (b, *d) that the model was not trained with, or that are not as many or as large as these.

    Raises:
        ValueError: they are so.
    """
    if not conditions:
        return
    require_rows(conditions, len(x))
    known = conditions_of(model.restorer)
    if known is not None:
        known.check(conditions)
    image = conditions.get("image")
    if image is not None and image.shape[2:] != x.shape[2:]:
        (h, w), have = x.shape[2:], f"{image.shape[-1]} x {image.shape[-2]} px"
        raise ValueError(f"the condition image is {have}; samples of this model are {w} x {h} px: give it in that size")


def device_of(model: Model, like: Tensor) -> torch.device:
    """Where the model's weights are; of a plain function, where `like` is."""
    weight = next(model.restorer.parameters(), None) if isinstance(model.restorer, nn.Module) else None
    return like.device if weight is None else weight.device


def moved(z: Draw, device: torch.device) -> Draw:
    """A draw on another device."""
    return {name: value.to(device) for name, value in z.items()}
