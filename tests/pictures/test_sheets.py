"""Sheets put the right sample in the right place."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from torch import Tensor

import snowmelt
from snowmelt.pictures import grid, show, strip
from snowmelt.pictures.sheets import GAP_PX, LABEL_PX, MARGIN_PX, evenly, severity_label
from snowmelt.types import State


def flat(*values: float, channels: int = 1, side: int = 32) -> Tensor:
    """One uniform picture for each value."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, channels, side, side)


def centres(image: Image.Image, columns: int, rows: int, left: int = MARGIN_PX, tile: int = 128) -> list[list[int]]:
    """The red value in the middle of each tile, row by row."""
    top = image.height - MARGIN_PX - rows * (tile + GAP_PX) + GAP_PX
    at = [[(left + c * (tile + GAP_PX) + tile // 2, top + r * (tile + GAP_PX) + tile // 2) for c in range(columns)] for r in range(rows)]
    return [[image.getpixel(xy)[0] for xy in row] for row in at]


def test_rows_are_samples_and_columns_are_labelled() -> None:
    image = grid({"Degraded": flat(-1, 0), "Clean": flat(1, -0.5, channels=3)})
    assert centres(image, 2, 2) == [[0, 255], [128, 64]]
    assert image.width == 2 * MARGIN_PX + 2 * 128 + GAP_PX
    header = image.crop((0, 0, image.width, image.height - MARGIN_PX - 2 * 128 - GAP_PX - 1)).convert("L")
    left, right = header.crop((0, 0, image.width // 2, header.height)), header.crop((image.width // 2, 0, image.width, header.height))
    assert left.getextrema()[0] < 80, "a label in dark letters"
    assert right.getextrema()[0] < 80


def test_columns_may_differ_in_size_but_not_in_number() -> None:
    assert centres(grid({"a": flat(0, side=8), "b": flat(1, side=64)}), 2, 1) == [[128, 255]]
    with pytest.raises(ValueError, match=r"\[1, 2\] samples"):
        grid({"a": flat(0), "b": flat(0, 1)})


def test_row_labels_stand_on_the_left() -> None:
    bare, labelled = grid({"a": flat(0, 1)}), grid({"a": flat(0, 1)}, rows=["gaussian-blur", "snow"])
    assert labelled.height == bare.height
    extra = labelled.width - bare.width
    assert labelled.crop((0, 0, extra, labelled.height)).convert("L").getextrema()[0] < 80
    assert centres(labelled, 1, 2, left=MARGIN_PX + extra) == [[128], [255]]


def test_many_columns_get_smaller_tiles() -> None:
    frames = [flat(i / 10) for i in range(11)]
    image = strip(frames, [f"t = {i / 10}" for i in range(11)])
    assert image.width == 2 * MARGIN_PX + 11 * 96 + 10 * GAP_PX


def test_tiny_tiles_leave_room_for_their_labels() -> None:
    image = grid({"Degraded": flat(0), "Clean": flat(0)}, scale=1)
    assert image.width == 2 * MARGIN_PX + 2 * LABEL_PX + GAP_PX


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no sample"):
        grid({})
    with pytest.raises(ValueError, match="no sample"):
        grid({"a": flat(0)[:0]})
    with pytest.raises(ValueError, match="1 frames have 2 labels"):
        strip([flat(0)], ["a", "b"])
    with pytest.raises(ValueError, match="2 samples have 1 row labels"):
        grid({"a": flat(0, 1)}, rows=["one"])


def test_show_takes_what_one_has() -> None:
    one, square = show(flat(0)[0]), show(flat(*[0.0] * 9))
    assert one.width < square.width
    assert square.size == (2 * MARGIN_PX + 3 * 128 + 2 * GAP_PX,) * 2
    assert show({"x": flat(0, 1)}).tobytes() == grid({"x": flat(0, 1)}).tobytes()
    assert show(State(flat(-1), 0.5, x0=flat(1))).tobytes() == grid({"t = 0.5": flat(-1), "Estimate": flat(1)}).tobytes()
    assert one._repr_png_() is not None


def test_show_walks_a_trajectory_once_and_thins_it() -> None:
    def trajectory() -> Iterator[State]:
        for i in range(20, -1, -1):
            yield State(flat(i / 20), i / 20)

    image = show(trajectory(), frames=5)
    assert centres(image, 5, 1) == [[255, 223, 191, 159, 128]]


def test_a_batch_of_severities_is_written_as_a_range() -> None:
    assert severity_label(torch.tensor([0.25, 0.25])) == "t = 0.25"
    assert severity_label(torch.tensor([0.2, 0.8])) == "t = 0.2 to 0.8"
    assert severity_label(1 / 3) == "t = 0.33"


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(11), 3) == [0, 5, 10]
    assert evenly(range(2), 3) == [0, 1]
    assert evenly(range(5), 1) == [4]


def test_show_is_at_the_front_door() -> None:
    assert snowmelt.show is show
