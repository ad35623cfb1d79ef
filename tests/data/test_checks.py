"""A look at a folder ends at the next file when nobody wants it any more, whatever the folder holds and however far the look has come."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data, source
from snowmelt.recipes.defaults import suggest

BLUR, FILES = "gaussian-blur:sigma_px=2", 8


class Enough(Exception):  # noqa: N818 - it says what is meant
    """Raised by a check whose patience is over."""


class Patient:
    """A check that counts, and ends the work at its n-th call."""

    def __init__(self, n: float = float("inf")) -> None:
        self.n, self.calls = n, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls >= self.n:
            raise Enough


def pictures(folder: Path) -> None:
    for i in range(FILES):
        (folder / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{i % 2}" / f"{i}.png")


def recordings(folder: Path) -> None:
    folder.mkdir()
    for i in range(FILES):
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 4096), 8000)


def scans(folder: Path) -> None:
    folder.mkdir()
    for i in range(FILES):
        x = np.random.default_rng(i).uniform(-20, 20, (500, 4)).astype(np.float32)
        x[:, 2:] = [-1, 0.5]
        np.save(folder / f"{i}.npy", x)


KINDS = [pictures, recordings, scans]


@pytest.mark.parametrize("make", KINDS)
def test_defaults_ask_for_every_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    data, whole = DataOptions(path=str(tmp_path / "in")), Patient()
    suggest(data, BLUR if make is pictures else "noise", {}, whole)
    assert whole.calls >= FILES
    for n in range(1, whole.calls + 1):
        check = Patient(n)
        with pytest.raises(Enough):
            suggest(data, BLUR if make is pictures else "noise", {}, check)
        assert check.calls == n


@pytest.mark.parametrize("make", KINDS)
def test_so_does_opening_them(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    data, looked, whole = DataOptions(path=str(tmp_path / "in")), Patient(), Patient()
    source(data, looked)
    assert len(open_data(data, "train", whole)) == len(open_data(data, "train"))
    assert whole.calls >= looked.calls + FILES  # their bytes are read too
    for n in (looked.calls, looked.calls + 1, whole.calls):
        with pytest.raises(Enough):
            open_data(data, "train", Patient(n))


def test_folders_without_a_picture_are_asked_about_too(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / "in" / f"{i}").mkdir(parents=True)
    check = Patient(10)
    with pytest.raises(Enough):
        suggest(DataOptions(path=str(tmp_path / "in")), BLUR, {}, check)
    assert check.calls == 10


def test_an_array_is_asked_about_chunk_by_chunk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    with pytest.raises(Enough):
        open_data(DataOptions(path=str(tmp_path / "a.npy")), "train", Patient(1))
