"""Recipes as files: round trip, overrides, errors that name the field, and presets that build."""

from pathlib import Path

import pytest

from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.recipes import directory, run
from snowmelt.recipes.recipe import Recipe, from_table, load, merged, presets, to_table, to_toml
from snowmelt.registry import build
from snowmelt.signals import Scan, Sound


def test_toml_round_trip(tmp_path: Path) -> None:
    recipe = from_table({"degradation": "noise", "data": {"path": "x", "size": 32, "range": [0, 1]}, "evaluation": {"calls": [3]}})
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    assert from_table(load(tmp_path / "r.toml")) == recipe


@pytest.mark.parametrize("name", presets())
def test_every_preset_resolves_and_builds(name: str) -> None:
    table = load(name)
    table.get("model", {}).pop("init", None)  # the run it begins from is the user's
    recipe = from_table(table, where=name)
    assert recipe.about
    data = open_data(DataOptions(path="bundled:digits"), "train")  # has labels, for what is conditioned on them
    shape: tuple[int, ...] = (recipe.data.channels or 1, recipe.data.size or 32, recipe.data.size or 32)
    if recipe.data.window is not None:
        data.signal, shape = Sound(), (1, recipe.data.window)
    elif recipe.model.backbone.startswith("ring"):
        data.signal, shape = Scan(), (3, 64, 1024)
    model = run.make_model(recipe, shape, data)
    assert model.notes["recipe"] == to_table(recipe)
    for spec in (*recipe.evaluation.samplers, *recipe.evaluation.generators, *([recipe.evaluation.walk] if recipe.evaluation.walk else [])):
        assert build(spec, "sampler")


def test_a_degradation_may_be_a_table() -> None:
    table = {"degradation": {"name": "noise", "schedule": {"name": "betas", "steps": 50}}}
    assert from_table(table).degradation == "noise:schedule=betas(steps=50)"


def test_only_what_is_given_overrides() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "needs a degradation"),
        ({"degradation": "noise", "data": {"sise": 3}}, r"unknown field data.sise \(did you mean 'size'\?\)"),
        ({"degradation": "noise", "data": 3}, r"write \[data\]"),
        ({"degradation": "noise", "data": {"size": "big"}}, "data.size = 'big' is not"),
        ({"degradation": "noise", "training": {"lr": -1}}, "training.lr"),
        ({"degradation": "noise", "model": {"noise_floor": 2.0}}, "model.noise_floor"),
    ],
)
def test_what_is_wrong_is_named(table, says: str) -> None:
    with pytest.raises(ValueError, match=says) as found:
        from_table(table, where="mine.toml")
    assert str(found.value).startswith("mine.toml: ")


def test_which_differences_matter() -> None:
    a, b = to_table(Recipe("noise", about="x")), to_table(Recipe("noise", about="y"))
    assert directory.differences(a, b) == {}
    b["training"]["lr"] = 7
    assert directory.differences(a, b) == {"training.lr": (0.001, 7)}


def test_a_stored_recipe_that_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="snowmelt train --out"):
        directory.stored(tmp_path)
    (tmp_path / directory.RECIPE).write_text("=")
    with pytest.raises(ValueError, match="recipe.toml is not a TOML file"):
        directory.stored(tmp_path)


def test_clearing_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name in (directory.RECIPE, "model.json", "metrics.jsonl", "weights-0123456789ab.safetensors", "my notes.txt"):
        (tmp_path / name).write_text("x")
    directory.clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["my notes.txt"]


STUDIOS = b"=== 2026-01-01 00:00:00 snowmelt train\nsnowmelt: stopped\n"


def theirs(run: Path, log: bytes, tracking: str | None = None) -> None:
    """What the studio and trackers leave beside a run, and others by the same names."""
    for folder in ("tensorboard", "wandb"):
        (run / folder).mkdir(parents=True)
        (run / folder / "notes.txt").write_text("mine")
    for name, data in (("train.log", log), ("train.pid", b"7\n"), (directory.RECIPE, b"")):
        (run / name).write_bytes(data)
    if tracking is not None:
        (run / "tracking.json").write_text(tracking)


@pytest.mark.parametrize(
    ("log", "tracking", "kept"),
    [
        (b"a log of my own\n", None, {"train.log", "train.pid", "tensorboard", "wandb"}),
        (b"", "[1]", {"train.log", "train.pid", "tensorboard", "wandb"}),
        (b"==\n", "{", {"train.log", "train.pid", "tensorboard", "wandb"}),
        (STUDIOS, '{"id": "a", "told": 3}', {"tensorboard", "wandb"}),
        (STUDIOS, '{"id": "a", "told": ["trackio", "wandb"]}', {"tensorboard"}),
        (STUDIOS, '{"id": "a", "told": ["tensorboard", "wandb"]}', set()),
    ],
)
def test_clearing_keeps_what_others_called_by_the_same_names(log: bytes, tracking: str | None, kept: set[str], tmp_path: Path) -> None:
    theirs(tmp_path, log, tracking)
    directory.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_log_of_the_studio_is_known_by_its_beginning() -> None:
    runs = (Path(directory.__file__).parents[1] / "studio" / "trainings" / "runs.py").read_text(encoding="utf-8")
    assert f'_MARK = "{directory.MARK}"' in runs or "import LOG, MARK" in runs


def test_a_recipe_is_laid_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "low.toml").write_text('degradation = "mask"\nabout = "low"\n[training]\nimages = 100\nlr = 0.5\n', encoding="utf-8")
    (tmp_path / "high.toml").write_text(f'base = "{tmp_path / "low.toml"}"\nabout = "high"\n[training]\nimages = 7\n', encoding="utf-8")
    assert load(tmp_path / "high.toml") == {"degradation": "mask", "about": "high", "training": {"images": 7, "lr": 0.5}}


def test_a_recipe_that_is_its_own_base_is_refused(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.toml").write_text(f'base = "{tmp_path / base}.toml"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="leads in a circle"):
        load(tmp_path / "a.toml")


def test_the_papers_choices_are_the_base_of_its_recipes_and_no_recipe() -> None:
    assert not [name for name in presets() if name.startswith("_")]
    papers = from_table(load("bansal2022-mnist-deblur"), where="bansal2022-mnist-deblur")
    o = papers.training
    assert (papers.model.parameterization, o.loss, o.lr, o.decay, o.step_images, o.steps) == ("x0", "l1", 2e-5, "none", 64, 700_000)
    assert o.ema * o.images == pytest.approx(64 * 10 * 138.3, rel=0.005)  # .995 to the power of 138.3 is a half, once every 10 steps
