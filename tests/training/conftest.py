"""A small run, for whoever looks at how it is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.model import Model
from snowmelt.restorers import Restorer, UNet
from snowmelt.training import checkpoint, prior
from snowmelt.training.loop import Trainer
from snowmelt.training.options import TrainingOptions


@pytest.fixture
def small() -> Callable[..., Trainer]:
    """small(out, spec=..., floor=..., data=..., workers=..., **options): a trainer of a tiny network, 20 steps of 16 digits unless told otherwise."""

    def make(
        out: Path,
        *,
        spec: str = "gaussian-blur:sigma_px=2",
        floor: float = 0.0,
        data: DataOptions | None = None,
        workers: int | None = None,
        **options: object,
    ) -> Trainer:
        data = data or DataOptions(path="bundled:digits", size=8)
        numbers = {"images": 320, "batch": 16, "lr": 2e-3, "validate_every": 160, "validation_images": 16, "precision": "fp32", **options}
        degradation, train = snowmelt.build(spec), open_data(data, "train")
        with torch.random.fork_rng():
            torch.manual_seed(7)
            restorer = Restorer(degradation, UNet(widths=(8, 16), patch=2, groups=4, blocks=1), train.shape, noise_floor=floor)
        model = prior.prior_for(Model(degradation, restorer, noise_floor=floor))
        return Trainer(model, train, open_data(data, "validation"), TrainingOptions(**numbers), out, workers=workers)  # type: ignore[arg-type]

    return make


@pytest.fixture
def digest() -> Callable[[Path], str]:
    """One hash over all that a run's newest checkpoint holds; the time is no part of it."""
    return checkpoint.digest
