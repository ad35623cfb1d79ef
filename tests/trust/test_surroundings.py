"""Surroundings that offer nothing, and names that nobody expects: what was promised of them, by the commands themselves."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import snowmelt

PROGRAM = Path(__file__).with_name("surroundings.py")
TINY = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
SHORT = ["--model.backbone", TINY, "--training.batch", "16", "--training.precision", "fp32", "--images", "64", "--training.validation_images", "4"]
ALSO = ["--training.validate_every", "64", "--evaluation.images", "2"]
NAMES = ("图", "é", "🙂")
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def pictures(place: Path, n: int = 24) -> Path:
    place.mkdir(parents=True)
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{NAMES[i % 3]} {i}.png")
    return place


def copied(place: Path) -> Path:
    """The package, as it lies where its user may write nothing."""
    home = place / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(snowmelt.__file__).parent, home / "snowmelt", ignore=ignored)
    for path in (*home.rglob("*"), home):
        path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH | (0o111 if path.is_dir() else 0))
    return home


def mounted(home: Path) -> list[str]:
    """What a command begins with so that not even root can write to a folder; nothing where mounts are forbidden."""
    if os.access(home, os.W_OK) and (unshare := shutil.which("unshare")):
        begins = [unshare, "-m", "sh", "-c", READ_ONLY, "sh", str(home)]
        if subprocess.run([*begins, "true"], capture_output=True, check=False).returncode == 0:
            return begins
    return []


def answered(root: Path, commands: list[list[str]], env: dict[str, str], begins: list[str]) -> dict[str, Any]:
    """The report of a program that runs the commands and may write into `root` alone."""
    ask, report = root / "ask.json", root / "report.json"
    for folder in ("scratch", "here"):
        (root / folder).mkdir()
    ask.write_text(json.dumps({"commands": commands, "inside": [str(root / "out"), str(root / "scratch")], "report": str(report)}))
    surroundings = {"PATH": os.environ["PATH"], "TMPDIR": str(root / "scratch"), "OMP_NUM_THREADS": "1", **env}
    words = [*begins, sys.executable, str(PROGRAM), str(ask)]
    done = subprocess.run(words, env=surroundings, cwd=root / "here", capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    found: dict[str, Any] = json.loads(report.read_text())
    assert not list((root / "here").iterdir())
    return found


@pytest.fixture
def writable_again(tmp_path: Path) -> Iterator[None]:
    yield
    for path in (tmp_path / "site", *(tmp_path / "site").rglob("*")):
        path.chmod(0o755)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("writable_again")
def test_no_network_no_home_a_read_only_package_and_the_locale_c(tmp_path: Path, figure) -> None:
    data, out, home = pictures(tmp_path / "照片 🙂"), tmp_path / "out", copied(tmp_path)
    (data / "坏.png").write_bytes(b"")
    run, first = str(out / "模型"), str(data / "图 0.png")
    commands = [
        ["list"],
        ["describe", "noise"],
        ["describe", "photo"],
        ["train", "--data", str(data), "--degradation", "noise", "--out", run, *SHORT, *ALSO],
        ["train", "--data", str(data), "--degradation", "noise", "--out", run, *SHORT, *ALSO],  # goes on with what is finished
        ["describe", run],
        ["restore", str(data), "--model", run, "--severity", ".5", "--steps", "2", "--out", str(out / "结果 🙂")],
        ["restore", str(data), "--model", run, "--severity", ".5", "--steps", "2", "--preview", "2", "--out", str(out / "预览")],
        ["sample", run, "-n", "2", "--steps", "2", "--out", str(out / "新")],
        ["edit", run, first, "--severity", ".5", "--steps", "2", "--out", str(out / "改")],
        ["evaluate", run],
        ["degrade", first, "--degradation", "noise", "--out", str(out / "带.png")],
        ["restore", first, "--out", str(out / "photo")],  # by the model in the package
        ["train", "--data", "bundled:photos", "--data.size", "32", "--degradation", "noise", "--out", str(out / "try"), "--dry-run", *SHORT],
        ["restore", str(data / "没有"), "--out", str(out / "x")],
    ]
    begins = mounted(home)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(home)}
    found = answered(tmp_path, commands, locale, begins)
    assert found["package"] == str(home / "snowmelt" / "cli")
    assert found["encoding"][:2] == ["ascii", "ascii"]
    said = [(code["code"], code["out"], code["err"]) for code in found["codes"]]
    assert [code for code, _, _ in said] == [0] * 14 + [2], [(c[0], e[-500:]) for c, (code, _, e) in zip(commands, said, strict=True) if code]
    assert not any("Traceback" in err for _, _, err in said)
    train, restored, missing = said[3], said[6], said[14]
    assert f"the model is in {run}." in train[1]
    assert "1 file cannot be read and is left out: 坏.png: the file is empty" in train[2]
    assert f"restored 24 pictures of 25 into {out / '结果 🙂'}" in restored[1]
    assert f"left out {data / '坏.png'}: the file is empty" in restored[2]
    assert f"{data / '没有'} does not exist" in missing[2]
    assert {path.name for path in (out / "结果 🙂").glob("*.png")} == {path.name for path in data.iterdir()} - {"坏.png"}
    assert str(data) in (Path(run) / "recipe.toml").read_text(encoding="utf-8")
    figure("locale-c", f"{len(commands)} commands in the locale C, their files named in Chinese and emoji: all as in UTF-8")
    assert found["network"] == []
    figure("no-network", f"{len(commands)} commands ({len({words[0] for words in commands})} verbs): 0 names looked up, 0 connections")
    bytecode = [path for path in found["outside"] if path.startswith(str(home)) and "__pycache__" in path]  # the interpreter's, in vain
    assert found["outside"] == bytecode
    figure("no-home", f"no HOME: {found['written']} files and folders written, 0 of them outside the folders that were given")
    left = {path.name for path in home.rglob("*")}
    assert begins == [] or "__pycache__" not in left
    how = "mounted read-only" if begins else "without the right to write"
    figure("read-only-package", f"{len(commands)} commands with the package {how}: 0 files in it opened for writing by snowmelt")


@pytest.mark.timeout(240)
def test_odd_names_and_a_home_that_does_not_exist(tmp_path: Path, figure, command) -> None:
    """What a user's shell can hand over: leading dashes, spaces, newlines, bytes that are no text."""
    env = {"HOME": str(tmp_path / "nobody"), "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None}
    names = ["two words ", "-dash", "line\nbreak", "图片 🙂", "'\"$(x)`%s{}", "e\u0301"]
    run = tmp_path / "run of\nmany 🙂"
    data = pictures(tmp_path / names[2])
    words = ("--degradation", "gaussian-blur:sigma_px=2", *SHORT, *ALSO)
    done = command("train", "--data", data, "--out", run, *words, env=env)
    assert done.wait(90) == 0, done.stderr()
    sources = tmp_path / "pictures"
    for name in names:
        pictures(sources / name, 1)
        shutil.copy(next((sources / name).iterdir()), sources / f"{name}.png")
    odd = sources / os.fsdecode(b"caf\xe9.png")
    shutil.copy(sources / "-dash.png", odd)
    for name in names:
        once = ("--model", run, "--severity", "1", "--faithful")
        done = command("restore", f"./{name}", f"./{name}.png", *once, f"--out=-out {name}", env=env, cwd=sources)
        assert done.wait(60) == 0, done.stderr()
        assert {path.name for path in (sources / f"-out {name}").iterdir()} == {f"{name}.png", "图 0.png", "restored.jsonl"}
    done = command("restore", sources, "--model", run, "--severity", "1", "--steps", "2", "--sampler", "tacos", "--out", tmp_path / "all", env=env)
    assert done.wait(60) == 0, done.stderr()
    assert (tmp_path / "all" / odd.name).is_file()
    assert "\ufffd" in str(tmp_path / "all" / odd.name).encode(errors="surrogateescape").decode(errors="replace")
    broken = sources / os.fsdecode(b"bad\xff.png")
    broken.write_bytes(b"")
    again = command("restore", sources, "--model", run, "--severity", "1", "--steps", "2", "--sampler", "tacos", "--out", tmp_path / "all", env=env)
    assert again.wait(60) == 0, again.stderr()
    assert "the file is empty" in again.stderr()
    for verb in (("describe", run), ("evaluate", run), ("degrade", odd, "--degradation", "noise", "--out", tmp_path / "strip.png")):
        done = command(*verb, env=env)
        assert done.wait(90) == 0, done.stderr()
    unnamed = tmp_path / os.fsdecode(b"fold\xe9r")
    pictures(unnamed)
    done = command("train", "--data", unnamed, "--out", tmp_path / "never", *words, env=env)
    assert done.wait(60) == 2
    assert "is not UTF-8, and a recipe has to name it: rename the folder" in done.stderr()
    assert not (tmp_path / "never").exists()
    home = command("train", "--data", "~/pictures", "--out", tmp_path / "never", *words, env=env)
    assert home.wait(60) == 2
    assert "does not exist" in home.stderr()
    assert not (tmp_path / "nobody").exists()
    assert {path.name for path in tmp_path.iterdir()} == {data.name, run.name, "pictures", "all", "strip.png", unnamed.name}
    figure("odd-paths", f"{len(names) + 2} names (spaces, a newline, a leading dash, emoji, quotes, bytes that are no text): all come back")
