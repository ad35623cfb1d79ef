"""Colour and opacity of 16 bits a channel, which Pillow would cut to 8, or read wrongly: PNG through libpng, TIFF through tifffile.

Pillow shows a grey TIFF of 16 bits whose white is zero as its negative, one of 12 bits nearly black, and forgets which level of a
grey PNG is transparent; so these are read here, or refused. A second reader sees the same file with other eyes: what it finds in the header is
held against what was checked before, so that no file shows a small picture to one and a huge one to the other.

Both libraries are imported when the first such file is met. The metadata goes with the pixels: into PNG as chunks after the
header, into TIFF as tags; EXIF, whose entries lie in a directory of their own, is appended and its address filled in.
"""

import io
import logging
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from snowmelt.data import metadata as meta
from snowmelt.data.metadata import Metadata

_PNG_COLOURS = (2, 4, 6)  # RGB, grey with alpha, RGB with alpha
_MOST_TILE_PX = 1 << 22  # of a tile that is larger than its picture
_EXIF_TAG = 34665
_STAND_IN_TAG = 34664  # tifffile writes no 34665; its neighbour, which nobody uses, keeps the place in the sorted directory
_QUIET = logging.NullHandler()  # what it says of a damaged file is either no harm, or an error here
_BITS_TAG, _PHOTOMETRIC_TAG, _TILE_TAGS = 258, 262, (322, 323)


def is_deep(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether Pillow would cut this opened PNG or TIFF to 8 bits, or misread its 16."""
    if image.format == "PNG":
        stream.seek(24)  # in the header chunk: bits, colour type
        bits, colour = stream.read(2)
        return bits == 16 and (colour in _PNG_COLOURS or "transparency" in image.info)
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        most = int(max(tags.get(_BITS_TAG, (8,))))
        if image.mode.startswith("I;16"):
            return most != 16 or bool(tags.get(_PHOTOMETRIC_TAG) == 0)
        return most > 8 and not image.mode.startswith(("I", "F"))
    return False


def large_tiles(image: Image.Image) -> str | None:
    """What is wrong with the tiles of an opened TIFF that are so much larger than their picture that no one meant them; None if nothing is."""
    tags: Any = getattr(image, "tag_v2", {})
    w, h = (int(tags.get(tag, 0)) for tag in _TILE_TAGS)
    return _too_large(image, w, h)


def _too_large(image: Image.Image, w: int, h: int) -> str | None:
    if w * h <= max(image.width * image.height, _MOST_TILE_PX):
        return None
    return f"its tiles of {w} x {h} px are larger than the picture"


def is_deep_grey(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether it is a PNG of grey with alpha at 16 bits, which Pillow calls RGBA."""
    stream.seek(24)
    return image.format == "PNG" and stream.read(2) == bytes((16, 4))


def decode(image: Image.Image, stream: BinaryIO) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None, int]:
    """Colour (h, w, c) with c = 1 or 3, alpha (h, w, 1) or None, and the orientation that is still to be applied.

    Raises:
        ValueError: a TIFF of another depth, colour model or number of channels.
    """
    stream.seek(0)
    if image.format == "PNG":
        import imagecodecs

        array = imagecodecs.png_decode(stream.read())
        array = array.reshape(*array.shape[:2], -1)
        colours, associated, turn = 3 if array.shape[-1] > 2 else 1, False, image.getexif().get(meta.ORIENTATION, 1)
    else:
        array, colours, associated, turn = _tiff(image, stream)
    if array.dtype != np.uint16 or array.shape[-1] - colours not in (0, 1):
        raise ValueError(f"{array.dtype} with {array.shape[-1]} channels: 16-bit files may be grey or RGB, with or without alpha")
    _agree(image, array.shape[0], array.shape[1])
    colour, alpha = array[..., :colours], array[..., colours:]
    if associated and alpha.shape[-1]:
        colour = np.rint(colour / np.maximum(alpha, 1) * 65535.0).clip(0, 65535).astype(np.uint16)
    return colour, alpha if alpha.shape[-1] else None, turn if isinstance(turn, int) else 1


def _agree(image: Image.Image, h: int, w: int) -> None:
    """Refuse a size (h, w) that is not the one whose pixels were counted; Pillow reports a TIFF's as turned upright."""
    if (h, w) not in ((image.height, image.width), (image.width, image.height)):
        raise ValueError(f"its header says {image.width} x {image.height} px and {w} x {h} px")


