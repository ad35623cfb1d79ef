"""The only door between pixels (uint8, uint16) and floats in [-1, 1].

A pixel v of n bits becomes x = v / ((2^n - 1) / 2) - 1, and comes back by rounding and clipping, so that
reading and writing change no bit. Every other module sees floats and never asks how they were stored.

Pictures in the wild lie: 16-bit files saturate in a plain ``convert("RGB")``, phones rotate by an EXIF
tag, transparency hides colours, a header promises gigapixels, a download stops half-way. :func:`read`
therefore checks the header before it decodes, knows few formats, and turns whatever goes wrong into one
error that names the file. Depth is kept (:mod:`snowmelt.data.deep`), and so is what the file says of itself
(:mod:`snowmelt.data.metadata`). Inks (CMYK) become sRGB through their own profile; the profile of an RGB or grey
picture is carried along, never applied.
"""

import errno
import io
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from snowmelt.data import deep
from snowmelt.data import metadata as meta
from snowmelt.data.door import Unreadable
from snowmelt.data.metadata import NOTHING, Metadata
from snowmelt.data.streams import opened, webp_size
from snowmelt.disk import replacing

Pixels: TypeAlias = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("PNG", {}),
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
MAX_PIXELS = 100_000_000
_MOVING = ("GIF", "WEBP", "PNG", "TIFF")  # an MPO, a phone's JPEG with a preview in it, is one picture
_OPENING = threading.Lock()
_OF_THE_FILE = (None, errno.EINVAL, errno.ELOOP)  # a decoder's errors have no number; a pipe, a link to nothing or to itself; else it is the system's
_GREY_MODES = ("1", "L", "LA", "La")
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, what Pillow and most papers call grey


class UnreadableImage(Unreadable):
    """A file that is no picture this library can read; the message is ``path: reason``. See :class:`~snowmelt.data.door.Unreadable`."""


class Picture(NamedTuple):
    """One decoded picture.

    Attributes:
        x: (c, h, w), float32 in [-1, 1], c = 1 or 3, upright.
        alpha: opacity (1, h, w) in [0, 1], or None where the file has none.
        bits: 8 or 16, the depth x was decoded from.
        metadata: what else the file says, orientation reset.
        turn: the orientation it was stored in, EXIF's 1 to 8; 1 is upright.
    """

    x: Tensor
    alpha: Tensor | None
    bits: int
    metadata: Metadata = NOTHING
    turn: int = 1

    @property
    def grey(self) -> bool:
        """True where the file had one colour channel."""
        return self.x.shape[0] == 1

    def over(self, background: float = 1.0) -> Tensor:
        """`x` laid over a uniform background in [-1, 1], white by default: what transparent pixels hide is not data."""
        return self.x if self.alpha is None else torch.lerp(torch.full_like(self.x, background), self.x, self.alpha)


def read(path: str | Path, *, max_pixels: int = MAX_PIXELS, still: bool = False, content: bytes | memoryview | None = None) -> Picture:
    """The picture in a JPEG, PNG, WebP, BMP, TIFF or GIF file, upright, at its own depth.

    Args:
        path: the file.
        max_pixels: what its header may announce.
        still: refuse a file of several frames or pages; otherwise the first is read.
        content: the file's bytes, where they lie elsewhere; `path` then only names them.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImage: it is empty, truncated, too large, of another format, or its values have no declared range.
    """
    path = Path(path)
    with _opened(path, max_pixels, content) as (image, stream):
        frames = getattr(image, "n_frames", 1) if still and image.format in _MOVING else 1
        if frames > 1:
            word = "pages" if image.format == "TIFF" else "frames"
            raise UnreadableImage(path, f"{image.format} of {frames} {word}: only single pictures are restored; save the {word} one by one")
        if deep.is_deep(image, stream):
            colour, alpha, turn = deep.decode(image, stream)
            metadata, bits, top = meta.of(image), 16, 65535
        else:
            image.load()
            metadata, turn, top = meta.of(image), _orientation(image), 255
            colour, alpha, bits = _decoded(image)
    x = upright(_floats(colour, 2**bits - 1), turn).contiguous()
    return Picture(x, None if alpha is None else (upright(_floats(alpha, top), turn) + 1) / 2, bits, metadata, turn)


def probe(path: str | Path, *, max_pixels: int = MAX_PIXELS, content: bytes | memoryview | None = None) -> tuple[int, int, int]:
    """The shape (c, h, w) that :func:`read` would give, from the header alone; raises as it does."""
    with _opened(Path(path), max_pixels, content) as (image, stream):
        w, h = image.size
        # Pillow turns a TIFF by itself and reports the turned size.
        if image.format != "TIFF" and _orientation(image) >= 5:
            w, h = h, w
        return 1 if image.mode in _GREY_MODES or image.mode.startswith("I;16") or deep.is_deep_grey(image, stream) else 3, h, w


def note(path: str | Path) -> dict[str, Any] | None:
    """How the picture in a file was restored, as :func:`write` noted it there; None if it says nothing. Raises as :func:`read` does."""
    with _opened(Path(path), MAX_PIXELS) as (image, _):
        return meta.note_of(image)


