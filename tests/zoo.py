"""Pictures of every kind that people have, each with what is in it by a decoder that has nothing to do with ours, or the word that refuses it.

Tests load it by ``script("tests/zoo.py")``. What a file holds is worked out by imagecodecs, by tifffile or by hand, never by Pillow, which reads most
files for the library.
"""

import gzip
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

H, W = 12, 20
Array = NDArray[Any]


class Kind(NamedTuple):
    """One kind of file.

    Attributes:
        name: a file name, with its suffix.
        content: the file.
        colour: what it shows, upright: (h, w, 1 or 3), uint8 or uint16; None where it has to be refused.
        alpha: its opacity (h, w), of any whole type; None without.
        word: of the reason that refuses it.
        near: how many levels the two may be apart.
        single: one picture; of the others the first is read for training, and `restore` refuses them.
    """

    name: str
    content: bytes
    colour: Array | None = None
    alpha: Array | None = None
    word: str = ""
    near: int = 0
    single: bool = True


def noise(*shape: int, top: int = 255, seed: int = 0) -> Array:
    dtype = np.uint8 if top < 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)


def scene(h: int = H, w: int = W) -> Array:
    """Smooth colours (h, w, 3), which a lossy format keeps; no two corners are alike."""
    y, x = np.mgrid[:h, :w] / max(h, w)
    return np.stack([40 + 180 * x, 30 + 200 * y, 128 + 90 * np.sin(3 * x + 5 * y)], -1).astype(np.uint8)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of chunks."""
    body = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def raw_png(array: Array, *, bits: int, colour: int, extra: tuple[tuple[bytes, bytes], ...] = (), rows: list[bytes] | None = None) -> bytes:
    """A PNG by the book: header, chunks before the pixels, unfiltered rows."""
    h, w = array.shape[:2]
    rows = rows or [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in array]
    header = struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, 0)
    return png((b"IHDR", header), *extra, (b"IDAT", zlib.compress(b"".join(b"\x00" + row for row in rows))), (b"IEND", b""))


def saved(image: Image.Image | Array, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format=kind, **settings)
    return buffer.getvalue()


def tiff(array: Array, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **settings)
    return buffer.getvalue()


def turned(array: Array, turn: int) -> Array:
    """A stored picture upright, by the definition of EXIF: where the first row and the first column of the file belong."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[turn](array)


def inks_profile() -> bytes:
    """An ICC profile of four inks, whose table has sixteen corners: inks that each take away a little less than they should."""
    corners = []
    for c, m, y, k in itertools.product((0, 1), repeat=4):
        light = (1 - 0.97 * k) * np.array([(1 - 0.9 * c), (1 - 0.85 * m) * (1 - 0.2 * c), (1 - 0.9 * y) * (1 - 0.1 * m)])
        brightness = 100 * float(light @ (0.25, 0.65, 0.1)) ** (1 / 2.4)
        corners.append([brightness * 2.55, 128 + 90 * (light[0] - light[1]), 128 + 90 * (light[1] - light[2])])
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * int(i % 4 == 0) for i in range(9)))
    table = np.rint(corners).clip(0, 255).astype(np.uint8).tobytes()
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + ramp * 4 + table + ramp * 3
    words = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"desc": words, b"cprt": b"text\0\0\0\0none\0", b"wtpt": white, b"A2B0": lut}
    place, entries, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        entries += name + struct.pack(">II", place + len(body), len(data))
        body += data
    size = place + len(body)
    start = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header = start + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I", len(tags)) + entries + body


def kinds() -> Iterator[Kind]:
    """All of them."""
    yield from pngs()
    yield from jpegs()
    yield from tiffs()
    yield from others()
    yield from turns()
    yield from sides()
    yield from refused()


