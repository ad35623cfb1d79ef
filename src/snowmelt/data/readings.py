"""Data sets of files that come through a door: recordings, scans.

As with pictures, a file whose header cannot be read is left out and named; one that turns out damaged when it is its turn is named then, and its
place taken by the next that can be read (of its class, where there are classes). Samples are float32 and stay so.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data.checks import Check, unchecked
from snowmelt.data.dataset import Dataset
from snowmelt.data.door import Door, Unreadable
from snowmelt.data.labels import Labels
from snowmelt.data.options import DataOptions
from snowmelt.data.pools import FilePool, below
from snowmelt.data.splits import Split
from snowmelt.data.stores import Store
from snowmelt.stopping import looking

_log = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 30
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class DoorPool(FilePool):
    """The files of one signal below a folder: `shapes` are those that the door's headers promise, (c, *d)."""

    door: Door = None  # type: ignore[assignment]  # after fields that have defaults

    @classmethod
    def through(
        cls,
        door: Door,
        folder: Path,
        options: DataOptions,
        folders: tuple[str, ...] | None = None,
        like: Path | None = None,
        check: Check = unchecked,
    ) -> "DoorPool":
        """All files below `folder` that have a suffix of the door, sorted by path.

        Args:
            door: of the signal.
            folder: where to look.
            options: what is asked for; the door is suited to it and to the files.
            folders: the names of the classes, where they are not only this folder's own.
            like: another folder, whose files say instead what is not asked for: a test/ is read at the rate of its train/.
            check: is called for every folder and every file; it may raise to end the work.

        Raises:
            ValueError: there is none, or none can be read; or an option means nothing for them.
        """
        many = door.signal.many
        with looking(f"{many} of {folder} were looked at") as seen:
            found, closed = below(folder, door.suffixes, check)
            if not found:
                why = "".join(f"; {name}: {reason}" for name, reason in closed[:1])
                raise ValueError(f"{folder} holds no {door.signal.one} ({', '.join(door.suffixes)}){why}")
            door = door.suited(found if like is None else below(like, door.suffixes, check)[0] or found, options, check)
            pool = cls(str(folder), folder, [], [], closed, folders=folders, check=check, door=door)
            for seen.done, path in enumerate(found):
                check()
                try:
                    pool.shapes.append(door.probe(path))  # type: ignore[arg-type]  # a picture's pool has three numbers
                    pool.paths.append(path)
                except (OSError, Unreadable) as error:
                    pool.skipped.append((pool.id(path), why_not(error)))
        if not pool.paths:
            raise ValueError(f"none of the {len(found)} {many} in {folder} can be read; {': '.join(pool.skipped[0])}")
        return pool

    def dataset(self, chosen: Sequence[int], split: Split, options: DataOptions) -> Dataset:
        """See :meth:`Pool.dataset`; what that is, the door knows."""
        return self.door.dataset(self, chosen, split, options)

    def common(self, axis: int, what: str, way_out: str) -> int:
        """The length of an axis that all samples share.

        Raises:
            ValueError: they do not; the message names two files, and ends in the way out.
        """
        first = self.shapes[0][axis]
        for path, shape in zip(self.paths, self.shapes, strict=True):
            if shape[axis] != first:
                ours, theirs = self.id(self.paths[0]), self.id(path)
                raise ValueError(f"{self.folder}: {ours} has {first:,} {what}, {theirs} has {shape[axis]:,}: give {way_out}")
        return first


@dataclass(frozen=True, eq=False)
class Shelf(Store):
    """Files that are read when asked for, and kept as long as all of them stay below a gigabyte.

    Attributes:
        paths: the files.
        ids: their names.
        read: the sample (c, *d) in one of them; raises Unreadable.
        skipped: (name, reason) of what could not be read, to which is added.
        labels: the classes, within which a damaged file is replaced.
        many: what to call them.
    """

    paths: list[Path]
    ids: list[str]
    read: Callable[[Path], Tensor]
    skipped: list[tuple[str, str]]
    labels: Labels | None = None
    many: str = "samples"
    _bad: set[int] = field(default_factory=set)
    _kept: dict[int, Tensor] = field(default_factory=dict)
    _held: list[int] = field(default_factory=lambda: [0])  # bytes of what is kept

    def take(self, indices: Sequence[int]) -> list[Tensor]:
        """See :meth:`Store.take`."""
        return [self.first(i, self.whole) for i in indices]

    def whole(self, i: int) -> Tensor:
        """The sample in file i, as long as there is room kept for the next time; raises as :attr:`read` does."""
        if i not in self._kept:
            x = self.read(self.paths[i])
            if self._held[0] + x.nbytes > _KEPT_BYTES:
                return x
            self._held[0] += x.nbytes
            self._kept[i] = x
        return self._kept[i]

    def first(self, index: int, do: Callable[[int], T]) -> T:
        """do(index); if that file is damaged, it is named and the next one (of its class) takes its place.

        Raises:
            ValueError: no file can be read.
        """
        for i in (*range(index, len(self.paths)), *range(index)):
            if i in self._bad or (self.labels is not None and self.labels.numbers[i] != self.labels.numbers[index]):
                continue
            try:
                return do(i)
            except (OSError, Unreadable) as error:
                self._bad.add(i)
                self.skipped.append((self.ids[i], why_not(error)))
                _log.warning("skipped %s", error)
        raise ValueError(f"none of {len(self.paths)} {self.many} can be read, {self.paths[index]} among them")


class Readings(Dataset):
    """The samples of a pool's chosen files, each of one shape, through a door.

    Args:
        files: the pool.
        chosen: which of its files.
        split: the split they are.
        shape: (c, *d) of every sample.
        moved: whether training samples are moved about at random (:meth:`Dataset._moved`).
    """

    def __init__(self, files: DoorPool, chosen: Sequence[int], split: Split, shape: tuple[int, ...], *, moved: bool = False) -> None:
        paths = [files.paths[i] for i in chosen]
        ids, skipped, labels = [files.id(path) for path in paths], list(files.skipped), files.labels()
        labels = labels and labels.of(chosen)
        self.shelf = Shelf(paths, ids, lambda path: files.door.read(path).x, skipped, labels, files.door.signal.many)
        super().__init__(self.shelf, split, shape, ids, skipped, labels=labels)
        self.signal = files.door.signal
        self.door, self.moved = files.door, moved

    @property
    def random(self) -> bool:
        """See :attr:`Dataset.random`."""
        return self.split == "train" and self.moved

    def _cut(self, indices: Sequence[int], draws: NDArray[np.float64] | None) -> Tensor:
        """See :meth:`Dataset._cut`; here every sample is shown whole."""
        x = [self.shelf.first(i, self._fitting) for i in indices]
        return torch.stack(x) if x else torch.empty(0, *self.shape)

    def _moved(self, x0: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """See :meth:`Dataset._moved`; here nothing is."""
        return x0

    def _fitting(self, i: int) -> Tensor:
        """The sample in file i, whose header may have promised another shape."""
        x = self.shelf.whole(i)
        if tuple(x.shape) != self.shape:
            raise Unreadable(self.shelf.paths[i], f"its shape {self.signal.axes} is {tuple(x.shape)}, that of the others {self.shape}")
        return x


def why_not(error: Exception) -> str:
    """Why a file could not be read, without its path."""
    return str(getattr(error, "reason", error))
