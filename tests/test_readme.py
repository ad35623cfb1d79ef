"""The README runs: its Python blocks and its snowmelt commands, in order, with trainings cut short."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from snowmelt.cli import main
from snowmelt.data.images import write
from snowmelt.recipes import run
from snowmelt.recipes.recipe import from_table
from snowmelt.sensor import HDL_64E

README = Path(__file__).parents[1] / "README.md"
SHORT = ["--images", "64", "--training.batch", "16", "--model.backbone", "unet:widths=(8,16),patch=4,groups=4,blocks=1"]
SIGNALS = {
    "speech": ["--images", "32", "--training.batch", "8", "--data.window", "256", "--model.backbone", "wave-unet:widths=(8,8),patch=4,groups=4"],
    "scans": ["--images", "8", "--training.batch", "4", "--model.backbone", "ring-unet:widths=(8,8),groups=4,blocks=1"],
}
DEMO = {
    "degradation": "gaussian-blur:sigma_px=6",
    "data": {"path": "bundled:digits", "size": 32},
    "model": {"backbone": "unet:widths=(8,16),patch=4,groups=4,blocks=1"},
    "training": {"images": 64, "batch": 16, "validation_images": 8, "precision": "fp32"},
    "evaluation": {"images": 8, "calls": [2], "samplers": ["tacos"]},
}


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the README speaks of."""
    monkeypatch.chdir(tmp_path)
    picture = torch.empty(3, 48, 56).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    (tmp_path / "holiday").mkdir()
    for name in ("photo.png", "blurred.png", "sharp.png", "holiday/beach.jpg", "holiday/hills.png"):
        write(tmp_path / name, picture)
    write(tmp_path / "scratches.png", torch.where(torch.arange(56) == 20, 1.0, -1.0).expand(1, 48, 56))
    run.train(from_table(DEMO), tmp_path / "runs" / "demo")
    _signals(tmp_path)
    return tmp_path


def _signals(place: Path) -> None:
    """A dozen recordings and scans."""
    source = np.random.default_rng(0)
    for folder in ("speech", "scans"):
        (place / folder).mkdir()
    for i in range(12):
        for path in (place / "speech" / f"{i}.wav", *([place / "noisy.wav"] if not i else [])):
            soundfile.write(path, 0.1 * np.sin(np.arange(1200) * (0.1 + 0.02 * i)) + 0.01 * source.normal(size=1200), 8000)
        turn, tilt = np.meshgrid(np.linspace(-np.pi, np.pi, 512, endpoint=False), np.radians(HDL_64E.beams_deg))
        far = 8 + 2 * np.sin(3 * turn + i)
        cloud = np.stack([far * np.cos(tilt) * np.cos(turn), far * np.cos(tilt) * np.sin(turn), far * np.sin(tilt), 0.3 + 0 * far], -1)
        cloud.reshape(-1, 4).astype(np.float32).tofile(place / "scans" / f"{i}.bin")
        cloud[::4].reshape(-1, 4).astype(np.float32).tofile(place / "scan.bin")  # of a sensor of 16 rings


def command(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] != "snowmelt":
        return  # make and pip have their own tests: the CI script calls them
    if words[1] == "train" and "--images" in words:  # cut shorter still
        del words[words.index("--images") : words.index("--images") + 2]
    kind = next((name for name in SIGNALS if name in words), None)
    short = {"train": SHORT if kind is None else SIGNALS[kind], "tune": ["--images", "64"]}.get(words[1], [])
    words = ["20" if word == "500" else word for word in words]
    try:
        status = main(words[1:] + short)
    except SystemExit as end:
        status = end.code
    assert not status, f"{line!r} ended with {status}"


def test_every_block_of_the_readme_runs(place: Path) -> None:
    names: dict[str, object] = {}
    seen = {"python": 0, "bash": 0}
    for language, text in blocks():
        seen[language] += 1
        if language == "bash":
            for line in text.strip().splitlines():
                command(line)
        elif text.startswith("# my_sepia.py"):
            (place / "my_sepia.py").write_text(text, encoding="utf-8")
        else:
            exec(compile(text, str(README), "exec"), names)
    assert seen["python"] >= 4
    assert seen["bash"] >= 6
    assert (place / "walk.png").is_file()
    assert soundfile.info(place / "clean.wav").frames == 1200
    assert (place / "full.bin").stat().st_size >= (place / "scan.bin").stat().st_size
    assert len(list((place / "ahead").glob("*.bin"))) == 3
    assert len(list((place / "new-digits").glob("*.png"))) >= 16
    assert (place / "runs" / "demo" / "report.html").is_file()
    assert names["new"].shape == (16, 1, 16, 16)  # type: ignore[attr-defined]


def test_every_link_and_picture_of_the_readme_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
