"""Runs of every format there has been load for ever: model, averaged and raw weights, checkpoint, recipe. tests/golden/make.py has made them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import snowmelt
from snowmelt.files import read_json, read_tensors, sha256
from snowmelt.recipes import directory, run
from snowmelt.training import checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.json"))


@pytest.fixture(scope="module")
def make(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/golden/make.py")


def expected(name: str) -> dict:
    return json.loads((GOLDEN / name / "expected.json").read_text())


def test_every_format_has_its_golden_run() -> None:
    assert [f"format-{number}" for number in range(1, checkpoint.FORMAT + 1)] == NAMES
    seals = ["seal" in read_json(GOLDEN / name / "model.json") for name in NAMES]
    assert seals == [False, True]
    assert [(GOLDEN / name / "checkpoint.safetensors").is_file() for name in NAMES] == [True, False]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_that_were_made(name: str) -> None:
    assert {file: sha256(GOLDEN / name / file) for file in expected(name)["files"]} == expected(name)["files"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_golden_model_restores_as_it_did(make: ModuleType, name: str, weights: str) -> None:
    torch.testing.assert_close(torch.tensor(make.outputs(GOLDEN / name, weights)), torch.tensor(expected(name)[weights]), atol=1e-5, rtol=0)
    assert (GOLDEN / name / "expected.json").stat().st_size > 1000  # the two kinds of weights differ, and so do their outputs
    assert expected(name)["ema"] != expected(name)["raw"]


def test_a_golden_checkpoint_is_taken_up_exactly(make: ModuleType, tmp_path: Path, figure: Callable[[str, str], None]) -> None:
    largest = 0.0
    for name in NAMES:
        folder = tmp_path / name
        shutil.copytree(GOLDEN / name, folder)
        trainer = run.make_trainer(directory.stored(folder), folder, inexact=True)  # on whatever machine this is
        held, told = checkpoint.Held(trainer.restorer, trainer.average, trainer.optimizer, trainer.scaling), list[str]()
        said = checkpoint.load(folder, held, tell=told.append)
        assert said is not None
        assert not told
        assert (said["step"], said["regular"]) == (expected(name)["step"], True)
        (file,) = folder.glob("checkpoint*.safetensors")
        known = read_tensors(file).keys()  # what later formats count more is no part of it
        state = {key: value for key, value in checkpoint._tensors(held, said["step"]).items() if key in known}
        assert make.state(state) == expected(name)["state"]
        assert trainer.resume()
        assert trainer.step == expected(name)["step"]
        largest = max(largest, *(abs(a - b) for a, b in zip(make.outputs(folder, "ema"), expected(name)["ema"], strict=True)))
    figure("checkpoint-golden", f"{', '.join(NAMES)}: states equal to the bit, outputs within {largest:.1e} (1e-5 allowed)")


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_run_is_loaded_by_its_path_alone(name: str) -> None:
    model = snowmelt.load(GOLDEN / name)
    assert model.degradation == snowmelt.build("gaussian-blur:sigma_px=2")
    assert model.estimates == "mean"
    assert model.input == "8bit"
