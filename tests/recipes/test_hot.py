"""Recipes of the hot family: fields from TOML and the command line, sizes of conditions from the data, errors that name the way out."""

from pathlib import Path

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt.cli import main
from snowmelt.data.sources import open_data
from snowmelt.priors import Normal
from snowmelt.recipes import directory, run
from snowmelt.recipes.recipe import from_table, load, presets, to_table, to_toml
from snowmelt.registry import spec
from snowmelt.restorers import Conditions

MODEL = {"backbone": "unet:widths=(8,16),patch=2,groups=4,blocks=1"}
TRAINING = {"images": 32, "batch": 16, "validation_images": 8, "precision": "fp32"}
TABLE = {
    "degradation": "noise:schedule=betas(steps=50,beta_max=0.4)",
    "data": {"path": "bundled:digits", "size": 8},
    "model": {**MODEL, "parameterization": "eps", "conditions": ["label"], "variance": "learned"},
    "training": {**TRAINING, "weight": "output", "severities": "logit-normal", "severity_mean": 0, "drop_condition": 0.2},
    "evaluation": {"generate": 8, "generators": ["ancestral:eta=0,steps=2"], "guidance": [0, 1.5]},
}


def refused(**changes: dict[str, object]) -> str:
    table = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else changes.get(key, value) for key, value in TABLE.items()}
    with pytest.raises((ValueError, TypeError)) as found:
        run.make_trainer(from_table(table), Path("nowhere"))
    assert "\n" not in str(found.value)
    return str(found.value)


def test_every_new_field_goes_through_toml(tmp_path: Path) -> None:
    recipe = from_table(TABLE)
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    assert from_table(load(tmp_path / "r.toml")) == recipe
    assert recipe.model.conditions == ("label",)
    assert recipe.evaluation.guidance == (0.0, 1.5)
    table = to_table(recipe)
    assert (table["training"]["weight"], table["training"]["severity_mean"], table["model"]["variance"]) == ("output", 0.0, "learned")


def test_the_size_of_a_condition_is_that_of_the_data(tmp_path: Path) -> None:
    recipe = from_table(TABLE)
    data = open_data(recipe.data, "train")
    model = run.make_model(recipe, data.shape, data)
    assert model.restorer.conditions == Conditions(classes=10)
    assert model.notes["classes"] == [str(i) for i in range(10)]
    assert model.restorer.variance == "learned"
    assert isinstance(model.prior, Normal)
    picture = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x0=picture, vector=np.zeros((30, 5)))
    np.save(tmp_path / "b.npy", 255 - picture)
    table = {**TABLE, "data": {"path": str(tmp_path / "a.npz"), "endpoint": str(tmp_path / "b.npy"), "pairs": True}}
    table["model"] = {**MODEL, "conditions": ["vector", "image"]}
    recipe = from_table(table)
    data = open_data(recipe.data, "train")
    assert run.make_model(recipe, data.shape, data).restorer.conditions == Conditions(vector=5, image=1)
    model = run.train(recipe, tmp_path / "run")
    assert snowmelt.load(tmp_path / "run").restorer.conditions == model.restorer.conditions


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    said, weights = refused(training={"weight": "ouput"}), "uniform, output, min-output, snr, min-snr, bound"
    assert said.startswith(f"training.weight = ouput is unknown (did you mean 'output'?); choose one of {weights}")
    assert "did you mean 'weight'" in refused(training={"wieght": "output"})
    assert refused(model={"conditions": ["lable"]}).startswith("model.conditions")
    assert refused(model={"variance": "large"}).startswith("model.variance")
    assert refused(evaluation={"generate": 0}).startswith("evaluation.generators and guidance compare generated pictures")
    np.save(tmp_path / "a.npy", np.zeros((30, 8, 8), dtype=np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None])
    ways = {"label": "give a folder of a folder for each class", "vector": "an array vector", "image": "give --data.endpoint and --data.pairs"}
    for condition, way_out in ways.items():
        said = refused(data={"path": str(tmp_path / "a.npy")}, model={"conditions": [condition]})
        assert said.startswith(f"model.conditions = {condition}, but ")
        assert way_out in said
    cold = {"degradation": "gaussian-blur", "model": {"parameterization": "x0", "variance": "fixed"}}
    for weight in ("snr", "min-snr", "bound"):
        said = refused(**cold, training={"weight": weight, "severities": "auto"})
        assert said.startswith(f"the weight {weight} is a ratio of signal to noise, and gaussian-blur is no Gaussian chain")
        assert said.endswith("or take training.weight = uniform")
    assert refused(**cold, training={"weight": "uniform"}).startswith("training.severities = logit-normal is a law of noise levels")
    learned = {"degradation": "gaussian-blur", "model": {"parameterization": "x0"}}
    assert refused(**learned, training={"weight": "uniform", "severities": "auto"}).startswith("gaussian-blur is no Gaussian chain")
    assert refused(degradation="noise:schedule=karras(sigma_min=90)").startswith("karras.sigma_min = 90 is above its sigma_max = 80")


