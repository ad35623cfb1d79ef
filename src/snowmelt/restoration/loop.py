"""The loop over a collection of any signal: what is read, computed and written when, and what is counted on the way.

One file is read while the one before is computed, and small ones are written while the next are computed, one after the other in the order of the
plan: waiting for the disk took up to half of the time of pictures of 32 px. Large ones are written before the next is computed, for what is
being written is in memory too.

What a file holds and what becomes of it is the affair of a subclass: :class:`~snowmelt.restoration.collection.Collection` of pictures,
:class:`~snowmelt.restoration.recordings.RecordingCollection`, :class:`~snowmelt.restoration.whole.WholeCollection` of scans.
"""

import abc
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, ClassVar, Generic, TypeVar

from snowmelt.data.door import Unreadable
from snowmelt.restoration.errands import Outcome
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import ahead
from snowmelt.restoration.picture import Ready, reason
from snowmelt.restoration.plan import Failure, Job, Plan, sweep
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.throughput import Pace, Stopwatch
from snowmelt.restoration.work import Work
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training.progress import Bar

_PATIENCE_S = 2.0  # a file that takes longer is given up, when asked to stop
# These are about the disk, not about one file: the next would fail as well.
NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}
One = TypeVar("One", bound=Ready)


@dataclass
class Made(Generic[One]):
    """Files of a batch and what was computed of them, None where that failed; the seconds for each."""

    batch: list[One]
    result: Any
    seconds: float


