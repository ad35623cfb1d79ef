import os
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.files import BadFile, read_json, write_sealed
from snowmelt.model import Model, save
from snowmelt.priors import Normal
from snowmelt.restorers import Restorer
from snowmelt.studio import shelf as module
from snowmelt.studio.limits import Refused, Unknown
from snowmelt.studio.shelf import Shelf


def saved(path: Path, degradation: str = "noise", *, prior: bool = False, shape: tuple[int, ...] = (1, 8, 8)) -> Path:
    D = snowmelt.build(degradation)
    backbone = snowmelt.registry.build("unet:widths=(8,8),patch=2,groups=4,blocks=1", "backbone")
    law = Normal().fit([torch.zeros(1, *shape)]) if prior else None
    save(Model(D, Restorer(D, backbone, shape), law), path)
    return path


def test_a_shelf_holds_what_was_given_what_was_trained_here_and_what_is_shipped(tmp_path: Path):
    given = saved(tmp_path / "elsewhere" / "mine")
    folder = tmp_path / "runs"
    saved(folder / "old", "gaussian-blur")
    saved(folder / "new" / "fast", "morph")
    saved(folder / "new", "noise", prior=True)
    os.utime(folder / "old" / "model.json", (1, 1))
    (folder / "begun").mkdir()
    shelf = Shelf([given], folder)
    names = [entry.name for entry in shelf.entries()]
    assert names[0] == "mine"
    assert set(names) == {"mine", "new", "new/fast", "old", "photo"}
    assert names.index("old") > names.index("new")
    assert [entry.name for entry in shelf.entries(lambda entry: entry.generates)] == ["new"]
    assert [entry.name for entry in shelf.entries(lambda entry: entry.translates)] == ["new/fast"]
    assert "new/fast" not in [entry.name for entry in shelf.entries(lambda entry: entry.restores)]


def test_a_model_is_opened_once_and_anew_when_it_has_changed(tmp_path: Path):
    run = saved(tmp_path / "run")
    shelf = Shelf([run], tmp_path / "runs")
    first = shelf.opened("run")
    assert shelf.opened("run") is first
    saved(run, "gaussian-blur")
    os.utime(run / "model.json", (2e9, 2e9))
    assert snowmelt.spec(shelf.opened("run").model.degradation) == "gaussian-blur"


def test_only_a_few_models_stay_in_memory(tmp_path: Path):
    runs = [saved(tmp_path / name) for name in "abcde"]
    shelf = Shelf(runs, tmp_path / "runs")
    for name in "abcde":
        shelf.opened(name)
    assert len(shelf._open) == 3


def test_what_is_no_model_is_refused_by_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        Shelf([tmp_path], tmp_path)
    shelf = Shelf([], tmp_path / "runs")
    for name in ("../../etc", "/etc/passwd", "nothing", ""):
        with pytest.raises(Refused, match="no model"):
            shelf.opened(name)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.json").write_text('{"degradation": 3}')
    with pytest.raises(BadFile, match="does not describe a model"):
        Shelf([tmp_path / "bad"], tmp_path)
    assert "bad" not in [entry.name for entry in Shelf([], tmp_path).entries()]  # a stranger beside good runs hides none of them


def test_a_stranger_beside_the_good_ones_hides_none(tmp_path: Path):
    saved(tmp_path / "good")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.json").write_text('{"degradation": {"name"')
    assert [entry.name for entry in Shelf([], tmp_path).entries()] == ["good", "photo"]


def test_two_runs_of_one_name_are_told_apart_or_refused(tmp_path: Path):
    runs = [saved(tmp_path / one / "digits", spec) for one, spec in (("a", "noise"), ("b", "gaussian-blur"), ("c", "grey"))]
    folder = tmp_path / "runs"
    saved(folder / "digits", "pixelate", shape=(1, 16, 16))
    shelf = Shelf([*runs, runs[0]], folder)
    assert {entry.name: entry.degradation for entry in shelf.entries() if entry.name != "photo"} == {
        "digits": "noise", "b/digits": "gaussian-blur", "c/digits": "grey", "runs/digits": "pixelate",
    }  # fmt: skip
    assert snowmelt.spec(shelf.opened("b/digits").model.degradation) == "gaussian-blur"
    third = saved(tmp_path / "elsewhere" / "b" / "digits")
    with pytest.raises(ValueError, match="would have one name, b/digits") as refused:
        Shelf([*runs, third], folder)
    assert str(third) in str(refused.value)
    assert str(runs[1]) in str(refused.value)


def test_a_model_is_found_by_its_name_without_a_look_at_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "abc":
        saved(tmp_path / name)
    shelf, read = Shelf([], tmp_path), []
    monkeypatch.setattr(module, "read_json", lambda path: read.append(path.parent.name) or read_json(path))
    assert shelf.entry("b").name == "b"
    monkeypatch.setattr(module, "_runs_below", lambda folder: pytest.fail("the folder is looked through again"))
    shelf.entry("b")
    assert read == ["b", "b"]
    monkeypatch.undo()
    with pytest.raises(Unknown, match="there is no model 'd' here"):
        shelf.entry("d")
    saved(tmp_path / "d")
    assert shelf.entry("d").name == "d"
    (tmp_path / "d" / "model.json").unlink()
    with pytest.raises(Unknown):
        shelf.entry("d")


@pytest.mark.parametrize("harm", ["description", "weights", "missing"])
def test_a_damaged_model_is_told_of_by_its_name_alone(tmp_path: Path, harm: str):
    run = saved(tmp_path / "hurt")
    shelf = Shelf([run], tmp_path / "runs")
    weights = next(path for path in run.iterdir() if path.suffix == ".safetensors")
    if harm == "description":
        (run / "model.json").write_text('{"degradation": 3}')
    elif harm == "weights":
        weights.write_bytes(b"nothing")
    else:
        weights.unlink()
    with pytest.raises(BadFile, match="hurt") as told:
        shelf.opened("hurt")
    assert str(tmp_path) not in str(told.value)


def test_the_tuned_copy_is_opened_once_and_what_is_missing_tells_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = saved(tmp_path / "run")
    shelf = Shelf([run], tmp_path / "runs")
    with pytest.raises(ValueError, match="snowmelt tune run") as told:
        shelf.opened("run", fast=True)
    assert str(tmp_path) not in str(told.value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    saved(Path("runs/here"))
    with pytest.raises(ValueError, match="snowmelt tune runs/here"):  # a command that works from where the studio was started
        Shelf([], Path("runs")).opened("here", fast=True)
    saved(run / "fast")
    write_sealed(run / "fast" / "model.json", read_json(run / "fast" / "model.json") | {"estimates": "consistency(0.94)"})
    copy = shelf.opened("run", fast=True)
    assert (copy.name, bool(copy.model.gap)) == ("run/fast", True)
    assert shelf.opened("run", fast=True) is copy
    assert shelf.opened("photo", fast=True) is shelf.opened("photo")  # blind: one call, which nothing makes faster
