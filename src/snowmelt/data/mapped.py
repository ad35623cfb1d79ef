"""Arrays larger than what one would hold in memory: left in their file, of which only what a batch shows is read.

The file is mapped, not read: the system fetches a page of it when a pixel on it is asked for and forgets it when memory gets
short. What :mod:`snowmelt.data.arrays` does with a whole array at once (a range, 16 bits) and a pool with all chosen pictures
(another size, other channels) is done with each batch, to the same values. Whoever has to see every picture once, for digests or
to hold floats against their range, goes through :meth:`Mapped.chunks`, which gives the pages back as it goes: memory stays flat.

A header is believed no more than elsewhere: whoever maps a file has held its size against what the header promises. A file
that is cut short *afterwards*, while it is mapped, ends the process: no program can read what is gone.
"""

import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data.images import unit
from snowmelt.data.stores import Array, Held, Places, windows

MAPPED_BYTES = 1 << 28  # from here on a file is mapped: 256 MiB are held anywhere
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Mapped:
    """Pictures in a mapped file: (n, h, w, c); indexed as an array is, and giving the values that a held one has.

    Attributes:
        stored: the file's own values (n, h, w, c), a view of the mapping.
        range: black and white, where the values' type does not say so.
        mapping: of the file.
    """

    stored: NDArray[Any]
    range: tuple[float, float] | None
    mapping: mmap.mmap

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, c)."""
        return self.stored.shape

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.stored)

    def __getitem__(self, rows: slice | Sequence[int] | Places) -> NDArray[Any]:
        """Those pictures (k, h, w, c): uint8 pixels or float32 in [-1, 1]."""
        return scaled(self.stored[rows], self.range)

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All pictures in order, some at a time, as the file has them: (number of the first, values). What was read is not kept in memory."""
        count = max(_CHUNK_BYTES // max(self.stored[:1].nbytes, 1), 1)
        for first in range(0, len(self), count):
            yield first, self.stored[first : first + count]
            if hasattr(mmap, "MADV_DONTNEED"):  # everywhere but on Windows
                self.mapping.madvise(mmap.MADV_DONTNEED)


def mapped(path: Path, offset: int, shape: Sequence[int], dtype: np.dtype[Any], order: Literal["C", "F"] = "C") -> tuple[NDArray[Any], mmap.mmap]:
    """The values in a file from byte `offset` on, not read yet, and the mapping they lie in. The caller has looked at the file's size."""
    with path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapping, dtype, math.prod(shape), offset).reshape(shape, order=order), mapping


def scaled(values: NDArray[Any], range: tuple[float, float] | None) -> NDArray[Any]:
    """Values in a range, or of 8 or 16 bits, as uint8 pixels or float32 in [-1, 1]; any layout."""
    if range is not None:
        low, high = range
        return ((values.astype(np.float32) - low) * (2 / (high - low)) - 1).clip(-1, 1)
    if values.dtype == np.uint16:
        return unit(values, 65535).numpy()
    return values


@dataclass(frozen=True, eq=False)
class Lazy(Array):
    """Some of the pictures of a mapped file, in another size or number of channels where `convert` says so.

    Attributes:
        pixels: the file's pictures.
        rows: which of them, (m,).
        given: (h, w) of every picture once it is converted.
        convert: (b, h, w, c) -> (b, h, w, c) of a batch; None where nothing is to be done.
    """

    pixels: Mapped
    rows: Places
    given: tuple[int, int]
    convert: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """See :attr:`Array.size`."""
        return self.given

    def cut(self, indices: Sequence[int], top: Places, left: Places, size: tuple[int, int]) -> Tensor:
        """See :meth:`Array.cut`."""
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        if self.convert is None:
            return torch.from_numpy(scaled(windows(self.pixels.stored, rows, top, left, size), self.pixels.range))
        return Held(self.convert(self.pixels[rows])).cut(range(len(rows)), top, left, size)
