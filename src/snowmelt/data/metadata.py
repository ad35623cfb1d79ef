"""What a picture file says besides its pixels: EXIF, colour profile, XMP, resolution, and how it was restored.

A restored picture keeps all of it, with two changes. The orientation is applied to the pixels, so the tag becomes 1 in EXIF (in
place: every other byte stays) and in XMP. And a *note* is added, a JSON object: PNG holds it as a text chunk named "snowmelt",
JPEG, WebP and TIFF as one property in XMP, beside what is there already.

Source: EXIF 2.32 (CIPA DC-008); XMP specification part 1 (ISO 16684-1) for where a property goes; PNG, section 11.3.
"""

import html
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

ORIENTATION = 0x0112
XMP_TAG = 700
NOTE = "snowmelt"
_SPACE = "urn:snowmelt:1.0"
_PREFIX = b"Exif\x00\x00"
_XMP_KEY = "XML:com.adobe.xmp"
_MOST_BYTES_JPEG = 65_000  # of one marker segment
# The tags of a TIFF that speak of the picture, not of how its bytes lie: description, make, model, software, date, artist, ...
_KEPT = (270, 271, 272, 305, 306, 315, 33432, 34665, 34853)
_DIRECTORIES = (34665, 34853)  # EXIF, GPS
_EMPTY_XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'


@dataclass(frozen=True)
class Metadata:
    """What travels from a file to its restoration.

    Attributes:
        exif: a TIFF structure, without the "Exif" prefix, orientation 1.
        icc: the colour profile of the pixels; None where they were converted to sRGB.
        xmp: an XMP packet, orientation 1.
        dpi: horizontal and vertical resolution.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


NOTHING = Metadata()


def of(image: Image.Image) -> Metadata:
    """The metadata of an opened file; what is broken is left out, for it is no reason to refuse sound pixels."""
    icc, xmp, dpi = (image.info.get(name) for name in ("icc_profile", "xmp", "dpi"))
    try:
        exif = _exif(image)
    except Exception:
        exif = None
    return Metadata(
        exif,
        # A profile for inks, or for Lab, does not fit the RGB values that they become.
        icc if isinstance(icc, bytes) and image.mode not in ("CMYK", "LAB") else None,
        _upright_xmp(xmp) if isinstance(xmp, bytes) else None,
        (float(dpi[0]), float(dpi[1])) if isinstance(dpi, tuple) and len(dpi) == 2 and min(dpi) > 0 else None,
    )


def note_of(image: Image.Image) -> dict[str, Any] | None:
    """The note in an opened file: how the picture was restored; None where there is none that can be read."""
    text = image.info.get(NOTE)
    xmp = image.info.get("xmp")
    if text is None and isinstance(xmp, bytes):
        found = re.search(rb"<snowmelt:restored>(.*?)</snowmelt:restored>", xmp, re.S)
        text = html.unescape(found[1].decode("utf-8", "replace")) if found else None
    try:
        note = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) else None


def settings(kind: str, metadata: Metadata, note: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of Pillow's ``save`` for a format, "PNG" or "JPEG" say, that keep what the format can hold."""
    found: dict[str, Any] = {} if metadata.dpi is None else {"dpi": metadata.dpi}
    if kind not in ("PNG", "JPEG", "WEBP", "TIFF"):
        return found
    if metadata.icc is not None:
        found["icc_profile"] = metadata.icc
    if kind == "PNG":
        if metadata.exif is not None:
            found["exif"] = metadata.exif
        return found | {"pnginfo": _text_chunks(metadata, note)}
    xmp = xmp_with(metadata.xmp, note)
    if kind == "JPEG" and xmp is not None and len(xmp) > _MOST_BYTES_JPEG:
        xmp = metadata.xmp  # there is no room for the note: what the camera or its owner wrote goes first
    if kind == "TIFF":
        tags = tiff_tags(metadata.exif)
        if xmp is not None:
            tags[XMP_TAG] = xmp
        return found | ({"exif": tags} if len(tags) else {})
    if metadata.exif is not None:
        found["exif"] = _PREFIX + metadata.exif
    return found if xmp is None else found | {"xmp": xmp}


def note_text(note: Mapping[str, Any]) -> str:
    """The note as ASCII, so that every kind of chunk can hold it."""
    return json.dumps(note, ensure_ascii=True, allow_nan=False)


def xmp_with(xmp: bytes | None, note: Mapping[str, Any] | None) -> bytes | None:
    """An XMP packet with the note in it: the given one, or a new one."""
    if note is None:
        return xmp
    known = re.sub(rb"<rdf:Description[^>]*xmlns:snowmelt=.*?</rdf:Description>", b"", xmp, flags=re.S) if xmp else b""
    if b"</rdf:RDF>" not in known:
        known = _EMPTY_XMP.encode()
    body = f"<snowmelt:restored>{html.escape(note_text(note), quote=False)}</snowmelt:restored>"
    block = f'<rdf:Description rdf:about="" xmlns:snowmelt="{_SPACE}">{body}</rdf:Description>'
    start, end, rest = known.rpartition(b"</rdf:RDF>")
    return start + block.encode() + end + rest


def tiff_tags(exif: bytes | None) -> Image.Exif:
    """EXIF as Pillow's object, only the tags that speak of the picture."""
    whole, kept = Image.Exif(), Image.Exif()
    if exif is not None:
        whole.load(_PREFIX + exif)
    for tag in _KEPT:
        if tag in whole:
            value = dict(whole.get_ifd(tag)) if tag in _DIRECTORIES else whole[tag]
            if isinstance(value, dict):
                kept.get_ifd(tag).update(value)  # before the next line: Pillow would take what it sets for an address
            kept[tag] = value
    return kept


def _exif(image: Image.Image) -> bytes | None:
    raw = image.info.get("exif")
    if image.format == "TIFF" or not isinstance(raw, bytes):
        tags = image.getexif()
        kept = Image.Exif()
        for tag in _KEPT:
            if tag in tags:
                kept[tag] = dict(tags.get_ifd(tag)) if tag in _DIRECTORIES else tags[tag]
        return kept.tobytes().removeprefix(_PREFIX) if len(kept) else None
    return _upright_exif(raw.removeprefix(_PREFIX))


def _upright_exif(raw: bytes) -> bytes:
    """The same bytes with the orientation 1.

    Raises:
        struct.error, KeyError: it is no TIFF structure.
    """
    order = {b"II": "<", b"MM": ">"}[raw[:2]]
    (start,) = struct.unpack_from(order + "I", raw, 4)
    (entries,) = struct.unpack_from(order + "H", raw, start)
    upright = bytearray(raw)
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", raw, place)
        if tag == ORIENTATION:
            struct.pack_into(order + ("I" if kind == 4 else "H"), upright, place + 8, 1)
    return bytes(upright)


def _upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>)\s*)[1-8]", rb"\g<1>1", xmp)


def _text_chunks(metadata: Metadata, note: Mapping[str, Any] | None) -> PngInfo:
    chunks = PngInfo()
    if note is not None:
        chunks.add_text(NOTE, note_text(note))
    if metadata.xmp is not None:
        chunks.add_itxt(_XMP_KEY, metadata.xmp.decode("utf-8", "replace"))
    return chunks
