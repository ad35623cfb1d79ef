"""Which walks an evaluation compares, and by what one that was interrupted is known again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.model import Model, save
from snowmelt.priors import Normal
from snowmelt.recipes import generating
from snowmelt.recipes.judging import fitting, judge, settles, walks
from snowmelt.recipes.recipe import EvaluationOptions, Recipe
from snowmelt.registry import load_plugin
from snowmelt.restorers import Restorer, UNet
from snowmelt.types import Batch


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


def test_one_ingredient_that_changes_is_another_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of an evaluation is found again by all that settles its numbers: nothing may be left out, and nothing else matters."""
    pixels, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    d = snowmelt.build("gaussian-blur")
    with torch.random.fork_rng(devices=[]):
        saved = Model(d, Restorer(d, UNet(widths=(8,), blocks=1), (1, 8, 8)))
    save(saved, tmp_path / "run")
    found, plain = dict[str, str](), EvaluationOptions()

    def said(what: str, o: EvaluationOptions = plain, model: Model = saved, **prepared: object) -> str:
        path = tmp_path / what / "x.npz"
        path.parent.mkdir()
        np.savez(path, x0=pixels, label=labels, vector=np.zeros((60, 2), np.float32))
        options = DataOptions(**{"path": str(path), "validation": 0.2, "test": 0.2, **prepared})  # type: ignore[arg-type]
        data = [open_data(options, split) for split in ("test", "validation", "train")]
        found[what] = json.dumps(settles(tmp_path / "run", o, model, data, None, "cpu"), sort_keys=True, default=str)
        return found[what]

    assert said("here") == said("the same pictures elsewhere")
    del found["the same pictures elsewhere"]
    said("options", EvaluationOptions(seed=1))
    said("another model", model=Model(snowmelt.build("gaussian-blur:sigma_px=3"), saved.restorer))
    said("another floor", model=Model(d, lambda x, t: x, noise_floor=0.1))
    said("another size", size=4)
    said("another cut", size=4, fit="crop")
    said("another range", range=(0, 300))
    said("fewer", limit=8)
    for split in ("test", "validation", "train"):  # in each of them one of many pictures, and there one pixel
        data = open_data(DataOptions(path=str(tmp_path / "here" / "x.npz"), validation=0.2, test=0.2), split)  # type: ignore[arg-type]
        row = int(data.ids[-1].partition("#")[2])
        was = pixels[row].copy()
        pixels[row, 0, 0] ^= 1
        said(f"a pixel of {split}")
        pixels[row] = was
        labels[row] = (labels[row] + 1) % 3
        said(f"a label of {split}")
        labels[row] = (labels[row] + 2) % 3
    assert said("as before") == found["here"]
    del found["as before"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    said("threads")
    monkeypatch.undo()
    plugin = tmp_path / "mine.py"
    plugin.write_text("from snowmelt.degradations import GaussianBlur\nfrom snowmelt.registry import register\n\n\n"
                      "@register('my-blur')\nclass Mine(GaussianBlur):\n    '''Mine.'''\n")  # fmt: skip
    load_plugin(plugin)
    said("a plug-in")
    plugin.write_text(plugin.read_text() + "\n")
    said("another plug-in")
    assert len(set(found.values())) == len(found), "two evaluations would be taken for one"


def test_two_folders_of_the_same_names_are_not_taken_for_one(tmp_path: Path) -> None:
    """One file of many is another, one that nothing of is shown: also among the endpoints of pairs, whose bytes nothing else asks for."""
    from PIL import Image

    for folder in ("a", "b", "there", "other"):
        (tmp_path / folder).mkdir()
        for i in range(30):
            grey = 250 if (folder, i) in (("b", 17), ("other", 17)) else 8 * i
            Image.new("L", (8, 8), grey).save(tmp_path / folder / f"{i}.png")

    def content(folder: str, endpoint: str | None = None) -> tuple[str, ...]:
        options = DataOptions(path=str(tmp_path / folder), endpoint=endpoint and str(tmp_path / endpoint), pairs=endpoint is not None, test=0.5)
        return tuple(open_data(options, split).content() for split in ("test", "validation", "train"))

    assert content("a") == content("a") != content("b")
    assert content("a", "there") == content("a", "there") != content("a", "other")


def test_what_was_generated_is_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk that is shown is one of those compared, and a second copy of its pictures may be gigabytes."""
    made: list[int] = []
    make = generating.make

    def counted(*given: Any, **more: Any) -> Callable[[], Batch]:
        get = make(*given, **more)
        return lambda: (made.append(1), get())[1]  # type: ignore[func-returns-value]

    monkeypatch.setattr(generating, "make", counted)
    d = snowmelt.build("noise")
    model = Model(d, Restorer(d, UNet(widths=(8,), blocks=1), (1, 8, 8)), Normal((1, 8, 8)))
    save(model, tmp_path / "run")
    o = EvaluationOptions(images=4, generate=8, walk="ancestral:eta=0,steps=1", generators=("ancestral:eta=0,steps=1",), calls=(1,), features=None)
    judge(tmp_path / "run", Recipe(degradation="noise", data=DataOptions(path="bundled:digits", size=8), evaluation=o), model, tmp_path / "out")
    assert made == [1]
