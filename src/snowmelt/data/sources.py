"""From a path to clean pictures: which source it is, which of its pictures are in a split.

==================================  =====================================================================
a folder of pictures                split by content
a folder of recordings, of scans    likewise, through the door of their signal (:mod:`snowmelt.data.door`)
a folder with train/ and test/      its own test split; validation out of train by content
MNIST's idx files in a folder       train-images* and t10k-images*: likewise
one idx, idx.gz, .npy or .npz file  split by content
an image pack (.npz)                split by content
bundled:digits                      split by content
bundled:photos                      split by photograph
==================================  =====================================================================
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snowmelt.data import arrays, bundled, images, labels
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.dataset import Dataset
from snowmelt.data.door import SUFFIXES, door_for, signal_of
from snowmelt.data.labels import class_folders
from snowmelt.data.options import PREVIOUS, DataOptions
from snowmelt.data.packs import PackPool, is_pack
from snowmelt.data.paired import Paired, partners, predecessors
from snowmelt.data.pools import ArrayPool, FilePool, Pool, below
from snowmelt.data.readings import DoorPool
from snowmelt.data.splits import SPLITS, Split, choose, thin
from snowmelt.disk import as_path
from snowmelt.registry import spec
from snowmelt.signals import Scan, Sound

_NAMED = 20


def open_data(options: DataOptions, split: Split, check: Check = unchecked) -> Dataset:
    """One split of a source, in the form that `options` asks for.

    Args:
        options: where the source is, and what becomes of its pictures.
        split: train, validation or test.
        check: is called for every folder and every file that is looked into or read; it may raise to end the work.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the source is empty, damaged or too small to split, its pictures differ and no option
            decides, or a bundled set is unknown. The message names the source and the way out.
    """
    if split not in SPLITS:
        raise ValueError(f'split "{split}" is unknown: there are {", ".join(SPLITS)}')
    if options.endpoint is not None:
        return _two(replace(options, endpoint=None, pairs=False), options.endpoint, split, check, pairs=options.pairs)
    pool, parts = _found(options, split, check)
    return _made(pool, parts, split, options)[0]


def _made(pool: Pool, parts: tuple[float, float] | None, split: Split, options: DataOptions) -> tuple[Dataset, list[int]]:
    """A split of a pool, and which of its pictures these are."""
    keys = pool.digests()
    chosen = _chosen(keys, parts, split, options.limit, pool.name)
    data = pool.dataset(chosen, split, options)
    data.content = functools.partial(str, _hashed(keys, chosen))
    return data, chosen


def _hashed(keys: Sequence[bytes], chosen: Sequence[int]) -> str:
    return hashlib.sha256(b"".join(keys[i] for i in chosen)).hexdigest()


def _two(options: DataOptions, endpoint: str, split: Split, check: Check, *, pairs: bool) -> Paired:
    """Two sources prepared in one way. Of pairs, the clean pictures alone decide which split they fall into."""
    if endpoint == PREVIOUS:
        return _after_another(options, split, check)
    there = replace(options, path=endpoint)
    if not pairs:
        first = open_data(options, split, check)
        return Paired(first, open_data(_alike(there, first), split, check), pairs=False)
    (ours, parts), (theirs, _) = _found(options, split, check), _found(there, split, check)
    if isinstance(ours, DoorPool) and isinstance(theirs, DoorPool):
        theirs = _found(_alike(there, ours.dataset(range(len(ours.paths)), split, options)), split, check)[0]
    partner = partners(ours, theirs, cut=options.fit == "crop")
    first, chosen = _made(ours, parts, split, options)
    chosen = [partner[i] for i in chosen]
    second = theirs.dataset(chosen, split, there)
    second.content = functools.cache(lambda: _hashed(theirs.digests(), chosen))  # nothing else asks for their bytes: not before somebody does
    return Paired(first, second, pairs=True)


def _after_another(options: DataOptions, split: Split, check: Check) -> Paired:
    """Every file with the one before it in its folder, which may fall into another split: the later one decides."""
    pool, parts = _found(options, split, check)
    before = predecessors(pool)
    keys = pool.digests()
    chosen = [i for i in _chosen(keys, parts, split, None, pool.name) if i in before]
    if not chosen:
        raise ValueError(f'data.endpoint = "previous": no file of {pool.name} in {split} has another before it in its folder')
    chosen = thin(chosen, keys, options.limit)
    sets = []
    for rows in (chosen, [before[i] for i in chosen]):
        sets.append(pool.dataset(rows, split, options))
        sets[-1].content = functools.partial(str, _hashed(keys, rows))
    return Paired(*sets, pairs=True)


def _alike(there: DataOptions, first: Dataset) -> DataOptions:
    """The options of a second source of recordings or scans: what is not said is as in the first."""
    signal = first.signal
    if isinstance(signal, Sound):
        return replace(there, rate_hz=signal.rate_hz, window=first.shape[1], channels=1 if first.shape[0] == 1 else None)
    return replace(there, sensor=spec(signal)) if isinstance(signal, Scan) else there


def describe_data(options: DataOptions) -> str:
    """A few lines: shape, pictures per split, and every file that was skipped, with its reason."""
    lines = [f"{options.path}"]
    skipped: dict[str, str] = {}
    for split in SPLITS:
        try:
            data = open_data(options, split)
        except ValueError as error:
            lines.append(f"  {split:<12}{error}")
            continue
        lines.append(f"  {split:<12}{len(data):>8,} x {data.shape}")
        skipped.update(data.skipped)
    return "\n".join([*lines, *(f"  skipped     {name}: {reason}" for name, reason in skipped.items())])


def left_out(*parts: Dataset) -> str | None:
    """One line on the files that cannot be read: how many, and their names and reasons, the first of them; None where there are none."""
    found = {name: reason for data in parts for name, reason in data.skipped}
    if not found:
        return None
    named = "; ".join(" ".join(f"{name}: {reason}".split()) for name, reason in list(found.items())[:_NAMED])
    more = f"; and {len(found) - _NAMED:,} more, which snowmelt.data.describe_data lists" if len(found) > _NAMED else ""
    return f"{len(found):,} file{'' if len(found) == 1 else 's'} cannot be read and {'is' if len(found) == 1 else 'are'} left out: {named}{more}"


# Parts: (validation, test) by content, or None where the source itself says that the whole pool is the split.
_Found = tuple[Pool, tuple[float, float] | None]


def source(options: DataOptions, check: Check = unchecked) -> Pool:
    """All samples there are to train on, named and not yet split; `check` and what is raised are as in :func:`open_data`."""
    return _found(options, "train", check)[0]


def _found(options: DataOptions, split: Split, check: Check) -> _Found:
    return _bundled(options, split) if options.path.startswith("bundled:") else _stored(options, split, check)


def _chosen(keys: list[bytes], parts: tuple[float, float] | None, split: Split, limit: int | None, name: str) -> list[int]:
    """Which pictures of a pool, with those digests, are in the split, thinned to the limit."""
    inside = range(len(keys)) if parts is None else choose(keys, split, validation=parts[0], test=parts[1], name=name)
    return thin(inside, keys, limit)


def _bundled(options: DataOptions, split: Split) -> _Found:
    name = bundled.known(options.path)
    if name == "photos":
        pixels, ids = bundled.photos(split, options.size or bundled.PHOTO_SIZE)
        return ArrayPool(options.path, pixels, ids), None
    if options.flip:
        raise ValueError("data.flip = True mirrors digits into shapes that are none: leave it out for bundled:digits")
    pixels = bundled.digits()
    ids = [f"digit-{i:04d}" for i in range(len(pixels))]
    return ArrayPool(options.path, pixels, ids, bundled.digit_labels()), (options.validation, options.test)


def _stored(options: DataOptions, split: Split, check: Check) -> _Found:
    path = as_path(options.path)
    if not path.exists():
        raise FileNotFoundError(f'data.path = "{options.path}" does not exist: give a folder, a file, or one of the bundled sets')
    if path.is_file():
        return _file(path, options, check), (options.validation, options.test)
    if (path / "train").is_dir() and (path / "test").is_dir():
        folders = class_folders(path / "train", path / "test")
        return _folder(path / ("test" if split == "test" else "train"), options, check, folders, path / "train"), _official(options, split)
    train, test = sorted(path.glob("train-images*")), sorted(path.glob("t10k-images*"))
    if train and test:
        return _file(test[0] if split == "test" else train[0], options, check), _official(options, split)
    if train or test:
        return _file((train + test)[0], options, check), (options.validation, options.test)
    return _folder(path, options, check), (options.validation, options.test)


def _official(options: DataOptions, split: Split) -> tuple[float, float] | None:
    return None if split == "test" else (options.validation, 0.0)


def _folder(path: Path, options: DataOptions, check: Check, folders: tuple[str, ...] | None = None, like: Path | None = None) -> Pool:
    """The files in a folder, of whatever signal they are; `like` says of another folder that its files decide what no option does."""
    signal = _signal_in(path, options, check)
    if signal is not None:
        return DoorPool.through(door_for(f"*{SUFFIXES[signal][0]}"), path, options, folders, like, check)
    try:
        return FilePool.scan(path, folders, check)
    except ValueError as error:
        loose = next((p.name for p in sorted(path.iterdir()) if p.suffix in (".npy", ".npz") or "idx" in p.name), None)
        if loose is None or "holds no picture" not in str(error):
            raise
        raise ValueError(f"{error}; for the array in it give --data.path {path / loose}") from None


def _signal_in(path: Path, options: DataOptions, check: Check) -> str | None:
    """sound or scan, if that is what a folder holds; None of pictures, and of what is nothing of the kind.

    A stray recording among pictures changes nothing, unless an option of recordings (`window`, `rate_hz`) says that they are meant.
    Arrays and .bin files may be anything, so they are scans only where nothing else is, and where they look like it or a sensor is named.
    """
    found, _ = below(path, (*images.SUFFIXES, *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)), check)
    kinds = {signal_of(file) for file in found}
    meant = options.window is not None or options.rate_hz is not None
    if None in kinds or "sound" in kinds:
        return "sound" if "sound" in kinds and (meant or None not in kinds) else None
    scans = [file for file in found if signal_of(file) == "scan"]
    if not scans or (options.sensor is None and all(file.suffix.lower() == ".npy" and not _looks_scanned(file, check) for file in scans)):
        return None
    return "scan"


def _looks_scanned(path: Path, check: Check) -> bool:
    check()
    try:
        return bool(door_for(path).probe(path))
    except (OSError, ValueError):
        return False


def _file(path: Path, options: DataOptions, check: Check) -> Pool:
    if path.suffix.lower() in images.SUFFIXES:
        raise ValueError(f"{path} is one picture, which cannot be split: give a folder of at least 3 as data.path")
    if path.suffix.lower() in (*SUFFIXES["sound"], ".bin"):
        one = "recording" if signal_of(path) == "sound" else "scan"
        raise ValueError(f"{path} is one {one}, which cannot be split: give a folder of at least 3 as data.path")
    found = vectors = None
    if path.suffix == ".npz" and is_pack(path):
        return PackPool.opened(path, check)
    if path.suffix in (".npy", ".npz"):
        pixels = arrays.read_array(path, options.range)
        if path.suffix == ".npz":
            found, vectors = labels.of_npz(path, len(pixels)), labels.vectors_of_npz(path, len(pixels))
    elif "idx" in path.name:
        pixels = arrays.read_idx(path)
        found = labels.beside_idx(path, len(pixels))
    else:
        raise ValueError(f'{path}: "{path.suffix}" is no source of pictures: give a folder, or an idx, idx.gz, .npy or .npz file')
    return ArrayPool(str(path), pixels, [f"{path.name}#{i}" for i in range(len(pixels))], found, vectors, check)
