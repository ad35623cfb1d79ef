"""Training on two data sets: exact resume, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.restorers import Restorer, UNet
from snowmelt.training.checkpoint import digest
from snowmelt.training.loop import Trainer
from snowmelt.training.options import TrainingOptions
from snowmelt.training.prior import prior_for

TINY = UNet(widths=(8, 16), patch=2, groups=4, blocks=1)
OPTIONS = TrainingOptions(images=320, batch=16, lr=2e-3, validate_every=160, validation_images=16, precision="fp32")


@pytest.fixture
def data(tmp_path: Path) -> DataOptions:
    """Two sets of unequal size: 70 dark pictures, 41 light ones."""
    for name, n, low in (("dark", 70, 0), ("light", 41, 128)):
        np.save(tmp_path / f"{name}.npy", torch.randint(low, low + 127, (n, 8, 8), generator=generator(0, name)).numpy().astype(np.uint8))
    return DataOptions(path=str(tmp_path / "dark.npy"), endpoint=str(tmp_path / "light.npy"), flip=True)


def trainer(data: DataOptions, out: Path, options: TrainingOptions = OPTIONS, spec: str = "morph") -> Trainer:
    degradation = snowmelt.build(spec)
    train = open_data(data, "train")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        restorer = Restorer(degradation, TINY, train.shape)
    return Trainer(prior_for(Model(degradation, restorer)), train, open_data(data, "validation"), options, out)


def test_a_run_taken_up_again_ends_in_the_same_weights(data: DataOptions, tmp_path: Path) -> None:
    trainer(data, tmp_path / "whole").run()
    first = trainer(data, tmp_path / "parts")
    first._prepare()
    for _ in range(7):  # in the middle of an epoch of either set
        first._advance(_Silent())
    first.save(validate=False)
    second = trainer(data, tmp_path / "parts")
    assert second.resume()
    second.run()
    assert digest(tmp_path / "whole") == digest(tmp_path / "parts")


def test_the_endpoint_is_that_of_the_data(data: DataOptions, tmp_path: Path) -> None:
    """Another second set gives other weights: the stand-in of the draw is not what is trained on."""
    trainer(data, tmp_path / "a").run()
    trainer(dataclasses.replace(data, endpoint=data.path), tmp_path / "b").run()
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
    run = trainer(data, tmp_path / "c")
    item = run.validation.batch(range(2))
    assert torch.equal(run.model.corrupt(item["x0"], 1.0, generator(0, "z"), item).z["endpoint"], item["endpoint"])
    assert float(item["endpoint"].min()) >= 0  # light


def test_a_sample_grid_shows_the_endpoint(data: DataOptions, tmp_path: Path) -> None:
    from snowmelt.training.validation import samples

    run = trainer(data, tmp_path)
    seen = samples(run.model, run.sampler, run.validation, 2, seed=0, device=torch.device("cpu"))["Degraded"]
    torch.testing.assert_close(seen, run.validation.batch(range(2))["endpoint"], atol=1e-3, rtol=0)


def test_a_morph_needs_two_sets(data: DataOptions, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"morph.* is trained on two sets.*give --data.endpoint"):
        trainer(dataclasses.replace(data, endpoint=None), tmp_path)
    with pytest.raises(ValueError, match="has no use for data.endpoint"):
        trainer(data, tmp_path, spec="gaussian-blur:sigma_px=2")


def test_a_morph_gets_no_prior_of_noise(data: DataOptions, tmp_path: Path) -> None:
    assert trainer(data, tmp_path).model.prior is None


class _Silent:
    """A bar that shows nothing."""

    done = 0

    def advance(self, n: int, **values: float) -> None:
        """Nothing."""
