"""The loop over a collection: what is read, computed and written when, and what is counted on the way.

One picture is read while the one before is computed, and small ones are written while the next are computed, one after the other in the order of the
plan: waiting for the disk took up to half of the time of pictures of 32 px. Large ones are written before the next is computed, for what is
being written is in memory too.
"""

import errno
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snowmelt.data.images import UnreadableImage, upright, write
from snowmelt.disk import replacing
from snowmelt.restoration import trajectory
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import ahead, load
from snowmelt.restoration.memory import UNMEASURED, fitting, peak_bytes, uncompiled
from snowmelt.restoration.picture import Loaded, compute, finished, lossless, psnr, reason, save
from snowmelt.restoration.plan import Failure, Job, Plan, sweep
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.throughput import Pace, Stopwatch
from snowmelt.restoration.work import Work, several
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training.progress import Bar
from snowmelt.types import State

_BATCH_PIXELS = 250_000
_PATIENCE_S = 2.0  # a picture that takes longer is given up, when asked to stop
_OVERLAP_PIXELS = 1_000_000  # what is written is in memory too
# These are about the disk, not about one picture: the next would fail as well.
_NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}


class _Made(NamedTuple):
    """Pictures and their walk, None where it failed; mean and spread of each, where several samples were asked for; the seconds for each."""

    batch: list[Loaded]
    states: list[State] | None
    spreads: list[tuple[Tensor, Tensor]]
    seconds: float


