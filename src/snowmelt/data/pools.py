"""Pools: all pictures of a source before they are split, as an array or as files.

A pool gives every picture a name and a digest, both cheap, and makes a :class:`Dataset` of the chosen ones.
Only those are decoded, converted to one shape and held.
"""

import abc
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data import images
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.dataset import Dataset, Files, fitted, grown
from snowmelt.data.labels import Labels, by_folder
from snowmelt.data.mapped import Lazy, Mapped, scaled
from snowmelt.data.options import DataOptions
from snowmelt.data.splits import Split, digest
from snowmelt.data.stores import Array, Held
from snowmelt.stopping import looking

HELD_BYTES = 2 * 1024**3
_CHUNK = 2048


class Pool(abc.ABC):
    """Named pictures, not yet split. `name` is what errors call them."""

    name: str

    @abc.abstractmethod
    def digests(self) -> list[bytes]:
        """What each picture holds, in 16 bytes."""

    @abc.abstractmethod
    def dataset(self, chosen: Sequence[int], split: Split, options: DataOptions) -> Dataset:
        """The chosen pictures in the form that `options` asks for."""


@dataclass(frozen=True, eq=False)
class ArrayPool(Pool):
    """Pictures in one array (n, h, w, c), uint8 or float32 in [-1, 1], held or left in its file, and their names."""

    name: str
    pixels: NDArray[Any] | Mapped
    ids: list[str]
    labels: Labels | None = None
    vectors: NDArray[np.float32] | None = None
    check: Check = unchecked

    def digests(self) -> list[bytes]:
        """See :meth:`Pool.digests`."""
        pixels, keys = self.pixels, []
        read = (scaled(chunk, pixels.range) for _, chunk in pixels.chunks()) if isinstance(pixels, Mapped) else (pixels,)
        with looking(f"of {len(pixels):,} pictures of {self.name} were read") as seen:
            for chunk in read:
                self.check()
                keys += [digest(np.ascontiguousarray(row).data) for row in chunk]
                seen.done = len(keys)
        return keys

    def dataset(self, chosen: Sequence[int], split: Split, options: DataOptions) -> Dataset:
        """See :meth:`Pool.dataset`."""
        _, h, w, c = self.pixels.shape
        channels = _channels(options) or c
        shape = (channels, options.size or h, options.size or w)
        convert = None if shape == (c, h, w) else functools.partial(_converted, channels=channels, options=options)
        vectors = None if self.vectors is None else self.vectors[list(chosen)]
        told: dict[str, Any] = {"labels": self.labels and self.labels.of(chosen), "vectors": vectors}
        store = _store(self.pixels, chosen, channels, convert, options)
        return Dataset(store, split, shape, [self.ids[i] for i in chosen], [], flip=options.flip, turn=options.turn, **told)


_Convert: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


