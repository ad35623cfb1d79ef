"""Arrays on disk: idx (MNIST's format), .npy and .npz, none of them believed.

An idx file is a magic number 00 00 08 n, n sizes as big-endian 32-bit integers, then bytes. All three
formats say in a header how much follows; a hostile or cut-off file says something else. Here the header is
held against what is really there and against a ceiling before any memory is asked for, object arrays are
refused (they are pickles, which run code), and floats come with a declared range: guessing it from a
picture's own minimum and maximum would make a dark picture bright. Large plain files, .npy and idx, are left where they
are (:mod:`snowmelt.data.mapped`).
"""

import gzip
import lzma
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from snowmelt.data.mapped import MAPPED_BYTES, Mapped, mapped, scaled

MAX_BYTES = 8 * 1024**3
KEYS = ("x0", "images", "x", "data")
LABELS = ("label", "labels")
VECTORS = ("vector",)
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)
_CHUNK = 1 << 24
_ALWAYS, _MOST_PACKED = 1 << 24, 900  # bytes that may come out of any file, and how many times its size: of zeros, deflate makes 1,030 times less
_MOST_HEADER_BYTES = 10_000  # what numpy itself believes


def read_idx(path: Path) -> NDArray[np.uint8] | Mapped:
    """The pictures of an idx or idx.gz file: (n, h, w, c), uint8; left in the file if it is large and plain.

    Raises:
        ValueError: it is no idx file of byte pictures, or holds more or fewer bytes than its header says.
    """
    try:
        with opened(path) as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
                raise ValueError(f"{path}: not an idx file of bytes (it begins {magic.hex(' ') or 'with nothing'}, not 00 00 08)")
            if magic[3] not in (3, 4):
                raise ValueError(f"{path}: an idx file of {magic[3]} dimensions holds labels, not pictures: give the images file")
            header = exactly(stream, 4 * magic[3], path)
            sizes = [int(size) for size in np.frombuffer(header, ">u4")]
            if path.suffix != ".gz" and MAPPED_BYTES < math.prod(sizes) == path.stat().st_size - 4 - len(header):
                return _left(path, stream.tell(), sizes, np.dtype(np.uint8), False, None)
            if path.suffix == ".gz":
                _require_plausible(math.prod(sizes), path)
            values = exactly(stream, math.prod(sizes), path)
            if stream.read(1):
                raise ValueError(f"{path}: more bytes follow than its header ({' x '.join(map(str, sizes))}) says")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from error
    return _channels_last(np.frombuffer(values, np.uint8).reshape(sizes), path)


def opened(path: Path) -> IO[bytes]:
    """A file of bytes, unpacked on the way where it is gzip."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_array(path: Path, range: tuple[float, float] | None) -> NDArray[Any] | Mapped:
    """The pictures of a .npy or .npz file: (n, h, w, c), uint8 pixels or float32 in [-1, 1]; those of a large .npy are left in the file.

    Args:
        path: a .npz needs one array, or one called x0, images, x or data.
        range: the values of black and white; None where the dtype says so (uint8, uint16).

    Raises:
        ValueError: the file is damaged or a pickle, its shape is not that of pictures, no range is known, or a
            value is NaN, infinite or out of range.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as stream:
                size = path.stat().st_size
                shape, fortran, dtype = _npy_header(stream, size, path)
                if math.prod(shape) * dtype.itemsize > MAPPED_BYTES:
                    return _left(path, stream.tell(), shape, dtype, fortran, range)
                stream.seek(0)
                array = read_npy(stream, size, path)
        else:
            with zipfile.ZipFile(path) as archive:
                member = _member(archive, path)
                _require_plausible(member.file_size, path)
                with archive.open(member) as stream:
                    array = read_npy(stream, member.file_size, path)
    except DAMAGED as error:
        raise ValueError(f"{path}: damaged or unsupported archive ({error})") from error
    array = _channels_last(array, path)
    _require_range(array, range, path)
    return np.ascontiguousarray(scaled(array, range))


