"""train: from a folder and a name, from a recipe, again after Ctrl-C, and what it refuses."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.held import held

from snowmelt.training import history, objective

BLUR = ("--degradation", "gaussian-blur:sigma_px=2")


def test_defaults_are_printed_with_reasons_and_written_down(cli, tmp_path: Path, draw_picture, plain) -> None:
    for i in range(8):
        draw_picture(tmp_path / "in" / f"{i}.png", seed=i, h=9 + i, w=12)
    done = cli("train", "--data", tmp_path / "in", *BLUR, "--out", tmp_path / "run", *plain)
    assert done.code == 0, done.err
    assert "data.size = 8: pictures are 12 x 9 to 12 x 16 px" in done.out
    assert "training.images" not in done.out  # it was given, so it needs no reason
    assert f"snowmelt restore PICTURES --model {tmp_path / 'run'}" in done.out
    resolved = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert resolved["data"]["size"] == 8
    assert resolved["training"]["images"] == 160
    assert resolved["degradation"] == "gaussian-blur:sigma_px=2"


def test_a_recipe_file_is_used_as_written_but_for_overrides(cli, tmp_path: Path, plain) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('degradation = "pixelate:levels=2"\n[data]\npath = "bundled:digits"\n[training]\nlr = 0.004\n')
    done = cli("train", recipe, "--out", tmp_path / "run", *plain, "--data.limit", "40", "--evaluation.calls", "2,4")
    assert done.code == 0, done.err
    assert " = " not in done.out
    resolved = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert (resolved["training"]["lr"], resolved["data"]["limit"], resolved["evaluation"]["calls"]) == (0.004, 40, [2, 4])
    again = cli("train", recipe, "--out", tmp_path / "run", *plain, "--data.limit", "40", "--training.lr", ".1")
    assert again.code == 2
    assert "holds the run of another recipe: training.lr is 0.004 there and 0.1 here" in again.error
    assert "--fresh" in again.error


def test_a_dry_run_costs_nothing_and_says_what_training_would(cli, tmp_path: Path, plain, files_in) -> None:
    done = cli("train", "--data", "bundled:digits", *BLUR, "--dry-run", "--out", tmp_path / "run", *plain)
    assert done.code == 0, done.err
    for word in ("parameters", "memory", "a step", "ETA", "degradation"):
        assert word in done.out
    assert files_in(tmp_path) == {"run-dry-run.png"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "bundled:digits", *BLUR), "add --out RUN"),
        (("--data", "bundled:digits", "--out", "run"), "needs a recipe"),
        ((*BLUR, "--out", "run"), "needs a recipe"),
        (("demo", "--out", "run", "--data.sise", "8"), "Unknown option: --data.sise. Did you mean --data.size?"),
        (("demo", "--out", "run", "--training.lr", "fast"), 'unable to convert "fast" into float'),
        (("demo", "--out", "run", "--training.lr", "7"), "training.lr = 7.0 lies outside (0, 1]"),
        (("demo", "--out", "run", "--data.range", "0,1,2"), '"0,1,2" is not a pair of numbers'),
        (("demo", "--out", "run", "--evaluation.calls", "4,1.5"), '"4,1.5" is not a list of whole numbers'),
        (("demo", "--out", "run", "--model.input", "9bit"), "Choose from"),
        (("demo", "--out", "run", "--model.backbone", "unt"), "did you mean 'unet'?"),
        (("demo", "--out", "run", "--degradation", "mist"), "unknown degradation 'mist'"),
        (("dmo", "--out", "run"), "did you mean 'demo'?"),
        (("demo", "--out", "run", "--data", "nowhere"), 'data.path = "nowhere" does not exist'),
        (("--data", "nowhere", *BLUR, "--out", "run"), 'data.path = "nowhere" does not exist'),
        (("--data", "empty", *BLUR, "--out", "run"), "empty holds no picture"),
        (("--data", "bundled:digits", "--degradation", "grey", "--out", "run"), "grey needs pictures in colour"),
        (("--data", "one", *BLUR, "--out", "run"), "one holds 1 different picture(s), too few to split: add pictures"),
        (("mixed.toml", "--out", "run"), "give --data.size 8"),
        (("mixed.toml", "--out", "run", "--data.size", "8"), "give --data.channels 1 or --data.channels 3"),
        (("--data", "nan.npy", *BLUR, "--out", "run"), "nan.npy"),
        (("broken.toml", "--out", "run"), "broken.toml is not a TOML file"),
        (("typo.toml", "--out", "run"), "typo.toml: unknown field trainings (did you mean 'training'?)"),
        (("demo", "--out", "demo.png"), "demo.png is a file: give --out a directory"),
        (("demo", "--out", "one"), "one is not empty and holds no run of snowmelt: choose another --out"),
        (("demo", "--out", "run", "--plugin", "none.py"), "none.py does not exist"),
        (("demo", "--out", "run", "--plugin", "bad.py"), "plug-in bad.py failed to load: ZeroDivisionError"),
        (("demo", "--out", "run", "--threads", "0"), "--threads 0 lies under 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(cli, tmp_path: Path, monkeypatch, draw_picture, files_in, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    draw_picture(tmp_path / "demo.png")
    draw_picture(tmp_path / "one" / "a.png")
    for i in range(4):
        draw_picture(tmp_path / "mixed" / f"{i}.png", seed=i, h=8 + i, w=8, colour=i % 2 == 0)
    (tmp_path / "mixed.toml").write_text('degradation = "noise"\n[data]\npath = "mixed"\n')
    (tmp_path / "broken.toml").write_text("degradation = \n")
    (tmp_path / "typo.toml").write_text('degradation = "noise"\n[trainings]\nlr = 1\n')
    (tmp_path / "bad.py").write_text("1 / 0\n")
    pixels = np.zeros((9, 8, 8, 1), np.float32)
    pixels[4, 2, 2, 0] = np.nan
    np.save(tmp_path / "nan.npy", pixels)
    before = files_in(tmp_path)
    extra = ("--data.channels", "1") if words[0] == "mixed.toml" and "--data.size" not in words else ()
    extra = ("--data.range", "-1,1") if "nan.npy" in words else extra
    done = cli("train", *words, *extra)
    assert done.code == 2, done.err
    assert says in done.error
    assert files_in(tmp_path) - before - {"__pycache__"} == set()
    assert not (tmp_path / "run").exists()


def test_a_full_disk_leaves_nothing(cli, tmp_path: Path, monkeypatch, plain, files_in) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = cli("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain)
    assert done.code == 1
    assert done.error.startswith(f"cannot write {tmp_path / 'run' / 'recipe.toml'}: No space left on device (")
    assert not (tmp_path / "run").exists()


def test_when_the_disk_has_room_again_the_same_command_goes_on(cli, tmp_path: Path, monkeypatch, plain, files_in) -> None:
    words = ("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain)
    count, sync = [0], os.fsync

    def full(handle: int) -> None:
        count[0] += 1
        if count[0] > 2:  # the recipe fits, file and folder, the first checkpoint does not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = cli(*words)
    assert done.code == 1
    assert "No space left on device" in done.error
    assert not any(name.endswith(".part") for name in files_in(tmp_path))
    assert cli(*words).code == 0
    assert (tmp_path / "run" / "model.json").is_file()


def test_fresh_gives_up_the_old_run_only_for_a_sound_one(cli, tmp_path: Path, plain, files_in) -> None:
    words = ("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain)
    assert cli(*words).code == 0
    before = files_in(tmp_path)
    refused = cli("train", "--data", tmp_path / "nowhere", *BLUR, "--out", tmp_path / "run", "--fresh")
    assert refused.code == 2
    also = cli("train", "demo", "--data", tmp_path / "nowhere", "--out", tmp_path / "run", "--fresh")
    assert also.code == 2
    assert files_in(tmp_path) == before
    assert cli(*words, "--fresh", "--training.lr", "1e-3").code == 0


def test_a_loss_that_is_not_finite_is_one_line(cli, tmp_path: Path, monkeypatch, plain) -> None:
    monkeypatch.setattr(
        objective, "restoration_loss", lambda model, x0, *_, **__: model.estimate(x0, x0[:, 0, 0, 0]).flatten(1).sum(1) * torch.inf
    )
    done = cli("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain)
    assert done.code == 1
    assert "smaller --training.lr" in done.error


def test_a_bug_keeps_its_traceback(cli, tmp_path: Path, monkeypatch, plain) -> None:
    def bug(*_: object, **__: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(objective, "restoration_loss", bug)
    done = cli("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain)
    assert done.code == 1
    assert "Traceback" in done.err
    assert "this is a bug" in done.error


def test_debug_shows_the_traceback_of_everything(cli, monkeypatch) -> None:
    monkeypatch.setenv("SNOWMELT_DEBUG", "1")
    done = cli("train", "dmo", "--out", "run")
    assert done.code == 2
    assert "Traceback" in done.err


@pytest.mark.timeout(600)
def test_after_control_c_the_same_command_goes_on_to_the_end(cli, tmp_path: Path, plain) -> None:
    run = tmp_path / "run"
    words = ["train", "--data", "bundled:digits", *BLUR, "--out", str(run), *plain, "--threads", "1"]
    words[words.index("160")] = "4800"
    program = f"import sys\n{held(250)}\nfrom snowmelt.cli import main\nsys.exit(main())"
    child = subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=240)
    assert child.returncode == 130, err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    stopped = history.read(run)[-1]["step"]
    assert stopped < 300
    done = cli(*words)
    assert done.code == 0, done.err
    steps = [line["step"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
    assert steps[-1] == 300
    assert len(set(steps)) == len(steps)


def test_other_programs_follow_a_run_where_they_are_installed(cli, tmp_path: Path, plain, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    run = SimpleNamespace(define_metric=lambda *_, **__: None, log=told.append, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run, Image=lambda sheet: "grid", __spec__=object()))
    done = cli("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *plain, "--track", "wandb")
    assert done.code == 0, done.err
    assert [line["images"] for line in told if "train/loss" in line] == [line["images"] for line in history.read(tmp_path / "run") if "loss" in line]
    assert json.loads((tmp_path / "run" / "tracking.json").read_text())["told"] == ["wandb"]
    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused = cli("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "new", *plain, "--track", "wandb")
    assert refused.code == 2
    assert refused.error == "--track wandb needs the package wandb, which is not installed: pip install wandb, or leave it out"
    assert not (tmp_path / "new").exists()


def test_advice_is_given_once_and_again_only_to_who_comes_back(cli, tmp_path: Path) -> None:
    sizes = ("--model.backbone", "unet:widths=(8,),patch=4,groups=4,blocks=1", "--training.batch", "4", "--training.precision", "fp32")
    amount = ("--images", "802", "--training.validate_every", "80", "--training.validation_images", "4", "--training.lr", "1e-9")
    words = ("train", "--data", "bundled:digits", *BLUR, "--out", tmp_path / "run", *sizes, *amount)
    done = cli(*words)
    assert done.code == 0, done.err
    verdicts, advice = done.err.count("dB of PSNR over all severities, after"), "far too low: try --training.lr 0.001."
    assert verdicts == 10, done.err
    assert done.err.count(advice) == 1, done.err
    assert "dB of PSNR over all severities, after 800 images" in done.out
    assert "trained 800 images of bundled:digits" in done.out, "steps are whole"
    assert advice not in done.out, "the last validation was of no other mind"
    again = cli(*words)
    assert again.code == 0, again.err
    assert advice in again.out, "nothing was validated now, so it is said here"