def write(
    path: str | Path,
    x: Tensor,
    *,
    alpha: Tensor | None = None,
    bits: int = 8,
    metadata: Metadata = NOTHING,
    note: Mapping[str, Any] | None = None,
) -> None:
    """Save a picture whole or not at all; values outside [-1, 1] are clipped, the rest rounded.

    Args:
        path: its suffix is the format: .png (also without suffix), .jpg, .webp (lossless), .bmp, .tif.
        x: (c, h, w), c = 1 or 3, in [-1, 1].
        alpha: opacity (1, h, w) in [0, 1]; PNG, WebP and TIFF keep it.
        bits: 8, or 16 for PNG and TIFF.
        metadata: what else the file shall say; a format keeps what it can hold.
        note: how it was restored, an object for JSON; BMP cannot hold it.

    Raises:
        ValueError: the suffix is unknown, the format cannot hold the picture, or `x` holds NaN.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(suffix for suffix in _WRITERS if suffix)
        raise ValueError(f'{path}: pictures cannot be written as "{path.suffix}": use one of {known}')
    kind, settings = _WRITERS[path.suffix.lower()]
    if bits not in (8, 16) or (bits == 16 and kind not in ("PNG", "TIFF")):
        raise ValueError(f"{path}: bits = {bits} needs .png or .tif: write 8 bits")
    if alpha is not None and kind in ("JPEG", "BMP"):
        raise ValueError(f"{path}: {kind} keeps no alpha: write .png, or leave alpha out")
    array = _pixels(x, alpha, bits)
    with replacing(path) as temporary:
        if bits == 16 and array.shape[-1] > 1:
            deep.save(temporary, array.astype(np.uint16), kind, metadata, note)
        else:
            image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
            image.save(temporary, format=kind, **settings, **meta.settings(kind, metadata, note))


def from_uint8(array: Pixels) -> Tensor:
    """Pixels (..., h, w, c) as floats (..., c, h, w) in [-1, 1]: v / 127.5 - 1."""
    return floats(torch.from_numpy(np.array(np.moveaxis(array, -1, -3), dtype=np.uint8, order="C")))


def floats(x: Tensor) -> Tensor:
    """Pixels (..., c, h, w), uint8, as floats in [-1, 1] where they lie, on any device; floats stay as they are."""
    if x.dtype != torch.uint8:
        return x
    # A GPU multiplies by the rounded reciprocal of a number, but divides by a tensor: so it finds the very floats that a CPU finds.
    half = 127.5 if x.device.type == "cpu" else torch.full((), 127.5, device=x.device)
    return x.float().div_(half).sub_(1)


def to_uint8(x: Tensor) -> Pixels:
    """Floats (..., c, h, w) as pixels (..., h, w, c), rounded and clipped; ValueError where `x` holds NaN."""
    return _levels(x, 255).astype(np.uint8)


def from_uint16(array: NDArray[np.uint16]) -> Tensor:
    """Pixels (..., h, w, c) of 16 bits as floats (..., c, h, w) in [-1, 1]."""
    return _floats(array, 65535)


def to_uint16(x: Tensor) -> NDArray[np.uint16]:
    """Floats (..., c, h, w) as 16-bit pixels (..., h, w, c), rounded and clipped; ValueError where `x` holds NaN."""
    return _levels(x, 65535).astype(np.uint16)


def quantise(x: Tensor) -> Tensor:
    """`x` on the 8-bit grid of [-1, 1], any shape: what it would be had it been saved and read again."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def resize(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """`x`, (c, h, w) or (b, c, h, w), at the size (h, w) in px: bilinear, widened to an antialias filter where it shrinks."""
    if x.shape[-2:] == shape:
        return x
    shrinks = shape[0] < x.shape[-2] or shape[1] < x.shape[-1]
    batch = x if x.ndim == 4 else x[None]
    out = functional.interpolate(batch, size=shape, mode="bilinear", align_corners=False, antialias=shrinks)
    return out if x.ndim == 4 else out[0]


def shrunk(x: Tensor, px: int) -> Tensor:
    """`x`, (c, h, w) or (b, c, h, w), its longer side at most `px` and the other in proportion; what is no longer stays as it is."""
    h, w = x.shape[-2:]
    scale = px / max(h, w)
    return x if scale >= 1 else resize(x, (max(1, round(h * scale)), max(1, round(w * scale))))


def to_channels(x: Tensor, channels: int) -> Tensor:
    """`x` (..., c, h, w) with 1 (Rec. 601 luma) or 3 (grey repeated) channels; ValueError for any other pair."""
    have = x.shape[-3]
    if have == channels:
        return x
    if {have, channels} != {1, 3}:
        raise ValueError(f"{have} channels cannot become {channels}: pictures have 1 or 3")
    if channels == 3:
        return x.expand(*x.shape[:-3], 3, *x.shape[-2:])
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(-3, keepdim=True)


def unit(values: NDArray[Any], top: int) -> Tensor:
    """Values 0 to `top`, in any layout, as floats in [-1, 1] in the same."""
    return torch.from_numpy(values.astype(np.float32)).div_(top / 2).sub_(1)


def _floats(array: NDArray[Any], top: int) -> Tensor:
    return unit(np.ascontiguousarray(np.moveaxis(array, -1, -3)), top)


def _levels(x: Tensor, top: int) -> NDArray[np.float64]:
    values = np.moveaxis(x.detach().to("cpu", torch.float64).numpy(), -3, -1)
    if np.isnan(values).any():
        raise ValueError("a picture holds NaN, which is no colour: the model or sampler that made it has diverged")
    values = values.clip(-1, 1)  # a copy, worked on in place: of a large photograph, each further one would be 300 MB
    values += 1
    values *= top / 2
    levels: NDArray[np.float64] = np.rint(values, out=values)
    return levels


@contextmanager
def _opened(path: Path, max_pixels: int, content: bytes | memoryview | None = None) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """The image behind `path` with its header checked, and its bytes; all that fails inside becomes an UnreadableImage."""
    try:
        # Pillow's warnings (bombs, broken tags) are either an error below or no harm to the pixels.
        with warnings.catch_warnings(), opened(path) if content is None else io.BytesIO(content) as stream:
            warnings.simplefilter("ignore")
            if not stream.read(1):
                raise UnreadableImage(path, "the file is empty")
            stream.seek(0)
            _check_size(path, *webp_size(stream), max_pixels)
            with _unlimited(stream) as image:
                _check(path, image, max_pixels)
                yield image, stream
    except (FileNotFoundError, UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(path, f"not a picture in one of {', '.join(FORMATS)}") from None
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error) or type(error).__name__, broken=error.errno in _OF_THE_FILE) from error
    except Exception as error:  # a damaged or hostile file makes a decoder raise anything
        raise UnreadableImage(path, str(error) or type(error).__name__) from error


def _unlimited(stream: BinaryIO) -> Image.Image:
    """Read the header without Pillow's own limit on pixels, which is global and knows no `max_pixels`; ours comes next."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check(path: Path, image: Image.Image, max_pixels: int) -> None:
    _check_size(path, *image.size, max_pixels)
    if wrong := deep.large_tiles(image):  # a decoder asks for the memory of one
        raise UnreadableImage(path, wrong)
    if image.mode in ("I", "F"):  # 32-bit numbers, without a black and a white
        raise UnreadableImage(path, f"mode {image.mode} declares no range of values: save it as 8 or 16 bits, or as .npy with data.range")