class Loop(abc.ABC, Generic[One]):
    """One run over a plan: the loop, and what is counted in it."""

    amount: ClassVar[str] = "megapixels"  # of which the pace speaks; see :meth:`weight`
    sentences: tuple[str, ...] = ()  # what may be worth saying of some files, with {n} of them; see :meth:`remark`

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        self.work, self.plan, self.journal, self.batch, self.overwrite = work, jobs, journal, batch, overwrite
        self.tally = Tally(len(jobs.jobs) + len(jobs.refused), work.how(), errors=journal.errors)
        self.many = jobs.kind.many
        self.tally.kind, self.tally.sentences, self.tally.remarks = jobs.kind, self.sentences, [0] * len(self.sentences)
        self.tally.measured = (self.many, self.amount)
        self._pending: Future[None] | None = None
        self._asked = Event()
        self._shown: Bar | None = None
        self._news: list[Callable[[], None]] = []  # of the thread that writes, told in the one that was called
        self.watch = Stopwatch(work.model.restorer, work.device)
        self.say: Callable[[str], None] = nothing
        self.finished: Callable[[Job, dict[str, Any]], None] | None = None
        self.elsewhere: Callable[[list[Job]], Iterator[Outcome]] | None = None  # other processes that carry out the jobs

    @abc.abstractmethod
    def load(self, job: Job) -> One:
        """Read a file, in the thread that reads ahead.

        Raises:
            Unreadable, ValueError, OSError: it cannot be used.
        """

    @abc.abstractmethod
    def compute(self, batch: list[One]) -> Any:
        """What becomes of the files of a batch, in the thread that was called: only that one can be interrupted."""

    @abc.abstractmethod
    def write(self, made: Made[One], row: int) -> dict[str, Any]:
        """Write everything of one file, its restoration last, whole or not at all; what the journal says of it. In the thread that writes."""

    @abc.abstractmethod
    def leave(self, one: One, verdict: str) -> dict[str, Any]:
        """Write a file as it came, because it is clean, or because the model cannot judge it; what the journal says of it."""

    @abc.abstractmethod
    def weight(self, one: One) -> float:
        """How much a file is, in `amount`."""

    def most(self, one: One, *, shared: bool) -> int:
        """How many files such as this share a call; `shared` says that there is another to share it with. Here each goes alone."""
        return 1

    def full(self, batch: list[One], one: One) -> bool:
        """Whether one more would be too much for a batch."""
        return False

    def alike(self, a: One, b: One) -> bool:
        """Whether two files can share a call."""
        return False

    def overlaps(self, batch: list[One]) -> bool:
        """Whether the next files may be computed while these are written: large ones fill the memory."""
        return False

    def remark(self, number: int) -> None:
        """Count one more file of which sentence `number` is true."""
        self.tally.remarks[number] += 1

    def within(self, done: int, of: int) -> None:
        """Show how far a file is that is computed in several pieces."""
        if self._shown is not None and of > 1:
            self._shown.advance(0, piece=f"{done:,}/{of:,}")

    def run(self, *, bar: bool, swept: bool = False) -> Tally:
        """Go through the plan; `swept` says that nothing half written lies about any more.

        Raises:
            OSError: the output can no longer be written.
            Stopped: interrupted; what is finished stays.
        """
        if not swept:
            sweep(self.plan.jobs)
        self.journal.settle([job.source for job in self.plan.jobs])
        shown = Bar(f"{self.work.verb}ing", self.tally.total, unit=self.many) if bar else None
        self._shown, start, watch = shown, time.perf_counter(), self.watch
        try:
            with until_asked(_PATIENCE_S) as self._asked, shown or nullcontext(), watch.watching(), ThreadPoolExecutor(1, "snowmelt-write") as pool:
                for failure in self.plan.refused:
                    self._fail(failure)
                    self._advance(shown, 1)
                todo = self._unfinished(shown)
                for told in () if self.elsewhere is None else self.elsewhere(todo):
                    self._advance(shown, self._take(told))
                    if self._asked.is_set():
                        break
                for batch in self._batches(todo if self.elsewhere is None else (), shown):
                    if self._asked.is_set():
                        break
                    made = self._computed(batch)
                    self.settle()
                    self._pending = pool.submit(self._keep, made, shown)
                    if not self.overlaps(batch):
                        self.settle()
                    del batch, made  # or they would be in memory until the next but one is read
                self.settle()
                if self._asked.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.settle()  # a disk that is full is the better reason
            through = self.tally.done + self.tally.kept + len(self.tally.clean) + len(self.tally.unsure)
            if through + len(self.tally.failed) < self.tally.total:
                raise Stopped(f"interrupted: {through:,} of {self.tally.total:,} {self.many} are done; the same command goes on") from None
        finally:
            self._clock(time.perf_counter() - start, watch.seconds)
            self.journal.close()
        return self.tally

    def _clock(self, seconds: float, network_s: float | None) -> None:
        """How fast it went, as far as it went."""
        if n := self.tally.done + len(self.tally.clean) + len(self.tally.unsure):
            self.tally.pace = Pace(n, self.tally.megapixels, seconds, network_s, self.many, self.amount)
            self.journal.pace(self.tally.pace.table())

    def _unfinished(self, shown: Bar | None) -> list[Job]:
        todo = []
        for job in self.plan.jobs:
            # Samples may be asked for of what was restored without; what was left as it is has none.
            whole = self.work.samples == 1 or self.journal.made(job.target) or job.beside("uncertainty").exists()
            if self.overwrite or not (whole and job.target.exists()):
                todo.append(job)
                continue
            self.tally.kept += 1
            self.tally.elsewise += self.journal.kept(job.source, job.target)
            self._advance(shown, 1)
        return todo

    def _take(self, told: Outcome) -> int:
        """Count and note what another process made of some jobs; of how many.

        Raises:
            OSError: it cannot go on, and no other could.
        """
        for job, entry in told.finished:
            verdict = entry.get("left as it is")
            if verdict is None:
                self.tally.done += 1
                self.tally.last = job.target
            else:
                (self.tally.clean if verdict == "clean" else self.tally.unsure).append(job.source)
            self.journal.done(job.source, job.target, entry)
            if self.finished:
                self.finished(job, entry)
        for failure in told.failed:
            self._fail(failure)
        self.tally.greyed += told.greyed
        self.tally.megapixels += told.megapixels
        self.tally.remarks = [mine + theirs for mine, theirs in zip(self.tally.remarks, told.remarks, strict=True)]
        if told.stop is not None:
            raise told.stop
        return len(told.finished) + len(told.failed)

    def _batches(self, jobs: Sequence[Job], shown: Bar | None) -> Iterator[list[One]]:
        """Runs of files that can share a call; one file each unless told."""
        waiting: list[One] = []
        for job, get in ahead(jobs, self.load):
            if self._asked.is_set():
                return
            try:
                one = get()
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                self.settle()
                self._fail(Failure(job.source, reason(error), broken=isinstance(error, Unreadable) and error.broken and not job.named))
                self._advance(shown, 1)
                continue
            del get  # it holds the file's content too
            if (verdict := self.work.verdict(one.estimate)) != "damaged":
                self.settle()
                self._leave(one, verdict)
                self._advance(shown, 1)
                continue
            alike = bool(waiting) and self.alike(waiting[0], one)
            most = self.most(one, shared=alike)
            full = len(waiting) >= most or self.full(waiting, one)
            if waiting and (full or not alike):
                yield waiting
                waiting = []
            waiting.append(one)
            del one
            if most == 1:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _computed(self, batch: list[One]) -> list[Made[One]]:
        """What becomes of a batch; where that fails, of its files alone."""
        start = time.perf_counter()
        try:
            result = self.compute(batch)
        except Exception as error:  # whatever a file does to a network or a plug-in, the others go on
            if len(batch) > 1:
                return [made for one in batch for made in self._computed([one])]
            if isinstance(error, OSError) and error.errno in NO_MORE:
                raise
            self.settle()
            self._fail(Failure(batch[0].job.source, reason(error), broken=self._broken(error, batch[0].job)))
            return [Made(batch, None, 0.0)]
        return [Made(batch, result, (time.perf_counter() - start) / len(batch))]

    @staticmethod
    def _broken(error: Exception, job: Job) -> bool:
        """Whether the file itself is to blame: some are read only as they are computed."""
        return isinstance(error, Unreadable) and error.broken and not job.named

    def settle(self) -> None:
        """Wait for what is being written, so that the journal has the order of the plan; what went wrong with it is raised here."""
        if self._pending is None:
            return
        error, self._pending = self._pending.exception(), None
        while self._news:
            self._news.pop(0)()
        if error is not None:
            raise error

    def _keep(self, made: list[Made[One]], shown: Bar | None) -> None:
        """Write what was computed and note it, in the order of the plan; in the thread that writes."""
        for one in made:
            if one.result is not None:
                self._written(one)
            self._advance(shown, len(one.batch))

    def _written(self, made: Made[One]) -> None:
        for row, one in enumerate(made.batch):
            try:
                entry = self.write(made, row) | {"seconds": round(made.seconds, 3)}
            except OSError as error:
                if error.errno in NO_MORE:
                    raise
                self._fail(Failure(one.job.source, reason(error)), later=True)
            except ValueError as error:
                self._fail(Failure(one.job.source, reason(error)), later=True)
            else:
                self.tally.done += 1
                self.tally.last = one.job.target
                self.tally.megapixels += self.weight(one)
                self.journal.done(one.job.source, one.job.target, entry)
                if self.finished:
                    self._news.append(partial(self.finished, one.job, entry))

    def _leave(self, one: One, verdict: str) -> None:
        try:
            entry = self.leave(one, verdict)
        except OSError as error:
            if error.errno in NO_MORE:
                raise
            self._fail(Failure(one.job.source, reason(error)))
            return
        left = self.tally.clean if verdict == "clean" else self.tally.unsure
        left.append(one.job.source)
        self.tally.megapixels += self.weight(one)
        self.journal.done(one.job.source, one.job.target, entry)
        if self.finished:
            self.finished(one.job, entry)

    def damage(self, one: One) -> dict[str, str]:
        """What the estimator says of a file, in words, and what of that stays."""
        if one.estimate is None:
            return {}
        return {"damage": one.estimate.describe(self.work.model.degradation)[0]} | ({"spared": self.work.spared} if self.work.spared else {})

    def _fail(self, failure: Failure, *, later: bool = False) -> None:
        """Note a failure and say it: from the thread that writes, `later`."""
        self.tally.failed.append(failure)
        self.journal.failed(failure.source, failure.reason)
        tell = partial(self.say, f"left out {failure.source}: {failure.reason}")
        if later:
            self._news.append(tell)
        else:
            tell()

    @staticmethod
    def _advance(shown: Bar | None, n: int) -> None:
        if shown is not None:
            shown.advance(n)


def nothing(text: str) -> None:
    """Say nothing."""
