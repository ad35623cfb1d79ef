"""A model that costs nothing, and pictures of every kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt.model import Model
from snowmelt.registry import build


def same(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return x


@pytest.fixture
def model() -> Model:
    """It finds every picture clean."""
    return Model(build("gaussian-blur:sigma_px=2", "degradation"), same)


@pytest.fixture
def noisy() -> Model:
    """What it returns depends on its noise floor, so on the random numbers of each picture."""
    return snowmelt.Model(build("gaussian-blur:sigma_px=2", "degradation"), same, noise_floor=0.2)


@pytest.fixture
def draw() -> Callable[..., Path]:
    def picture(path: Path, *, seed: int = 0, h: int = 8, w: int = 8, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
        return path

    return picture


@pytest.fixture
def many(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """Nine pictures in three folders, two of them nested."""
    for i in range(9):
        draw(tmp_path / "in" / ("", "a", "a/b")[i % 3] / f"{i}.png", seed=i, h=8 + i % 2)
    return tmp_path / "in"


@pytest.fixture
def files_in() -> Callable[[Path], dict[str, bytes]]:
    def below(place: Path) -> dict[str, bytes]:
        return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()} if place.exists() else {}

    return below