def _check_size(path: Path, w: int, h: int, max_pixels: int) -> None:
    if w * h > max_pixels:
        raise UnreadableImage(path, f"{w} x {h} px are more than max_pixels = {max_pixels}", broken=False)


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(meta.ORIENTATION, 1)
    except Exception:  # broken metadata is no reason to refuse sound pixels
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def upright(x: Tensor, turn: int) -> Tensor:
    """A picture (..., h, w) as it was stored, turned upright: a transposition, then mirrors."""
    return _mirrored(x.mT if turn >= 5 else x, turn)


def stored(x: Tensor, turn: int) -> Tensor:
    """An upright picture (..., h, w) as it was stored: the inverse of :func:`upright`."""
    x = _mirrored(x, turn)
    return x.mT.contiguous() if turn >= 5 else x


def _mirrored(x: Tensor, turn: int) -> Tensor:
    """The mirrors of EXIF's orientation; a large picture is not copied for nothing."""
    axes = [axis for axis, turns in ((-1, (2, 3, 6, 7)), (-2, (3, 4, 7, 8))) if turn in turns]
    return x.flip(axes) if axes else x


def _decoded(image: Image.Image) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
    """Colour (h, w, c), alpha (h, w, 1) or None, and bits."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None], None, 16
    if image.mode == "CMYK":
        return np.asarray(_from_inks(image)), None, 8
    grey = image.mode in _GREY_MODES
    if not image.has_transparency_data:
        array = np.asarray(image.convert("L" if grey else "RGB"))
        return array.reshape(*array.shape[:2], -1), None, 8
    array = np.asarray(image.convert("LA" if grey else "RGBA"))
    return array[..., :-1], array[..., -1:], 8


def _from_inks(image: Image.Image) -> Image.Image:
    """CMYK as sRGB: through its own profile, or by Pillow's plain formula where it has none that can be used."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            found = ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), intent, "RGB", flags=flags)
        except (ImageCms.PyCMSError, OSError):
            found = None
        if found is not None:
            return found
    return image.convert("RGB")


def _pixels(x: Tensor, alpha: Tensor | None, bits: int) -> NDArray[Any]:
    """Pixels (h, w, c), alpha the last channel."""
    if x.ndim != 3 or x.shape[0] not in (1, 3):
        raise ValueError(f"a picture has shape (1, h, w) or (3, h, w), not {tuple(x.shape)}: write one at a time")
    levels = to_uint16 if bits == 16 else to_uint8
    array = levels(x)
    return array if alpha is None else np.concatenate([array, levels(alpha * 2 - 1)], axis=-1)
