"""Tiles and letters: one sample as one small picture, and text that fits above it.

A 32-pixel picture is shown as 128 pixels, each of its pixels a sharp square: a smooth enlargement would
hide exactly what a degradation did. Enlargement is by whole factors, so that all squares are equal.
"""

import functools
import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from snowmelt.data.images import to_uint8
from snowmelt.pictures.seen import ready, seen
from snowmelt.signals import PICTURE, Signal

TILE_PX = 128
LARGEST_PX = 256
LONG = 3  # times as wide as high: of such pictures the board is nearly square, not their rows and columns
FONT_PX = 18
SMALLEST_FONT_PX = 10
LINE = 1.25
GAP_PX = 6

WHITE = (255, 255, 255)
# Pure greys: an animation of grey samples then needs no colour at all.
INK = (40, 40, 40)
FAINT = (120, 120, 120)
HAIRLINE = (218, 218, 218)

# Pillow's own font knows ASCII and a few more; what else labels use is spelt out.
_SPELT = str.maketrans({"–": "-", "—": "-", "−": "-", "×": "x", "→": "to", "σ": "sigma", "α": "alpha", "η": "eta", "₀": "0"})
_KNOWN = "…·±"


def tiles(x: Tensor, *, scale: int | None = None, size_px: int = TILE_PX, signal: Signal = PICTURE) -> list[Image.Image]:
    """One RGB picture per sample.

    One channel is shown in grey and three in colour. Two are shown by their mean and four or more by
    their first three: enough to see that something is there, no claim about what.

    Args:
        x: (b, c, h, w) in [-1, 1]; clipped there. Of another signal, its samples (b, *d).
        scale: screen pixels per pixel; None brings the longer side near `size_px` by a whole factor,
            and shrinks pictures over 256 px by one.
        size_px: the longer side aimed at.
        signal: what the samples are; those that are no pictures become some of a fixed size (:func:`~snowmelt.pictures.seen.seen`).

    Raises:
        ValueError: `x` is not (b, c, h, w), has no pixels, holds NaN, or `scale` is under 1.
    """
    if ready(signal):
        x, scale = seen(x, signal), scale or 1
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"shape {tuple(x.shape)} is no batch of pictures (b, c, h, w)")
    if scale is not None and scale < 1:
        raise ValueError(f"scale = {scale} lies under 1: leave it out to have large pictures shrunk")
    x = x.detach().float()
    x = x.mean(1, keepdim=True) if x.shape[1] == 2 else x[:, :3]
    pixels = np.broadcast_to(to_uint8(x), (x.shape[0], *x.shape[2:], 3))
    return [_resize(Image.fromarray(np.ascontiguousarray(one)), scale, size_px) for one in pixels]


def require_frames(frames: Sequence[Tensor]) -> None:
    """Refuse what is no trajectory.

    Raises:
        ValueError: there is no frame, or they differ in shape.
    """
    if not frames or 0 in frames[0].shape:
        raise ValueError("there is no frame to show")
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"frames have shapes {sorted({tuple(frame.shape) for frame in frames})}: all must be of one shape")


def _resize(image: Image.Image, scale: int | None, size_px: int) -> Image.Image:
    longer = max(image.size)
    if scale is None and longer > LARGEST_PX:
        return image.reduce(-(-longer // LARGEST_PX))
    factor = scale or max(1, round(size_px / longer))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def lay(sheet: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    """Put `picture` on `sheet` with a hairline around it, or the edge of a white sample would be lost on white."""
    ImageDraw.Draw(sheet).rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=HAIRLINE)
    sheet.paste(picture, (x, y))


def board(pictures: list[Image.Image], margin_px: int, foot_px: int = 0) -> Image.Image:
    """Equal `pictures`, nearly as many rows as columns (wide ones in fewer columns), on white with a margin and room for a foot."""
    w, h = pictures[0].size
    columns = math.ceil(math.sqrt(len(pictures) * (h / w if w > LONG * h else 1)))
    rows = -(-len(pictures) // columns)
    width, height = columns * (w + GAP_PX) - GAP_PX, rows * (h + GAP_PX) - GAP_PX
    image = Image.new("RGB", (width + 2 * margin_px, height + 2 * margin_px + foot_px), WHITE)
    for i, picture in enumerate(pictures):
        lay(image, picture, margin_px + i % columns * (w + GAP_PX), margin_px + i // columns * (h + GAP_PX))
    return image


@functools.cache
def font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font: the same letters on every machine."""
    return ImageFont.load_default(size=size_px)


def plain(label: str) -> str:
    """`label` in letters that Pillow's font has: accents dropped, some signs spelt out, others a question mark."""
    spelt = unicodedata.normalize("NFKD", label.translate(_SPELT))
    bare = "".join(letter for letter in spelt if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" or letter in _KNOWN else "?" for letter in bare)


def fit(label: str, width_px: int) -> tuple[list[str], int]:
    """`label` broken between words into lines of at most `width_px`, and the font size in px that allows it.

    The size goes down from 18 to 10 px until the longest word fits; one that never does is cut with an ellipsis.
    """
    words = plain(label).split()
    size = FONT_PX
    while size > SMALLEST_FONT_PX and any(font(size).getlength(word) > width_px for word in words):
        size -= 1
    words = [_cut(word, size, width_px) for word in words]
    ways = [_wrap(words, size, width) for width in range(width_px, 0, -1)]
    ways = [lines for lines in ways if len(lines) == len(ways[0])]
    # Of the ways that need no further line: break after commas, then evenly. "TACoS, order 2, / 12 calls".
    return min(ways, key=lambda lines: (sum(not line.endswith(",") for line in lines[:-1]), max(map(len, lines), default=0))), size


def _wrap(words: list[str], size: int, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(joined) <= width_px:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _cut(word: str, size: int, width_px: int) -> str:
    if font(size).getlength(word) <= width_px:
        return word
    kept = next((n for n in range(len(word), 0, -1) if font(size).getlength(word[:n] + "…") <= width_px), 0)
    return word[:kept] + "…"


def write(image: Image.Image, lines: list[str], size: int, x: float, bottom: float, *, anchor: str = "ms") -> None:
    """Write `lines` on `image`, the last one's baseline at `bottom`; `anchor` as in Pillow: "ms" centres at `x`."""
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(reversed(lines)):
        draw.text((x, bottom - i * size * LINE), line, font=font(size), fill=INK, anchor=anchor)
