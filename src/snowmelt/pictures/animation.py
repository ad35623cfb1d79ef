"""Animations: a trajectory as a GIF, which every browser, notebook and README plays.

GIF keeps time in hundredths of a second, and browsers slow anything under two of them down to ten: frames
last at least 20 ms. It keeps 256 colours a frame: a grey trajectory loses nothing, a coloured one is
quantised frame by frame without dithering, whose speckle would look like noise that is not in the sample.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw
from torch import Tensor

from snowmelt import files
from snowmelt.pictures.tiles import FAINT, FONT_PX, board, fit, tiles, write
from snowmelt.signals import PICTURE, Signal

MARGIN_PX = 12
BAR_PX = 4
TRACK = (226, 226, 226)


def gif(
    path: str | Path,
    frames: Sequence[Tensor],
    labels: Sequence[str] | None = None,
    *,
    ms: int = 120,
    hold_ms: int = 900,
    scale: int | None = None,
    signal: Signal = PICTURE,
) -> None:
    """Write a trajectory as an animated GIF; the file is whole or not there. Arguments as in :func:`gif_bytes`."""
    files.write_bytes(path, gif_bytes(frames, labels, ms=ms, hold_ms=hold_ms, scale=scale, signal=signal))


def gif_bytes(
    frames: Sequence[Tensor],
    labels: Sequence[str] | None = None,
    *,
    ms: int = 120,
    hold_ms: int = 900,
    scale: int | None = None,
    signal: Signal = PICTURE,
) -> bytes:
    """A trajectory of some samples at once, over a bar that fills; it ends with a hold and then repeats.

    Args:
        frames: (b, c, h, w) in [-1, 1] each, all of one shape; the samples are laid out nearly square.
        labels: one per frame, written beneath.
        ms: how long a frame stays, in milliseconds, rounded to hundredths of a second; at least 20.
        hold_ms: how long the last frame stays.
        scale: screen pixels per pixel; by default a tile of about 128 px.
        signal: what the samples are.

    Raises:
        ValueError: no frame, shapes or numbers of labels that differ, or a time under 20 ms.
    """
    if not frames or 0 in frames[0].shape:
        raise ValueError("there is no frame to show")
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"frames have shapes {sorted({tuple(frame.shape) for frame in frames})}: all must be of one shape")
    if labels is not None and len(labels) != len(frames):
        raise ValueError(f"{len(frames)} frames have {len(labels)} labels: give one each")
    if min(ms, hold_ms) < 20:
        raise ValueError(f"ms = {ms} and hold_ms = {hold_ms} must be at least 20: browsers play nothing faster")
    ends = len(frames) - 1
    pictures = [
        _frame(frame, labels[i] if labels else "", i / ends if ends else 1.0, bool(labels), scale, signal) for i, frame in enumerate(frames)
    ]
    first, *rest = [_to_palette(picture) for picture in pictures]
    times = [*[round(ms, -1)] * ends, round(hold_ms, -1)]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
    return buffer.getvalue()


def _frame(x: Tensor, label: str, progress: float, labelled: bool, scale: int | None, signal: Signal) -> Image.Image:
    """One frame: the samples, the bar filled to `progress` in [0, 1], the label."""
    foot = BAR_PX + MARGIN_PX + (FONT_PX + 4 if labelled else 0)
    image = board(tiles(x, scale=scale, signal=signal), MARGIN_PX, foot)
    draw = ImageDraw.Draw(image)
    left, right, top = MARGIN_PX, image.width - MARGIN_PX - 1, image.height - foot
    draw.rectangle((left, top, right, top + BAR_PX - 1), fill=TRACK)
    if progress:
        draw.rectangle((left, top, left + round(progress * (right - left)), top + BAR_PX - 1), fill=FAINT)
    lines, size = fit(label, right - left)
    write(image, lines[:1], size, image.width / 2, image.height - MARGIN_PX)
    return image


def _to_palette(image: Image.Image) -> Image.Image:
    """At most 256 colours: all greys if nothing has a colour, else those of the frame itself."""
    red, green, blue = image.split()
    coloured = ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()
    return image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) if coloured else red
