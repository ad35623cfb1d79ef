"""Pictures of every kind: each is what a decoder of another family says it is, or is refused by a reason that names it."""

import contextlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snowmelt.data import images
from snowmelt.data.images import UnreadableImage
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import left_out, open_data

NAMES = {
    "spaces": "  two words .png",
    "newline": "two\nlines.png",
    "dash": "-rf.png",
    "emoji": "🙂🏳️‍🌈.png",
    "Chinese": "图片.png",
    "Arabic": "صورة.png",
    "combining": "e\u0301.png",
    "quotes": "'\"$(x)`.png",
    "percent": "%s%n{}.png",
    "long": "x" * 251 + ".png",
    "bytes": os.fsdecode(b"caf\xe9.png"),
    "upper": "A.PNG",
}


@pytest.fixture(scope="module")
def zoo(script):
    return script("tests/zoo.py")


def test_every_kind_is_read_as_another_decoder_reads_it_or_refused(zoo, tmp_path: Path, figure) -> None:
    exact = near = refused = 0
    for kind in zoo.kinds():
        path = tmp_path / kind.name
        path.write_bytes(kind.content)
        if kind.colour is None:
            with pytest.raises(UnreadableImage) as caught:
                images.read(path)
            assert str(caught.value).startswith(f"{path}: "), kind.name
            assert kind.word in caught.value.reason, kind.name
            refused += 1
            continue
        picture, top = images.read(path), np.iinfo(kind.colour.dtype).max
        assert picture.bits == (16 if top == 65535 else 8), kind.name
        assert images.probe(path) == tuple(picture.x.shape), kind.name
        levels = (picture.x.permute(1, 2, 0).double().numpy() + 1) / 2 * top
        assert levels.shape == kind.colour.shape, kind.name
        apart = np.abs(levels - kind.colour).max()
        assert apart <= kind.near + 0.01, (kind.name, apart)
        assert (picture.alpha is None) == (kind.alpha is None), kind.name
        if kind.alpha is not None:
            most = 65535 if kind.alpha.max() > 255 else 255
            assert np.abs(picture.alpha[0].double().numpy() - kind.alpha / most).max() < 1e-6, kind.name
        exact, near = exact + (kind.near == 0), near + (kind.near > 0)
    assert exact + near + refused >= 200
    said = f"{exact + near + refused} kinds of file: {exact} as another decoder has them, exactly; {near} within 1/255"
    figure("zoo", f"{said}; {refused} refused by a reason that names the file")


def test_a_second_picture_is_told_from_the_first(zoo) -> None:
    several = [kind for kind in zoo.kinds() if not kind.single]
    assert len(several) >= 4
    for kind in several:
        with pytest.raises(UnreadableImage, match="only single pictures"):
            images.read(kind.name, content=kind.content, still=True)


@pytest.fixture
def odd(tmp_path: Path) -> dict[Path, str]:
    """What is no file but has the name of a picture, and the reason that refuses it."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to("missing.png")
    (tmp_path / "itself.png").symlink_to("itself.png")
    (tmp_path / "one.png").symlink_to("other.png")
    (tmp_path / "other.png").symlink_to("one.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "again").symlink_to(tmp_path, target_is_directory=True)
    found = {
        "nowhere.png": "a link to missing.png, which does not exist",
        "itself.png": "Too many levels of symbolic links",
        "one.png": "Too many levels of symbolic links",
        "other.png": "Too many levels of symbolic links",
        "pipe.png": "a named pipe, not a file",
        "zero.png": "a device, not a file",
    }
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener, contextlib.suppress(OSError):  # where the path is too long for one
        listener.bind(str(tmp_path / "socket.png"))
        found["socket.png"] = "a socket, not a file"
    return {tmp_path / name: reason for name, reason in found.items()}


@pytest.mark.timeout(100)
def test_what_is_no_file_is_refused_and_never_waited_for(odd: dict[Path, str], tmp_path: Path) -> None:
    for path, reason in {**odd, tmp_path / "folder.png": "a folder, not a file"}.items():
        for door in (images.read, images.probe, images.note):
            with pytest.raises(UnreadableImage) as caught:
                door(path)
            assert caught.value.reason == reason, path
    with pytest.raises(FileNotFoundError):
        images.read(tmp_path / "missing.png")


@pytest.mark.timeout(100)
def test_a_training_folder_names_what_it_leaves_out(odd: dict[Path, str], tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "folder.png" / f"{i}.png")
    parts = [open_data(DataOptions(str(tmp_path)), split) for split in ("train", "validation", "test")]
    assert sum(len(part) for part in parts) == 12  # once: no link to a folder is followed
    for part in parts:
        assert dict(part.skipped) == {path.name: reason for path, reason in odd.items()}
    line = left_out(*parts)
    assert line is not None
    assert line.startswith(f"{len(odd)} files cannot be read and are left out: ")
    assert all(f"{path.name}: {reason}" in line for path, reason in odd.items())
    assert left_out(open_data(DataOptions(str(tmp_path / "folder.png")), "train")) is None


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.new("L", (4, 4)).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("a user who may read everything (root) runs this test: no file is unreadable to them")
    with pytest.raises(UnreadableImage, match="Permission denied"):
        images.read(path)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_odd_names_come_back(tmp_path: Path, name: str) -> None:
    x = images.from_uint8(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    try:
        (tmp_path / name).touch()
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error.strerror}")
    images.write(tmp_path / name, x)
    assert (images.read(tmp_path / name).x == x).all()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).write_bytes(b"\x89PNG")
    with pytest.raises(UnreadableImage) as caught:
        images.read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_header_that_says_one_size_and_pixels_of_another_never_reach_a_batch(tmp_path: Path, monkeypatch) -> None:
    for i in range(9):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    whole = images.probe
    monkeypatch.setattr(images, "probe", lambda path, **given: (1, 8, 9) if Path(path).name == "3.png" else whole(path, **given))
    data = open_data(DataOptions(str(tmp_path), size=8, validation=0, test=0), "train")
    assert len(data) == 8
    assert data.skipped == [("3.png", "its header says (c, h, w) = (1, 8, 9), and its pixels are (1, 8, 8)")]
