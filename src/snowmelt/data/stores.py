"""Where the pixels of a data set wait: pictures by their numbers, or windows of them, as they are stored."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Places: TypeAlias = NDArray[np.int64]


class Store(abc.ABC):
    """Where the pixels wait: :meth:`take` gives pictures (c, h, w), uint8 pixels or float32 in [-1, 1]."""

    @abc.abstractmethod
    def take(self, indices: Sequence[int]) -> Tensor | list[Tensor]:
        """The pictures of those numbers: one tensor (b, c, h, w) where all have one shape, else a list."""


class Array(Store):
    """Pictures of one size, from which a batch of windows is cut at once."""

    @property
    @abc.abstractmethod
    def size(self) -> tuple[int, int]:
        """(h, w) of every picture."""

    @abc.abstractmethod
    def cut(self, indices: Sequence[int], top: Places, left: Places, size: tuple[int, int]) -> Tensor:
        """A window of `size` of each of those pictures, from its row `top` (b,) and column `left` (b,) on: (b, c, *size)."""

    def take(self, indices: Sequence[int]) -> Tensor:
        """See :meth:`Store.take`."""
        corner = np.zeros(len(indices), dtype=np.int64)
        return self.cut(indices, corner, corner, self.size)


def windows(pixels: NDArray[Any], rows: Places, top: Places, left: Places, size: tuple[int, int]) -> NDArray[Any]:
    """A window of each of the pictures `rows` (b,) of an array (n, h, w, c), and nothing else of it, is read: (b, c, *size)."""
    if tuple(pixels.shape[1:3]) == size:
        return np.ascontiguousarray(np.moveaxis(pixels[rows], -1, 1))
    every = np.lib.stride_tricks.sliding_window_view(pixels, size, axis=(1, 2))  # (n, tops, lefts, c, *size), a view
    return np.ascontiguousarray(every[rows, top, left])


@dataclass(frozen=True, eq=False)
class Held(Array):
    """Pictures in memory: (n, h, w, c), uint8 pixels or float32 in [-1, 1]."""

    pixels: NDArray[Any]

    @property
    def size(self) -> tuple[int, int]:
        """See :attr:`Array.size`."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def cut(self, indices: Sequence[int], top: Places, left: Places, size: tuple[int, int]) -> Tensor:
        """See :meth:`Array.cut`."""
        return torch.from_numpy(windows(self.pixels, np.asarray(indices, dtype=np.int64), top, left, size))
