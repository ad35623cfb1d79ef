"""A data set: numbered clean pictures, and batches of them.

``dataset.batch(indices)`` is a pure function of its arguments. What is random in training (where to crop,
whether to flip) comes from the generator of each sample, so a picture's augmentation depends neither on
its neighbours in the batch nor on the process that loads it.
"""

import abc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data import images
from snowmelt.data.labels import Labels
from snowmelt.data.splits import Split
from snowmelt.randomness import generators as streams
from snowmelt.randomness import visits

_log = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 30


class Store(abc.ABC):
    """Where the pixels wait: :meth:`take` gives pictures (c, h, w), float32 in [-1, 1]."""

    @abc.abstractmethod
    def take(self, indices: Sequence[int]) -> Tensor | list[Tensor]:
        """The pictures of those numbers: one tensor (b, c, h, w) where all have one shape, else a list."""


@dataclass(frozen=True, eq=False)
class Held(Store):
    """Pictures in memory: (n, h, w, c), uint8 pixels or float32 in [-1, 1]."""

    pixels: NDArray[Any]

    def take(self, indices: Sequence[int]) -> Tensor:
        """See :meth:`Store.take`."""
        rows = self.pixels[np.asarray(indices, dtype=np.int64)]
        if rows.dtype == np.uint8:
            return images.from_uint8(rows)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rows, -1, 1)))


@dataclass(frozen=True, eq=False)
class Files(Store):
    """Pictures too many or too unequal to hold, decoded when asked for.

    A file that turns out damaged is reported once, named in `skipped`, and its place taken by the next
    readable one (of its class, where there are classes): a bad download must not end a night's training, nor change any other sample.
    """

    paths: list[Path]
    ids: list[str]
    decode: Callable[[Path], Tensor]
    skipped: list[tuple[str, str]]
    labels: Labels | None = None
    _bad: set[int] = field(default_factory=set)
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def take(self, indices: Sequence[int]) -> list[Tensor]:
        """See :meth:`Store.take`."""
        return [self._one(i) for i in indices]

    def _one(self, index: int) -> Tensor:
        for i in (*range(index, len(self.paths)), *range(index)):
            if i in self._bad or (self.labels is not None and self.labels.numbers[i] != self.labels.numbers[index]):
                continue
            if i in self._kept:
                return images.from_uint8(self._kept[i])
            try:
                return self._keep(i, self.decode(self.paths[i]))
            except (OSError, images.UnreadableImage) as error:
                self._bad.add(i)
                self.skipped.append((self.ids[i], getattr(error, "reason", str(error))))
                _log.warning("skipped %s", error)
        raise ValueError(f"none of {len(self.paths)} pictures can be read, {self.paths[index]} among them")

    def _keep(self, i: int, x: Tensor) -> Tensor:
        """Remember the pixels as long as all of them stay small: decoding a photograph for every crop takes longer than training."""
        if sum(kept.nbytes for kept in self._kept.values()) + x.numel() <= _KEPT_BYTES:
            self._kept[i] = images.to_uint8(x)
        return x


