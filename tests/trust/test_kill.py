"""Trainings that are killed, interrupted and taken up again, by the same command: they end in the same bits, and no checkpoint is ever lost."""

import dataclasses
import hashlib
import json
import os
import random
import signal
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snowmelt import disk
from snowmelt.files import read_tensors
from snowmelt.recipes import run
from snowmelt.recipes.recipe import from_table
from snowmelt.stopping import Stopped
from snowmelt.training import loop
from snowmelt.training.scaling import Scaling

State = Callable[[Path], dict[str, Any]]
BATCH, STEPS, EVERY = 16, 48, 6
RECIPE = f"""
degradation = "mask+noise"
data = {{ path = "bundled:digits", size = 8 }}
model.backbone = "unet:widths=(8,8),patch=4,groups=4,blocks=1"
[training]
images = {BATCH * STEPS}
batch = {BATCH}
lr = 2e-2  # up and down it goes, and the best model is not the last
validate_every = {BATCH * EVERY}
validation_images = 16
precision = "fp32"
keep_best = true
"""
# Executed in the command's process: every step that was made is noted, and one of them takes long; that somebody asks for the end in it is noted too.
NOTING = """
import os, time
from snowmelt.training.loop import Trainer
from snowmelt.training.scaling import Scaling
file, made, step, advance, run = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0, Scaling.step, Trainer._advance, None
def advanced(self, bar):
    global run
    run = self
    return advance(self, bar)
Trainer._advance = advanced
def noted(self, *a, **k):
    global made
    out = step(self, *a, **k)
    os.write(file, b".")
    made += 1
    if made == {slow}:
        until, told = time.monotonic() + 200, False
        while time.monotonic() < until:
            time.sleep(0.01)
            if run._asked.is_set() and not told:
                told = bool(os.write(file, b"!"))
    return out
Scaling.step = noted
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def parts(folder: Path) -> set[str]:
    """The temporary files of a checkpoint that is being written there."""
    return {path.name for path in folder.glob(".checkpoint-*.part")}


def unreadable(folder: Path) -> int:
    """How many checkpoints of a run are not what their JSON files say, looked at without the library's own reader."""
    bad = 0
    for path in folder.glob("checkpoint-*.json"):
        try:
            said = json.loads(path.read_text())
            file = folder / said["file"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == said["sha256"]
            assert read_tensors(file)
        except (ValueError, KeyError, OSError, AssertionError):
            bad += 1
    return bad


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.stem.partition("-")[2]) for path in folder.glob("checkpoint-*.json")), default=0)


