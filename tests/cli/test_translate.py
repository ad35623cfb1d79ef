"""translate, and training of what it needs, as a user calls them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snowmelt.cli import main
from snowmelt.data.images import read, resize
from snowmelt.model import load
from snowmelt.randomness import generator
from snowmelt.restoration import translate

TINY = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.batch", "16", "--training.precision", "fp32")
SHORT = (*TINY, "--images", "160", "--training.validate_every", "160", "--training.validation_images", "16")


def folder(place: Path, n: int, low: int, px: int = 8) -> Path:
    place.mkdir(parents=True)
    for i in range(n):
        pixels = np.random.default_rng(low + i).integers(low, low + 100, (px, px, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i:02d}.png")
    return place


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("sets")
    return folder(place / "faces", 30, 0), folder(place / "cats", 20, 130, px=10)


@pytest.fixture(scope="module")
def morph(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "morph"
    words = ["train", "--data", sets[0], "--endpoint", sets[1], "--degradation", "morph", "--out", out, "--data.size", "8", *SHORT]
    assert main([str(word) for word in words]) == 0
    return out


def test_pictures_of_the_second_set_become_pictures_of_the_first(cli: Callable, morph: Path, sets, tmp_path: Path, files_in) -> None:
    out = tmp_path / "out"
    done = cli("translate", sets[1], "--model", morph, "--out", out, "--steps", "3", "--seed", "1")
    assert done.code == 0, done.err
    assert files_in(out) == files_in(sets[1]) | {"translated.jsonl"}
    assert "translated 20 pictures of 20 into" in done.out
    model = load(morph)
    y = resize(read(sets[1] / "07.png").x, (8, 8))[None]
    expected = translate(model, y, steps=3, generator=[generator(1, "restore/07.png")])[0].clamp(-1, 1)
    seen = read(out / "07.png").x
    assert float((seen - expected).abs().max()) < 0.03  # the command may compute in bf16
    assert float((seen - y[0]).abs().mean()) > 0.2  # and what it wrote is not what it read
    again = cli("translate", sets[1], "--model", morph, "--out", out, "--steps", "3", "--seed", "1")
    assert "translated 0 pictures of 20" in again.out
    assert "20 pictures already in" in again.err
    other = cli("translate", sets[1], "--model", morph, "--out", tmp_path / "fixed", "--endpoint", "fixed", "--noise", "0", "--trajectory")
    assert other.code == 0, other.err
    assert (tmp_path / "fixed" / "trajectory" / "00.png" / "strip.png").exists()


def test_what_was_chosen_and_what_comes_next(cli: Callable, sets, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", sets[0], "--endpoint", sets[1], "--degradation", "morph", "--out", out)
    done = cli(*words, "--data.size", "8", *SHORT)
    assert done.code == 0, done.err
    assert "model.parameterization = v" in done.out
    assert "data.fit = resize" in done.out
    assert f"snowmelt translate {sets[1]} --model {out} --out translated" in done.out
    assert "severity_images" not in done.out
    assert cli("translate", sets[1], "--model", out, "--out", tmp_path / "there").code == 0


def test_pairs(cli: Callable, sets, tmp_path: Path) -> None:
    dark = folder(tmp_path / "dark", 30, 0)
    light = folder(tmp_path / "light", 30, 130)
    done = cli("train", "--pairs", dark, light, "--out", tmp_path / "run", *SHORT)
    assert done.code == 0, done.err
    recipe = json.loads((tmp_path / "run" / "model.json").read_text())["notes"]["recipe"]
    assert (recipe["degradation"], recipe["data"]["pairs"]) == ("morph:schedule=linear", True)
    assert cli("translate", light, "--model", tmp_path / "run", "--out", tmp_path / "out", "--steps", "2").code == 0
    refused = cli("train", "--pairs", dark, sets[1], "--out", tmp_path / "other", *SHORT)
    assert (refused.code, "20, 21, 22 and 7 more" in refused.error) == (2, True)
    assert not (tmp_path / "other").exists()
    assert "leave one of them out" in cli("train", "--pairs", dark, light, "--data", dark, "--out", tmp_path / "other").error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "--data", "FACES", "--degradation", "morph", "--out", "OUT"), "add --endpoint DIR"),
        (("train", "--data", "FACES", "--endpoint", "CATS", "--degradation", "mask", "--out", "OUT", "--data.size", "8"), "no use for data.endpoint"),
        (("train", "--data", "FACES", "--endpoint", "NOWHERE", "--degradation", "morph", "--out", "OUT"), "NOWHERE"),
        (("translate", "--model", "RUN", "--out", "OUT"), "translate needs pictures"),
        (("translate", "CATS", "--model", "BLUR", "--out", "OUT"), "turns nothing into something else"),
        (("translate", "CATS", "--model", "RUN", "--out", "OUT", "--noise", "2"), "noise = 2 lies outside"),
        (("translate", "CATS", "--model", "RUN", "--out", "OUT", "--steps", "0"), "steps = 0"),
        (("restore", "CATS", "--model", "RUN", "--out", "OUT", "--degrade"), "translate such pictures"),
        (("degrade", "PICTURE", "--degradation", "morph"), "add --endpoint PICTURE"),
    ],
)
def test_bad_input_is_refused_in_one_line(cli: Callable, morph: Path, run: Path, sets, tmp_path: Path, monkeypatch, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"FACES": sets[0], "CATS": sets[1], "RUN": morph, "BLUR": run, "PICTURE": sets[0] / "00.png"}
    done = cli(*(known.get(word, word) for word in words))
    assert done.code == 2, done.out
    assert says in done.error
    assert not (tmp_path / "OUT").exists()


def test_two_shapes_are_named(cli: Callable, sets, tmp_path: Path) -> None:
    words = ("train", "--data", sets[0], "--endpoint", sets[1], "--degradation", "morph", "--data.channels", "3", "--data.size", "8")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'degradation = "morph"\n[data]\npath = "{sets[0].as_posix()}"\nendpoint = "{sets[1].as_posix()}"\n')
    done = cli("train", recipe, "--out", tmp_path / "out")
    assert done.code == 2
    assert "(3, 8, 8)" in done.error
    assert "(3, 10, 10)" in done.error
    assert "--data.size 8" in done.error
    dry = cli(*words, "--dry-run", "--out", tmp_path / "out", *SHORT)
    assert dry.code == 0, dry.err


def test_a_morph_drawn(cli: Callable, sets, tmp_path: Path) -> None:
    done = cli("degrade", sets[0] / "00.png", "--degradation", "morph", "--endpoint", sets[1] / "00.png", "--out", tmp_path / "strip.png")
    assert done.code == 0, done.err
    assert (tmp_path / "strip.png").exists()
