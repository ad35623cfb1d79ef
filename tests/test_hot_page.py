"""docs/hot.md: its blocks run in order, trainings cut short, and its tables name what there is."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import snowmelt
from snowmelt.cli import main
from snowmelt.recipes.recipe import load, presets
from snowmelt.registry import SpecError, build, names
from snowmelt.restorers import Restorer, UNet
from snowmelt.training.options import TrainingOptions

PAGE = (Path(__file__).parents[1] / "docs" / "hot.md").read_text(encoding="utf-8")
SHORT = ["--images", "32", "--training.batch", "16", "--training.validation_images", "4", "--training.precision", "fp32"]
SHORT += ["--model.backbone", "unet:widths=(8,16),patch=4,groups=4,blocks=1"]


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def first_column(title: str) -> list[str]:
    """The code in the first cell of every row of the first table of a section."""
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| ")][1:]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures the page speaks of, two classes of them."""
    monkeypatch.chdir(tmp_path)
    for i in range(40):
        folder = tmp_path / "photos" / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path


def test_every_block_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names_left: dict[str, object] = {}
    found = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.M | re.S)
    assert [language for language, _ in found] == ["bash", "python", "bash", "bash", "python"]
    for language, text in found:
        if language == "python":
            short = text.replace('"images": 200_000', '"images": 32, "batch": 16, "validation_images": 4').replace(
                '{"parameterization": "eps"}', '{"parameterization": "eps", "backbone": "unet:widths=(8,16),patch=4,groups=4,blocks=1"}'
            )
            exec(compile(short, "hot.md", "exec"), names_left)
            continue
        for line in text.strip().splitlines():
            words = shlex.split(line.replace("steps=1000", "steps=4"))
            assert words[0] == "snowmelt"
            assert main(words[1:] + (SHORT if words[1] == "train" else [])) == 0, line
    assert {path.name for path in place.iterdir()} == {"photos", "runs", "new", "quick", "asked", "guided"}
    assert snowmelt.load("runs/classes").notes["classes"] == ["cats", "dogs"]
    assert len(list((place / "guided").glob("sample_*.png"))) == 8


def test_the_tables_name_what_there_is() -> None:
    for text in first_column("The schedule"):
        build(f"noise:schedule={text}")
    schedules = {text.split("(")[0] for text in first_column("The schedule")}
    assert schedules == set(names("schedule"))
    predictions = {text.split(":")[0] for text in first_column("What the network predicts")}
    assert predictions == set(names("parameterization")) - {"zero"}
    assert first_column("The weight of a severity") == list(TrainingOptions.__annotations__["weight"].__args__)
    laws = [text for text in first_column("The law of severities") if text != "training.severities"]
    assert laws == list(TrainingOptions.__annotations__["severities"].__args__)
    for text in first_column("The variance of a step"):
        if text != "--sampler":
            build(text, "sampler")
    recipes = first_column("The recipes")
    assert set(recipes) <= set(presets())
    hot = {name for name in presets() if name.startswith(("fashion-", "mnist-")) and load(name).get("degradation", "").startswith("noise")}
    assert hot == set(recipes)


@pytest.mark.parametrize(
    ("part", "text", "fits"),
    [
        ("eps", "noise:schedule=cosine", False),
        ("eps", "noise:schedule=linear", False),
        ("eps", "noise:schedule=betas", True),
        ("eps", "gaussian-blur", False),
        ("v", "noise:schedule=karras", False),
        ("v", "noise:schedule=cosine", True),
        ("flow", "noise:schedule=cosine", False),
        ("flow", "noise:schedule=linear", True),
        ("mu", "noise:schedule=constant", False),
        ("edm", "noise:schedule=karras", True),
        ("edm", "gaussian-blur+noise", False),
        ("wiener", "pixelate", False),
        ("residual", "pixelate", True),
    ],
)
def test_what_the_page_calls_refused_is_refused(part: str, text: str, fits: bool) -> None:
    def made() -> Restorer:
        return Restorer(build(text), UNet(widths=(8,), blocks=1), (1, 8, 8), parameterization=build(part, "parameterization"))

    if fits:
        made()
        return
    with pytest.raises(SpecError):
        made()
