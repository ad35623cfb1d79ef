"""The command line called in this process, and one small trained run that the tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from snowmelt.cli import main

TINY = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.batch", "16", "--training.precision", "fp32")
SHORT = (*TINY, "--images", "160", "--training.validate_every", "160", "--training.validation_images", "16")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line, without its beginning."""
        lines = [line for line in self.err.splitlines() if line.startswith("snowmelt: error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("snowmelt: error: ")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of blurred digits, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "--data", "bundled:digits", "--degradation", "gaussian-blur:sigma_px=2", "--out", str(out), *SHORT]) == 0
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six grey pictures of 8 x 8 px, two of them in a sub-folder."""
    place = tmp_path / "pictures"
    for i in range(6):
        picture(place / ("deep" if i > 3 else "") / f"{i}.png", seed=i)
    return place


def picture(path: Path, *, seed: int = 0, h: int = 8, w: int = 8, colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3) if colour else (h, w), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def below(place: Path) -> set[str]:
    """Every file in a folder, hidden ones too."""
    return {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()} if place.exists() else set()


@pytest.fixture
def plain() -> tuple[str, ...]:
    """The arguments of a short training, without data, degradation and --out."""
    return SHORT


@pytest.fixture
def draw_picture() -> Callable[..., Path]:
    return picture


@pytest.fixture
def files_in() -> Callable[[Path], set[str]]:
    return below
