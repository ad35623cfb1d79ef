"""Animations: a trajectory in motion, as GIF, WebP or MP4.

GIF is played by every browser, notebook and README. It keeps time in hundredths of a second, and browsers slow anything under two of them down to
ten: frames last at least 20 ms. It keeps 256 colours a frame: a grey trajectory loses nothing, a coloured one is quantised frame by frame without
dithering, whose speckle would look like noise that is not in the sample. WebP keeps every colour of every pixel, losslessly, and milliseconds; all
browsers play it. MP4 (H.264, yuv420p) is for slides and films: colours have half the resolution and every pixel a small error, and it plays once. It
needs PyAV, ``pip install 'snowmelt[video]'``; no other format does.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from PIL import Image, ImageChops, ImageDraw
from torch import Tensor

from snowmelt import files
from snowmelt.pictures.tiles import FAINT, FONT_PX, board, fit, require_frames, tiles, write
from snowmelt.signals import PICTURE, Signal

MARGIN_PX = 12
BAR_PX = 4
TRACK = (226, 226, 226)


class Playing(TypedDict, total=False):
    """How a trajectory is played.

    Attributes:
        ms: how long a frame stays, in milliseconds, in a GIF rounded to hundredths of a second; at least 20, by default 120.
        hold_ms: how long the last frame stays; by default 900.
        scale: screen pixels per pixel; by default a tile of about 128 px.
        signal: what the samples are; by default pictures.
    """

    ms: int
    hold_ms: int
    scale: int | None
    signal: Signal


def animate(path: str | Path, frames: Sequence[Tensor], labels: Sequence[str] | None = None, **how: Unpack[Playing]) -> None:
    """Write a trajectory of some samples at once, over a bar that fills, as what the suffix of `path` says; the file is whole or not there.

    It ends with a hold; GIF and WebP then repeat.

    Args:
        path: the file, .gif, .webp or .mp4.
        frames: (b, c, h, w) in [-1, 1] each, all of one shape; the samples are laid out nearly square.
        labels: one per frame, written beneath.
        how: ms, hold_ms, scale and signal, see :class:`Playing`.

    Raises:
        ValueError: another suffix, PyAV is missing for .mp4, no frame, shapes or numbers of labels that differ, or a time under 20 ms.
    """
    name = Path(path).suffix.lower().removeprefix(".")
    require_playable(name)
    files.write_bytes(path, _WAYS[name](*_drawn(frames, labels, **how)))


def gif(path: str | Path, frames: Sequence[Tensor], labels: Sequence[str] | None = None, **how: Unpack[Playing]) -> None:
    """Write a trajectory as an animated GIF, whatever `path` is called; arguments and errors as of :func:`animate`."""
    files.write_bytes(path, gif_bytes(frames, labels, **how))


def gif_bytes(frames: Sequence[Tensor], labels: Sequence[str] | None = None, **how: Unpack[Playing]) -> bytes:
    """The bytes of an animated GIF; arguments and errors as of :func:`animate`."""
    return _as_gif(*_drawn(frames, labels, **how))


def require_playable(name: str) -> None:
    """Refuse what no trajectory can be written as, before anything is computed.

    Raises:
        ValueError: it is none of "gif", "webp" and "mp4", or needs what is not installed.
    """
    if name not in _WAYS:
        raise ValueError(f'animations cannot be written as "{name}": use one of {", ".join(_WAYS)}')
    if name == "mp4":
        _video()


def _drawn(
    frames: Sequence[Tensor], labels: Sequence[str] | None, *, ms: int = 120, hold_ms: int = 900, scale: int | None = None, signal: Signal = PICTURE
) -> tuple[list[Image.Image], list[int]]:
    """The frames, RGB and of one size, and how long each stays, in ms."""
    require_frames(frames)
    if labels is not None and len(labels) != len(frames):
        raise ValueError(f"{len(frames)} frames have {len(labels)} labels: give one each")
    if min(ms, hold_ms) < 20:
        raise ValueError(f"ms = {ms} and hold_ms = {hold_ms} must be at least 20: browsers play nothing faster")
    ends = len(frames) - 1
    pictures = [
        _frame(frame, labels[i] if labels else "", i / ends if ends else 1.0, bool(labels), scale, signal) for i, frame in enumerate(frames)
    ]
    return pictures, [*[ms] * ends, hold_ms]


def _as_gif(pictures: list[Image.Image], times: list[int]) -> bytes:
    first, *rest = [_to_palette(picture) for picture in pictures]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=[round(ms, -1) for ms in times], loop=0, optimize=False)
    return buffer.getvalue()


def _as_webp(pictures: list[Image.Image], times: list[int]) -> bytes:
    first, *rest = pictures
    buffer = io.BytesIO()
    first.save(buffer, format="WEBP", save_all=True, append_images=rest, duration=times, loop=0, lossless=True, quality=80, method=4)
    return buffer.getvalue()


def _as_mp4(pictures: list[Image.Image], times: list[int]) -> bytes:
    """Every frame at its own time: the clock of the film ticks in milliseconds."""
    av, buffer, clock = _video(), io.BytesIO(), Fraction(1, 1000)
    codec, (w, h) = _codec(av), pictures[0].size
    size = (w + w % 2, h + h % 2)  # a pixel of colour is two by two
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream(codec, rate=clock.denominator // min(times), options=_QUALITY if codec == _CODECS[0] else {})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = stream.time_base = clock
        left, begin = list(times), 0
        for picture, ms in zip(pictures, times, strict=True):
            board = Image.new("RGB", size, (255, 255, 255))
            board.paste(picture)
            frame = av.VideoFrame.from_image(board)
            frame.pts, frame.time_base = begin, clock
            begin += ms
            film.mux([_lasting(packet, left) for packet in stream.encode(frame)])
        film.mux([_lasting(packet, left) for packet in stream.encode()])
    return buffer.getvalue()


def _lasting(packet: Any, left: list[int]) -> Any:
    """A packet that says how long its frame stays: there is one for each, in their order. Of the last nobody else would know."""
    packet.duration = left.pop(0)
    return packet


_WAYS: Mapping[str, Callable[[list[Image.Image], list[int]], bytes]] = MappingProxyType({"gif": _as_gif, "webp": _as_webp, "mp4": _as_mp4})
_CODECS = ("libx264", "libopenh264", "mpeg4")  # the last is no H.264, but in every build
_QUALITY = {"crf": "16", "preset": "slow", "tune": "stillimage", "bf": "0"}


def _codec(av: Any) -> str:
    """An encoder that this build of PyAV has."""
    return next(name for name in _CODECS if name in av.codecs_available)


def _video() -> Any:
    """PyAV.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(f"MP4 needs PyAV, which is not installed: pip install 'snowmelt[video]', or take gif or webp ({error})") from None
    return av


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