def test_a_model_of_conditions_is_not_made_without_data() -> None:
    with pytest.raises(ValueError, match="model.conditions = label: their size is that of the data, which are not given here"):
        run.make_model(from_table(TABLE), (1, 8, 8))


def test_the_command_line_sets_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["train", "--data", "bundled:digits", "--degradation", "noise:schedule=karras", "--out", str(out), "--images", "32"]
    words += ["--model.backbone", MODEL["backbone"], "--training.batch", "16", "--training.precision", "fp32", "--training.validation_images", "8"]
    hot = ["--model.conditions", "label", "--model.parameterization", "edm:sigma_data=0.7", "--training.weight", "output"]
    hot += ["--training.severities", "log-normal", "--training.severity_std", "1.1", "--training.drop_condition", "0.25"]
    assert main([*words, *hot]) == 0
    kept = load(out / "recipe.toml")
    assert kept["model"]["conditions"] == ["label"]
    assert (kept["training"]["severities"], kept["training"]["severity_std"], kept["training"]["drop_condition"]) == ("log-normal", 1.1, 0.25)
    model = snowmelt.load(out)
    assert model.prior.scale == 80
    assert model.notes["classes"] == [str(i) for i in range(10)]
    capsys.readouterr()
    cold = [word.replace("noise:schedule=karras", "gaussian-blur") for word in words]
    cold[cold.index(str(out))] = str(tmp_path / "cold")
    assert main([*cold, "--training.weight", "snr"]) != 0
    assert "gaussian-blur is no Gaussian chain" in capsys.readouterr().err
    assert not (tmp_path / "cold" / "model.json").exists()


def test_a_recipe_from_before_all_this_is_the_same_recipe() -> None:
    """A run directory of an earlier version, whose recipe.toml lacks the new fields, is gone on with."""
    old = to_table(from_table({"degradation": "noise", "data": TABLE["data"]}))
    for name in ("conditions", "variance"):
        del old["model"][name]
    for name in ("weight", "severity_mean", "severity_std", "drop_condition"):
        del old["training"][name]
    for name in ("generators", "guidance"):
        del old["evaluation"][name]
    assert directory.differences(to_table(from_table(old)), to_table(from_table({"degradation": "noise", "data": TABLE["data"]}))) == {}


HOT = [name for name in presets() if name.startswith(("fashion-", "mnist-")) and load(name).get("degradation", "").startswith("noise")]


def test_the_hot_recipes_are_there() -> None:
    wanted = {f"fashion-hot-{one}" for one in ("eps", "x0", "v", "mu")} | {f"fashion-{one}" for one in ("flow", "edm", "improved", "bound", "labels")}
    assert wanted | {"mnist-hot", "mnist-ncsn", "mnist-labels"} <= set(HOT)


@pytest.mark.parametrize("name", HOT)
def test_a_hot_recipe_agrees_with_its_data_and_is_what_its_name_says(name: str) -> None:
    """All that is asked for before the first step, on pictures that are there."""
    table = load(name)
    table["data"] = {**table["data"], "path": "bundled:digits", "size": 16}
    table["model"] = {**table["model"], **MODEL}
    trainer = run.make_trainer(from_table(table), Path("nowhere"))
    restorer = trainer.restorer
    assert isinstance(trainer.model.prior, Normal)
    for part in ("eps", "x0", "v", "mu", "flow", "edm"):
        if name.endswith(f"-{part}"):
            assert spec(restorer.parameterization).split(":")[0] == part
    assert bool(restorer.conditions) == name.endswith("-labels")
    assert restorer.variance == ("learned" if name == "fashion-improved" else "fixed")
    loss = next(trainer._losses(range(8)))
    assert bool(torch.isfinite(loss))
