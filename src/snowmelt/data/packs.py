"""Image packs: many encoded pictures in one .npz file.

============  ==========================================================================================
``blob``      uint8, the files of all pictures (JPEG, PNG, WebP, ...) one after the other
``offset``    n + 1 whole numbers; picture i is ``blob[offset[i]:offset[i + 1]]``
``label``     if it is there, (n,) whole numbers, the classes
============  ==========================================================================================

Whatever else a pack holds is left unread. The encoded bytes stay in memory and only the pictures of a split are decoded, under the rules for
files in a folder: a damaged one is skipped and reported, sizes may differ where ``data.size`` makes them equal. No header is believed: arrays of
objects (pickles) are refused, and every offset is held against the bytes that are there before anything is cut.
"""

import itertools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snowmelt.data import arrays, images
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.labels import Labels, of_npz
from snowmelt.data.pools import FilePool
from snowmelt.data.splits import digest

_BLOB, _OFFSET = "blob", "offset"


@dataclass(frozen=True, eq=False)
class PackPool(FilePool):
    """The pictures of a pack. `folder` is the pack, and picture i is called i in it, as ``scripts/unpack_packs.py`` would name its file."""

    files: dict[str, memoryview] = field(default_factory=dict)
    known: Labels | None = None

    @classmethod
    def opened(cls, path: Path, check: Check = unchecked) -> "PackPool":
        """The pictures in a pack; those whose header cannot be read are skipped. `check` is called for each of them.

        Raises:
            ValueError: it is damaged, lacks an array, its offsets do not fit its bytes, or no picture in it can be read.
        """
        files = {f"{i:05d}": content for i, content in enumerate(_contents(path))}
        known = of_npz(path, len(files))
        pool, kept = cls(str(path), path, [], [], files=files), []
        for i, (name, content) in enumerate(files.items()):
            check()
            try:
                pool.shapes.append(images.probe(path / name, content=content))
                pool.paths.append(path / name)
                kept.append(i)
            except images.UnreadableImage as error:
                pool.skipped.append((pool.id(error.path), error.reason))
        if not kept:
            raise ValueError(f"none of the {len(files)} pictures in {path} can be read; {': '.join(pool.skipped[0])}")
        return cls(str(path), path, pool.paths, pool.shapes, pool.skipped, check=check, files=files, known=known and known.of(kept))

    def id(self, path: Path) -> str:
        """A picture's name: that of the pack, and its number."""
        return f"{self.folder.name}#{int(path.name)}"

    def picture(self, path: Path) -> images.Picture:
        """One picture, decoded; raises as :func:`images.read` does."""
        return images.read(path, content=self.files[path.name])

    def labels(self) -> Labels | None:
        """Those in the pack."""
        return self.known

    def digests(self) -> list[bytes]:
        """See :meth:`Pool.digests`; of the encoded bytes."""
        return [digest(self.files[path.name]) for path in self.paths]


def is_pack(path: Path) -> bool:
    """Whether an .npz file holds a blob and offsets, or one of them and nothing that could be pictures; False where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy") for info in archive.infolist()}
    except zipfile.BadZipFile:
        return False
    return {_BLOB, _OFFSET} <= found or (bool(found & {_BLOB, _OFFSET}) and len(found) > 1 and not found & set(arrays.KEYS))


def _contents(path: Path) -> list[memoryview]:
    """The encoded pictures of a pack: views of its one blob, which is large."""
    blob, offset = _array(path, _BLOB), _array(path, _OFFSET)
    if blob.dtype != np.uint8 or blob.ndim != 1:
        raise ValueError(f"{path}: its blob is {blob.dtype} of shape {blob.shape}: an image pack has uint8 bytes, one after the other")
    if offset.dtype.kind not in "ui" or offset.ndim != 1 or len(offset) < 2:
        raise ValueError(f"{path}: its offset is {offset.dtype} of shape {offset.shape}: an image pack has n + 1 whole numbers for n pictures")
    # Compared, not subtracted: a difference of unsigned numbers is never negative.
    wrong = (offset[1:] <= offset[:-1]) | (offset[:-1] < 0) | (offset[1:] > len(blob))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{path}: picture {i} would be bytes {offset[i]} to {offset[i + 1]}, which is no part of its {len(blob)} bytes")
    content = blob.data
    return [content[start:stop] for start, stop in itertools.pairwise(offset.tolist())]


def _array(path: Path, name: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if name not in members:
                raise ValueError(f"{path}: an image pack needs blob and offset; it holds {', '.join(members)}, not {name}")
            with archive.open(members[name]) as stream:
                return arrays.read_npy(stream, members[name].file_size, path)
    except arrays.DAMAGED as error:
        raise ValueError(f"{path}: damaged or unsupported archive ({error})") from error