def test_a_training_that_is_killed_ends_as_if_nothing_had_been(
    command: Callable[..., Any], recipe: Path, state: State, tmp_path: Path, rounds: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    wanted, luck = rounds(25, 200), random.Random(25)
    whole, out = tmp_path / "whole", tmp_path / "life-0"
    assert command("train", recipe, "--out", tmp_path / "warm").wait() == 0  # the first reads the data from the disk
    start = time.monotonic()
    assert command("train", recipe, "--out", whole).wait() == 0
    lasts = time.monotonic() - start
    expected = state(whole)
    assert 0 < expected["best/model.json"]["notes"]["validation"]["images"] < expected["model.json"]["notes"]["validation"]["images"]
    kills, inside, bad, told, lives, idle = 0, 0, 0, 0, 0, 0
    while True:
        left = parts(out)  # by those before it
        child = command("train", recipe, "--out", out, "--workers", kills % 3)
        saving = kills < wanted and inside < (wanted + 3) // 4 and kills % 3 == 2
        if kills >= wanted:
            assert child.wait() == 0, child.stderr()
        elif saving:
            time.sleep(luck.uniform(0, lasts / 4))
            while child.running:
                if parts(out) - left and child.freeze():
                    if parts(out) - left:  # what was seen may be over by the time it is held
                        break
                    child.kill(signal.SIGCONT)
            child.kill()
        else:
            time.sleep(luck.uniform(0, lasts / 2))
            child.kill()
        ended = child.wait()
        told += "damaged" in child.stderr()
        bad += unreadable(out)
        if ended == -signal.SIGKILL:
            kills += 1
            inside += bool(parts(out) - left)
            continue
        assert ended == 0, child.stderr()
        assert state(out) == expected
        assert not list(out.rglob("*.part")), "what a killed process was writing is still there"
        lives += 1
        if kills >= wanted:
            break
        idle += 1
        assert idle < wanted + 10, "no training was alive when it was to be killed"
        out = tmp_path / f"life-{lives}"
    figure(
        "resume-kills",
        f"{kills} kills, {inside} of them inside a save, 0 to 2 loader workers by turns: {bad} unreadable checkpoints, all {lives} trainings end in "
        "the bits of the undisturbed one",
    )
    assert bad == told == 0
    assert inside >= wanted // 4


def test_what_is_left_of_a_kill_before_the_first_step_is_no_hindrance(tmp_path: Path) -> None:
    plain = from_table(tomllib.loads(RECIPE))
    left = tmp_path / f".{run.RECIPE}.4711.part"
    left.write_text("degrad")
    run.train(dataclasses.replace(plain, training=dataclasses.replace(plain.training, images=BATCH)), tmp_path)
    assert not left.exists()


VARIANTS: tuple[dict[str, Any], ...] = ({}, {"precision": "bf16", "ema": 0.5}, {"precision": "fp16"}, {"batch": BATCH // 2, "accumulate": 2})


def test_a_training_interrupted_at_every_step_ends_in_the_same_bits(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, str], None]
) -> None:
    steps, stops, made = 9, 0, 0
    plain = from_table(tomllib.loads(RECIPE))
    recipes = [dataclasses.replace(plain, training=dataclasses.replace(plain.training, images=BATCH * steps, **options)) for options in VARIANTS]
    for i, recipe in enumerate(recipes):
        run.train(recipe, tmp_path / f"whole-{i}")
    step = Scaling.step

    def interrupted(*a: Any, **k: Any) -> Any:
        nonlocal made
        made += 1
        os.kill(os.getpid(), signal.SIGINT)
        return step(*a, **k)

    monkeypatch.setattr(Scaling, "step", interrupted)
    same = 0
    for i, recipe in enumerate(recipes):
        for _ in range(steps):  # asked to stop in its last step, a training stops before its last validation
            with pytest.raises(Stopped):
                run.train(recipe, tmp_path / f"parts-{i}")
            stops += 1
        run.train(recipe, tmp_path / f"parts-{i}")
        same += state(tmp_path / f"whole-{i}") == state(tmp_path / f"parts-{i}")
    figure(
        "resume-steps",
        f"{len(recipes)} trainings (fp32, bf16, fp16, accumulated) stopped after each of their steps, {stops} stops: {same} end in the same bits",
    )
    assert made == steps * len(recipes)
    assert same == len(recipes)


def test_a_kill_before_any_file_gets_its_name_loses_neither_model_nor_best(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, validate, settle = [5.0, 3.0, 1.0, 2.0], loop.validate, disk.settle  # of the validations; the last is not the best
    plain, left = from_table(tomllib.loads(RECIPE)), -1
    options = dataclasses.replace(plain.training, images=3 * BATCH, validate_every=BATCH, severity_images=0)

    def validated(*a: Any, tick: Callable[[], None], **k: Any) -> Any:
        return dataclasses.replace(validate(*a, tick=tick, **k), loss=losses[tick.__self__.step])  # type: ignore[attr-defined]

    def killed(*a: Any, **k: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        settle(*a, **k)

    walk = loop.default_walk
    monkeypatch.setattr(loop, "default_walk", lambda model: dataclasses.replace(walk(model), steps=2))  # nobody looks at its pictures
    monkeypatch.setattr(loop, "validate", validated)
    monkeypatch.setattr(disk, "settle", killed)
    recipe = dataclasses.replace(plain, training=options)
    run.train(recipe, tmp_path / "whole")
    files, expected = -1 - left, state(tmp_path / "whole")
    assert files > 20
    assert expected["best/model.json"]["notes"]["validation"]["images"] == 2 * BATCH
    for left in range(1, files + 1):
        out = tmp_path / str(left)
        with pytest.raises(KeyboardInterrupt):
            run.train(recipe, out)
        run.train(recipe, out)
        assert state(out) == expected, out


def test_an_interrupted_training_loses_no_step(
    command: Callable[..., Any], recipe: Path, state: State, tmp_path: Path, rounds: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    wanted, luck = rounds(5, 20), random.Random(5)
    whole, out, note = tmp_path / "whole", tmp_path / "life-0", tmp_path / "steps"
    assert command("train", recipe, "--out", whole).wait() == 0
    expected = state(whole)
    stops, lost, worst, life = 0, 0, 0.0, 0
    while stops < wanted:
        began, note_size = saved_step(out), luck.randrange(1, STEPS // 2)
        note.write_bytes(b"")
        child = command("train", recipe, "--out", out, before=NOTING.format(path=str(note), slow=0))
        while child.running and note.stat().st_size < note_size:
            time.sleep(0.001)
        time.sleep(luck.uniform(0, 0.03))  # anywhere in a step, a validation or a save
        number = (signal.SIGINT, signal.SIGTERM)[stops % 2]
        start = time.monotonic()
        child.kill(number)
        ended = child.wait()
        took = time.monotonic() - start
        if ended in (0, -number):  # it was at its end already, or on its way out of the interpreter
            assert state(out) == expected
            life += 1
            assert life < 2 * wanted + 5
            out = tmp_path / f"life-{life}"
            continue
        assert ended == 130, child.stderr()
        assert "the same command goes on" in child.stderr()
        stops, worst = stops + 1, max(worst, took)
        lost += began + note.stat().st_size - saved_step(out)
    assert command("train", recipe, "--out", out).wait() == 0
    same = state(out) == expected
    result = "the same" if same else "another"
    figure("interrupt-train", f"{stops} times Ctrl-C or SIGTERM: exit 130 within {worst:.2f} s, {lost} steps lost, {result} result")
    assert worst < 5
    assert lost == 0
    assert same


def test_a_second_signal_stops_at_once(
    command: Callable[..., Any], recipe: Path, tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    slow, note, worst = EVERY + 2, tmp_path / "steps", 0.0
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / f"run-{number}"
        note.write_bytes(b"")
        child = command("train", recipe, "--out", out, before=NOTING.format(path=str(note), slow=slow))
        while child.running and note.stat().st_size < slow:
            time.sleep(0.01)
        child.kill(number)
        while child.running and note.stat().st_size == slow:  # a second one of a kind that comes before the first was heard is lost
            time.sleep(0.01)
        assert child.running, "the first signal lets a step end that takes minutes"
        start = time.monotonic()
        child.kill(number)
        assert child.wait() == 130, child.stderr()
        worst = max(worst, time.monotonic() - start)
        assert (unreadable(out), saved_step(out)) == (0, EVERY)
    figure("interrupt-twice", f"the second Ctrl-C or SIGTERM in a step of minutes: exit 130 after {worst:.2f} s, the last checkpoint stays")
    assert worst < 5
