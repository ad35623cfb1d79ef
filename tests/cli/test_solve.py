"""solve, as a user calls it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.cli import main
from snowmelt.data.images import note, read, write
from snowmelt.model import Model, load, save
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restoration import solve
from snowmelt.restorers import Conditions, Restorer

TINY = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.batch", "16", "--training.precision", "fp32")
SHORT = (*TINY, "--images", "160", "--training.validate_every", "160", "--training.validation_images", "16")


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of noise, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "hot"
    words = ["train", "--data", "bundled:digits", "--degradation", "noise", "--training.severity_images", "0"]
    assert main([*words, "--out", str(out), *SHORT]) == 0
    return out


def test_degraded_pictures_restored(cli: Callable, hot: Path, folder: Path, tmp_path: Path, files_in) -> None:
    out, blocks = tmp_path / "out", build("pixelate:levels=1")
    for path in folder.rglob("*.png"):
        write(path, blocks(read(path).x[None], torch.ones(1))[0])
    words = ("solve", hot, folder, "--operator", "pixelate:levels=1", "--steps", "4", "--out", out)
    done = cli(*words, "--method", "ddnm", "--seed", "3")
    assert done.code == 0, done.err
    assert "restored 6 of 6 pictures into" in done.out
    assert files_in(out) == files_in(folder) | {"solve-sheet.png"}
    y = read(folder / "1.png").x[None]
    settings = {"method": "ddnm", "sampler": "ancestral:steps=4", "generator": [generator(3, "solve/1.png")]}
    expected = solve(load(hot), y, blocks, **settings)[0].clamp(-1, 1)
    assert float((read(out / "1.png").x - expected).abs().max()) < 0.01
    assert not torch.allclose(expected, y[0], atol=0.05)
    assert "exists: choose another --out" in cli(*words).error
    for method in ("diffpir", "pigdm", "dps"):
        other = ("--method", method, "--steps", "2", "--out", tmp_path / method)
        assert cli("solve", hot, folder / "1.png", "--operator", "pixelate:levels=1", *other).code == 0


def test_a_mask_is_holes(cli: Callable, hot: Path, folder: Path, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:5, 2:5] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    words = ("solve", hot, folder / "1.png", "--mask", tmp_path / "mask.png", "--steps", "3", "--method", "ddnm", "--out", tmp_path / "out")
    done = cli(*words, "--degrade")
    assert done.code == 0, done.err
    kept = torch.from_numpy(pixels == 0)
    given, made = read(folder / "1.png").x[0], read(tmp_path / "out" / "1.png").x[0]
    assert torch.equal(given[kept], made[kept])
    assert not torch.allclose(given[~kept], made[~kept])


def test_what_lies_in_the_hole_is_not_read(cli: Callable, hot: Path, folder: Path, tmp_path: Path) -> None:
    pixels, hole = np.array(Image.open(folder / "1.png")), np.zeros((8, 8), np.uint8)
    hole[2:5, 2:5] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    for name, value in (("grey", 128), ("light", 255)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.where(hole > 0, value, pixels).astype(np.uint8)).save(tmp_path / name / "1.png")
        words = ("--mask", tmp_path / "mask.png", "--steps", "3", "--method", "dps", "--out", tmp_path / f"{name}-out")
        assert cli("solve", hot, tmp_path / name / "1.png", *words).code == 0
    assert torch.equal(*(read(tmp_path / f"{name}-out" / "1.png").x for name in ("grey", "light")))


def test_a_model_with_classes_is_told_them(cli: Callable, folder: Path, tmp_path: Path) -> None:
    degradation = build("noise")
    torch.manual_seed(0)
    restorer = Restorer(degradation, build(TINY[1], "backbone"), (1, 8, 8), conditions=Conditions(classes=3))
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save(Model(degradation, restorer.eval()), tmp_path / "run")
    words = ("solve", tmp_path / "run", folder / "1.png", "--operator", "pixelate:levels=2", "--steps", "3")
    made = []
    for name, label in (("bare", ()), ("zero", ("--label", "0")), ("two", ("--label", "2")), ("loud", ("--label", "2", "--guidance", "3"))):
        done = cli(*words, *label, "--out", tmp_path / name)
        assert done.code == 0, done.err
        made.append((tmp_path / name / "1.png").read_bytes())
    assert len(set(made)) == 4
    assert note(tmp_path / "two" / "1.png")["labels"] == ["2"]


def test_pictures_that_are_degraded_first(cli: Callable, hot: Path, folder: Path, tmp_path: Path) -> None:
    words = ("solve", hot, folder, "--operator", "mask", "--degrade", "--noise", ".1", "--steps", "2", "--seed")
    for seed, name in (("1", "a"), ("1", "b"), ("2", "c")):
        assert cli(*words, seed, "--out", tmp_path / name).code == 0
    a, b, c = ((tmp_path / name / "1.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert "only pictures that --degrade degrades" in cli("solve", hot, folder, "--operator", "mask", "--out", tmp_path / "d").error


def test_all_methods_in_one_table(cli: Callable, hot: Path, tmp_path: Path, files_in) -> None:
    done = cli("solve", hot, "--compare", "--operator", "pixelate:levels=1", "--images", "6", "--steps", "3", "--out", tmp_path / "table")
    assert done.code == 0, done.err
    assert files_in(tmp_path / "table") == {"solve.md", "solve.json", "solve.png"}
    rows = {row["method"]: row for row in json.loads((tmp_path / "table" / "solve.json").read_text())["rows"]}
    assert list(rows) == ["Degraded", "Pseudo-inverse", "Linear Wiener", "DDNM", "DiffPIR", "PiGDM", "DPS"]
    assert all(f"| {name} |" in done.out for name in rows)
    assert rows["DDNM"]["calls"] == 3
    assert cli("solve", hot, "--compare", "--operator", "gaussian-blur:sigma_px=1", "--noise", ".1", "--images", "2", "--steps", "2").code == 0
    assert (hot / "solve" / "solve.md").exists()
    before = (hot / "solve" / "solve.md").read_bytes()
    again = ("solve", hot, "--compare", "--operator", "grey", "--images", "2", "--steps", "2")
    assert "exists: choose another --out, or add --overwrite" in cli(*again).error
    assert (hot / "solve" / "solve.md").read_bytes() == before
    assert "DDNM |" not in (hot / "solve" / "solve.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("RUN", "--operator", "pixelate", "--out", "OUT"), "solve needs pictures"),
        (("RUN", "IN", "--out", "OUT"), "what degraded the pictures?"),
        (("RUN", "IN", "--operator", "pixelate"), "--out is missing"),
        (("RUN", "IN", "--operator", "jpeg", "--out", "OUT"), "jpeg is not linear"),
        (("RUN", "--operator", "snow", "--compare", "--out", "OUT"), "snow"),
        (("RUN", "IN", "--operator", "noise", "--out", "OUT"), "as the operator"),
        (("RUN", "IN", "--operator", "pixelate", "--compare"), "leave pictures, --mask and --degrade out"),
        (("RUN", "IN", "--operator", "pixelate", "--images", "3", "--out", "OUT"), "add --compare"),
        (("RUN", "--operator", "pixelate", "--compare", "--method", "ddnm"), "leave --method out"),
        (("RUN", "--operator", "pixelate", "--compare", "--strength", "1"), "leave --strength out"),
        (("RUN", "--operator", "pixelate", "--compare", "--variance", "1"), "leave --variance out"),
        (("RUN", "--operator", "pixelate", "--compare", "--size", "8"), "leave --size out"),
        (("RUN", "--operator", "pixelate", "--compare", "--label", "3"), "leave conditions and guidance out"),
        (("RUN", "IN", "--operator", "holes", "--out", "OUT"), "add --mask FILE, or --degrade"),
        (("RUN", "IN", "--operator", "pixelate", "--label", "3", "--out", "OUT"), "--label: this model was trained without labels"),
        (("RUN", "--operator", "pixelate", "--images", "0", "--compare"), "--images 0 lies under 1"),
        (("RUN", "IN", "--operator", "pixelate", "--method", "ddnm", "--noise", ".1", "--out", "OUT"), "take diffpir"),
        (("RUN", "IN", "--operator", "pixelate", "--severity", "2", "--out", "OUT"), "lies outside [0, 1]"),
        (("RUN", "IN", "--operator", "pixelate", "--mask", "MASK", "--out", "OUT"), "leave --mask out"),
        (("BLUR", "IN", "--operator", "pixelate", "--out", "OUT"), "zero-shot restoration takes a model of noise"),
    ],
)
def test_bad_input_is_refused_in_one_line(cli: Callable, hot: Path, run: Path, folder: Path, tmp_path: Path, monkeypatch, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    known = {"RUN": hot, "BLUR": run, "IN": folder, "MASK": tmp_path / "mask.png"}
    done = cli("solve", *(known.get(word, word) for word in words))
    assert done.code == 2, done.out
    assert says in done.error
    assert not (tmp_path / "OUT").exists()
