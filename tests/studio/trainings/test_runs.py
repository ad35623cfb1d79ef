"""Trainings begun from the studio: real processes that outlive it, read from their files, and steered only where it is sure who they are."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from snowmelt.lines import read
from snowmelt.locks import locked
from snowmelt.model import load
from snowmelt.recipes.recipe import Recipe, from_table, to_toml
from snowmelt.studio.limits import Refused
from snowmelt.studio.trainings import holding
from snowmelt.studio.trainings import runs as module
from snowmelt.studio.trainings.orders import Order, named
from snowmelt.studio.trainings.runs import Runs, State
from snowmelt.training import history, wishes

TINY = {
    "degradation": "gaussian-blur:sigma_px=2",
    "data": {"path": "bundled:digits", "size": 8},
    "model": {"backbone": "unet:widths=(8,16),patch=2,groups=4,blocks=1"},
    "training": {"images": 64_000, "batch": 16, "precision": "fp32", "validate_every": 32_000, "validation_images": 16},
}
ORDER = Order("digits", "bundled:digits", "gaussian-blur:sigma_px=2")
LONG_S = 120.0


def recipe(images: int = 64_000) -> Recipe:
    return from_table({**TINY, "training": {**TINY["training"], "images": images}})  # type: ignore[dict-item]


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    found = Runs(tmp_path / "runs")
    yield found
    for path in (tmp_path / "runs").glob("*/train.pid"):
        if holding.begins(path.parent):
            os.kill(int(path.read_text()), signal.SIGKILL)


def is_(runs: Runs, doing: str) -> Callable[[], bool]:
    return lambda: runs.state("digits").doing == doing


@pytest.mark.slow  # test_browser.py steers one through the page
def test_a_training_outlives_the_studio_is_steered_and_resumed_and_ends(runs: Runs) -> None:
    folder, run = runs.folder, runs.folder / "digits"
    assert runs.start(ORDER, recipe()).doing == "starting"
    with pytest.raises(Refused, match="'digits' is being trained, and a second one would take its cores"):
        runs.start(Order("second", "bundled:digits", "grey"), recipe())
    with pytest.raises(Refused, match="still starting"):
        runs.stop("digits")
    del runs
    runs = Runs(folder)  # another studio, which knows nothing but the files
    assert runs.busy() == "digits"
    until(lambda: (runs.state("digits").loss or 0) > 0, "it trains")
    state = runs.state("digits")
    assert (state.doing, state.total) == ("running", 64_000)
    assert 0 < state.images < state.total
    assert state.rate is not None
    assert state.losses["training"][-1] == (float(state.images), state.loss)
    with pytest.raises(Refused, match="is being trained"):
        runs.resume("digits")

    grids = set((run / "samples").iterdir())
    runs.ask("digits", "sample")
    until(lambda: set((run / "samples").iterdir()) > grids, "samples now")
    before = set(run.glob("checkpoint-*.json"))
    runs.ask("digits", "save")
    until(lambda: set(run.glob("checkpoint-*.json")) != before, "saved now")

    runs.stop("digits")
    until(is_(runs, "stopped"), "it stops")
    state = runs.state("digits")
    assert state.said.startswith("stopped after ")
    assert state.said.endswith("Resume goes on from there")
    assert not (run / ".lock.json").exists()
    with pytest.raises(Refused, match="does not run"):
        runs.stop("digits")
    with pytest.raises(Refused, match="does not run: there is nothing to save"):
        runs.ask("digits", "save")

    assert runs.resume("digits").doing == "starting"
    until(is_(runs, "running"), "it goes on")
    until(lambda: runs.state("digits").images > state.images, "it trains again")
    os.kill(int((run / "train.pid").read_text()), signal.SIGKILL)
    until(is_(runs, "failed"), "it was killed")
    assert "ended without a word" in runs.state("digits").said
    assert "Resume goes on from the last checkpoint" in runs.state("digits").said
    assert (run / ".lock.json").exists()  # what it left is no sign of life


def test_a_short_one_is_finished_and_is_a_model(runs: Runs) -> None:
    runs.start(ORDER, recipe(images=320))
    until(is_(runs, "finished"), "it ends")
    state = runs.state("digits")
    assert state.images == state.total == 320
    assert state.learning
    assert state.grid == runs.folder / "digits" / "samples" / "000000320.png"
    assert load(runs.folder / "digits").degradation is not None
    with pytest.raises(Refused, match="is finished: there is nothing to go on with"):
        runs.resume("digits")
    with pytest.raises(Refused, match="there is a run 'digits' already"):
        runs.start(ORDER, recipe())


def test_one_that_fails_says_why_in_words(runs: Runs, tmp_path: Path) -> None:
    there = from_table({**TINY, "data": {"path": str(tmp_path / "gone"), "size": 8}})
    runs.start(ORDER, there)
    until(is_(runs, "failed"), "it fails")
    state = runs.state("digits")
    assert "does not exist" in state.said
    assert "Traceback" not in state.said
    assert state.resumes


def test_an_order_becomes_a_whole_recipe_with_reasons(tmp_path: Path) -> None:
    found, reasons = Order("a", "bundled:digits", "pixelate:levels=2", images=6400).recipe()
    assert (found.data.size, found.training.images, found.degradation) == (8, 6400, "pixelate:levels=2")
    assert any(line.startswith("model.backbone = ") for line in reasons)
    assert tomllib.loads(to_toml(found))["training"]["batch"] == 64


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (Order("a", "", "grey"), "say which pictures"),
        (Order("a", "bundled:digits", " "), "say which pictures"),
        (Order("a", "bundled:digit", "pixelate"), 'did you mean "bundled:digits"'),
        (Order("a", "bundled:digits", "pixelat"), "did you mean 'pixelate'"),
        (Order("a", "no/such/folder", "grey"), "there is no folder or file 'no/such/folder'"),
        (Order("a", "a\0b", "grey"), "there is no folder or file"),
        (Order("a", "x" * 5000, "grey"), "there is no folder or file"),
        (Order("a", "bundled:digits", "pixelate", size=100_000), "outside 4 to 256"),
        (Order("a", "bundled:digits", "pixelate", images=0), "0 images are outside"),
        (Order("a", "bundled:digits", "morph"), "--endpoint"),
        (Order("a", "bundled:digits", "+".join(["grey"] * 201)), "a spec of 1,004 letters is longer than 1,000"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_begins(runs: Runs, order: Order, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        runs.start(order)
    assert not runs.folder.exists()


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../x", "a/b", "a\\b", "/etc", "a.b", "-rf", "x" * 200, "a\0b", "a\nb", "con", "LPT1", "~", "$(x)", "水" * 60]
)
def test_names_are_plain_words_inside_the_folder(runs: Runs, name: str) -> None:
    for do in (lambda: runs.start(Order(name, "bundled:digits", "grey"), recipe()), lambda: runs.state(name), lambda: runs.resume(name)):
        with pytest.raises(Refused):
            do()
    assert not runs.folder.exists()


def test_a_name_may_have_letters_of_any_language_and_leads_through_no_link(tmp_path: Path) -> None:
    assert named(tmp_path, "第一个 model-2").parent == tmp_path
    (tmp_path / "away").symlink_to("/")
    with pytest.raises(Refused, match="is a link to another place"):
        named(tmp_path, "away")
    (tmp_path / "away").unlink()
    assert Runs(tmp_path).names() == []


def test_where_visitors_may_not_train_nothing_is_done(tmp_path: Path) -> None:
    closed = Runs(tmp_path / "runs", allowed=False)
    for do in (
        lambda: closed.start(ORDER, recipe()),
        lambda: closed.require_free("x"),
        lambda: closed.resume("x"),
        lambda: closed.ask("x", "save"),
        lambda: closed.stop("x"),
    ):
        with pytest.raises(Refused, match="this studio does not train"):
            do()
    assert not (tmp_path / "runs").exists()


# --- whose process it is -------------------------------------------------------------------------------


def begun(run: Path, pid: int, images: int = 0) -> State:
    """A run as a killed training has left it, with a process number that may be another's by now."""
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(to_toml(recipe()))
    (run / ".lock").touch()
    (run / ".lock.json").write_text(json.dumps({"pid": pid, "host": os.uname().nodename, "what": "training", "since": time.time()}))
    (run / "train.pid").write_text(f"{pid}\n")
    (run / "train.log").write_text("=== now\n")
    history.add(run, {"step": images // 16, "images": images, "wall_s": 1.0})
    return Runs(run.parent).state(run.name)


@pytest.fixture
def innocent() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with any run."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_number_that_is_used_again_is_nobody_of_ours(tmp_path: Path, innocent: "subprocess.Popen[bytes]") -> None:
    state = begun(tmp_path / "digits", innocent.pid, images=160)
    assert state.doing == "failed"
    assert Runs(tmp_path).busy() is None
    assert not holding.stop(tmp_path / "digits")
    with pytest.raises(Refused, match="does not run"):
        Runs(tmp_path).stop("digits")
    assert innocent.poll() is None


@pytest.mark.parametrize(("step", "images"), [(4, 160), (30, 480), (10**14, 64_000)])
def test_a_run_that_ended_has_come_as_far_as_its_newest_checkpoint(tmp_path: Path, step: int, images: int) -> None:
    begun(tmp_path / "digits", 1, images=160)
    (tmp_path / "digits" / f"checkpoint-{step:012d}.json").write_text("whatever it says: its name is enough")
    assert Runs(tmp_path).state("digits").images == images


@pytest.mark.parametrize("pid", [0, 1, -1, 2**70, "7", None, True, [1]])
def test_nonsense_in_a_lock_is_nobody(tmp_path: Path, pid: object) -> None:
    begun(tmp_path / "digits", 1)
    (tmp_path / "digits" / ".lock.json").write_text(json.dumps({"pid": pid}))
    (tmp_path / "digits" / "train.pid").write_text(str(pid))
    assert holding.holder(tmp_path / "digits") is None
    assert not holding.begins(tmp_path / "digits")
    assert not holding.stop(tmp_path / "digits")


def test_who_holds_the_lock_is_known_and_looking_does_not_take_it(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    (tmp_path / "digits" / ".lock.json").unlink()
    with locked(tmp_path / "digits"):
        assert holding.holder(tmp_path / "digits") == os.getpid()
        assert Runs(tmp_path).state("digits").doing == "running"
    assert holding.holder(tmp_path / "digits") is None


def test_a_training_on_another_machine_runs_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    said = tmp_path / "digits" / ".lock.json"
    said.write_text(json.dumps({"pid": 7, "host": "a-machine-far-away"}))
    runs = Runs(tmp_path)
    assert runs.state("digits").doing == "running"
    with pytest.raises(Refused, match="is trained on a-machine-far-away: stop it there"):
        runs.stop("digits")
    runs.ask("digits", "sample")
    assert wishes.asked(tmp_path / "digits") == ("sample",)
    os.utime(said, (0, time.time() - 500))
    assert runs.state("digits").doing == "failed"


def test_a_damaged_run_is_told_of_and_ends_no_page(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    (tmp_path / "digits" / "recipe.toml").write_text("degradation = 7")
    state = Runs(tmp_path).state("digits")
    assert state.doing == "failed"
    assert "its recipe cannot be read: digits" in state.said
    assert str(tmp_path) not in state.said
    (tmp_path / "digits" / "recipe.toml").unlink()
    state = Runs(tmp_path).state("digits")
    assert state.said == "its recipe cannot be read: digits has no recipe.toml: give a directory that 'snowmelt train --out' wrote"


def test_the_last_words_of_a_run_tell_no_path_of_the_disk(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    log = tmp_path / "digits" / "train.log"
    for word, doing in (("error: see", "failed"), ("stopped after 3 steps, see", "stopped")):
        log.write_text(f"=== now\nsnowmelt: {word} {tmp_path}/digits/checkpoint-1\n")
        state = Runs(tmp_path).state("digits")
        assert state.doing == doing
        assert state.said.endswith("see digits/checkpoint-1")
        assert str(tmp_path) not in state.said


def test_a_log_is_read_again_only_when_it_grew_and_few_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(12):
        begun(tmp_path / f"run{i}", 1, images=160)
    watched, opened = Runs(tmp_path), []
    monkeypatch.setattr(module, "read_lines", lambda path: opened.append(path.parent.name) or read(path))
    assert [watched.state("run0").images for _ in range(3)] == [160] * 3
    assert opened == ["run0"]
    history.add(tmp_path / "run0", {"step": 20, "images": 320, "wall_s": 2.0, "loss": 0.5, "lr": 1e-3})
    assert [(state.images, state.loss, dict(state.losses)["training"]) for state in (watched.state("run0"), watched.state("run0"))] == [
        (320, 0.5, [(320.0, 0.5)])
    ] * 2
    assert opened == ["run0"] * 2
    for i in range(1, 12):
        watched.state(f"run{i}")
        watched.state("run0")  # which is looked at all the time, stays
    assert len(watched._read) <= 8
    assert opened[2:] == [f"run{i}" for i in range(1, 12)]


@pytest.mark.parametrize("images", ["NaN", "Infinity", "-1", "1" + "0" * 400, '"x"', "[1]", "null", "true"])
def test_a_strangers_log_is_read_as_far_as_it_can_be_counted_with(tmp_path: Path, images: str) -> None:
    begun(tmp_path / "digits", 1, images=160)
    with (tmp_path / "digits" / "metrics.jsonl").open("a") as log:
        log.write('{"images": 320, "loss": 0.5, "lr": 0.1, "wall_s": 2}\n')
        log.write(f'{{"images": {images}, "loss": 1, "lr": 1, "wall_s": 1, "validation_loss": 1}}\n')
    state = Runs(tmp_path).state("digits")
    assert (state.images, state.loss, dict(state.losses)) == (320, 0.5, {"training": [(320.0, 0.5)], "validation": []})


@pytest.mark.parametrize("loss", ["NaN", "-Infinity", "1" + "0" * 400, '"x"', "[1]"])
def test_nor_does_a_loss_that_is_none_spoil_the_rest(tmp_path: Path, loss: str) -> None:
    begun(tmp_path / "digits", 1)
    (tmp_path / "digits" / "metrics.jsonl").write_text(
        f'{{"images": 160, "loss": {loss}, "lr": 1, "wall_s": {loss}}}\n{{"images": 320, "validation_loss": {loss}, "step": {loss}}}\n'
    )
    state = Runs(tmp_path).state("digits")
    assert (state.images, state.loss, state.rate, dict(state.losses)) == (320, None, None, {"training": [], "validation": []})


def test_no_log_makes_a_rate_that_no_training_has(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    for images, wall in (("1e-300", "1e14"), ("1e14", "1e-300")):
        (tmp_path / "digits" / "metrics.jsonl").write_text(f'{{"images": {images}, "loss": 1, "lr": 1, "wall_s": {wall}}}\n')
        assert Runs(tmp_path).state("digits").rate is None


def test_a_training_counts_whatever_its_name_and_however_many_are_newer(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    (tmp_path / "exp.1").mkdir()
    (tmp_path / "exp.1" / "recipe.toml").write_text(to_toml(recipe()))
    runs = Runs(tmp_path)
    assert runs.busy() is None
    with locked(tmp_path / "exp.1"):
        assert runs.names() == ["digits"]
        assert runs.busy() == "exp.1"
        for do in (lambda: runs.start(Order("new", "bundled:digits", "grey"), recipe()), lambda: runs.resume("digits")):
            with pytest.raises(Refused, match="'exp.1' is being trained"):
                do()
    assert not (tmp_path / "new").exists()
    for i in range(60):
        (tmp_path / f"newer{i}").mkdir()
        (tmp_path / f"newer{i}" / "recipe.toml").touch()
    (tmp_path / "digits" / ".lock.json").unlink()
    os.utime(tmp_path / "digits" / "recipe.toml", (0, 0))
    with locked(tmp_path / "digits"):
        assert "digits" not in runs.names()
        assert runs.busy() == "digits"


@pytest.mark.parametrize("fails", ["write_text", "Popen"])
def test_a_start_that_fails_leaves_the_name_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "no space left on device")

    runs = Runs(tmp_path / "runs")
    with monkeypatch.context() as patched:
        patched.setattr(module if fails == "write_text" else module.subprocess, fails, full)
        with pytest.raises(OSError, match="no space left"):
            runs.start(ORDER, recipe())
    assert list(runs.folder.iterdir()) == []
    monkeypatch.setattr(Runs, "_begin", lambda self, run: None)
    runs.start(ORDER, recipe())


def test_a_process_that_nobody_could_find_again_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, innocent: "subprocess.Popen[bytes]"
) -> None:
    write = module.write_text

    def full(path: Path, text: str) -> None:
        if path.name == "train.pid":
            raise OSError(28, "no space left on device")
        write(path, text)

    monkeypatch.setattr(module.subprocess, "Popen", lambda *args, **more: innocent)
    monkeypatch.setattr(module, "write_text", full)
    runs = Runs(tmp_path / "runs")
    with pytest.raises(OSError, match="no space left"):
        runs.start(ORDER, recipe())
    assert innocent.returncode is not None
    assert list(runs.folder.iterdir()) == []


def test_a_log_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    begun(tmp_path / "digits", 1)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "digits" / "train.log").unlink()
    (tmp_path / "digits" / "train.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        Runs(tmp_path).resume("digits")
    assert victim.read_text() == "mine"
