"""New pictures by the thousand, into files: streamed, resumable, shared among processes, and the same files whichever way they came to be.

Pictures are made in *blocks* of fixed numbers, [k B, (k + 1) B). A sample depends on (seed, number) alone, but the last digits of its convolutions
on how many are computed together (measured: between batches of 8 and of 64 about one pixel in 10,000 comes out another of 256 levels). So what
is missing of a block is made by computing the whole block again, and B, which :func:`~snowmelt.restoration.memory.batch_for` finds once, is kept in
OUT/sample.json with all else that settles what the pictures are. Shares of the work are blocks too. Only where memory runs out after all, and a
block is computed by halves, may last digits differ.

Every picture is whole or not there; what is there is kept. While one block is computed the one before is written, by a few threads, because each
file waits for its disk. Memory is that of two blocks, whatever the number.

All pictures lie in one folder: the tools that compare sets of pictures read one, and file systems have long been at ease with 50,000 names.

What is said of pictures here holds for recordings and scans; only their files are others (:mod:`snowmelt.restoration.outlets`).
"""

import functools
import os
import re
import uuid
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snowmelt import files, registry
from snowmelt.data.images import to_uint8
from snowmelt.disk import replacing
from snowmelt.restoration.generation import fits, intended, numbered
from snowmelt.restoration.identity import Opened, digest_of, opened
from snowmelt.restoration.memory import Fitting
from snowmelt.restoration.outlets import SUFFIXES, read, write
from snowmelt.restoration.told import require_rows
from snowmelt.restoration.walks import Walk
from snowmelt.restorers import Restorer
from snowmelt.signals import PICTURE, Signal
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training.progress import Bar
from snowmelt.types import EMPTY, Draw

NAME, PACKED = "sample.json", "samples.npz"
_WRITERS = 4
_PATIENCE_S = 2.0  # a block that takes longer is given up, when asked to stop: what is not written of it is made again
_LEAST = 16  # pictures at a time, where they fit: a set may begin with one and grow to thousands
_FREE = {"run"}  # where a run lies says nothing of what is in it: its weights are compared
_SUFFIX = "|".join(map(re.escape, SUFFIXES.values()))
_PICTURE = re.compile(rf"sample_(\d{{4,}})(?:{_SUFFIX})")
_SHEETS = ("grid.png", "grid.html", "interpolation.png")
_PART = re.compile(rf"\.(?:sample_(?P<number>\d{{4,}})(?:{_SUFFIX})|grid\.(?:png|html)|sample\.json|samples\.npz)\..+\.part")
Said = Mapping[str, Any]


@dataclass
class Sampled:
    """What there is of a set of generated pictures.

    Attributes:
        folder: where they lie.
        number: of the whole set.
        batch: how many are computed together.
        sampler: the walk, as a spec.
        signal: what the samples are.
        total: how many of them are this share's.
        done: made now.
        kept: there already, and left alone.
    """

    folder: Path
    number: int
    batch: int
    sampler: str
    signal: Signal = PICTURE
    total: int = 0
    done: int = 0
    kept: int = 0

    def path(self, i: int) -> Path:
        """The file of picture i."""
        return self.folder / self.named(i)

    def named(self, i: int) -> str:
        """The name of picture i."""
        return named(i, self.number, SUFFIXES[self.signal.name])

    def read(self, i: int) -> Tensor:
        """Picture i, (c, *d), as its file holds it.

        Raises:
            ValueError: it is not there, or cannot be read.
        """
        return read(self.path(i), self.signal)

    def missing(self) -> int:
        """How many of the whole set are not there yet."""
        there = {entry.name for entry in os.scandir(self.folder)}
        return sum(self.named(i) not in there for i in range(self.number))


def sample_folder(
    model: Opened | str | Path,
    out: str | Path,
    *,
    n: int,
    sampler: Walk = "default",
    seed: int = 0,
    noise: float | None = None,
    conditions: Draw = EMPTY,
    said: Said = EMPTY,
    shard: tuple[int, int] = (1, 1),
    batch: int | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    bar: bool = False,
) -> Sampled:
    """Generate pictures 0 to n - 1 of a seed into a folder: sample_0000.png and so on, with as many digits as n needs, at least four.

    The same call goes on where the last one stopped. A larger n goes on too, where no picture is asked for more than the others were.

    Args:
        model: a run directory, the name of a model in the package, or what :func:`~snowmelt.restoration.identity.opened` returned.
        out: the folder.
        n: how many.
        sampler: a sampler, its spec, "default", or None for one call.
        seed: of the prior and of samplers that draw.
        noise: another broken symmetry than the prior's own, 0 for none.
        conditions: what is asked for, one row a picture; see :func:`snowmelt.generate`.
        said: what else settles the pictures, or is worth keeping beside them, as values for JSON.
        shard: (i, n), the i-th of n shares of the work; pictures are those of the whole.
        batch: how many are computed together, also where fewer are asked for: so files stay the same when n grows. By default what fits in memory,
            at most the power of two from n on, or 16, found once for all runs over this folder.
        overwrite: delete the pictures that are there, and begin anew.
        device: where to compute.
        bar: show progress on stderr.

    Raises:
        ValueError: as :func:`snowmelt.generate`; or the folder holds pictures that were made otherwise.
        OSError: a picture cannot be written.
        Stopped: asked to by Ctrl-C or SIGTERM, after a block or two seconds, or at once when asked twice; what is written stays.
    """
    check(Path(out), n, shard, batch, overwrite=overwrite)
    how: dict[str, Any] = {"sampler": sampler, "seed": seed, "noise": noise, "conditions": conditions, "said": said}
    return begun(model, out, n=n, **how, shard=shard, batch=batch, overwrite=overwrite, device=device).run(bar=bar)


