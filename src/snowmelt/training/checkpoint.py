"""Checkpoints: everything a run needs to go on, in one file that is either whole or not there.

Randomness is counter-based, so the state of a run is its step number and tensors: weights, their average, the
optimiser's moments, under fp16 the scale of the gradients. They go into a single safetensors file, written beside the old one and renamed.
"""

from pathlib import Path

import torch
from torch import Tensor

from snowmelt.files import BadFile, read_tensors, write_tensors
from snowmelt.restorers import Restorer
from snowmelt.training.ema import Average
from snowmelt.training.scaling import Scaling

NAME = "checkpoint.safetensors"


def save(
    path: Path, restorer: Restorer, average: Average, optimizer: torch.optim.Optimizer, scaling: Scaling, step: int, wall_s: float
) -> None:
    """Write the state after `step` optimiser steps and `wall_s` seconds of training to the run directory `path`."""
    tensors: dict[str, Tensor] = {"step": torch.tensor(step), "wall_s": torch.tensor(wall_s, dtype=torch.float64)}
    tensors |= {f"weights.{name}": value for name, value in restorer.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in average.restorer.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors |= {f"scaling.{name}": value for name, value in scaling.tensors().items()}
    write_tensors(path / NAME, tensors)


def load(path: Path, restorer: Restorer, average: Average, optimizer: torch.optim.Optimizer, scaling: Scaling) -> tuple[int, float]:
    """Put the saved state back into all four; returns the step and the seconds trained so far. A run saved without a scale begins with a new one.

    Raises:
        BadFile: the checkpoint is damaged or belongs to another network.
    """
    tensors = read_tensors(path / NAME)
    try:
        restorer.load_state_dict(_under(tensors, "weights."))
        average.restorer.load_state_dict(_under(tensors, "ema."))
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for name, value in _under(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            # A fused optimiser walks weights and moments as flat memory: a moment must lie as its weight does.
            like = parameters[int(index)]
            moments.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        scaling.restore(_under(tensors, "scaling."))
        return int(tensors["step"]), float(tensors["wall_s"])
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        raise BadFile(f"{path / NAME} does not fit this recipe: {error}; start over with --fresh, or choose another --out") from None


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