def pngs() -> Iterator[Kind]:
    for channels, colour in ((1, 0), (2, 4), (3, 2), (4, 6)):
        for bits in (8, 16):
            array = noise(H, W, channels, top=2**bits - 1)
            content = raw_png(array, bits=bits, colour=colour)
            found = imagecodecs.png_decode(content).reshape(H, W, channels)
            assert (found == array).all()
            light = 1 if channels < 3 else 3
            clear = found[..., light] if channels in (2, 4) else None
            yield Kind(f"png-{('grey', 'grey-alpha', 'rgb', 'rgba')[channels - 1]}-{bits}.png", content, found[..., :light], clear)
    for bits in (1, 2, 4):
        levels = noise(H, W, top=2**bits - 1)
        spread = np.unpackbits(levels[..., None], axis=-1)[..., 8 - bits :].reshape(H, -1)
        content = raw_png(levels, bits=bits, colour=0, rows=[np.packbits(row).tobytes() for row in spread])
        yield Kind(f"png-{bits}-bit.png", content, (levels * (255 // (2**bits - 1)))[..., None])
    palette, index = noise(16, 3, seed=1), noise(H, W, top=15)
    yield Kind("png-palette.png", raw_png(index, bits=8, colour=3, extra=((b"PLTE", palette.tobytes()),)), palette[index])
    clear = noise(9, seed=2)  # fewer than colours: the rest is opaque
    content = raw_png(index, bits=8, colour=3, extra=((b"PLTE", palette.tobytes()), (b"tRNS", clear.tobytes())))
    yield Kind("png-palette-transparent.png", content, palette[index], np.append(clear, np.full(7, 255, np.uint8))[index])
    array = noise(H, W, 3, seed=3)
    array[2:5] = (9, 8, 7)
    content = raw_png(array, bits=8, colour=2, extra=((b"tRNS", struct.pack(">3H", 9, 8, 7)),))
    yield Kind("png-one-colour-transparent.png", content, array, np.where((array == (9, 8, 7)).all(-1), 0, 255))
    for channels, colour in ((1, 0), (3, 2)):
        deep = noise(H, W, channels, top=65535, seed=4)
        deep[3] = 4660
        content = raw_png(deep, bits=16, colour=colour, extra=((b"tRNS", struct.pack(f">{channels}H", *[4660] * channels)),))
        yield Kind(f"png-one-level-transparent-16-{channels}.png", content, deep, np.where((deep == 4660).all(-1), 0, 65535))
    yield Kind("png-interlaced.png", interlaced(scene()), scene())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield Kind("png-icc.png", raw_png(scene(), bits=8, colour=2, extra=((b"iCCP", b"sRGB\0\0" + zlib.compress(srgb)),)), scene())
    words = PngInfo()
    words.add_itxt("Title", "名前 🙂")
    yield Kind("png-words.png", saved(scene(), "PNG", pnginfo=words), scene())
    moving = saved(scene(), "PNG", save_all=True, append_images=[Image.fromarray(scene()[::-1])])
    yield Kind("apng.png", moving, imagecodecs.apng_decode(moving, index=0)[..., :3], single=False)


def interlaced(array: Array) -> bytes:
    """Adam7: seven pictures, each finer than the one before."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(b"\x00" + row.tobytes() for y, x, dy, dx in passes for row in array[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8, 2, 0, 0, 1)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def jpegs() -> Iterator[Kind]:
    settings: dict[str, dict[str, Any]] = {
        "plain": {"quality": 90},
        "progressive": {"quality": 80, "progressive": True},
        "restart": {"quality": 80, "restart_marker_blocks": 1},
        "chroma-halved": {"quality": 90, "subsampling": 2},
        "icc": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
    }
    for name, given in settings.items():
        content = saved(scene(), "JPEG", **given)
        yield Kind(f"jpeg-{name}.jpg", content, imagecodecs.jpeg8_decode(content), near=1)
    grey = saved(scene()[..., 0], "JPEG")
    yield Kind("jpeg-grey.jpg", grey, imagecodecs.jpeg8_decode(grey)[..., None], near=1)
    inks = Image.fromarray(np.dstack([scene(), scene()[..., 0] // 2]), "CMYK")
    content = saved(inks, "JPEG", quality=100)
    yield Kind("jpeg-cmyk.jpg", content, over_white(stored_inks(content)), near=1)
    profile = inks_profile()
    content = saved(inks, "JPEG", quality=100, icc_profile=profile)
    yield Kind("jpeg-cmyk-profile.jpg", content, through(stored_inks(content), profile), near=1)


def stored_inks(content: bytes) -> Array:
    """The inks of a CMYK JPEG: Adobe's, which Pillow writes too, are stored upside down."""
    return 255 - imagecodecs.jpeg8_decode(content, colorspace="CMYK", outcolorspace="CMYK")


def over_white(inks: Array) -> Array:
    """Inks on white paper: what each leaves of the light, and black of all of it."""
    left = 255.0 - inks
    return np.rint(left[..., :3] * left[..., 3:] / 255).astype(np.uint8)


def through(inks: Array, profile: bytes) -> Array:
    """Inks as sRGB, by their profile."""
    srgb = imagecodecs.cms_profile("srgb")
    return imagecodecs.cms_transform(inks, profile, srgb, colorspace="cmyk", outcolorspace="rgb", intent=1, flags=0x2000)  # black point


def tiffs() -> Iterator[Kind]:
    for bits, channels in itertools.product((8, 16), (1, 3)):
        array = noise(32, 48, channels, top=2**bits - 1, seed=5)
        seen = array[..., 0] if channels == 1 else array
        photometric: dict[str, Any] = {"photometric": "minisblack" if channels == 1 else "rgb"}
        for name, given in {
            "little": {"byteorder": "<"},
            "big": {"byteorder": ">"},
            "lzw": {"compression": "lzw"},
            "deflate": {"compression": "zlib", "predictor": True},
            "big-deflate": {"byteorder": ">", "compression": "zlib", "predictor": True},
            "tiled": {"tile": (16, 16)},
            "tiled-lzw": {"tile": (16, 16), "compression": "lzw"},
            "packbits": {"compression": "packbits"},
            "strips": {"rowsperstrip": 5},
        }.items():
            content = tiff(seen, **photometric, **given)
            assert (tifffile.imread(io.BytesIO(content)) == seen).all()
            yield Kind(f"tiff-{name}-{bits}-{channels}.tif", content, array)
        if channels == 3:
            content = tiff(np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate")
            yield Kind(f"tiff-planar-{bits}.tif", content, array)
            clear = noise(32, 48, 1, top=2**bits - 1, seed=6)
            content = tiff(np.concatenate([array, clear], -1), photometric="rgb", extrasamples=["unassalpha"])
            yield Kind(f"tiff-rgba-{bits}.tif", content, array, clear[..., 0])
        else:
            for order in "<>":
                content = tiff(seen, photometric="miniswhite", byteorder=order)
                if bits == 16 and order == ">":  # Pillow does not know it
                    yield Kind("tiff-white-is-zero-16-big.tif", content, word="not a picture")
                else:
                    yield Kind(f"tiff-white-is-zero-{bits}-{'little' if order == '<' else 'big'}.tif", content, 2**bits - 1 - array)
    array = noise(32, 48, seed=7)
    content = tiff(array, photometric="palette", colormap=np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 3, 0) ^ np.uint16(0x1234))
    page = tifffile.TiffFile(io.BytesIO(content)).pages.first
    yield Kind("tiff-palette.tif", content, (page.tags["ColorMap"].value[:, array].transpose(1, 2, 0) >> 8).astype(np.uint8), near=1)
    pages = tiff(noise(3, 32, 48, seed=8), photometric="minisblack")
    yield Kind("tiff-pages.tif", pages, tifffile.imread(io.BytesIO(pages), key=0)[..., None], single=False)
    yield Kind("tiff-float.tif", tiff(noise(8, 8).astype(np.float32) / 255), word="range")
    yield Kind("tiff-half.tif", tiff(noise(8, 8).astype(np.float16) / 255), word="")
    yield Kind("tiff-rgb-float.tif", tiff(noise(8, 8, 3).astype(np.float32) / 255, photometric="rgb"), word="")
    yield Kind("tiff-signed.tif", tiff(noise(8, 8).astype(np.int16)), word="range")
    yield Kind("tiff-32-bit.tif", tiff(noise(8, 8).astype(np.uint32)), word="range")
    yield Kind("tiff-12-bit.tif", twelve_bits(), word="12")
    inks = np.dstack([scene(), scene()[..., 0] // 2])
    yield Kind("tiff-cmyk.tif", tiff(inks, photometric="separated"), over_white(inks), near=1)


def twelve_bits() -> bytes:
    """A grey TIFF of 12 bits a pixel: its white is 4095, which 16 bits would show nearly black."""
    pixels = bytes(32 * 48 * 3 // 2)
    tags = {256: 48, 257: 32, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 32, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def others() -> Iterator[Kind]:
    for name, array in {"grey": noise(H, W), "colour": noise(H, W, 3)}.items():
        content = saved(array, "BMP")
        yield Kind(f"bmp-{name}.bmp", content, imagecodecs.bmp_decode(content, asrgb=False).reshape(H, W, -1))
    yield Kind("bmp-5-6-5.bmp", *sixteen_bit_bmp(), near=1)
    flat = Image.fromarray(scene()).quantize(16)
    gif = saved(flat, "GIF")
    yield Kind("gif.gif", gif, imagecodecs.gif_decode(gif).reshape(H, W, 3))
    moving = saved(flat, "GIF", save_all=True, append_images=[flat.rotate(180)])
    yield Kind("gif-moving.gif", moving, imagecodecs.gif_decode(moving, index=0).reshape(H, W, 3), single=False)
    for name, given in {"lossless": {"lossless": True}, "lossy": {"quality": 90}}.items():
        webp = saved(scene(), "WEBP", **given)
        yield Kind(f"webp-{name}.webp", webp, imagecodecs.webp_decode(webp)[..., :3], near=1)
        webp = saved(np.dstack([scene(), noise(H, W)]), "WEBP", exact=True, **given)
        found = imagecodecs.webp_decode(webp)
        yield Kind(f"webp-{name}-alpha.webp", webp, found[..., :3], found[..., 3], near=1)
    moving = saved(scene(), "WEBP", save_all=True, append_images=[Image.fromarray(scene()[::-1])], lossless=True)
    yield Kind("webp-moving.webp", moving, imagecodecs.webp_decode(moving, index=0)[..., :3], near=1, single=False)


def sixteen_bit_bmp() -> tuple[bytes, Array]:
    """A BMP of 5, 6 and 5 bits, stored from the bottom, and what it shows."""
    levels = np.stack([noise(H, W, top=31), noise(H, W, top=63, seed=1), noise(H, W, top=31, seed=2)], -1).astype(np.uint16)
    packed = (levels[..., 0] << 11 | levels[..., 1] << 5 | levels[..., 2]).astype("<u2")[::-1].tobytes()
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 16, 3, len(packed), 2835, 2835, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 14 + 40 + 12 + len(packed), 0, 0, 66) + header + masks + packed
    return content, np.rint(levels * 255 / np.array([31, 63, 31])).astype(np.uint8)


def turns() -> Iterator[Kind]:
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        content = saved(scene(), "JPEG", quality=90, exif=exif)
        yield Kind(f"turn-{turn}.jpg", content, turned(imagecodecs.jpeg8_decode(content), turn), near=1)
        yield Kind(f"turn-{turn}.png", saved(scene(), "PNG", exif=exif), turned(scene(), turn))
        yield Kind(f"turn-{turn}.webp", saved(scene(), "WEBP", exif=exif, lossless=True), turned(scene(), turn))
        for bits in (8, 16):
            array = noise(H, W, 3, top=2**bits - 1)
            content = tiff(array, photometric="rgb", extratags=[(0x0112, "H", 1, turn, True)])
            yield Kind(f"turn-{turn}-{bits}.tif", content, turned(array, turn))
            grey = tiff(array[..., 0], photometric="minisblack", extratags=[(0x0112, "H", 1, turn, True)])
            yield Kind(f"turn-{turn}-{bits}-grey.tif", grey, turned(array[..., :1], turn))


def sides() -> Iterator[Kind]:
    for h, w in ((1, 1), (1, 5000), (5000, 1)):
        array = noise(h, w, 3)
        yield Kind(f"side-{h}x{w}.png", raw_png(array, bits=8, colour=2), array)
        content = saved(array, "JPEG")
        yield Kind(f"side-{h}x{w}.jpg", content, imagecodecs.jpeg8_decode(content), near=1)
        yield Kind(f"side-{h}x{w}.tif", tiff(array, photometric="rgb"), array)


def refused() -> Iterator[Kind]:
    whole = {
        "PNG": saved(noise(64, 64, 3), "PNG"),
        "JPEG": saved(noise(64, 64, 3), "JPEG"),
        "WEBP": saved(noise(64, 64, 3), "WEBP"),
        "TIFF": saved(noise(64, 64, 3), "TIFF"),
        "LZW": tiff(noise(64, 64, 3), photometric="rgb", compression="lzw"),
        "BMP": saved(noise(64, 64, 3), "BMP"),
        "GIF": saved(Image.fromarray(noise(64, 64, 3)).quantize(64), "GIF"),
        "PNG-16": raw_png(noise(64, 64, 3, top=65535), bits=16, colour=2),
        "TIFF-16": tiff(noise(64, 64, 3, top=65535), photometric="rgb", rowsperstrip=8),
        "TIFF-16-deflate": tiff(noise(64, 64, 3, top=65535), photometric="rgb", compression="zlib", rowsperstrip=8),
    }
    for name, content in whole.items():
        suffix = {"JPEG": "jpg", "LZW": "tif"}.get(name, name.partition("-")[0].lower())
        for part in (0.02, 0.3, 0.6, 0.9):
            yield Kind(f"cut-{name}-{int(100 * part)}.{suffix}", content[: int(len(content) * part)])
    yield Kind("empty.png", b"", word="empty")
    yield Kind("zeros.png", bytes(4096), word="not a picture")
    yield Kind("text.png", b"these are words\n" * 9, word="not a picture")
    yield Kind("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", word="not a picture")
    yield Kind("svg.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', word="not a picture")
    yield Kind("archive.png", b"PK\x03\x04" + bytes(60), word="not a picture")
    yield Kind("pickle.png", b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", word="not a picture")
    yield Kind("png-called.jpg", whole["PNG"], noise(64, 64, 3))
    yield Kind("jpeg-called.tif", whole["JPEG"], imagecodecs.jpeg8_decode(whole["JPEG"]), near=1)
    yield Kind("ppm-called.png", b"P6 2 2 255\n" + bytes(12), word="not a picture")
    yield Kind("no-size.png", raw_png(np.zeros((0, 0, 3), np.uint8), bits=8, colour=2))
    yield Kind("no-pixels.png", png((b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)), (b"IEND", b"")))


def bombs() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of files that are small and would be large: by what the header promises, or by what is folded up in them."""
    yield "grey-144-megapixels.png", large_png()
    yield "deep-144-megapixels.png", png((b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9999))))
    yield "endless.png", endless_png()
    fold = zlib.compress(bytes(50_000_000), 9)
    small = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = (b"IDAT", zlib.compress(bytes(8 * 25)))
    for name, chunk in {
        "words": (b"zTXt", b"Comment\0\0" + fold),
        "long-words": (b"iTXt", b"Comment\0\1\0\0\0" + fold),
        "profile": (b"iCCP", b"profile\0\0" + fold),
    }.items():
        yield f"{name}.png", png((b"IHDR", small), chunk, rows, (b"IEND", b""))
        deep = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        yield f"{name}-deep.png", png((b"IHDR", deep), chunk, (b"IDAT", zlib.compress(bytes(8 * 49))), (b"IEND", b""))
    many = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000), 9))
    yield "many-words.png", png((b"IHDR", small), *[many] * 2000, rows, (b"IEND", b""))
    gif = saved(Image.fromarray(scene()).quantize(16), "GIF")
    yield "screen.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    place = gif.rindex(b",", 0, len(gif) - 20) if b"," in gif else 0
    yield "frame.gif", gif[: place + 5] + b"\xff\xff\xff\xff" + gif[place + 9 :]
    canvas = struct.pack("<I", 16_383)[:3]
    frame = saved(scene(), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas * 2 + frame
    yield "canvas.webp", b"RIFF" + struct.pack("<I", len(body)) + body
    webp = saved(scene(), "WEBP", lossless=True)
    yield "lossless.webp", webp[:21] + struct.pack("<I", 16_382 | 16_382 << 14) + webp[25:]
    webp = saved(scene(), "WEBP")
    place = webp.index(b"\x9d\x01\x2a")
    yield "lossy.webp", webp[: place + 3] + struct.pack("<HH", 16_383, 16_383) + webp[place + 7 :]
    moving = saved(scene(), "WEBP", save_all=True, append_images=[Image.fromarray(scene()[::-1])])
    place = moving.index(b"VP8X") + 12
    yield "moving.webp", moving[:place] + canvas * 2 + moving[place + 6 :]
    jpeg = saved(scene(), "JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    yield "plain.jpg", jpeg[:place] + b"\xff\xdc\xff\xdc" + jpeg[place + 4 :]
    jpeg = saved(scene(), "JPEG", progressive=True)
    place = jpeg.index(b"\xff\xc2") + 5
    yield "progressive.jpg", jpeg[:place] + b"\xff\xdc\xff\xdc" + jpeg[place + 4 :]
    bmp = saved(scene(), "BMP")
    yield "plain.bmp", bmp[:18] + struct.pack("<ii", 2**30, 2**30) + bmp[26:]
    yield "negative.bmp", bmp[:18] + struct.pack("<ii", 2**30, -(2**30)) + bmp[26:]
    yield "run-length.bmp", bmp[:18] + struct.pack("<iiHHI", 50_000, 50_000, 1, 8, 1) + bmp[34:]
    yield from large_tiffs()
    yield from large_arrays()


def endless_png() -> bytes:
    return png((b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9999))))


def large_png() -> bytes:
    """144 megapixels in 140 kB, and nothing wrong with them: twelve times the same thousand rows, folded up once."""
    rows, fold, total = bytes(12_001 * 1000), zlib.compressobj(9, wbits=-15), 1
    piece = fold.compress(rows) + fold.flush(zlib.Z_FULL_FLUSH)
    for _ in range(12):
        total = zlib.adler32(rows, total)
    pixels = b"\x78\xda" + 12 * piece + b"\x03\x00" + struct.pack(">I", total)
    return png((b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))


def large_arrays() -> Iterator[tuple[str, bytes]]:
    """Arrays whose header promises 10^12 values, or itself."""

    def npy(shape: str, kind: str = "|u1", after: bytes = bytes(64)) -> bytes:
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + after

    def npz(**members: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)
        return buffer.getvalue()

    huge, few = npy("(1000000, 1000, 1000)"), npy("(4, 4, 4)")
    yield "values.npy", huge
    yield "floats.npy", npy("(1000000, 1000, 1000)", "<f8")
    yield "numbers.npy", npy("(4611686018427387904, 4611686018427387904, 4)")
    yield "header.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(64)
    yield "values.npz", npz(x0=huge)
    yield "labels.npz", npz(x0=few, label=npy("(1000000000000,)", "<i8"))
    yield "vectors.npz", npz(x0=few, vector=npy("(1000000, 1000000)", "<f4"))
    yield "pack.npz", npz(blob=npy("(1000000000000,)"), offset=npy("(1000000000000,)", "<i8"))
    size = npz(x0=huge)  # the archive's own word on how large its member is
    place = size.index(b"PK\x01\x02")
    yield "directory.npz", size[: place + 24] + b"\xfe\xff\xff\xff" + size[place + 28 :]
    idx = b"\x00\x00\x08\x03" + struct.pack(">3I", 10**6, 1000, 1000) + bytes(64)
    yield "train-images-idx3-ubyte", idx
    yield "train-images-idx3-ubyte.gz", gzip.compress(idx)
    yield "more-idx3-ubyte.gz", gzip.compress(b"\x00\x00\x08\x03" + struct.pack(">3I", 4, 4, 4) + bytes(50_000_000))
    yield "cut-idx3-ubyte.gz", gzip.compress(b"\x00\x00\x08\x03" + struct.pack(">3I", 1000, 1000, 1000) + bytes(64))


def tags_of(tags: dict[int, tuple[int, int, int]], pixels: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of one directory, {tag: (type, count, value)}, whose pixels begin at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def plain_tags(bits: int, h: int = 8, w: int = 8) -> dict[int, tuple[int, int, int]]:
    size = {256: (4, 1, w), 257: (4, 1, h), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, 1)}
    return size | {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, h), 279: (4, 1, h * w * bits // 8)}


def large_tiffs() -> Iterator[tuple[str, bytes]]:
    huge = 2**31 - 1
    fold = zlib.compress(bytes(100_000_000), 9)
    for bits in (8, 16):
        pixels = bytes(64 * bits // 8)
        plain = plain_tags(bits)
        deep = plain | {262: (3, 1, 0)} if bits == 16 else plain  # white is zero, or in colour: what tifffile reads
        yield f"sides-{bits}.tif", tags_of(plain | {256: (4, 1, 10**6), 257: (4, 1, 10**6)}, pixels)
        yield f"strips-{bits}.tif", tags_of(deep | {273: (4, 10**9, 8), 279: (4, 10**9, 8)}, pixels)
        yield f"all-strips-{bits}.tif", tags_of(deep | {273: (4, 2**32 - 1, 8), 279: (4, 2**32 - 1, 8)}, pixels)
        yield f"one-strip-{bits}.tif", tags_of(deep | {279: (4, 1, huge)}, pixels)
        tiled = {tag: entry for tag, entry in deep.items() if tag not in (273, 278, 279)}
        sizes = {322: (4, 1, 2**20), 323: (4, 1, 2**20), 324: (4, 1, 8), 325: (4, 1, huge)}
        for compression in (1, 5, 8):
            yield f"tile-{bits}-{compression}.tif", tags_of(tiled | sizes | {259: (3, 1, compression)}, pixels)
        yield f"rows-{bits}.tif", tags_of(deep | {278: (4, 1, huge), 259: (3, 1, 8)}, pixels)
        yield f"samples-{bits}.tif", tags_of(deep | {277: (3, 1, 65535), 258: (3, 1, bits)}, pixels)
        yield f"fold-{bits}.tif", tags_of(deep | {259: (3, 1, 8), 279: (4, 1, len(fold))}, fold)
        yield f"pages-for-ever-{bits}.tif", tags_of(deep | {279: (4, 1, 1)}, pixels, following=8 + len(pixels))
        for name, tag in {"words": 270, "profile": 34675, "packet": 700, "exif": 34665, "colours": 320}.items():
            yield f"{name}-{bits}.tif", tags_of(deep | {tag: (7, 2**32 - 1, 8)}, pixels)


def sound() -> list[Kind]:
    """Small sound files of every format, of which :func:`mutated` makes others."""
    return [kind for kind in kinds() if kind.colour is not None and len(kind.content) < 12_000]


def mutated(of: list[Kind], seed: int) -> tuple[str, bytes]:
    """A file in which something is changed: bits, bytes of the header, numbers, blocks, chunks, the end."""
    draw = np.random.default_rng(seed)
    kind = of[int(draw.integers(len(of)))]
    content = bytearray(kind.content)
    for _ in range(int(draw.integers(1, 5))):
        _change(content, draw, of)
    return kind.name, bytes(content)


def _change(content: bytearray, draw: np.random.Generator, of: list[Kind]) -> None:
    n = max(len(content), 1)

    def place(most: int = 0) -> int:
        return int(draw.integers(min(n, most) if most else n))

    way = int(draw.integers(9))
    if way == 0:  # bits
        for _ in range(int(draw.integers(1, 9))):
            if content:
                content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
    elif way == 1:  # the header
        at = place(64)
        content[at : at + 1] = bytes([int(draw.integers(256))])
    elif way == 2:  # a number that is too large, or none
        at = place(256)
        size = int(draw.choice([1, 2, 4, 8]))
        number = int(draw.choice([0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]))
        content[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "big" if draw.integers(2) else "little")
    elif way == 3:  # cut
        del content[place() :]
    elif way == 4:  # a block, copied elsewhere
        at, size, to = place(), int(draw.integers(1, 65)), place()
        content[to : to + size * int(draw.integers(2))] = content[at : at + size]
    elif way == 5:  # a block, lost
        at = place()
        del content[at : at + int(draw.integers(1, 65))]
    elif way == 6:  # two blocks, exchanged
        a, b, size = place(), place(), int(draw.integers(1, 33))
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    elif way == 7:  # the end of another file
        other = of[int(draw.integers(len(of)))].content
        content[place() :] = other[int(draw.integers(len(other))) :]
    else:  # chunks of a PNG in another order, one of them twice, all of their sums right
        _shuffle(content, draw)


def _shuffle(content: bytearray, draw: np.random.Generator) -> None:
    chunks, at = [], 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((bytes(content[at + 4 : at + 8]), bytes(content[at + 8 : at + 8 + size])))
        at += 12 + size
    if not chunks:
        return
    i, j = (int(k) for k in draw.integers(len(chunks), size=2))
    if draw.integers(2):
        chunks[i], chunks[j] = chunks[j], chunks[i]
    else:
        chunks.insert(j, chunks[i])
    k = int(draw.integers(len(chunks)))
    name, body = chunks[k]
    if body:
        at = int(draw.integers(len(body)))
        chunks[k] = (name, body[:at] + bytes([int(draw.integers(256))]) + body[at + 1 :])
    content[:] = png(*chunks)
