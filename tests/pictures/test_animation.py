"""Animations play what they were given, for as long as they were told."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from snowmelt.pictures import gif, gif_bytes
from snowmelt.pictures.animation import MARGIN_PX


def played(data: bytes) -> list[tuple[np.ndarray, int]]:
    """Frames (h, w, 3) and their durations in ms."""
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0
        return [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]


def test_grey_frames_lose_nothing() -> None:
    frames = [torch.rand(4, 1, 16, 16) * 2 - 1 for _ in range(5)]
    shown = played(gif_bytes(frames, [f"t = {i}" for i in range(5)], scale=1, ms=120, hold_ms=900))
    assert [ms for _, ms in shown] == [120, 120, 120, 120, 900]
    for frame, (pixels, _) in zip(frames, shown, strict=True):
        expected = ((frame[0, 0] + 1) * 127.5).round().numpy()
        np.testing.assert_array_equal(pixels[MARGIN_PX:, MARGIN_PX:][:16, :16, 1], expected)


def test_coloured_frames_keep_their_colours() -> None:
    x = torch.tensor([1.0, -0.5, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    pixels, _ = played(gif_bytes([x, -x]))[0]
    assert np.abs(pixels[70, 70].astype(int) - [255, 64, 0]).max() <= 8


def test_the_bar_fills() -> None:
    frames = [torch.rand(1, 1, 32, 32) * 2 - 1 for _ in range(5)]
    filled = [int((pixels[-MARGIN_PX - 3, :, 0] == 120).sum()) for pixels, _ in played(gif_bytes(frames))]
    assert filled[0] == 0
    assert filled == sorted(filled)
    assert filled[-1] == 128


def test_one_frame_is_enough() -> None:
    assert len(played(gif_bytes([torch.zeros(1, 3, 8, 8)], ["t = 0"]))) == 1


def test_it_is_written(tmp_path: Path) -> None:
    gif(tmp_path / "walk.gif", [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
    assert (tmp_path / "walk.gif").read_bytes()[:6] == b"GIF89a"
    assert len(list(tmp_path.iterdir())) == 1


def test_refusals() -> None:
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match="no frame"):
        gif_bytes([])
    with pytest.raises(ValueError, match="one shape"):
        gif_bytes([x, torch.zeros(2, 1, 8, 8)])
    with pytest.raises(ValueError, match="2 frames have 1 labels"):
        gif_bytes([x, x], ["a"])
    with pytest.raises(ValueError, match="at least 20"):
        gif_bytes([x], ms=5)