def _tiff(image: Image.Image, stream: BinaryIO) -> tuple[NDArray[Any], int, bool, int]:
    """Pixels (h, w, channels), how many of the channels are colour, whether colour is multiplied by alpha, the orientation."""
    import tifffile

    logging.getLogger("tifffile").addHandler(_QUIET)
    with tifffile.TiffFile(stream) as file:
        page: Any = file.pages.first
        kind = page.photometric.name
        if kind not in ("RGB", "MINISBLACK", "MINISWHITE"):
            raise ValueError(f"a TIFF of {page.bitspersample} bits in {kind} colours: convert it to RGB first")
        if page.bitspersample != 16 or page.samplesperpixel > 4 or page.imagedepth != 1:
            raise ValueError(f"a TIFF of {page.samplesperpixel} channels of {page.bitspersample} bits: save it as grey or RGB of 8 or 16 bits")
        _agree(image, page.imagelength, page.imagewidth)
        if page.is_tiled and (wrong := _too_large(image, page.tilewidth, page.tilelength)):
            raise ValueError(wrong)
        missing = sum(start <= 0 or count <= 0 for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        missing += max(math.prod(page.chunked) - len(page.dataoffsets), 0)
        if missing:  # tifffile would make them black
            raise ValueError(f"{missing} of the {math.prod(page.chunked)} pieces that its pixels lie in are missing")
        array = np.asarray(page.asarray())
        if array.ndim == 3 and page.planarconfig == 2:
            array = np.moveaxis(array, 0, -1)
        array = array.reshape(*array.shape[:2], -1)
        if kind == "MINISWHITE":
            array = 65535 - array
        turn = page.tags.get(meta.ORIENTATION)
        associated = tuple(int(kind) for kind in page.extrasamples)[:1] == (1,)
        return array, 3 if kind == "RGB" else 1, associated, 1 if turn is None else turn.value


def save(path: Path, array: NDArray[np.uint16], kind: str, metadata: Metadata, note: Mapping[str, Any] | None) -> None:
    """Write pixels (h, w, c), c = 2 to 4, as "PNG" or "TIFF" with what is known of the picture."""
    array = np.ascontiguousarray(array)
    if kind == "PNG":
        import imagecodecs

        path.write_bytes(_with_chunks(bytes(imagecodecs.png_encode(array, level=6)), _chunks(metadata, note)))
        return
    import tifffile

    if array.shape[-1] == 2:  # Pillow, and with it many a viewer, knows no grey with alpha of 16 bits in a TIFF
        array = array[..., [0, 0, 0, 1]]
    tags = meta.tiff_tags(metadata.exif)
    words = [(tag, "s", 0, str(value), True) for tag, value in tags.items() if isinstance(value, str) and tag not in (270, 305, 306)]
    xmp = meta.xmp_with(metadata.xmp, note)
    packets: list[Any] = [] if xmp is None else [(meta.XMP_TAG, "B", len(xmp), xmp, True)]
    directory = dict(tags.get_ifd(_EXIF_TAG)) if _EXIF_TAG in tags else {}
    later: list[Any] = [(_STAND_IN_TAG, "I", 1, 0, True)] if directory else []
    tifffile.imwrite(
        path,
        array,
        byteorder="<",
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] if array.shape[-1] == 4 else None,
        compression="zlib",
        predictor=True,
        metadata=None,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        description=tags.get(270),
        software=tags.get(305, False),
        datetime=tags.get(306),
        extratags=[*words, *packets, *later],
    )
    if directory:
        _append(path, directory)


def _append(path: Path, directory: Mapping[int, Any]) -> None:
    """Put the EXIF directory at the end of a TIFF, and its address where it is looked for."""
    import tifffile

    entries = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=_EXIF_TAG)
    for tag, value in directory.items():
        entries[tag] = value
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[_STAND_IN_TAG].offset
    with path.open("r+b") as stream:
        start = stream.seek(0, io.SEEK_END)
        stream.write(b"\x00" * (start % 2))
        start += start % 2
        stream.write(entries.tobytes(start))
        stream.seek(place)
        stream.write(struct.pack("<HHII", _EXIF_TAG, 4, 1, start))


def _chunks(metadata: Metadata, note: Mapping[str, Any] | None) -> list[tuple[bytes, bytes]]:
    found = []
    if metadata.icc is not None:
        found.append((b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        found.append((b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in metadata.dpi), 1)))
    if metadata.exif is not None:
        found.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        found.append((b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + metadata.xmp))
    if note is not None:
        found.append((b"tEXt", meta.NOTE.encode() + b"\x00" + meta.note_text(note).encode()))
    return found


def _with_chunks(png: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with chunks put in after its header chunk, which always ends at byte 33."""
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return png[:33] + body + png[33:]
