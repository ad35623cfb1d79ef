"""Which walks an evaluation compares."""

from pathlib import Path

import pytest

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.model import Model
from snowmelt.recipes.judging import judge, walks
from snowmelt.recipes.recipe import EvaluationOptions, Recipe


def names(samplers: tuple[str, ...] | None, degradation: str) -> list[str]:
    options = EvaluationOptions(calls=(4,)) if samplers is None else EvaluationOptions(calls=(4,), samplers=samplers)
    return [f"{type(one).__name__} {getattr(one, 'eta', '')}".strip() for one in walks(options, snowmelt.build(degradation))[0]]


def test_for_noise_only_the_default_walks_are_exchanged() -> None:
    assert names(None, "noise") == ["Ancestral 0.0", "Ancestral 1.0"]
    assert names(("ancestral:eta=0.5",), "noise") == ["Ancestral 0.5"]
    assert names(("naive", "tacos"), "noise") == []  # both read the noise, which nobody could know: nothing is put in their place
    assert names(None, "pixelate") == ["Naive", "TACoS", "TACoS"]


def test_a_sampler_that_says_its_steps_is_taken_once() -> None:
    options = EvaluationOptions(calls=(4, 8), samplers=("tacos:steps=5", "naive"))
    found = [(type(one).__name__, one.steps) for one in walks(options, snowmelt.build("gaussian-blur"))[0]]
    assert found == [("TACoS", 5), ("Naive", 4), ("Naive", 8)]


def test_pictures_of_other_classes_than_the_models_are_refused(tmp_path: Path) -> None:
    """Labels are numbers: of other classes they would tell the model something else."""
    recipe = Recipe(degradation="noise", data=DataOptions(path="bundled:digits", size=8))
    model = Model(snowmelt.build("noise"), lambda x, t: x, notes={"classes": ["1", "0", *"23456789"]})
    says = "^these pictures are of the classes 0, 1, 2, 3, 4, and the model was trained with 1, 0, 2, 3, 4: take pictures of the same classes$"
    with pytest.raises(ValueError, match=says):
        judge(tmp_path / "run", recipe, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
