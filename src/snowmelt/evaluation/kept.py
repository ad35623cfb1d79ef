"""Pure pieces of work, kept on the disk as they are done and shared out among processes.

An evaluation is a long row of *pieces*: what one method makes of one batch of pictures, the features of another. Each is a function of the
weights, the data and the options, so it does not matter who computes it, when, or in which order. A :class:`Kept` hands the pieces out and collects
what comes of them. Piece number i belongs to process i mod n, and what is done lies in a folder named by a hash of all that settles the numbers:

* an evaluation that was interrupted, or killed, finds there what it had done, and goes on;
* processes that share one find there what the others have done, once they have met.

All sums, intervals and reports are made from the pieces in their own order, by every process alike: so they are the same numbers, bit for bit,
whoever did which piece. Tensors are kept as they are: nothing is rounded.

Files are written at most once a second, each whole: shorter work leaves no trace, longer work loses a second and the piece in hand.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from snowmelt import processes
from snowmelt.files import BadFile, read_tensors, write_tensors
from snowmelt.locks import locked
from snowmelt.stopping import Stopped, until_asked

P = TypeVar("P")
Result: TypeAlias = Mapping[str, Tensor]
Told: TypeAlias = dict[str, Any]

PREFIX = ".evaluating-"
_EVERY_S = 1.0
_STALE_S = 86_400.0
_LISTED_S = 60.0  # after which every network disk shows what another machine has written
_log = logging.getLogger(__name__)


class Kept:
    """The pieces of one evaluation; by default those of one process that keeps nothing.

    Args:
        folder: where results are kept; None keeps none.
        process: which of the processes that share the work this is.
        meet: waits until all of them have come.

    Attributes:
        done: the pieces that were computed here.
        found: those that had been kept.

    Example:
        >>> squares = Kept().each("squares", [1.0, 2.0], lambda x: {"y": torch.tensor([x * x])})
        >>> [float(one["y"]) for one in squares()]
        [1.0, 4.0]
    """

    def __init__(
        self, folder: Path | None = None, process: processes.Process | None = None, meet: Callable[[], None] = processes.barrier
    ) -> None:
        self.folder, self.process, self._meet = folder, process or processes.ALONE, meet
        self.done = self.found = 0
        self._number = 0
        self._unwritten: dict[str, Result] = {}
        self._where: dict[str, Path] = {}
        self._read = functools.lru_cache(maxsize=self.process.size + 1)(_results)  # pieces come from the files of all processes in turn
        self._since = time.monotonic()
        if folder is None and not self.process.alone:
            raise ValueError("processes share what they have done through a folder: give one")
        self._look()

    @classmethod
    @contextlib.contextmanager
    def at(cls, out: Path, settles: Mapping[str, Any]) -> Iterator[Self]:
        """What is kept in `out` of work that `settles` describes to the last digit; it is deleted when the block ends well.

        Raises:
            InUse: the same work is done there already, by somebody else.
            RuntimeError: processes are to share it, and have not met.
            ValueError: what they are about to do is not the same.
            Stopped: interrupted; what is done is kept.
        """
        text = json.dumps(settles, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder, process = out / f"{PREFIX}{name}", processes.here()
        # The folder is locked, not `out`: a run may be judged while it trains.
        with locked(folder, what="evaluating") if process.first else contextlib.nullcontext():
            _require_same(name)
            kept = cls(folder, process)
            try:
                yield kept
                kept._meet()  # whoever has read all that is there may delete it
            except KeyboardInterrupt:
                with until_asked():  # the second signal, of torchrun or of an impatient hand, ends what takes a moment
                    kept.flush()
                raise kept._stopped() from None
            except Exception:
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    kept.flush()
                raise
            if process.first:
                _sweep(out, folder)

    def each(
        self, name: str, pieces: Sequence[P], do: Callable[[P], Result], tick: Callable[[P], None] | None = None
    ) -> Callable[[], list[Result]]:
        """Do what is ours of the pieces, and not done yet; what is returned gives the results of all, in their order.

        Args:
            name: of these pieces, no others.
            pieces: what each is computed from.
            do: computes one: named tensors, none of them called "".
            tick: told of every piece that is behind us, whoever does it.

        Returns:
            A function to call once this process has met the others, see :meth:`meet` and :meth:`told`.
        """
        names, own = [f"{name}/{i}" for i in range(len(pieces))], dict[str, Result]()
        for key, piece in zip(names, pieces, strict=True):
            ours = self._number % self.process.size == self.process.rank
            self._number += 1
            if key in self._where:
                self.found += 1
            elif ours:
                result = {entry: value.detach().cpu() for entry, value in do(piece).items()}
                self._keep(key, result)
                if self.process.alone:
                    own[key] = result
            if tick is not None:
                tick(piece)
        return lambda: [own[key] if key in own else self._result(key) for key in names]

    def later(self, name: str, make: Callable[[], Told]) -> Callable[[], Told]:
        """What results come to, as values for JSON: made now where one process has them all, else by :meth:`told`."""
        if not self.process.alone:
            return make
        made = list[Told]()

        def packed(make: Callable[[], Told]) -> Result:
            made.append(make())
            return _packed(made[0])

        found = self.each(name, [make], packed)
        return lambda: made[0] if made else _unpacked(found()[0])

    def told(self, name: str, coming: Sequence[Callable[[], Told]]) -> list[Told]:
        """All that is to come of :meth:`later`, which is work to share, too: intervals take longer than the pictures they are about."""
        if self.process.alone:
            return [make() for make in coming]
        self.meet()
        found = self.each(name, coming, lambda make: _packed(make()))
        self.meet()
        return [_unpacked(one) for one in found()]

    def meet(self) -> None:
        """Wait for the other processes; then the results of all pieces so far are there."""
        if self.process.alone:
            return
        self.flush()
        self._meet()
        self._look()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            OSError: it cannot be written, and other processes wait for it; one alone goes on without.
        """
        self._since = time.monotonic()
        if self.folder is None or not self._unwritten:
            return
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        held = dict(self._unwritten)
        try:
            # Every piece has an entry of its own, also one of which nothing is known but that it is done.
            marks = {f"{key}|": torch.empty(0, dtype=torch.uint8) for key in held}
            write_tensors(path, {f"{key}|{entry}": value for key, result in held.items() for entry, value in result.items()} | marks)
        except OSError as error:
            if not self.process.alone:
                raise
            _log.warning("%s: an interruption would lose what is done", error)
            self.folder = None
        else:
            self._where |= dict.fromkeys(held, path)
        for key in held:
            del self._unwritten[key]

    def _keep(self, key: str, result: Result) -> None:
        self.done += 1
        if self.folder is None:
            return
        self._unwritten[key] = result
        if time.monotonic() - self._since >= _EVERY_S:
            self.flush()

    def _result(self, key: str) -> Result:
        if key in self._unwritten:
            return self._unwritten[key]
        end = time.monotonic() + _LISTED_S
        while key not in self._where:
            if time.monotonic() > end:
                raise FileNotFoundError(f"{self.folder} lacks what another process has done: it must be in a folder that all processes see")
            time.sleep(_EVERY_S / 10)
            self._look()
        return self._read(self._where[key])[key]

    def _look(self) -> None:
        """See what lies in the folder; a file that a crash of the machine left damaged is removed, and its pieces are computed again."""
        for path in sorted(self.folder.glob("*.safetensors")) if self.folder is not None and self.folder.is_dir() else []:
            if path in self._where.values():
                continue
            try:
                self._where |= dict.fromkeys(self._read(path), path)
            except BadFile:
                path.unlink(missing_ok=True)
            except OSError as error:  # it may be sound, and counted on by others
                _log.warning("%s: %s; what it holds is looked for again, or computed", path, error.strerror or error)

    def _stopped(self) -> Stopped:
        there = self.done + self.found
        done = f"interrupted: {there:,} piece{' of the evaluation is' if there == 1 else 's of the evaluation are'} done"
        if self.folder is None:
            return Stopped(f"{done} and could not be kept; the same command begins again")
        return Stopped(f"{done} and kept; the same command goes on")


def _packed(value: Told) -> Result:
    return {"json": torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)}


def _unpacked(result: Result) -> Told:
    value: Told = json.loads(bytes(result["json"].tolist()))
    return value


def _results(path: Path) -> dict[str, dict[str, Tensor]]:
    """The results in one file, by piece."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in read_tensors(path).items():
        key, _, entry = name.rpartition("|")
        found.setdefault(key, {})
        if entry:
            found[key][entry] = value
    return found


def _require_same(name: str) -> None:
    """Refuse processes that differ in what settles their numbers, each of which would look for the others' in a folder of its own."""
    rows = processes.gathered(list(bytes.fromhex(name)))
    if any(row != rows[0] for row in rows):
        says = "the processes are not about to evaluate the same"
        raise ValueError(f"{says}: give all of them the same weights, data, options and versions, and machines of one kind with as many threads")


def _sweep(out: Path, own: Path) -> None:
    """Delete what was kept, and what others left there and have not touched for a day."""
    for folder in out.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder == own or time.time() - os.stat(folder).st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
