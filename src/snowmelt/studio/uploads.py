"""What a visitor brings: opened only within the limits, and only if it is a picture."""

from pathlib import Path

from snowmelt.data.images import Picture, UnreadableImage, read
from snowmelt.studio.limits import Limits, Refused, TooLarge


def opened(source: str | Path | None, limits: Limits, content: bytes | None = None) -> Picture:
    """The picture in an uploaded file: its bytes and the pixels that its header announces are bounded before it is decoded.

    Args:
        source: the file, or with `content` only its name.
        limits: the bounds.
        content: the file's bytes, where it lies in memory.

    Raises:
        Refused: there is nothing.
        TooLarge: there is too much of it, in bytes or in pixels.
        UnreadableImage: it is no picture that can be read.
    """
    if source is None:
        raise Refused("there is no picture yet: drop one first")
    size = Path(source).stat().st_size if content is None else len(content)
    if size > limits.bytes:
        raise TooLarge(f"this file has {size / 2**20:.1f} MB, and {limits.megabytes:g} MB is the most: make it smaller")
    try:
        return read(source, max_pixels=limits.pixels, content=content)
    except UnreadableImage as error:
        if error.broken or "max_pixels" not in error.reason:
            raise
        size_px = error.reason.partition(" are")[0]
        raise TooLarge(f"this picture has {size_px}, and {limits.megapixels:g} megapixels are the most: make it smaller") from None
