"""A picture as a PNG: bytes, a whole file, or a ``data:`` address inside an HTML page."""

import base64
import io
from pathlib import Path

from PIL import Image

from snowmelt import files

# What each kind of picture file begins with.
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
}


def png_bytes(image: Image.Image) -> bytes:
    """`image` as a PNG, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save(path: str | Path, image: Image.Image) -> None:
    """Write `image` as a PNG: the file is whole or not there.

    Raises:
        ValueError: the name ends in something other than .png.
        OSError: the disk is full or the folder cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: sheets are saved as PNG; name the file {Path(path).with_suffix('.png').name}")
    files.write_bytes(path, png_bytes(image))


def data_url(image: Image.Image | bytes) -> str:
    """The address of a picture that lies inside the page: ``data:image/png;base64,...``.

    Args:
        image: a Pillow image, stored as PNG, or the bytes of a PNG, GIF, JPEG or WebP file.

    Raises:
        ValueError: the bytes begin like none of these.
    """
    data = png_bytes(image) if isinstance(image, Image.Image) else image
    kind = next((kind for start, kind in _BEGINNINGS.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError(f"{len(data)} bytes that begin with {data[:8]!r} are no PNG, GIF, JPEG or WebP picture")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
