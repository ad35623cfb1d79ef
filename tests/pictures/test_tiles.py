"""Tiles keep every pixel, and labels fit above them."""

import pytest
import torch
from PIL import Image

from snowmelt.pictures.sheets import LABEL_PX
from snowmelt.pictures.tiles import FONT_PX, fit, font, lay, plain, tiles


def test_a_tile_is_the_picture_enlarged_without_smoothing() -> None:
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    tile = tiles(x)[1]
    assert tile.size == (128, 128)
    for row, column in ((0, 0), (13, 5), (31, 31)):
        expected = tuple(((x[1, :, row, column] + 1) * 127.5).round().int().tolist())
        assert {tile.getpixel((4 * column + i, 4 * row + j)) for i in range(4) for j in range(4)} == {expected}


@pytest.mark.parametrize(
    ("side", "shown"), [(8, 128), (28, 140), (32, 128), (64, 128), (96, 96), (200, 200), (256, 256), (257, 129), (600, 200)]
)
def test_the_size_on_screen(side: int, shown: int) -> None:
    assert tiles(torch.zeros(1, 1, side, side))[0].size == (shown, shown)


def test_scale_wins_over_the_size() -> None:
    assert tiles(torch.zeros(1, 1, 300, 20), scale=2)[0].size == (40, 600)


@pytest.mark.parametrize(("channels", "pixel"), [(1, (0, 0, 0)), (2, (64, 64, 64)), (3, (0, 128, 255)), (5, (0, 128, 255))])
def test_any_number_of_channels_can_be_seen(channels: int, pixel: tuple[int, int, int]) -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 1.0, 1.0])[:channels].reshape(1, -1, 1, 1).expand(1, channels, 4, 4)
    assert tiles(x)[0].getpixel((0, 0)) == pixel


@pytest.mark.parametrize("x", [torch.zeros(3, 8, 8), torch.zeros(1, 0, 8, 8), torch.zeros(2, 100)])
def test_what_is_no_picture_is_refused(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="no batch of pictures"):
        tiles(x)


def test_nan_and_scale_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        tiles(torch.full((1, 1, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="scale = 0"):
        tiles(torch.zeros(1, 1, 4, 4), scale=0)


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("Clean", ["Clean"]),
        ("TACoS, order 2, 12 calls", ["TACoS, order 2,", "12 calls"]),
        ("restored in twelve calls", ["restored in", "twelve calls"]),
        ("", []),
    ],
)
def test_labels_break_at_commas_then_evenly(label: str, lines: list[str]) -> None:
    assert fit(label, 128) == (lines, FONT_PX)


@pytest.mark.parametrize("word", ["Degraded", "Direct", "Sampled", "Clean", "Estimate"])
def test_the_words_of_every_comparison_keep_their_size_over_the_narrowest_column(word: str) -> None:
    assert fit(word, LABEL_PX) == ([word], FONT_PX)


def test_long_words_shrink_and_are_cut_at_last() -> None:
    lines, size = fit("recursive-gaussian", 96)
    assert lines == ["recursive-gaussian"]
    assert 10 <= size < FONT_PX
    lines, size = fit("x" * 90, 60)
    assert size == 10
    assert lines[0].endswith("…")
    assert font(size).getlength(lines[0]) <= 60


def test_letters_the_font_lacks_are_spelt_out() -> None:
    assert plain("σ = 0.1 → x₀ – café 雪") == "sigma = 0.1 to x0 - cafe ?"


def test_a_white_sample_has_an_edge() -> None:
    sheet = Image.new("RGB", (20, 20), "white")
    lay(sheet, Image.new("RGB", (10, 10), "white"), 5, 5)
    assert sheet.getpixel((4, 4)) == sheet.getpixel((15, 15)) != (255, 255, 255)
    assert sheet.getpixel((5, 5)) == sheet.getpixel((14, 14)) == (255, 255, 255)
