"""Which walks an evaluation compares."""

from pathlib import Path

import pytest

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.model import Model
from snowmelt.recipes.judging import fitting, judge, walks
from snowmelt.recipes.recipe import EvaluationOptions, Recipe


def of(degradation: str, **fields: str) -> Model:
    return Model(snowmelt.build(degradation), lambda x, t: x, **fields)  # type: ignore[arg-type]


def names(samplers: tuple[str, ...] | None, degradation: str) -> list[str]:
    options = EvaluationOptions(calls=(4,)) if samplers is None else EvaluationOptions(calls=(4,), samplers=samplers)
    return [f"{type(one).__name__} {getattr(one, 'eta', '')}".strip() for one in walks(options, of(degradation))[0]]


def test_for_noise_only_the_default_walks_are_exchanged() -> None:
    assert names(None, "noise") == ["Ancestral 0.0", "Ancestral 1.0"]
    assert names(("ancestral:eta=0.5",), "noise") == ["Ancestral 0.5"]
    assert names(("naive", "tacos"), "noise") == []  # both read the noise, which nobody could know: nothing is put in their place
    assert names(None, "pixelate") == ["Naive", "TACoS", "TACoS"]


def test_a_sampler_that_says_its_steps_is_taken_once() -> None:
    options = EvaluationOptions(calls=(4, 8), samplers=("tacos:steps=5", "naive"))
    found = [(type(one).__name__, one.steps) for one in walks(options, of("gaussian-blur"))[0]]
    assert found == [("TACoS", 5), ("Naive", 4), ("Naive", 8)]


def test_of_a_tuned_model_only_short_walks_are_compared_and_the_one_it_is_tuned_for() -> None:
    made = ("tacos:steps=8", "tacos:steps=2")
    options = EvaluationOptions(calls=(1, 4), samplers=("naive", "tacos:order=2"), walk="tacos:steps=8", generators=made, generate=2)
    found = [(type(one).__name__, one.steps) for one in walks(options, of("gaussian-blur", estimates="consistency(0.94)"))[0]]
    assert ("TACoS", 2) in found
    assert ("Naive", 1) in found
    assert not {("Naive", 4), ("TACoS", 4)} & set(found)
    tuned, plain = (fitting(options, one) for one in (of("gaussian-blur", estimates="consistency(0.94)"), of("gaussian-blur")))
    assert (tuned.walk, tuned.generators) == (None, ("tacos:steps=2",))
    assert plain == options


def test_pictures_of_other_classes_than_the_models_are_refused(tmp_path: Path) -> None:
    """Labels are numbers: of other classes they would tell the model something else."""
    recipe = Recipe(degradation="noise", data=DataOptions(path="bundled:digits", size=8))
    model = Model(snowmelt.build("noise"), lambda x, t: x, notes={"classes": ["1", "0", *"23456789"]})
    says = "^these pictures are of the classes 0, 1, 2, 3, 4, and the model was trained with 1, 0, 2, 3, 4: take pictures of the same classes$"
    with pytest.raises(ValueError, match=says):
        judge(tmp_path / "run", recipe, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
