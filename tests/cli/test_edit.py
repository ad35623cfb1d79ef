"""edit, as a user calls it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.cli import main
from snowmelt.data.images import note, read
from snowmelt.model import load
from snowmelt.randomness import generator
from snowmelt.restoration import edit

TINY = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.batch", "16", "--training.precision", "fp32")
SHORT = (*TINY, "--images", "160", "--training.validate_every", "160", "--training.validation_images", "16")


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of noise and labels, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "hot"
    words = ["train", "--data", "bundled:digits", "--degradation", "noise", "--model.conditions", "label", "--training.severity_images", "0"]
    assert main([*words, "--out", str(out), *SHORT]) == 0
    return out


def mask(path: Path, px: int = 8) -> Path:
    pixels = np.zeros((px, px), np.uint8)
    pixels[:, px // 2 :] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_edited(cli: Callable, hot: Path, folder: Path, tmp_path: Path, files_in) -> None:
    out = tmp_path / "out"
    done = cli("edit", hot, folder, "--severity", ".5", "--steps", "3", "--out", out, "--seed", "1")
    assert done.code == 0, done.err
    assert "edited 6 of 6 pictures into" in done.out
    assert "made to fit" not in done.err
    assert files_in(out) == files_in(folder) | {"edit-sheet.png"}
    x = read(folder / "2.png").x[None]
    expected = edit(load(hot), x, 0.5, sampler="ancestral:steps=3,eta=0,order=2", generator=[generator(1, "edit/2.png")])[0].clamp(-1, 1)
    assert float((read(out / "2.png").x - expected).abs().max()) < 0.01
    assert note(out / "2.png")["severity"] == 0.5
    before = (out / "2.png").read_bytes()
    assert "exists: choose another --out, or add --overwrite" in cli("edit", hot, folder, "--severity", ".5", "--out", out).error
    assert (out / "2.png").read_bytes() == before
    assert cli("edit", hot, folder, "--severity", ".5", "--steps", "3", "--out", out, "--seed", "2", "--overwrite").code == 0
    assert (out / "2.png").read_bytes() != before


def test_a_hole_filled_and_all_else_kept(cli: Callable, hot: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("edit", hot, folder / "1.png", "--mask", mask(tmp_path / "mask.png"), "--steps", "4", "--again", "2", "--out", out, "--label", "3")
    assert done.code == 0, done.err
    given, made = read(folder / "1.png").x, read(out / "1.png").x
    assert torch.equal(given[..., :4], made[..., :4])
    assert not torch.allclose(given[..., 4:], made[..., 4:])
    assert note(out / "1.png")["labels"] == ["3"]
    other = tmp_path / "other"
    words = ("edit", hot, folder / "1.png", "--mask", tmp_path / "mask.png", "--steps", "4", "--again", "2")
    assert cli(*words, "--out", other, "--label", "8").code == 0
    assert not torch.equal(read(other / "1.png").x, made)  # another label is another picture


def test_pictures_of_other_sizes_are_made_to_fit(cli: Callable, hot: Path, draw_picture, tmp_path: Path) -> None:
    large = draw_picture(tmp_path / "in" / "large.png", h=20, w=20, colour=True)
    out = tmp_path / "out"
    done = cli("edit", hot, large, "--mask", mask(tmp_path / "mask.png", 20), "--steps", "2", "--out", out)
    assert done.code == 0
    assert "made to fit the model, 1 of 1: grey, 8 x 8 px, without transparency" in done.err
    assert read(out / "large.png").x.shape == (1, 8, 8)
    assert cli("edit", hot, large, "--severity", ".3", "--steps", "2", "--size", "12", "--out", tmp_path / "twelve").code == 0
    assert read(tmp_path / "twelve" / "large.png").x.shape == (1, 12, 12)


def test_what_cannot_be_read_is_left_out(cli: Callable, hot: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "2.png").write_bytes(b"no picture")
    done = cli("edit", hot, folder, "--severity", ".5", "--steps", "2", "--out", tmp_path / "out")
    assert done.code == 1
    assert "edited 5 of 6 pictures" in done.out
    assert "left out" in done.err
    assert not (tmp_path / "out" / "2.png").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("RUN",), "edit needs pictures"),
        (("RUN", "IN"), "Give --severity in (0, 1], or --mask"),
        (("RUN", "IN", "--severity", "1.5"), "severity = 1.5 lies outside"),
        (("RUN", "IN", "--severity", ".5", "--again", "0"), "--again 0 lies outside"),
        (("RUN", "IN", "--severity", ".5", "--again", "2", "--sampler", "heun"), "not those of heun"),
        (("RUN", "IN", "--severity", ".5", "--size", "2"), "--size 2 lies outside"),
        (("RUN", "IN", "--severity", ".5", "--label", "12"), "is none of the 10 classes"),
        (("RUN", "IN", "--severity", ".5", "--label", "all"), "--label names 10 classes, more than the pictures given (6): name fewer"),
        (("RUN", "IN", "--severity", ".5", "--again", "2", "--sampler", "ancestral:eta=0,order=2"), "take order = 1"),
        (("RUN", "IN", "--severity", ".5", "--guidance", "2"), "nothing to guide towards"),
        (("RUN", "IN", "--mask", "NOWHERE"), "NOWHERE does not exist"),
        (("BLUR", "IN", "--mask", "MASK"), "gaussian-blur is no Gaussian chain"),
        (("RUN", "RUN", "--severity", ".5"), "holds a model, not pictures"),
        (("IN", "IN", "--severity", ".5"), "holds no model"),
    ],
)
def test_bad_input_is_refused_in_one_line(cli: Callable, hot: Path, run: Path, folder: Path, tmp_path: Path, monkeypatch, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"RUN": hot, "BLUR": run, "IN": folder, "MASK": mask(tmp_path / "mask.png")}
    done = cli("edit", *(known.get(word, word) for word in words), "--out", "OUT")
    assert done.code == 2, done.out
    assert says in done.error
    assert not (tmp_path / "OUT").exists()


def test_a_cold_model_edits_as_well(cli: Callable, run: Path, folder: Path, tmp_path: Path) -> None:
    done = cli("edit", run, folder / "0.png", "--severity", ".5", "--steps", "2", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert json.loads((run / "model.json").read_text())["degradation"]["name"] == "gaussian-blur"