def begun(
    model: Opened | str | Path,
    out: str | Path,
    *,
    n: int,
    sampler: Walk = "default",
    seed: int = 0,
    noise: float | None = None,
    conditions: Draw = EMPTY,
    said: Said = EMPTY,
    shard: tuple[int, int] = (1, 1),
    batch: int | None = None,
    overwrite: bool = False,
    device: str = "cpu",
) -> "Job":
    """What :func:`sample_folder` does, up to its first picture: the folder is claimed, and `run` makes this share.

    Of processes that share a set, the first begins before the others: what is to be overwritten is gone then, and the size of a block is known.
    """
    folder = Path(out)
    require_rows(conditions, n)
    found = opened(model)
    found = found._replace(model=found.model.to(device))
    asks: dict[str, Any] = {"seed": seed, "noise": noise, "conditions": conditions}
    walk = intended(found.model, sampler=sampler, **asks)
    spec = "one call" if walk is None else registry.spec(walk)
    prior, signal = found.model.prior, found.model.signal
    settles = {
        **({"signal": registry.spec(signal)} if signal != PICTURE else {}),
        **({"prior": registry.spec(prior), "prior_sha256": digest_of(prior.tensors())} if prior else {}),
        "weights_sha256": found.weights,
        "noise": noise,
        "sampler": spec,
        "number": n,
        "seed": seed,
        **({"conditions_sha256": digest_of(conditions)} if conditions else {}),
        "device": torch.device(device).type,
        "compiled": isinstance(found.model.restorer, Restorer) and found.model.restorer.compiled,
    }

    def measured() -> int:
        return min(fits(found.model, sampler=walk, **asks)[0], max(1 << (n - 1).bit_length(), _LEAST))

    if overwrite:
        _clear(folder)
    size = _claimed(folder, {"run": found.name, **said, **settles}, asked=batch, measured=measured, more=not conditions, many=signal.many)
    make = functools.partial(numbered, found.model, sampler=walk, **asks)
    return Job(Sampled(folder, n, size, spec, signal), shard, make, whole=not conditions)


def check(folder: Path, n: int, shard: tuple[int, int] = (1, 1), batch: int | None = None, *, overwrite: bool = False) -> None:
    """Refuse, before anything is loaded, what cannot be done.

    Raises:
        ValueError: it cannot.
    """
    if n < 1 or (batch is not None and batch < 1):
        raise ValueError(f"n = {n} samples{'' if batch is None else f' in batches of {batch}'}: both must be at least 1")
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard = {shard[0]}/{shard[1]} is not i/n with 1 <= i <= n: 2/8 is the second of eight shares")
    if folder.is_file():
        raise ValueError(f"{folder} is a file: give --out a folder")
    if overwrite and shard[1] > 1:
        raise ValueError("--overwrite would delete what other shares have made: delete the folder first, or choose another --out")
    if not overwrite and folder.is_dir() and not (folder / NAME).is_file() and (old := _any(folder)):
        raise ValueError(f"{old} exists, and no {NAME} says how it was made: choose another --out, or add --overwrite")


def _any(folder: Path) -> Path | None:
    """Any sample in a folder."""
    return next((path for path in folder.glob("sample_*") if _PICTURE.fullmatch(path.name)), None)


def named(i: int, n: int, suffix: str = SUFFIXES["picture"]) -> str:
    """The name of picture i of n."""
    return f"sample_{i:0{max(4, len(str(n - 1)))}d}{suffix}"