class Dataset:
    """The clean pictures of one split.

    Attributes:
        split: "train", "validation" or "test".
        shape: (c, h, w) of every sample.
        ids: one stable name per sample.
        labels: (n,) int64, the class of every sample, numbers in `classes`; None where the source has none.
        classes: the names of the classes; None where there are no labels.
        vectors: (n, k) float32, the numbers that come with every sample; None where the source has none.
    """

    def __init__(
        self,
        store: Store,
        split: Split,
        shape: tuple[int, int, int],
        ids: list[str],
        skipped: list[tuple[str, str]],
        *,
        flip: bool = False,
        turn: bool = False,
        labels: Labels | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        self.vectors = None if vectors is None else torch.from_numpy(vectors.copy())
        self.split: Split = split
        self.shape = shape
        self.ids = ids
        self._skipped = skipped
        self.labels = None if labels is None else torch.from_numpy(labels.numbers.copy())
        self.classes = None if labels is None else labels.classes
        self._store = store
        self._flip = flip
        self._turn = turn

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(name, reason) of every file that could not be read; one that turns out damaged later is added."""
        return self._skipped

    @property
    def keys(self) -> tuple[str, ...]:
        """What every batch holds."""
        return ("x0", *self._told([]))

    @property
    def random(self) -> bool:
        """Whether a training batch depends on its generators: something is flipped, or cut from a larger picture."""
        whole = isinstance(self._store, Held) and self._store.pixels.shape[1:3] == self.shape[1:]
        return self.split == "train" and (self._flip or self._turn or not whole)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.ids)

    def batch(self, indices: Sequence[int], generators: Sequence[torch.Generator] | None = None) -> dict[str, Tensor]:
        """The samples of those numbers, as ``{"x0": (b, c, h, w)}``, float32 in [-1, 1], with "label" (b,) and "vector" (b, k) where there are any.

        Args:
            indices: sample numbers in [0, len).
            generators: one per sample, read only in training and only where something is random (a crop, a
                flip). Without them, and in every other split, the crop is central and nothing is flipped.

        Raises:
            IndexError: a number lies outside [0, len).
            ValueError: there is not one generator per sample.
        """
        for i in indices:
            if not 0 <= i < len(self):
                raise IndexError(f"sample {i} lies outside [0, {len(self) - 1}] of {self.split}")
        if generators is not None and len(generators) != len(indices):
            raise ValueError(f"{len(generators)} generators were given for {len(indices)} samples: give one per sample")
        rows = self._store.take(indices)
        random = generators is not None and self.split == "train"
        if isinstance(rows, Tensor) and rows.shape[1:] == self.shape and not (random and (self._flip or self._turn)):
            return {"x0": rows, **self._told(indices)}
        draws = [torch.rand(4, generator=g).tolist() for g in generators] if random and generators else [None] * len(indices)
        cuts = [self._cut(row, draw) for row, draw in zip(rows, draws, strict=True)]
        return {"x0": torch.stack(cuts) if cuts else torch.empty(0, *self.shape), **self._told(indices)}

    def _told(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """What comes with the samples of those numbers."""
        told = {"label": self.labels, "vector": self.vectors}
        return {name: values[list(indices)] for name, values in told.items() if values is not None}

    def numbered(self, seed: int, numbers: Sequence[int]) -> dict[str, Tensor]:
        """What training sees as the samples of these numbers, counted from its start: every epoch shows all pictures, in an order of its own.

        A pure function: the pictures follow the stream "order" of `seed`, their cuts its stream "augmentation".
        """
        return self.batch(visits(seed, "order", numbers, len(self)), streams(seed, "augmentation", numbers) if self.random else None)

    def _cut(self, x: Tensor, draw: list[float] | None) -> Tensor:
        """One sample from a picture at least as large; `draw` is (top, left, flip, turn), each in [0, 1)."""
        _, h, w = self.shape
        down, right = x.shape[1] - h, x.shape[2] - w
        if draw is None:
            top, left, mirrored, quarters = down // 2, right // 2, False, 0
        else:
            top, left, mirrored = int(draw[0] * (down + 1)), int(draw[1] * (right + 1)), self._flip and draw[2] < 0.5
            quarters = int(draw[3] * 4) if self._turn else 0
        x = x[:, top : top + h, left : left + w]
        x = x.flip(-1) if mirrored else x
        return torch.rot90(x, quarters, (-2, -1)) if quarters else x


def fitted(x: Tensor, size: int | None, fit: Literal["resize", "crop"]) -> Tensor:
    """`x`, (c, h, w) or (b, c, h, w), ready to be cut to `size` px.

    "resize" makes it size x size whatever its proportions; "crop" scales nothing unless the shorter side is below `size`.
    """
    if size is None:
        return x
    if fit == "resize":
        return images.resize(x, (size, size))
    return images.resize(x, grown(x.shape[-2], x.shape[-1], size))


def grown(h: int, w: int, size: int) -> tuple[int, int]:
    """(h, w) in px, enlarged in proportion where the shorter side is below `size`."""
    short = min(h, w)
    return (h, w) if short >= size else (max(size, round(h * size / short)), max(size, round(w * size / short)))
