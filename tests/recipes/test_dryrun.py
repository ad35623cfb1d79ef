"""The dry run: counts what can be counted, measures the rest, writes nothing."""

import dataclasses

import pytest
import torch

from snowmelt.data.options import DataOptions
from snowmelt.recipes import dryrun
from snowmelt.recipes.dryrun import measure
from snowmelt.recipes.recipe import ModelOptions, Recipe
from snowmelt.recipes.run import make_trainer
from snowmelt.training.loop import Trainer
from snowmelt.training.options import TrainingOptions

RECIPE = Recipe(
    "mask+noise",
    data=DataOptions(size=8),
    model=ModelOptions(backbone="unet:widths=(8,16),patch=2,groups=4"),
    training=TrainingOptions(images=640, batch=16, precision="fp32"),
)


def test_what_it_counts(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cost = measure(RECIPE)
    parameters = sum(p.numel() for p in make_trainer(RECIPE, tmp_path).restorer.parameters())
    assert cost.parameters == parameters
    assert cost.state_bytes == 20 * parameters
    assert (cost.steps, cost.images, cost.shape) == (40, 640, (1, 8, 8))
    assert cost.step_s > 0
    assert list(tmp_path.iterdir()) == []
    assert cost.strip.width > cost.strip.height


def test_activations_grow_with_the_batch() -> None:
    def kept(batch: int) -> int:
        return measure(dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, batch=batch))).activation_bytes

    small, large = kept(16), kept(64)
    assert large == pytest.approx(4 * small, rel=0.1)


def test_it_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measure(RECIPE)
    assert torch.equal(torch.rand(1), expected)


def test_who_no_longer_wants_to_know_stops_it_before_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Exception):
        pass

    batches: list[int] = []
    loss = dryrun._loss

    def counted(trainer: Trainer, step: int) -> torch.Tensor:
        batches.append(step)
        return loss(trainer, step)

    def check() -> None:
        if len(batches) == 4:  # the one that memory was counted in, a whole step of two, and half of the next
            raise Gone

    monkeypatch.setattr(dryrun, "_loss", counted)
    with pytest.raises(Gone):
        measure(dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, accumulate=2)), check=check)
    assert batches == [0, 0, 1, 2]