class Collection:
    """One run over a plan: the loop, and what is counted in it."""

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        self.work, self.plan, self.journal, self.batch, self.overwrite = work, jobs, journal, batch, overwrite
        self.tally = Tally(len(jobs.jobs) + len(jobs.refused), work.how(), errors=journal.errors)
        self._fit: dict[tuple[int, ...], int] = {}
        self._pending: Future[None] | None = None
        self._asked = Event()
        self._news: list[Callable[[], None]] = []  # of the thread that writes, told in the one that was called
        self.watch = Stopwatch(work.model.restorer, work.device)
        self.say: Callable[[str], None] = nothing
        self.finished: Callable[[Job, dict[str, Any]], None] | None = None

    def run(self, *, bar: bool) -> Tally:
        sweep(self.plan.jobs)
        self.journal.settle([job.source for job in self.plan.jobs])
        shown = Bar(f"{self.work.verb}ing", self.tally.total, unit="pictures") if bar else None
        start, watch = time.perf_counter(), self.watch
        try:
            with until_asked(_PATIENCE_S) as self._asked, shown or nullcontext(), watch.watching(), ThreadPoolExecutor(1, "snowmelt-write") as pool:
                for failure in self.plan.refused:
                    self._fail(failure)
                    self._advance(shown, 1)
                for batch in self._batches(self._unfinished(shown), shown):
                    if self._asked.is_set():
                        break
                    made = self._computed(batch)
                    self._settle()
                    self._pending = pool.submit(self._keep, made, shown)
                    if not self._overlaps(batch):
                        self._settle()
                    del batch, made  # or they would be in memory until the next but one is read
                self._settle()
                if self._asked.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._settle()  # a disk that is full is the better reason
            through = self.tally.done + self.tally.kept + len(self.tally.clean) + len(self.tally.unsure)
            if through + len(self.tally.failed) < self.tally.total:
                raise Stopped(f"interrupted: {through:,} of {self.tally.total:,} pictures are done; the same command goes on") from None
        finally:
            self._clock(time.perf_counter() - start, watch.seconds)
            self.journal.close()
        return self.tally

    def _clock(self, seconds: float, network_s: float | None) -> None:
        """How fast it went, as far as it went."""
        if n := self.tally.done + len(self.tally.clean) + len(self.tally.unsure):
            self.tally.pace = Pace(n, self.tally.megapixels, seconds, network_s)
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

    def _batches(self, jobs: Sequence[Job], shown: Bar | None) -> Iterator[list[Loaded]]:
        """Runs of pictures of one shape, and of one severity where the model is a table; one picture each unless told."""
        waiting: list[Loaded] = []
        for job, get in ahead(jobs, lambda job: load(self.work, job)):
            if self._asked.is_set():
                return
            try:
                one = get()
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                self._settle()
                self._fail(Failure(job.source, reason(error), broken=isinstance(error, UnreadableImage) and error.broken and not job.named))
                self._advance(shown, 1)
                continue
            del get  # it holds the picture too
            if (verdict := self.work.verdict(one.estimate)) != "damaged":
                self._settle()
                self._leave(one, verdict)
                self._advance(shown, 1)
                continue
            alike = bool(waiting) and self._alike(waiting[0], one)
            most = self._most(one, shared=alike)
            full = len(waiting) >= most or (len(waiting) + 1) * one.x[0].numel() > _BATCH_PIXELS
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

    def _most(self, one: Loaded, *, shared: bool) -> int:
        """How many pictures of this shape share a call; measured once there is another to share it with."""
        if self.batch is not None:
            return self.batch
        if 2 * one.x[0].numel() > _BATCH_PIXELS:
            return 1
        if not isinstance(self.work.model.restorer, nn.Module):
            return UNMEASURED
        shape = tuple(one.x.shape)
        if shape not in self._fit:
            if not shared:
                return 2
            try:
                with self.watch.paused():
                    self._fit[shape] = fitting(cost(self.work, one), torch.device(self.work.device))
            except Exception:  # it will fail again when it is its turn, and then by its name
                self._fit[shape] = 1
        return self._fit[shape]

    def _overlaps(self, batch: list[Loaded]) -> bool:
        """Whether the next pictures may be computed while these are written: large ones fill the memory."""
        return sum(one.x[0].numel() for one in batch) <= _OVERLAP_PIXELS

    def _alike(self, a: Loaded, b: Loaded) -> bool:
        return a.x.shape == b.x.shape and (self.work.model.degradation.knots is None or a.severity == b.severity)

    def _computed(self, batch: list[Loaded]) -> list[_Made]:
        """The walks of a batch; where that fails, of its pictures alone."""
        start = time.perf_counter()
        try:
            states = compute(self.work, batch)
            # Here and not where it is written: only the main thread can be interrupted, and N walks take N times as long as one.
            spreads = [self._spread(one, states, row) for row, one in enumerate(batch)] if self.work.samples > 1 else []
        except Exception as error:  # whatever a picture does to a network or a plug-in, the others go on
            if len(batch) > 1:
                return [made for one in batch for made in self._computed([one])]
            self._settle()
            self._fail(Failure(batch[0].job.source, reason(error)))
            return [_Made(batch, None, [], 0.0)]
        return [_Made(batch, states, spreads, (time.perf_counter() - start) / len(batch))]

    def _spread(self, one: Loaded, states: list[State], row: int) -> tuple[Tensor, Tensor]:
        """The mean of several restorations of a picture, and how far it may be off; on the CPU."""
        work, degraded = self.work, states[0].x[row]
        seen = degraded if work.degrade else one.x
        state = State(degraded[None], one.severity, {name: value[row : row + 1] for name, value in states[0].z.items()})
        mean, uncertainty = several(work, seen[None].to(work.device), state, one.job.key, one.mask)
        return mean[0].cpu(), uncertainty[0].cpu()

    def _settle(self) -> None:
        """Wait for what is being written, so that the journal has the order of the plan; what went wrong with it is raised here."""
        if self._pending is None:
            return
        error, self._pending = self._pending.exception(), None
        while self._news:
            self._news.pop(0)()
        if error is not None:
            raise error

    def _keep(self, made: list[_Made], shown: Bar | None) -> None:
        """Write what was computed and note it, in the order of the plan; in the thread that writes."""
        for one in made:
            if one.states is not None:
                self._written(one, one.states)
            self._advance(shown, len(one.batch))

    def _written(self, made: _Made, states: list[State]) -> None:
        for row, one in enumerate(made.batch):
            try:
                entry = self._write(one, states, row, made.spreads[row] if made.spreads else None) | {"seconds": round(made.seconds, 3)}
            except OSError as error:
                if error.errno in _NO_MORE:
                    raise
                self._fail(Failure(one.job.source, reason(error)), later=True)
            except ValueError as error:
                self._fail(Failure(one.job.source, reason(error)), later=True)
            else:
                self.tally.done += 1
                self.tally.last = one.job.target
                self.tally.greyed += one.greyed
                self.tally.megapixels += entry["width"] * entry["height"] / 1e6
                self.journal.done(one.job.source, one.job.target, entry)
                if self.finished:
                    self._news.append(partial(self.finished, one.job, entry))

    def _write(self, one: Loaded, states: list[State], row: int, spread: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
        """Everything of one picture, its restoration last: that it is there says that all of it is."""
        degraded, restored, work = states[0].x[row], finished(one, states[-1].x[row]), self.work
        entry: dict[str, Any] = {"severity": one.severity, "width": restored.shape[2], "height": restored.shape[1]}
        entry |= self._damage(one)
        note = {**work.settings(), "severity": one.severity, **self._damage(one)}
        if work.degrade:
            write(lossless(one.job.beside("degraded")), upright(degraded, one.turn))
            entry |= {"degraded_psnr_db": psnr(degraded, one.x), "restored_psnr_db": psnr(restored, upright(one.x, one.turn))}
        if work.trajectory:
            trajectory.save(one.job.beside("trajectory"), states, row, endpoint=work.endpoint is not None)
        if spread is not None:
            save(one.job.beside("mean"), finished(one, spread[0]), one.picture, note)
            save(one.job.beside("uncertainty"), upright(spread[1], one.turn), one.picture, note)
        save(one.job.target, restored, one.picture, note)
        return entry

    def _leave(self, one: Loaded, verdict: str) -> None:
        """A picture that is clean, or that the model cannot judge, stays as it is: the file itself is copied."""
        try:
            if one.job.source.suffix == one.job.target.suffix:
                with replacing(one.job.target) as temporary:
                    shutil.copyfile(one.job.source, temporary)
            else:
                save(one.job.target, one.picture.x, one.picture, None)
        except OSError as error:
            if error.errno in _NO_MORE:
                raise
            self._fail(Failure(one.job.source, reason(error)))
            return
        left = self.tally.clean if verdict == "clean" else self.tally.unsure
        left.append(one.job.source)
        self.tally.megapixels += one.picture.x[0].numel() / 1e6
        entry = {"left as it is": verdict, **self._damage(one)}
        self.journal.done(one.job.source, one.job.target, entry)
        if self.finished:
            self.finished(one.job, entry)

    def _damage(self, one: Loaded) -> dict[str, str]:
        """What the estimator says of a picture, in words."""
        return {} if one.estimate is None else {"damage": one.estimate.describe(self.work.model.degradation)[0]}

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


def cost(work: Work, one: Loaded) -> int:
    """The bytes that each of several pictures such as this one takes, in the first moves of their walks, uncompiled."""
    walk = None if work.sampler is None else replace(work.sampler, steps=2, times=(), snap=False)
    short, x = replace(work, sampler=walk, trajectory=False), one.x.to(work.device)[None]
    mask = None if one.mask is None else one.mask.to(work.device)

    def walked(n: int) -> object:
        keys = [f"{one.job.key}/{i}" for i in range(n)]
        return short.walk(x.expand(n, -1, -1, -1), one.severity, keys, None if mask is None else mask.expand(n, -1, -1, -1))

    with uncompiled(work.model.restorer):
        return max(peak_bytes(lambda: walked(2)) - peak_bytes(lambda: walked(1)), 1)


def nothing(text: str) -> None:
    """Say nothing."""