def _store(pixels: NDArray[Any] | Mapped, chosen: Sequence[int], channels: int, convert: _Convert | None, options: DataOptions) -> Array:
    """The chosen pictures: converted once and for all if they are held, batch by batch if they stay in their file."""
    if isinstance(pixels, Mapped):
        _, h, w, c = pixels.shape
        size = (h, w)
        if options.size is not None:
            size = (options.size, options.size) if options.fit == "resize" else grown(h, w, options.size)
        return Lazy(pixels, np.asarray(chosen, dtype=np.int64), size, None if (channels, size) == (c, (h, w)) else convert)
    pixels = pixels if len(chosen) == len(pixels) else pixels[list(chosen)]
    return Held(pixels if convert is None else np.concatenate([convert(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]))


def _converted(pixels: NDArray[Any], channels: int, options: DataOptions) -> NDArray[Any]:
    """(n, h, w, c) in another size or number of channels; 8 bits stay 8 bits."""
    x = fitted(images.to_channels(images.floats(Held(pixels).take(range(len(pixels)))), channels), options.size, options.fit)
    return images.to_uint8(x) if pixels.dtype == np.uint8 else np.moveaxis(x.numpy(), 1, -1)


@dataclass(frozen=True, eq=False)
class FilePool(Pool):
    """The picture files below a folder; those whose header cannot be read are in `skipped`, not in the pool.

    `folders` are the names of the classes where they are not only this folder's own: a train/ beside a test/ may have one more.
    `check` is called before each file that is read.
    """

    name: str
    folder: Path
    paths: list[Path]
    shapes: list[tuple[int, int, int]]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    folders: tuple[str, ...] | None = None
    check: Check = unchecked

    @classmethod
    def scan(cls, folder: Path, folders: tuple[str, ...] | None = None, check: Check = unchecked) -> "FilePool":
        """All pictures below `folder`, sorted by path; hidden files and folders are left out.

        Args:
            folder: where to look.
            folders: the names of the classes, where they are not only this folder's own.
            check: is called for every folder and every picture, here and whenever the pool reads them; it may raise to end the work.

        Raises:
            ValueError: it holds no picture, or none that can be read.
        """
        with looking(f"pictures of {folder} were looked at") as seen:
            found, closed = below(folder, images.SUFFIXES, check)
            if not found:
                why = "".join(f"; {name}: {reason}" for name, reason in closed[:1])
                raise ValueError(f"{folder} holds no picture ({', '.join(images.SUFFIXES)}){why}")
            pool = cls(str(folder), folder, [], [], closed, folders=folders, check=check)
            for seen.done, path in enumerate(found):
                check()
                try:
                    pool.shapes.append(images.probe(path))
                    pool.paths.append(path)
                except (OSError, images.UnreadableImage) as error:
                    pool.skipped.append((pool.id(path), getattr(error, "reason", str(error))))
        if not pool.paths:
            raise ValueError(f"none of the {len(found)} pictures in {folder} can be read; {': '.join(pool.skipped[0])}")
        return pool

    def id(self, path: Path) -> str:
        """A file's name: its path below the folder, with forward slashes."""
        return path.relative_to(self.folder).as_posix()

    def picture(self, path: Path) -> images.Picture:
        """What is in one of the files; raises as :func:`images.read` does."""
        return images.read(path)

    def labels(self) -> Labels | None:
        """The class of every picture, where the source says it."""
        return by_folder([self.id(path) for path in self.paths], self.folders)

    def digests(self) -> list[bytes]:
        """See :meth:`Pool.digests`; of the files' bytes."""
        keys = []
        with looking(f"of {len(self.paths):,} pictures of {self.folder} were read") as seen:
            for seen.done, path in enumerate(self.paths):
                self.check()
                with path.open("rb") as stream:
                    keys.append(hashlib.file_digest(stream, functools.partial(hashlib.blake2b, digest_size=16)).digest())
        return keys

    def dataset(self, chosen: Sequence[int], split: Split, options: DataOptions) -> Dataset:
        """See :meth:`Pool.dataset`: held in memory where equal in size and below 2 GiB, else decoded when asked for.

        Training pictures are 8-bit: a 16-bit file is rounded. Transparent parts turn white.
        """
        shape = self._shape(options)
        paths, ids, skipped = [self.paths[i] for i in chosen], [self.id(self.paths[i]) for i in chosen], list(self.skipped)

        expected = {self.paths[i]: self.shapes[i] for i in chosen}

        def decode(path: Path) -> Tensor:
            picture = self.picture(path)
            if (found := tuple(picture.x.shape)) != (said := expected[path]):
                raise images.UnreadableImage(path, f"its header says (c, h, w) = {said}, and its pixels are {found}")
            x = images.to_channels(picture.over(), shape[0])
            return images.quantise(fitted(x, options.size, options.fit))

        labels = self.labels()
        labels = labels and labels.of(chosen)
        sizes = {shape[1:]} if options.fit == "resize" else {grown(*self.shapes[i][1:], shape[1]) for i in chosen}
        h, w = next(iter(sizes))
        if len(sizes) > 1 or len(paths) * shape[0] * h * w > HELD_BYTES:
            files = Files(paths, ids, decode, skipped, labels)
            return Dataset(files, split, shape, ids, skipped, flip=options.flip, turn=options.turn, labels=labels)
        pixels = np.empty((len(paths), h, w, shape[0]), np.uint8)
        good: list[int] = []
        with looking(f"of {len(paths):,} {split} pictures of {self.folder} were decoded") as seen:
            for i, path in enumerate(paths):
                self.check()
                try:
                    pixels[len(good)] = images.to_uint8(decode(path))
                    good.append(i)
                except (OSError, images.UnreadableImage) as error:
                    skipped.append((ids[i], getattr(error, "reason", str(error))))
                seen.done = i + 1
        if not good:
            raise ValueError(f"no {split} picture in {self.folder} can be read; {': '.join(skipped[-1])}")
        held, ids, labels = Held(pixels[: len(good)]), [ids[i] for i in good], labels and labels.of(good)
        return Dataset(held, split, shape, ids, skipped, flip=options.flip, turn=options.turn, labels=labels)

    def _shape(self, options: DataOptions) -> tuple[int, int, int]:
        """(c, h, w) of every sample; ValueError that names two files where they differ and no option decides."""
        c, h, w = self.shapes[0]
        for path, other in zip(self.paths, self.shapes, strict=True):
            if options.channels is None and other[0] != c:
                raise ValueError(self._differ(path, f"{c} channel(s)", f"{other[0]}", "--data.channels 1 or --data.channels 3"))
            if options.size is None and other[1:] != (h, w):
                way_out = f"--data.size {min(h, w, *other[1:])}"
                raise ValueError(self._differ(path, f"{w} x {h} px", f"{other[2]} x {other[1]}", way_out))
        return _channels(options) or c, options.size or h, options.size or w

    def _differ(self, path: Path, first: str, other: str, way_out: str) -> str:
        return f"{self.folder}: {self.id(self.paths[0])} has {first}, {self.id(path)} has {other}: give {way_out}"


def _channels(options: DataOptions) -> int | None:
    """The channels that pictures are wanted with.

    Raises:
        ValueError: an option of another signal is given.
    """
    for name in ("window", "rate_hz", "sensor"):
        if (value := getattr(options, name)) is not None:
            raise ValueError(f"data.{name} = {value} means nothing for pictures, which {options.path} holds: leave it out")
    return options.channels


def below(folder: Path, suffixes: Sequence[str], check: Check = unchecked) -> tuple[list[Path], list[tuple[str, str]]]:
    """All files of those suffixes below a folder, sorted, and (name, reason) of the folders that cannot be looked into.

    Hidden files and folders are left out; links to folders are not followed, so that none is walked for ever.
    `check` is called for every folder.
    """
    found, closed = list[Path](), list[tuple[str, str]]()

    def refused(error: OSError) -> None:
        closed.append((os.path.relpath(error.filename, folder), error.strerror or str(error)))

    for place, folders, names in os.walk(folder, onerror=refused):
        check()
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in suffixes]
    return sorted(found), closed
