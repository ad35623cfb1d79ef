"""Labels: the class of every picture, where a source says it.

==============================================  =========================================================================
MNIST's idx files                               ``train-labels-idx1-ubyte(.gz)`` beside ``train-images-idx3-ubyte(.gz)``
a .npz file                                     its array ``label`` (or ``labels``): (n,), whole numbers
a folder of pictures                            the folders in it, in alphabetical order, if every picture lies in one
bundled:digits                                  the digit
==============================================  =========================================================================

A file of labels is believed no more than a file of pictures: its length is held against the number of pictures and its values against
[0, 65535]. What does not fit is an error, not a data set without labels: a score by class would silently be about something else.
"""

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snowmelt.data import arrays

MAX_CLASSES = 1 << 16


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each of n pictures.

    Attributes:
        numbers: (n,) int64, in [0, len(classes)).
        classes: the names of the classes; where a source has numbers only, those.
    """

    numbers: NDArray[np.int64]
    classes: tuple[str, ...]

    def of(self, chosen: Sequence[int]) -> "Labels":
        """The labels of those pictures; the classes stay, even those of which none is left."""
        return Labels(self.numbers[np.asarray(chosen, dtype=np.int64)], self.classes)


def checked(values: NDArray[Any], name: str, pictures: int) -> Labels:
    """Whole numbers (n,) as labels of so many pictures.

    Raises:
        ValueError: they are not one whole number in [0, 65535] per picture; the message begins with `name`.
    """
    if values.ndim != 1 or values.dtype.kind not in "ui":
        raise ValueError(f"{name}: a {values.dtype} array of shape {values.shape} holds no labels: give one whole number per picture, (n,)")
    if len(values) != pictures:
        raise ValueError(f"{name}: {len(values)} labels for {pictures} pictures: give one per picture, or take the labels away")
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) < MAX_CLASSES):
        at = int(np.argmax((values < 0) | (values >= MAX_CLASSES)))
        raise ValueError(f"{name}: label {values[at]} of picture {at} lies outside [0, {MAX_CLASSES - 1}]")
    return Labels(values.astype(np.int64), tuple(map(str, range(int(values.astype(np.int64).max(initial=-1)) + 1))))


def beside_idx(path: Path, pictures: int) -> Labels | None:
    """The labels of an idx file of pictures, from the file beside it that bears its name with "labels" for "images"; None where there is none.

    Raises:
        ValueError: that file is damaged, or holds no labels of these pictures.
    """
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    if "images" not in path.name:
        return None
    for file in (path.with_name(name), path.with_name(f"{name}.gz")):
        if file.is_file():
            return checked(_idx1(file, pictures), str(file), pictures)
    return None


def of_npz(path: Path, pictures: int) -> Labels | None:
    """The labels in a .npz file; None where it has no array of that name.

    Raises:
        ValueError: the array is damaged, or holds no labels of these pictures.
    """
    values = _of_npz(path, arrays.LABELS)
    return None if values is None else checked(values, f"{path}, label", pictures)


def _of_npz(path: Path, keys: Sequence[str]) -> NDArray[Any] | None:
    """The first array of those names in an archive; None where it has none of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = next((members[f"{key}.npy"] for key in keys if f"{key}.npy" in members), None)
            if found is None:
                return None
            with archive.open(found) as stream:
                return arrays.read_npy(stream, found.file_size, path)
    except arrays.DAMAGED as error:
        raise ValueError(f"{path}: damaged or unsupported archive ({error})") from error


def vectors_of_npz(path: Path, pictures: int) -> NDArray[np.float32] | None:
    """The numbers (n, k) that come with the pictures in a .npz file, its array "vector"; None where it has none.

    Raises:
        ValueError: the array is damaged, or has not one row of finite numbers for each picture.
    """
    values = _of_npz(path, arrays.VECTORS)
    if values is None:
        return None
    shaped = values.ndim == 2 and values.shape[1] and len(values) == pictures and values.dtype.kind in "uif"
    if not shaped or not (np.abs(values.astype(np.float64)) <= np.finfo(np.float32).max).all():  # in which NaN is not, nor what overflows
        found = f"{path}, vector: a {values.dtype} array of shape {values.shape}"
        raise ValueError(f"{found}: give one row of finite numbers per picture, ({pictures}, k)")
    return values.astype(np.float32)


def class_folders(*folders: Path) -> tuple[str, ...]:
    """The names of the folders directly in any of `folders`, in alphabetical order; hidden ones are none."""
    return tuple(sorted({one.name for folder in folders for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")}))


def by_folder(names: Sequence[str], folders: Sequence[str] | None = None) -> Labels | None:
    """Labels from file names "cat/1.png" relative to a folder; None where a picture lies in no folder, or all lie in one.

    Args:
        names: with forward slashes.
        folders: the classes there are, if more than the names show.
    """
    firsts = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = tuple(sorted(set(firsts) if folders is None else set(folders) | set(firsts)))
    if "" in classes or not 2 <= len(classes) <= MAX_CLASSES:
        return None
    number = {name: i for i, name in enumerate(classes)}
    return Labels(np.array([number[first] for first in firsts], dtype=np.int64), classes)


def _idx1(path: Path, pictures: int) -> NDArray[np.uint8]:
    """The bytes of an idx file of one dimension, as many as it says and as there are pictures."""
    try:
        with arrays.opened(path) as stream:
            head = stream.read(8)
            if len(head) < 8 or head[:4] != b"\x00\x00\x08\x01":
                raise ValueError(f"{path}: not an idx file of labels (it begins {head[:4].hex(' ') or 'with nothing'}, not 00 00 08 01)")
            count = int.from_bytes(head[4:], "big")
            if count != pictures:
                raise ValueError(f"{path}: {count} labels for {pictures} pictures: give one per picture, or take the file away")
            values = arrays.exactly(stream, count, path)
            if stream.read(1):
                raise ValueError(f"{path}: more bytes follow than the {count} labels its header says")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from error
    return np.frombuffer(values, np.uint8)