def pack(found: Sampled) -> Path:
    """All pictures in OUT/samples.npz, as one array "arr_0" of uint8 (n, h, w, c), c = 1 or 3; one picture is in memory at a time.

    Of other signals it is float32 (n, c, *d), as their files hold them.

    Raises:
        ValueError: a picture is missing, or cannot be read.
    """
    path = found.folder / PACKED
    shape, eight_bits = tuple(found.read(0).shape), found.signal == PICTURE
    header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (found.number, *shape)}
    if eight_bits:
        header |= {"descr": "|u1", "shape": (found.number, *shape[1:], shape[0])}
    entry = zipfile.ZipInfo("arr_0.npy")  # without the time, so that the same pictures make the same file
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive, archive.open(entry, "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for i in range(found.number):
            x = found.read(i)
            stream.write(to_uint8(x[None])[0].tobytes() if eight_bits else x.numpy().astype("<f4").tobytes())
    return path


class Job:
    """One share of the pictures: its blocks, and what is written of them.

    Args:
        found: the set.
        shard: (i, n).
        make: the pictures with some numbers.
        whole: compute the last block as far as it goes, and write what is asked for of it: last digits depend on how many share a call.
    """

    def __init__(self, found: Sampled, shard: tuple[int, int], make: Callable[[range], Tensor], *, whole: bool) -> None:
        self.found, self.make, self.fitting, self.whole = found, make, Fitting(found.batch), whole
        self.written: list[Future[None]] = []
        n, size = found.number, found.batch
        self.alone = shard[1] == 1
        self.blocks = [range(first, min(first + size, n)) for first in range(0, n, size)][shard[0] - 1 :: shard[1]]

    def run(self, *, bar: bool) -> Sampled:
        """Make the pictures.

        Raises:
            OSError, Stopped: as :func:`sample_folder`.
        """
        found = self.found
        todo = self._missing()
        found.total = sum(map(len, self.blocks))
        found.kept = found.total - sum(len(missing) for _, missing in todo)
        shown = Bar("sampling", found.total, done=found.kept, unit=found.signal.many) if bar else None
        try:
            with until_asked(_PATIENCE_S) as asked, shown or nullcontext(), ThreadPoolExecutor(_WRITERS, "snowmelt-write") as pool:
                for block, missing in todo:
                    x = self.fitting(range(block.start, block.start + found.batch) if self.whole else block, self.make).cpu()
                    self._finish(shown)
                    self.written = [pool.submit(write, found.path(i), x[i - block.start], found.signal) for i in missing]
                    del x
                    if asked.is_set():
                        break
                self._finish(shown)
        except KeyboardInterrupt:
            self._finish(None)
            raise self._stopped() from None
        if found.done + found.kept < found.total:
            raise self._stopped()
        return found

    def _finish(self, shown: Bar | None) -> None:
        """Wait for the files of a block, and count them; what went wrong with one is raised here."""
        while self.written:
            self.written[0].result()
            del self.written[0]
            self.found.done += 1
            if shown is not None:
                shown.advance(1)

    def _stopped(self) -> Stopped:
        found = self.found
        return Stopped(f"interrupted: {found.done + found.kept:,} of {found.total:,} {found.signal.many} are done; the same command goes on")

    def _missing(self) -> list[tuple[range, list[int]]]:
        """The blocks that are not whole, with what each lacks; what a killed run left half written is removed."""
        there = set()
        for entry in os.scandir(self.found.folder):
            half = _PART.fullmatch(entry.name)
            if half and (self.alone if half["number"] is None else self._mine(int(half["number"]))):
                Path(entry.path).unlink(missing_ok=True)
            elif _PICTURE.fullmatch(entry.name):
                there.add(entry.name)
        blocks = [(block, [i for i in block if self.found.named(i) not in there]) for block in self.blocks]
        return [(block, missing) for block, missing in blocks if missing]

    def _mine(self, i: int) -> bool:
        """Whether a picture is this share's; those of others may still be at work."""
        return any(i in block for block in self.blocks)


def _claimed(folder: Path, settings: dict[str, Any], *, asked: int | None, measured: Callable[[], int], more: bool, many: str) -> int:
    """Say in OUT/sample.json what the pictures are, or find that what is there was made the same way; how many to compute together.

    Raises:
        ValueError: it was not.
    """
    path = folder / NAME
    if not path.exists():
        _write_first(path, {**settings, "batch": asked or measured()})
    held = files.read_json(path)
    if not isinstance(held, dict):
        raise files.BadFile(f"{path} does not say how the {many} beside it were made: choose another --out, or add --overwrite")
    own = settings if asked is None else {**settings, "batch": asked}
    other = [name for name in own if name not in _FREE and (name not in held or held[name] != own[name])]
    other += [name for name in held if name not in settings and name != "batch"]
    if other == ["number"] and more and _goes_on(held["number"], settings["number"]):
        files.write_json(path, {**held, "number": settings["number"]})
        other = []
    if other:
        name = other[0]
        was, now = (repr(one[name]) if name in one else "not said" for one in (held, own))
        raise ValueError(f"the {many} in {folder} were made with another {name} ({was}, now {now}): choose another --out, or add --overwrite")
    size = held.get("batch")
    if not isinstance(size, int) or size < 1:
        raise files.BadFile(f"{path}: batch = {size!r} is no number of {many}: choose another --out, or add --overwrite")
    return size


def _goes_on(before: object, now: int) -> bool:
    """Whether a set of pictures can become a larger one: the names stay."""
    return isinstance(before, int) and 0 < before < now and named(0, before) == named(0, now)


def _write_first(path: Path, settings: Said) -> None:
    """Write the settings unless another share, started at the same time, has done so: the first one counts."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        files.write_json(temporary, dict(settings))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            files.write_json(path, dict(settings))
    finally:
        temporary.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Delete what an earlier run made, its settings first: killed in between, nothing would be taken for a picture of another run."""
    for name in (NAME, PACKED, *_SHEETS):
        (folder / name).unlink(missing_ok=True)
    for entry in list(os.scandir(folder)) if folder.is_dir() else []:
        if _PICTURE.fullmatch(entry.name):
            Path(entry.path).unlink()
