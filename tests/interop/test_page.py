"""docs/interop.md: what it says of graphs runs as it stands, and gives what the model gives."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt import registry
from snowmelt.cli import main
from snowmelt.degradations import Grey
from snowmelt.interop import to_onnx
from snowmelt.interop.graph import metadata
from snowmelt.interop.tracing import Graph
from snowmelt.restorers import Restorer
from snowmelt.samplers import TACoS
from snowmelt.types import State

PAGE = (Path(__file__).parents[2] / "docs" / "interop.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## One graph")[1].split("\n## ")[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("onnxruntime", reason="the page's code runs onnxruntime, which is not installed: pip install 'snowmelt[test]'")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTION, flags=re.M | re.S)


def test_a_picture_is_restored_by_the_lines_of_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in blocks("")[0].splitlines() if line.startswith("snowmelt export photo"))
    assert main(shlex.split(command)[1:]) == 0
    said = capsys.readouterr().out
    assert "pictures of any size" in said
    assert "largest difference from torch" in said
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)).save("damaged.png")
    exec(compile(blocks("python")[0], "docs/interop.md", "exec"), {})
    x = torch.from_numpy(np.asarray(Image.open("damaged.png"), np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
    wanted = ((snowmelt.load("photo").estimate(x, torch.ones(1))[0].clamp(-1, 1) + 1) * 127.5).round()
    found = torch.from_numpy(np.asarray(Image.open("restored.png"), np.float32).transpose(2, 0, 1).copy())
    assert float((wanted - found).abs().max()) <= 1  # a level, where rounding meets the last digits


def test_the_walk_of_the_page_is_tacos(place: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = registry.build("unet:widths=(8,16),groups=4,blocks=1", "backbone")
        restorer = Restorer(Grey(), net, (3, 8, 8)).eval().requires_grad_(False)
        torch.nn.init.normal_(restorer.net.out.weight, std=0.1)
        x0 = (torch.rand(2, 3, 8, 8) * 2 - 1).numpy()
    model = snowmelt.Model(Grey(), restorer)
    to_onnx(model, "grey.onnx")
    np.save("pictures.npy", x0)
    exec(compile(blocks("python")[1], "docs/interop.md", "exec"), {})
    start = State(model.degrade(torch.from_numpy(x0), torch.ones(2), {}), 1.0)
    wanted = TACoS(steps=10, order=1).sample(model, start)
    assert np.abs(np.load("restored.npy") - wanted.numpy()).max() < 1e-4


def test_the_page_names_the_metadata_and_the_limits() -> None:
    restorer = Restorer(Grey(), registry.build("zero", "backbone"), (3, 8, 8))
    model = snowmelt.Model(Grey(), restorer)
    row = next(line for line in SECTION.splitlines() if line.startswith("| metadata |"))
    named = {name.removeprefix("snowmelt.").removeprefix(".") for name in re.findall(r"`([a-z_.]+)`", row)}
    assert named >= {name.removeprefix("snowmelt.") for name in metadata(Graph(model), model, "0")}