def _left(
    path: Path, offset: int, shape: Sequence[int], dtype: np.dtype[Any], fortran: bool, range: tuple[float, float] | None
) -> Mapped:
    """The pictures of a file whose size has been looked at, left there, and every value that needs it held against its range."""
    values, mapping = mapped(path, offset, shape, dtype, "F" if fortran else "C")
    out = Mapped(_channels_last(values, path), range, mapping)
    _require_range(out.stored[:1], range, path)
    if range is not None:
        for first, chunk in out.chunks():
            _require_range(chunk, range, path, first)
    return out


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
    arrays = {name: info for name, info in arrays.items() if name not in (*LABELS, *VECTORS)} or arrays
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for key in KEYS:
        if key in arrays:
            return arrays[key]
    raise ValueError(f"{path}: none of its arrays ({', '.join(arrays) or 'it has none'}) is called {', '.join(KEYS)}: rename one")


def read_npy(stream: IO[bytes], size: int, path: Path) -> NDArray[Any]:
    """One .npy array of which `size` bytes, header included, are really there."""
    shape, fortran, dtype = _npy_header(stream, size, path)
    values = np.frombuffer(exactly(stream, math.prod(shape) * dtype.itemsize, path), dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _npy_header(stream: IO[bytes], size: int, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, the order and the type of an array of which `size` bytes are really there; the stream stands at its first value."""
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} is for arrays with named fields")
        place, size_bytes = stream.tell(), 2 * version[0]
        length = int.from_bytes(stream.read(size_bytes), "little")
        if length > _MOST_HEADER_BYTES:
            raise ValueError(f"its header would have {length} bytes")
        stream.seek(place)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # numpy parses the header as Python text: anything may come of that
        raise ValueError(f"{path}: not a .npy array ({error})") from error
    if dtype.kind not in "uif" or min(shape, default=0) < 1:
        raise ValueError(f"{path}: a {dtype} array of shape {shape} holds no pictures (objects, that is pickles, are never read)")
    if size - stream.tell() < math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path}: its header promises {dtype} {shape}, its {size} bytes cannot hold that")
    return shape, fortran, dtype


def _require_plausible(count: int, path: Path) -> None:
    """Refuse a small file that unpacks to a flood: even discs on black do not shrink so far, and zeros that say they are pictures fill the memory.

    Raises:
        ValueError: it does.
    """
    size = path.stat().st_size
    if count > max(_ALWAYS, _MOST_PACKED * size):
        raise ValueError(f"{path}: {size:,} bytes that unpack to {count:,}, more than {_MOST_PACKED} times that: save pictures so alike unpacked")


def exactly(stream: IO[bytes], count: int, path: Path) -> bytearray:
    """`count` bytes, read piece by piece: memory grows with what is there, not with what a header says."""
    if count > MAX_BYTES:
        raise ValueError(f"{path}: {count} bytes are more than {MAX_BYTES}: split the file, or save the pictures as a folder")
    out = bytearray()
    while len(out) < count:
        piece = stream.read(min(_CHUNK, count - len(out)))
        if not piece:
            raise ValueError(f"{path}: {len(out)} bytes where its header says {count}: the file is cut off")
        out += piece
    return out


def _channels_last(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """(n, h, w), (n, h, w, c) or (n, c, h, w) as (n, h, w, c), c = 1 or 3."""
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or min(array.shape) < 1:
        raise ValueError(f"{path}: shape {array.shape} is not (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1 or 3")
    return array


def _require_range(array: NDArray[Any], range: tuple[float, float] | None, path: Path, first: int = 0) -> None:
    """Refuse values without a black and a white, or beyond them; `first` is the number of the first picture in `array`."""
    if range is None:
        if array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{path}: {array.dtype} declares no black and white: give data.range, such as (0, 1) or (-1, 1)")
        return
    low, high = range
    # One written condition refuses NaN too: every comparison with it is false.
    sound = (array >= low) & (array <= high)
    if not sound.all():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(sound)), sound.shape))
        place = [first + index[0], *index[1:]]
        raise ValueError(f"{path}: value {array[index]} at [n, h, w, c] = {place} lies outside data.range = [{low:g}, {high:g}]")
