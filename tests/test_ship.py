"""scripts/ship.py: what becomes of a run that is put into the package."""

from pathlib import Path
from types import ModuleType

import pytest
import torch

import snowmelt
from snowmelt.recipes import run
from snowmelt.recipes.recipe import from_table

TINY = {
    "degradation": "gaussian-blur:sigma_px=2",
    "data": {"path": "bundled:digits", "size": 8},
    "model": {"backbone": "local-unet:widths=(8,8),blocks=1", "parameterization": "residual"},
    "training": {"images": 32, "batch": 16, "validation_images": 8, "precision": "fp32"},
}


@pytest.fixture(scope="module")
def ship(script) -> ModuleType:
    return script("scripts/ship.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("runs")
    run.train(from_table(TINY), place / "first")
    second = {**TINY, "model": {**TINY["model"], "init": str(place / "first")}, "training": {**TINY["training"], "seed": 1}}
    run.train(from_table(second), place / "second")
    return place / "first", place / "second"


def test_a_shipped_model_is_the_run_in_half_precision(ship, runs, tmp_path):
    size = ship.ship(runs[0], tmp_path / "x")
    assert size == sum(path.stat().st_size for path in (tmp_path / "x").iterdir()) < 60_000
    whole, half = (snowmelt.load(path).restorer.state_dict() for path in (runs[0], tmp_path / "x"))
    assert all(torch.equal(value.half().float(), half[name]) for name, value in whole.items())
    assert len(list((tmp_path / "x").glob("*.safetensors"))) == 1  # the raw weights and the checkpoint stay behind


def test_a_share_is_a_mean_with_what_came_before(ship, runs, tmp_path):
    ship.ship(runs[1], tmp_path / "x", 0.25)
    before, after, mean = (snowmelt.load(path).restorer.state_dict() for path in (*runs, tmp_path / "x"))
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    for name, value in mean.items():
        torch.testing.assert_close(value, (0.75 * before[name] + 0.25 * after[name]).half().float(), rtol=1e-3, atol=1e-6)
    assert snowmelt.load(tmp_path / "x").notes["share"] == 0.25
    assert str(runs[0].parent) not in (tmp_path / "x" / "model.json").read_text()
    for wrong in ((runs[0], 0.5), (runs[1], 0.0)):
        with pytest.raises(ValueError, match="share = "):
            ship.ship(wrong[0], tmp_path / "y", wrong[1])
