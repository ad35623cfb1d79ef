"""How many calls: --fast, --faithful, --best in restore, sample and translate; the curve that tells which."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import snowmelt
from snowmelt.cli.walks import Calls
from snowmelt.files import write_sealed
from snowmelt.model import Model, load, weights_of
from snowmelt.priors import Normal
from snowmelt.recipes import curving, tuning
from snowmelt.recipes.tuning import tuned_copy
from snowmelt.registry import build
from snowmelt.restoration.walks import choose
from snowmelt.types import State


def journal(out: Path) -> dict:
    return json.loads((out / "restored.jsonl").read_text().splitlines()[0])["are"]


def tuned(source: Path, to: Path, estimates: str = "consistency(0.94)") -> Path:
    """A copy of a run that says it is tuned."""
    shutil.copytree(source, to, dirs_exist_ok=True)
    info = json.loads((to / "model.json").read_text())
    write_sealed(to / "model.json", info | {"estimates": estimates})
    return to


@pytest.fixture
def both(run: Path, tmp_path: Path) -> Path:
    """A run with its tuned copy."""
    place = tmp_path / "both"
    shutil.copytree(run, place)
    tuned(run, place / "fast")
    return place


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory, plain: tuple[str, ...]) -> Path:
    """A model of noise, hardly trained, with its tuned copy."""
    from snowmelt.cli import main

    out = tmp_path_factory.mktemp("hot") / "hot"
    assert main(["train", "--data", "bundled:digits", "--degradation", "noise", "--out", str(out), *plain]) == 0
    whole = tmp_path_factory.mktemp("hot-both") / "hot"
    shutil.copytree(out, whole)
    tuned(out, whole / "fast")
    return whole


@pytest.fixture(scope="module")
def plain() -> tuple[str, ...]:
    tiny = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.batch", "16", "--training.precision", "fp32")
    return (*tiny, "--images", "32", "--training.validate_every", "32", "--training.validation_images", "8")


# --- which walk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sampler", "name"),
    [
        (("--fast",), "tacos:steps=2", "both/fast"),
        (("--fast", "--steps", "1"), "tacos:steps=1", "both/fast"),
        (("--faithful",), "one call", "both"),
        (("--best",), "tacos:steps=12,order=2", "both"),
        ((), "tacos:steps=12,order=2", "both"),
    ],
)
def test_restore_takes_the_model_and_the_walk_that_are_meant(cli, both: Path, folder: Path, tmp_path: Path, words, sampler: str, name: str) -> None:
    done = cli("restore", "--model", both, folder / "0.png", "--severity", "1", "--out", tmp_path / "out", *words)
    assert done.code == 0, done.err
    settings = journal(tmp_path / "out")
    assert (settings["sampler"], settings["model"]) == (sampler, name)


def test_a_tuned_run_is_its_own_fast_copy_and_no_other_mode(cli, both: Path, folder: Path, tmp_path: Path) -> None:
    fast, one = both / "fast", (folder / "0.png", "--severity", "1")
    for words in ((), ("--fast",)):
        out = tmp_path / f"out{len(words)}"
        assert cli("restore", "--model", fast, *one, "--out", out, *words).code == 0
        assert (journal(out)["sampler"], journal(out)["model"]) == ("tacos:steps=2", "fast")
    for mode in ("--faithful", "--best"):
        done = cli("restore", "--model", fast, *one, "--out", tmp_path / "no", mode)
        assert done.code == 2
        assert mode in done.error
        assert "tuned for few calls (consistency(0.94)): give the run it was tuned from" in done.error
    assert "at most 2 calls of order 1" in cli("restore", "--model", fast, *one, "--out", tmp_path / "no", "--steps", "8").error


def test_without_a_copy_the_command_that_makes_one_is_named(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    done = cli("restore", "--model", run, folder / "0.png", "--severity", "1", "--fast", "--out", tmp_path / "out")
    assert done.code == 2
    assert done.error == f"{run} has no copy that is tuned for few calls: make one with 'snowmelt tune {run}'"
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="holds no model"):
        tuned_copy(tmp_path / "nothing")


def test_a_run_called_fast_beside_another_is_no_copy_of_it(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "fast")
    assert tuning.copy_of(tmp_path / "other") is None


def test_a_copy_of_other_weights_is_refused(cli, both: Path, folder: Path, tmp_path: Path) -> None:
    path = both / "fast" / "model.json"
    info = json.loads(path.read_text())
    write_sealed(path, info | {"notes": {"init": {"model": "both", "weights": "0" * 64}}})
    for words in (("restore", "--model", both, folder / "0.png", "--severity", "1", "--fast"), ("evaluate", both, "--curve")):
        done = cli(*words, "--out", tmp_path / "out")
        assert done.code == 2
        assert f"tuned from other weights than {both} has now: make it anew with 'snowmelt tune {both} --fresh'" in done.error
    write_sealed(path, info | {"notes": {"init": {"model": "both", "weights": weights_of(both)}}})
    assert tuning.copy_of(both) == both / "fast"


@pytest.mark.parametrize("mode", ["--fast", "--best"])
def test_the_photo_model_restores_in_one_call(cli, folder: Path, tmp_path: Path, mode: str) -> None:
    done = cli("restore", folder / "0.png", mode, "--out", tmp_path / "out")
    assert done.code == 2
    assert "blind" in done.error
    assert mode in done.error


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (Calls(fast=True, best=True), "--fast and --best contradict each other"),
        (Calls(faithful=True, sampler="tacos"), "--faithful and --sampler contradict each other"),
        (Calls(fast=True, faithful=True, best=True), "--fast and --faithful and --best contradict"),
        (Calls(faithful=True, steps=3), "--steps belongs to a walk"),
    ],
)
def test_modes_exclude_each_other(calls: Calls, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        calls.check()
    for fair in (Calls(), Calls(fast=True, steps=2), Calls(best=True, steps=4), Calls(sampler="tacos", steps=4)):
        fair.check()


def test_sample_takes_the_copy_and_refuses_the_mean(cli, hot: Path, tmp_path: Path) -> None:
    done = cli("sample", hot, "-n", "2", "--fast", "--out", tmp_path / "fast")
    assert done.code == 0, done.err
    settings = json.loads((tmp_path / "fast" / "sample.json").read_text())
    assert settings["sampler"] == "ancestral:steps=2,eta=0"
    assert settings["run"] == str(hot / "fast")
    done = cli("sample", hot, "-n", "2", "--best", "--steps", "3", "--out", tmp_path / "best")
    assert json.loads((tmp_path / "best" / "sample.json").read_text())["sampler"] == "ancestral:steps=3,order=2,eta=0"
    assert "--faithful is one call, and from the prior that is the mean" in cli("sample", hot, "--faithful", "--out", tmp_path / "no").error
    assert "contradict" in cli("sample", hot, "--fast", "--sampler", "tacos", "--out", tmp_path / "no").error
    assert not (tmp_path / "no").exists()


def test_the_best_walk_where_nobody_knows_the_draw_is_one_call_and_others_name_it() -> None:
    model = Model(build("snow"), lambda x, t: x)
    assert Calls(best=True).walk(model) == "default"
    assert choose(model, State(torch.zeros(1, 3, 8, 8), 1.0), Calls(best=True).walk(model)) is None
    with pytest.raises(ValueError, match="use one call of the restorer .--faithful"):
        snowmelt.restore(model, torch.zeros(1, 3, 8, 8), severity=1.0, sampler=Calls(steps=4).walk(model))


# --- the curve -------------------------------------------------------------------------------------------------


def test_the_curve_is_measured_kept_and_gone_on_with(cli, both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("evaluate", both, "--curve", "--images", "6")
    done = cli(*asked, "--calls", "1,2")
    assert done.code == 0, done.err
    assert "Restored pictures, by walk and calls" in done.out
    found = json.loads((both / "curve.json").read_text())
    walks = {(row["walk"], row["calls"]) for row in found["rows"]}
    assert {("one call", 1), ("Algorithm 1", 2), ("Algorithm 2", 2), ("order 2", 2), ("degraded", 0), ("clean", 0)} <= walks
    assert {("tuned, g = 0.94, Algorithm 1", 2), ("tuned, g = 0.94, Algorithm 2", 2)} <= walks
    assert str(both.parent) not in json.dumps(found)  # names, not paths
    seen: list[tuple[str, int]] = []
    real = curving.Task.row
    monkeypatch.setattr(curving.Task, "row", lambda self, of, one, tick: (seen.append((one.walk, one.calls)), real(self, of, one, tick))[1])
    assert cli(*asked, "--calls", "1,2").code == 0
    assert seen == []
    assert cli(*asked, "--calls", "3").code == 0
    assert set(seen) == {("Algorithm 1", 3), ("Algorithm 2", 3), ("order 2", 3), ("Heun", 3)}
    assert json.loads((both / "curve.json").read_text())["rows"][: len(found["rows"])] == found["rows"]
    seen.clear()
    assert cli("evaluate", both, "--curve", "--images", "5", "--calls", "1").code == 0
    assert ("one call", 1) in seen, "other pictures, other rows"
    assert {row["images"] for row in json.loads((both / "curve.json").read_text())["rows"]} == {5}


def test_one_call_of_a_tuned_copy_is_not_generated_with_and_another_prior_is_another_setting(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snowmelt.data.sources import open_data
    from snowmelt.evaluation.sets import Judge
    from snowmelt.recipes.recipe import EvaluationOptions
    from snowmelt.recipes.run import stored

    recipe, shape = stored(both), (1, 8, 8)
    test = open_data(recipe.data, "test")
    models = [Model(build("snow"), lambda x, t: x, Normal(shape=shape), estimates=how) for how in ("mean", "consistency(0.94)")]
    how: dict[str, Any] = {"o": EvaluationOptions(generate=4), "features": lambda x: x, "judge": Judge(), "device": "cpu"}
    task = curving.Task(models[0], models[1], ("a", "b"), test, test, [0, 1], **how)
    plan = task.plan()
    assert ("restored", "tuned, g = 0.94, one call") in [(of, one.walk) for of, one in plan]
    assert all(one.sampler is not None for of, one in plan if of == "generated")

    before = curving._kept(both, dataclasses.replace(task, features=None), recipe).settings
    monkeypatch.setattr(Normal, "tensors", lambda self: {"mean": torch.ones(1)})
    after = curving._kept(both, dataclasses.replace(task, features=None), recipe).settings
    assert {name for name in before if before[name] != after[name]} == {"prior_sha256"}


def test_an_interrupted_curve_keeps_what_is_done(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = curving.Task.row, []

    def row(self, of, one, tick):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(one.walk)
        return real(self, of, one, tick)

    monkeypatch.setattr(curving.Task, "row", row)
    with pytest.raises(KeyboardInterrupt):
        curving.curve(both, images=6, curve_calls=(1, 2))
    kept = json.loads((both / "curve.json").read_text())["rows"]
    assert [one["walk"] for one in kept if one["calls"]] == done


def test_noise_is_generated_and_not_restored(cli, hot: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("evaluate", hot, "--curve", "--images", "6", "--calls", "2", "--generate", "8", "--features", _features(tmp_path), "--out", out)
    assert done.code == 0, done.err
    rows = json.loads((out / "curve.json").read_text())["rows"]
    assert {row["of"] for row in rows} == {"generated"}
    assert {row["walk"] for row in rows} >= {"DDIM", "order 2", "DDPM", "tuned, g = 0.94, DDIM", "floor"}
    assert all(any(name.startswith("FD-") for name in row) for row in rows)
    assert {row["weights"] for row in rows if row["walk"] != "floor"} == {row["weights"] for row in rows if row["walk"] == "DDIM"}


def _features(place: Path) -> Path:
    """A classifier of digits that was never trained."""
    import torch

    from snowmelt.metrics.classifier import Classifier
    from snowmelt.metrics.features import ClassifierFeatures, save_features

    torch.manual_seed(0)
    save_features(ClassifierFeatures(Classifier(1, 10, dims=8), "untrained", [str(i) for i in range(10)], (1, 8, 8)), place / "features")
    return place / "features"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--curve", "--handed"), "--handed has no meaning for --curve"),
        (("--curve", "--bits-per-dim"), "--bits-per-dim has no meaning for --curve"),
        (("--curve", "--calls", "1,x"), "'x' is no number of calls"),
        (("--curve", "--calls", "0"), "'0' is no number of calls"),
        (("--calls", "1,2"), "give --curve with it"),
        (("--curve", "--generate", "8"), "no prior to generate from"),
    ],
)
def test_what_the_curve_refuses(cli, run: Path, tmp_path: Path, words, said: str) -> None:
    done = cli("evaluate", run, *words, "--out", tmp_path / "out")
    assert done.code == 2
    assert said in done.error
    assert not (tmp_path / "out").exists()
    assert load(run).gap == 0
