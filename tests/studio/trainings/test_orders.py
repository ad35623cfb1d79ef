"""What is ordered, before anything begins: looked at within the limit of a wish, and spoken of as it was written."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio")

from PIL import Image

from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Late, Left, Limits, Refused
from snowmelt.studio.trainings.orders import Order


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(6):
        Image.fromarray(np.full((16, 16), i, np.uint8)).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def test_a_look_at_a_folder_ends_with_the_turn(folder: Path) -> None:
    order, gate = Order("a", str(folder), "grey"), Gate(Limits(seconds=1e-9))
    with gate.turn() as turn, pytest.raises(Late):
        order.recipe(turn.check)
    gate = Gate(Limits())
    with gate.turn() as turn:
        turn.left.set()
        with pytest.raises(Left):
            order.recipe(turn.check)
    with gate.turn() as turn:
        assert order.recipe(turn.check)[0].data.path == str(folder)


def test_what_is_wrong_with_a_folder_is_said_of_the_path_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for written in ("~/in", "in", "in/../in", f"{tmp_path}/./in"):
        with pytest.raises(Refused) as told:
            Order("a", written, "grey").recipe()
        assert str(told.value).startswith(f"{written} holds no picture")
    (tmp_path / "in" / "a.png").write_bytes(b"none")
    with pytest.raises(Refused, match="none of the 1 pictures in ~/in can be read") as told:
        Order("a", "~/in", "grey").recipe()
    assert str(tmp_path) not in str(told.value)
    np.save(tmp_path / "in" / "digits.npy", np.zeros((4, 8, 8), np.uint8))
    (tmp_path / "in" / "a.png").unlink()
    with pytest.raises(Refused, match="give --data.path ~/in/digits.npy"):
        Order("a", "~/in", "grey").recipe()


def test_no_other_path_is_changed() -> None:
    order = Order("a", "~", "grey")
    said = "/homes, /mnt/home and /home-2 stay, '/home' and /home/in do not"
    assert order._as_written(said, "/home") == "/homes, /mnt/home and /home-2 stay, '~' and ~/in do not"
    assert order._as_written("/a/b", "/") == "/a/b"
