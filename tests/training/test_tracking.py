"""Trackers: what they are told, that a resumed run goes on in the same place, and that none of them can end a training."""

import json
import logging
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from snowmelt.stopping import Stopped
from snowmelt.training import history, tracking
from snowmelt.training.loop import Trainer
from snowmelt.training.tracking import following, named, numbers, require

RECIPE = {"degradation": "pixelate:levels=2", "training": {"lr": 0.002}}


class Follower:
    """A stand-in for wandb: remembers what it is told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.defined: list[tuple[str, Any]] = []
        self.finished = 0

    def init(self, **settings: Any) -> "Follower":
        self.begun.append(settings)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.defined.append((name, step_metric))

    def log(self, values: dict[str, Any]) -> None:
        self.lines.append(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Follower:
    follower, module = Follower(), types.ModuleType("wandb")
    module.init = follower.init  # type: ignore[attr-defined]
    module.Image = lambda sheet: ("picture", sheet.size)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return follower


def followed(trainer: Trainer, *names: str) -> None:
    trainer.resume()
    with following(names, trainer.out, trainer.step * trainer.options.step_images, RECIPE) as trainer.diary.tracker:
        trainer.run()


def test_names_are_grouped_and_only_finite_numbers_count() -> None:
    line = {"step": 20, "images": 320, "loss": 0.5, "validation_loss": 1, "validation_bands": [0.1, None], "samples": ["a"], "bad": True, "lr": 1e999}
    assert numbers(line) == {"train/step": 20.0, "train/loss": 0.5, "validation/loss": 1.0, "validation/bands/0": 0.1}


def test_wandb_gets_the_lines_of_the_log_and_the_grids(small: Callable[..., Trainer], tmp_path: Path, wandb: Follower) -> None:
    followed(small(tmp_path / "run"), "wandb")
    log = history.read(tmp_path / "run")
    assert [line for line in wandb.lines if "samples/grid" not in line] == [{"images": line["images"], **numbers(line)} for line in log]
    grids = [line["images"] for line in wandb.lines if "samples/grid" in line]
    assert grids == [int(path.stem) for path in sorted((tmp_path / "run" / "samples").iterdir())] == [0, 160, 320]
    (settings,) = wandb.begun
    assert settings["name"] == f"run-{settings['id']}"
    assert settings["config"] == RECIPE
    assert ("*", "images") in wandb.defined
    assert wandb.finished == 1


def test_a_resumed_run_goes_on_in_the_same_place_and_a_new_one_in_another(
    small: Callable[..., Trainer], tmp_path: Path, wandb: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Trainer._advance

    def stopped(self: Trainer, bar: object) -> None:
        advance(self, bar)  # type: ignore[arg-type]
        if self.step == 12:
            self._asked.set()

    monkeypatch.setattr(Trainer, "_advance", stopped)
    with pytest.raises(Stopped):
        followed(small(tmp_path / "run"), "wandb")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=wandb.init, Image=lambda sheet: sheet.size))
    followed(small(tmp_path / "run"), "wandb")
    followed(small(tmp_path / "other"), "wandb")
    ids = [settings["id"] for settings in wandb.begun]
    assert ids[0] == ids[1] != ids[2]
    assert wandb.begun[1]["resume"] == "allow"
    steps = [line["train/step"] for line in wandb.lines if "train/step" in line]
    assert steps[: len(steps) // 2] == [line["step"] for line in history.read(tmp_path / "run")]  # none twice


def test_one_that_comes_later_is_told_what_was(small: Callable[..., Trainer], tmp_path: Path, wandb: Follower) -> None:
    small(tmp_path / "run").run()
    followed(small(tmp_path / "run"), "wandb")
    assert [line["images"] for line in wandb.lines] == [line["images"] for line in history.read(tmp_path / "run")]
    followed(small(tmp_path / "run"), "wandb")
    assert len(wandb.lines) == len(history.read(tmp_path / "run"))  # it knows by now


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_told_of_once_and_the_run_is_the_same(
    small: Callable[..., Trainer],
    digest: Callable[[Path], str],
    tmp_path: Path,
    wandb: Follower,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: str,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no\nconnection")

    monkeypatch.setattr(wandb if fails != "init" else sys.modules["wandb"], fails, broken)
    small(tmp_path / "alone").run()
    with caplog.at_level(logging.WARNING):
        followed(small(tmp_path / "run"), "wandb")
    said = [record.getMessage() for record in caplog.records if "wandb" in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("metrics.jsonl has everything: no connection")
    assert digest(tmp_path / "run") == digest(tmp_path / "alone")


def test_one_that_failed_midway_is_told_what_it_lacks_when_it_comes_again(tmp_path: Path, wandb: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(first: int, last: int, fails: int | None = None) -> None:
        with following(("wandb",), tmp_path, 16 * (first - 1), RECIPE) as tracker:
            for step in range(first, last + 1):
                line = {"step": step, "images": 16 * step, "loss": 1.0 / step}
                history.add(tmp_path, line)
                with monkeypatch.context() as patched:
                    if step == fails:
                        patched.setattr(wandb, "log", lambda values: 1 / 0)
                    tracker.line(line)

    trained(1, 6, fails=4)
    assert [line["images"] for line in wandb.lines] == [16, 32, 48]
    assert json.loads((tmp_path / tracking.NAME).read_text())["lacks"] == ["wandb"]
    trained(7, 8)
    assert [line["images"] for line in wandb.lines[3:]] == [16 * step for step in range(1, 9)]
    assert wandb.begun[0]["id"] == wandb.begun[1]["id"]
    wandb.lines.clear()
    assert json.loads((tmp_path / tracking.NAME).read_text())["lacks"] == []
    trained(9, 9)  # it knows all of them now
    assert [line["images"] for line in wandb.lines] == [144]


def test_one_that_cannot_be_opened_again_lacks_what_follows(tmp_path: Path, wandb: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    with following(("wandb",), tmp_path, 0, RECIPE):
        pass
    history.add(tmp_path, {"step": 1, "images": 16, "loss": 1.0})
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["wandb"], "init", lambda **settings: 1 / 0)
        with following(("wandb",), tmp_path, 16, RECIPE):
            pass
    assert json.loads((tmp_path / tracking.NAME).read_text())["lacks"] == ["wandb"]


def test_a_missing_package_and_an_unknown_name_are_refused_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tracking.importlib.util.find_spec
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name in ("wandb", "trackio") else found(name))
    with pytest.raises(ValueError, match="--track wandb needs the package wandb, which is not installed: pip install wandb"):
        require(["wandb"])
    with pytest.raises(ValueError, match=r"pip install 'snowmelt\[track\]'"):
        require(["trackio"])
    with pytest.raises(ValueError, match=r"'tensorbord'.*did you mean 'tensorboard'"):
        named("tensorbord")
    assert named(" wandb, tensorboard,,wandb") == ("wandb", "tensorboard")


def test_a_name_from_a_stranger_is_not_believed(tmp_path: Path, wandb: Follower) -> None:
    for said in ('{"id": "../../x", "told": "all"}', "[]", '{"id": 7}', "{"):
        (tmp_path / "tracking.json").write_text(said)
        with following(["wandb"], tmp_path, 320, RECIPE):
            pass
        assert wandb.begun[-1]["id"].isalnum()
    assert len({settings["id"] for settings in wandb.begun}) == 4


def test_tensorboard_holds_every_line_and_a_resumed_run_goes_on(small: Callable[..., Trainer], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accumulate = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    followed(small(run), "tensorboard")
    with following(["tensorboard"], run, 320, RECIPE) as tracker:  # taken up again, with more to come
        tracker.line({"step": 40, "images": 640, "loss": 0.25})
    events = accumulate.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    wanted = [(line["images"], line["loss"]) for line in history.read(run) if "loss" in line] + [(640, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(at, pytest.approx(value)) for at, value in wanted]
    assert [event.step for event in events.Images("samples/grid")] == [0, 160, 320]
    assert "validation/restored_psnr_db" in events.Tags()["scalars"]


_TRACKIO = """
import socket, sys
from pathlib import Path
from PIL import Image
def refused(*_, **__): raise OSError("no network here")
socket.socket.connect = refused
from snowmelt.training.tracking import following
run = Path(sys.argv[1])
with following(["trackio"], run, 0, {"degradation": "x"}) as tracker:
    tracker.line({"step": 20, "images": 320, "loss": 0.5})
    tracker.picture(320, Image.new("L", (4, 4)))
