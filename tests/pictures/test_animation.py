"""Animations play what they were given, for as long as they were told."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from snowmelt.pictures import animate, gif, gif_bytes
from snowmelt.pictures.animation import MARGIN_PX, require_playable


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


def test_webp_loses_nothing_and_keeps_its_time(tmp_path: Path) -> None:
    frames = [torch.rand(1, 3, 16, 16) * 2 - 1 for _ in range(5)]
    animate(tmp_path / "walk.webp", frames, [f"t = {i}" for i in range(5)], scale=2, ms=125, hold_ms=777)
    shown = played((tmp_path / "walk.webp").read_bytes())
    assert [ms for _, ms in shown] == [125, 125, 125, 125, 777]
    for frame, (pixels, _) in zip(frames, shown, strict=True):
        expected = ((frame[0] + 1) * 127.5).round().numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(pixels[MARGIN_PX:, MARGIN_PX:][:32:2, :32:2], expected)


def test_a_film_has_every_frame_at_its_time(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="pip install 'snowmelt[video]'")
    ramp = torch.linspace(-1, 1, 33).expand(1, 3, 21, 33) * torch.tensor([1.0, 0.4, -0.6]).view(1, 3, 1, 1)
    frames = [ramp * k / 5 for k in range(6)]
    animate(tmp_path / "walk.mp4", frames, [f"t = {i}" for i in range(6)], scale=3, ms=150, hold_ms=1200)
    with av.open(str(tmp_path / "walk.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name in ("h264", "mpeg4"), stream.codec_context.pix_fmt) == (True, "yuv420p")
        lengths = [round(1000 * packet.duration * packet.time_base) for packet in film.demux(stream) if packet.pts is not None]
    assert lengths == [150, 150, 150, 150, 150, 1200]
    with av.open(str(tmp_path / "walk.mp4")) as film:
        shown = [(frame.to_ndarray(format="rgb24"), round(1000 * frame.time)) for frame in film.decode(video=0)]
    assert [ms for _, ms in shown] == [0, 150, 300, 450, 600, 750]
    same = played(_lossless(tmp_path, frames))
    for (pixels, _), (exact, _) in zip(shown, same, strict=True):
        h, w, _ = exact.shape
        assert pixels.shape == (h + h % 2, w + w % 2, 3)
        assert w % 2 == 1  # or nothing would be shown of what is made of odd sizes
        assert np.abs(pixels[:h, :w].astype(int) - exact).mean() < 3
    last = ((frames[-1][0] + 1) * 127.5).round().numpy().transpose(1, 2, 0)
    seen = shown[-1][0][MARGIN_PX + 1 :: 3, MARGIN_PX + 1 :: 3][:21, :33]
    assert np.abs(seen.astype(int) - last).mean() < 4


def _lossless(folder: Path, frames: list[torch.Tensor]) -> bytes:
    """The same animation without loss."""
    animate(folder / "same.webp", frames, [f"t = {i}" for i in range(6)], scale=3, ms=150, hold_ms=1200)
    return (folder / "same.webp").read_bytes()


def test_the_suffix_says_what_is_written(tmp_path: Path) -> None:
    frames = [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]
    animate(tmp_path / "walk.GIF", frames)
    assert (tmp_path / "walk.GIF").read_bytes() == gif_bytes(frames)
    with pytest.raises(ValueError, match='cannot be written as "avi": use one of gif, webp, mp4'):
        animate(tmp_path / "walk.avi", frames)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_pyav_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    require_playable("webp")
    with pytest.raises(ValueError, match=r"pip install 'snowmelt\[video\]'"):
        require_playable("mp4")


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
