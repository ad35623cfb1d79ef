"""A data set: numbered clean pictures, and batches of them.

``dataset.batch(indices)`` is a pure function of its arguments. What is random in training (where to crop,
whether to flip) comes from the generator of each sample, so a picture's augmentation depends neither on
its neighbours in the batch nor on the process that loads it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data import images
from snowmelt.data.labels import Labels
from snowmelt.data.splits import Split
from snowmelt.data.stores import Array, Places, Store
from snowmelt.randomness import generators as streams
from snowmelt.randomness import uniform, visits
from snowmelt.signals import PICTURE, Signal

_log = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 30


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
                return torch.from_numpy(self._kept[i]).movedim(-1, 0)  # turned into floats once it is cut
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
        signal: what the samples are.
        shape: (c, h, w) of every sample; of other signals (c, *d).
        ids: one stable name per sample.
        labels: (n,) int64, the class of every sample, numbers in `classes`; None where the source has none.
        classes: the names of the classes; None where there are no labels.
        content: gives a hash of what the source holds of these pictures, whatever was made of it; "" of a set that has no source.
        vectors: (n, k) float32, the numbers that come with every sample; None where the source has none.
    """

    signal: Signal = PICTURE

    def __init__(
        self,
        store: Store,
        split: Split,
        shape: tuple[int, ...],
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
        self.content: Callable[[], str] = str
        self._skipped = skipped
        self.labels = None if labels is None else torch.from_numpy(labels.numbers.copy())
        self.classes = None if labels is None else labels.classes
        if turn and shape[1] != shape[2]:
            raise ValueError(f"data.turn = True needs squares, and these are {shape[2]} x {shape[1]} px: give data.size, or leave it out")
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
        return self.split == "train" and (self._flip or self._turn or not self._whole)

    @property
    def _whole(self) -> bool:
        """Whether pictures are shown whole, so that nothing is cut."""
        return isinstance(self._store, Array) and self._store.size == self.shape[1:]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.ids)

    def batch(
        self, indices: Sequence[int], generators: Sequence[torch.Generator] | None = None, *, raw: bool = False
    ) -> dict[str, Tensor]:
        """The samples of those numbers, as ``{"x0": (b, c, h, w)}``, float32 in [-1, 1], with "label" (b,) and "vector" (b, k) where there are any.

        Args:
            indices: sample numbers in [0, len).
            generators: one per sample, read only in training and only where something is random (a crop, a
                flip). Without them, and in every other split, the crop is central and nothing is flipped.
            raw: leave "x0" as uint8 where it is stored so: a quarter of the bytes on the way to where :func:`images.floats` makes floats of them.

        Raises:
            IndexError: a number lies outside [0, len).
            ValueError: there is not one generator per sample.
        """
        for i in indices:
            if not 0 <= i < len(self):
                raise IndexError(f"sample {i} lies outside [0, {len(self) - 1}] of {self.split}")
        if generators is not None and len(generators) != len(indices):
            raise ValueError(f"{len(generators)} generators were given for {len(indices)} samples: give one per sample")
        # (top, left, flip, turn), each in [0, 1): the generators are one a sample, all that follows is done with the batch.
        draws = None
        if generators is not None and self.random:
            draws = uniform(torch.empty(len(indices), 4), generators).double().numpy()
        x0 = self._cut(indices, draws)
        x0 = x0 if draws is None else self._moved(x0, draws)
        return {"x0": x0 if raw else images.floats(x0), **self._told(indices)}

    def _moved(self, x0: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """The training samples x0 (b, *shape), mirrored and turned as drawn: draws (b, 4) in [0, 1), of which two say where they were cut."""
        mirrored = draws[:, 2] < 0.5 if self._flip else np.zeros(len(draws), dtype=np.bool_)
        return turned(x0, mirrored, (draws[:, 3] * 4).astype(np.int64) if self._turn else None)

    def _cut(self, indices: Sequence[int], draws: NDArray[np.float64] | None) -> Tensor:
        """The windows of the samples of those numbers, at the places drawn or in the middle: (b, *shape), uint8 or float32."""
        size = (self.shape[1], self.shape[2])
        if isinstance(self._store, Array):
            return self._store.cut(indices, *_corners(self._store.size, size, draws, len(indices)), size)
        cuts = []
        for i, row in enumerate(self._store.take(indices)):  # each of its own size
            top, left = (int(at[0]) for at in _corners((row.shape[1], row.shape[2]), size, None if draws is None else draws[i : i + 1], 1))
            cuts.append(row[:, top : top + size[0], left : left + size[1]])
        if len({cut.dtype for cut in cuts}) > 1:
            cuts = [images.floats(cut) for cut in cuts]
        return torch.stack(cuts) if cuts else torch.empty(0, *self.shape)

    def _told(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """What comes with the samples of those numbers."""
        told = {"label": self.labels, "vector": self.vectors}
        return {name: values[list(indices)] for name, values in told.items() if values is not None}

    def numbered(self, seed: int, numbers: Sequence[int], *, raw: bool = False) -> dict[str, Tensor]:
        """What training sees as the samples of these numbers, counted from its start: every epoch shows all pictures, in an order of its own.

        A pure function: the pictures follow the stream "order" of `seed`, their cuts its stream "augmentation". For `raw` see :meth:`batch`.
        """
        return self.batch(visits(seed, "order", numbers, len(self)), streams(seed, "augmentation", numbers) if self.random else None, raw=raw)


def _corners(have: tuple[int, int], want: tuple[int, int], draws: NDArray[np.float64] | None, count: int) -> tuple[Places, Places]:
    """The first row and column (b,) of windows of `want` px in pictures of `have` px: as drawn, else in the middle."""
    room = [large - small for large, small in zip(have, want, strict=True)]
    if draws is None:
        top, left = (np.full(count, free // 2, dtype=np.int64) for free in room)
    else:
        top, left = ((draws[:, i] * (free + 1)).astype(np.int64) for i, free in enumerate(room))
    return top, left


def turned(x: Tensor, mirrored: NDArray[np.bool_], quarters: Places | None) -> Tensor:
    """Pictures (b, c, h, w), of which some are mirrored left to right and then turned by quarters to the left; they stay uint8 if they are."""
    if mirrored.any():
        x = torch.where(torch.from_numpy(mirrored)[:, None, None, None], x.flip(-1), x)
    for k in (1, 2, 3) if quarters is not None else ():
        x = torch.where(torch.from_numpy(quarters == k)[:, None, None, None], torch.rot90(x, k, (-2, -1)), x)
    return x.contiguous()


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