with following(["trackio"], run, 320, {"degradation": "x"}) as tracker:
    tracker.line({"step": 40, "images": 640, "loss": 0.25})
"""


def test_trackio_keeps_them_on_this_machine_and_a_resumed_run_is_one(tmp_path: Path) -> None:
    """In a process of its own: where trackio writes is settled when it is imported."""
    pytest.importorskip("trackio")
    (tmp_path / "run").mkdir()
    place = tmp_path / "trackio"
    done = subprocess.run(
        [sys.executable, "-c", _TRACKIO, str(tmp_path / "run")],
        env={"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(place), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    assert done.stdout == ""
    assert "follows this run no longer" not in done.stderr
    with sqlite3.connect(place / "snowmelt.db") as base:
        rows = base.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    base.close()
    found = [(step, json.loads(values)) for _, step, values in rows]
    assert [(step, values["train/loss"]) for step, values in found if "train/loss" in values] == [(320, 0.5), (640, 0.25)]
    assert any("samples/grid" in values for _, values in found)
    assert {name for name, *_ in rows} == {f"run-{json.loads((tmp_path / 'run' / 'tracking.json').read_text())['id']}"}
    assert list(place.rglob("*.png"))


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    with following([], tmp_path, 0, RECIPE) as tracker:
        tracker.line({"images": 1})
        tracker.picture(1, Image.new("L", (1, 1)))
    assert list(tmp_path.iterdir()) == []
