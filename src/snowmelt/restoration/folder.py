"""Collections: every picture in folders of them, whatever happens to one of them.

For each picture, in the order of the plan: read it (while the one before is computed), restore it, write it whole or not at all, note
it in the journal. So at any moment each output exists once and whole, or not at all, and the same call goes on where the last
one was stopped. One large picture is in flight and one is being read: memory does not grow with the collection.
"""

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from snowmelt import files
from snowmelt.data.images import MAX_PIXELS, upright, write
from snowmelt.degradations import Compose, Mixture, Pixelate
from snowmelt.model import Model
from snowmelt.registry import spec
from snowmelt.restoration import trajectory
from snowmelt.restoration.identity import Opened, opened
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import ahead, estimator_of, load
from snowmelt.restoration.picture import Loaded, compute, finished, lossless, psnr, reason, save
from snowmelt.restoration.plan import Failure, Job, Plan, plan, sweep
from snowmelt.restoration.preview import Preview, preview_of
from snowmelt.restoration.walks import Walk, choose, within
from snowmelt.restoration.work import Work, several, with_precision, with_tiles
from snowmelt.training.loop import Stopped
from snowmelt.training.progress import Bar
from snowmelt.types import EMPTY, State

_BATCH_PIXELS = 250_000
# These are about the disk, not about one picture: the next would fail as well.
_NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}


@dataclass
class Tally:
    """What became of the pictures of a collection, or of a shard of it.

    Attributes:
        total: how many there were.
        done: restored now.
        kept: there already, and left alone.
        failed: could not be restored.
        how: the walk and where it starts, in words.
        greyed: in colour, but restored in grey, because the model knows no other.
        elsewise: of `kept`, made with other settings.
        clean: left as they are, because nothing seems to be wrong with them.
        unsure: left as they are, because the model cannot judge them.
        last: the file that was written last.
        errors: the file that lists what could not be restored.
        preview: the sheet and the estimate, if that was all that was asked for.
    """

    total: int
    how: str = ""
    done: int = 0
    kept: int = 0
    failed: list[Failure] = field(default_factory=list)
    greyed: int = 0
    elsewise: int = 0
    clean: list[Path] = field(default_factory=list)
    unsure: list[Path] = field(default_factory=list)
    last: Path | None = None
    errors: Path | None = None
    preview: Preview | None = None


def restore_folder(
    inputs: str | Path | Sequence[str | Path],
    *,
    model: Model | Opened | str | Path = "photo",
    out: str | Path | None = None,
    severity: float | None = None,
    sampler: Walk = "default",
    seed: int = 0,
    degrade: bool = False,
    overwrite: bool = False,
    save_trajectory: bool = False,
    shard: tuple[int, int] = (1, 1),
    preview: int | None = None,
    mask: str | Path | None = None,
    samples: int = 1,
    tile: int | None = None,
    consistent: bool | None = None,
    colour: bool = False,
    enlarge: int = 1,
    anyway: bool = False,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    device: str = "cpu",
    bar: bool = False,
    say: Callable[[str], None] | None = None,
    finished: Callable[[Job, dict[str, Any]], None] | None = None,
) -> Tally:
    """Restore pictures in files, and folders of them, into files.

    A picture that cannot be restored is named, in the result and in OUT/errors.jsonl, and the others go on. Results appear as
    they finish; what is there already is skipped.

    Args:
        inputs: pictures, and folders of them.
        model: a model (see also :func:`~snowmelt.restoration.identity.opened`), a run directory, or the name of one in the package.
        out: the folder to write to; None for a single picture, which then gets NAME-restored beside it.
        severity: how degraded the pictures are, in [0, 1]; None lets the model estimate it, if it can, or is blind to it.
        sampler: a sampler, its spec, "default", or None for one call.
        seed: of what is random.
        degrade: the pictures are clean: degrade them first, to severity 1 unless told.
        overwrite: restore again what is there already.
        save_trajectory: keep every step of every walk.
        shard: (i, n), the i-th of n shares of the work; results are those of the whole.
        preview: restore only so many, evenly spread, onto a sheet, and say how long all would take.
        mask: a picture, white where the damage is, or a folder of them.
        samples: walks a picture.
        tile: side of a tile in px.
        consistent: whether the result, degraded again, has to agree with the picture; None is the model's own choice.
        colour: pictures without colour may get some.
        enlarge: 2 doubles height and width.
        anyway: restore also what looks clean, and what the model is unsure of.
        batch: pictures of one size that share a call: faster for small ones, and the last digits depend on who shares it.
        max_pixels: larger pictures are refused.
        device: where to compute.
        bar: show progress on stderr.
        say: told, in words, what is worth knowing now.
        finished: told of every finished picture, with what the journal says of it.

    Raises:
        ValueError: an option that contradicts another or lies outside its bounds, a plan that cannot be carried out.
        FileNotFoundError: an input or the model does not exist.
        OSError: the output cannot be written, or no longer.
        Stopped: interrupted from the keyboard; what is finished stays.
    """
    given = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(one) for one in inputs]
    agree(given, severity, shard, preview, mask, samples, tile, batch, max_pixels)
    whole = plan(given, None if out is None else Path(out))
    found, name, weights = opened(model)
    if degrade and found.degradation.needs:
        raise ValueError(f"degrade = True cannot make up what {spec(found.degradation)} turns pictures into: translate such pictures instead")
    if severity is None and (degrade or isinstance(found.degradation, Mixture)):
        severity = 1.0  # of a mixture, 1 is whatever the damage was
    if severity is None:
        estimator_of(found)
    work = Work(found.to(device), name, weights, severity, _walk(found, sampler, knows_draw=degrade), device, seed, degrade, save_trajectory)
    work = replace(work, mask=None if mask is None else Path(mask), samples=samples, tile=tile, consistent=consistent, max_pixels=max_pixels)
    work = replace(work, colour=colour, enlarge=enlarge, anyway=anyway)
    _enlarges(work)
    if consistent and work.blind and mask is None:
        raise ValueError("a mixture says nothing of what was measured: consistent = True can keep what is known only where a mask says what that is")
    work = with_precision(work if tile is None else with_tiles(work, tile))
    work.rehearse()
    root = Path(out) if out is not None else None
    writable(root or given[0].absolute().parent)
    if preview is not None:
        return _preview(work, whole, root or given[0].parent, preview, alone=root is None)
    mine = whole.share(shard)
    collection = Collection(work, mine, Journal(root, shard, work.settings(), f"{work.verb}ed"), batch, overwrite=overwrite)
    collection.say, collection.finished = say or _nothing, finished
    return collection.run(bar=bar)


class Collection:
    """One run over a plan: the loop, and what is counted in it."""

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int, *, overwrite: bool) -> None:
        self.work, self.plan, self.journal, self.batch, self.overwrite = work, jobs, journal, batch, overwrite
        self.tally = Tally(len(jobs.jobs) + len(jobs.refused), work.how(), errors=journal.errors)
        self.say: Callable[[str], None] = _nothing
        self.finished: Callable[[Job, dict[str, Any]], None] | None = None

    def run(self, *, bar: bool) -> Tally:
        sweep(self.plan.jobs)
        self.journal.settle([job.source for job in self.plan.jobs])
        shown = Bar(f"{self.work.verb}ing", self.tally.total, unit="pictures") if bar else None
        try:
            with shown or nullcontext():
                for failure in self.plan.refused:
                    self._fail(failure)
                    self._advance(shown, 1)
                for batch in self._batches(self._unfinished(shown), shown):
                    self._restore(batch)
                    self._advance(shown, len(batch))
                    del batch  # or it would be in memory until the next but one is read
        except KeyboardInterrupt:
            done = self.tally.done + self.tally.kept
            raise Stopped(f"interrupted: {done:,} of {self.tally.total:,} pictures are done; the same command goes on") from None
        finally:
            self.journal.close()
        return self.tally

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
            try:
                one = get()
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                self._fail(Failure(job.source, reason(error)))
                self._advance(shown, 1)
                continue
            del get  # it holds the picture too
            if (verdict := self.work.verdict(one.estimate)) != "damaged":
                self._leave(one, verdict)
                self._advance(shown, 1)
                continue
            full = len(waiting) >= self.batch or (len(waiting) + 1) * one.x[0].numel() > _BATCH_PIXELS
            if waiting and (full or not self._alike(waiting[0], one)):
                yield waiting
                waiting = []
            waiting.append(one)
            del one
            if self.batch == 1:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _alike(self, a: Loaded, b: Loaded) -> bool:
        return a.x.shape == b.x.shape and (self.work.model.degradation.knots is None or a.severity == b.severity)

    def _restore(self, batch: list[Loaded]) -> None:
        start = time.perf_counter()
        try:
            states = compute(self.work, batch)
        except Exception as error:  # whatever a picture does to a network or a plug-in, the others go on
            if len(batch) > 1:
                for one in batch:
                    self._restore([one])
            else:
                self._fail(Failure(batch[0].job.source, reason(error)))
            return
        seconds = (time.perf_counter() - start) / len(batch)
        for row, one in enumerate(batch):
            try:
                entry = self._write(one, states, row, seconds)
            except OSError as error:
                if error.errno in _NO_MORE:
                    raise
                self._fail(Failure(one.job.source, reason(error)))
            except ValueError as error:
                self._fail(Failure(one.job.source, reason(error)))
            else:
                self.tally.done += 1
                self.tally.last = one.job.target
                self.tally.greyed += one.greyed
                self.journal.done(one.job.source, one.job.target, entry)
                if self.finished:
                    self.finished(one.job, entry)

    def _write(self, one: Loaded, states: list[State], row: int, seconds: float) -> dict[str, Any]:
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
        if work.samples > 1:
            seen = degraded if work.degrade else one.x
            state = State(degraded[None], one.severity, {name: value[row : row + 1] for name, value in states[0].z.items()})
            mean, uncertainty = several(work, seen[None].to(work.device), state, one.job.key, one.mask)
            save(one.job.beside("mean"), finished(one, mean[0].cpu()), one.picture, note)
            save(one.job.beside("uncertainty"), upright(uncertainty[0].cpu(), one.turn), one.picture, note)
        save(one.job.target, restored, one.picture, note)
        return entry | {"seconds": round(seconds, 3)}

    def _leave(self, one: Loaded, verdict: str) -> None:
        """A picture that is clean, or that the model cannot judge, stays as it is: the file itself is copied."""
        try:
            if one.job.source.suffix == one.job.target.suffix:
                with files.replacing(one.job.target) as temporary:
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
        entry = {"left as it is": verdict, **self._damage(one)}
        self.journal.done(one.job.source, one.job.target, entry)
        if self.finished:
            self.finished(one.job, entry)

    def _damage(self, one: Loaded) -> dict[str, str]:
        """What the estimator says of a picture, in words."""
        return {} if one.estimate is None else {"damage": one.estimate.describe(self.work.model.degradation)[0]}

    def _fail(self, failure: Failure) -> None:
        self.tally.failed.append(failure)
        self.journal.failed(failure.source, failure.reason)
        self.say(f"left out {failure.source}: {failure.reason}")

    @staticmethod
    def _advance(shown: Bar | None, n: int) -> None:
        if shown is not None:
            shown.advance(n)


def agree(
    inputs: Sequence[Path],
    severity: float | None,
    shard: tuple[int, int],
    preview: int | None,
    mask: str | Path | None,
    samples: int,
    tile: int | None,
    batch: int,
    max_pixels: int,
) -> None:
    """Refuse, with a ValueError or FileNotFoundError, options that nothing can be done with."""
    if not inputs:
        raise ValueError("restore needs pictures, or folders of pictures")
    run = next((one for one in inputs if (one / "model.json").is_file()), None)
    if run is not None:
        raise ValueError(f"{run} holds a model, not pictures to restore: give it as --model {run}")
    if severity is not None:
        within(severity)
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard = {shard[0]}/{shard[1]} is not i/n with 1 <= i <= n: 2/8 is the second of eight shares")
    for name, value in {"preview": preview, "samples": samples, "tile": tile, "batch": batch, "max_pixels": max_pixels}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value} lies under 1")
    if mask is not None and not Path(mask).exists():
        raise FileNotFoundError(f"{mask} does not exist: give a mask, or a folder of masks")


def _enlarges(work: Work) -> None:
    """Refuse to enlarge with a model that has not learned it."""
    parts = work.model.degradation.parts if isinstance(work.model.degradation, Mixture | Compose) else (work.model.degradation,)
    most = max((2**part.levels for part in parts if isinstance(part, Pixelate)), default=1)
    if work.enlarge not in (1, *(2**i for i in range(1, 13) if 2**i <= most)):
        learned = f"by 2 to {most}" if most > 1 else "nothing"
        raise ValueError(f"enlarge = {work.enlarge}: this model has learned to enlarge {learned} (pixelate), in powers of 2")


def _walk(model: Model, sampler: Walk, *, knows_draw: bool) -> Any:
    """The sampler of a choice; what is asked of the draw is only which names it has, and what nobody could know it never has."""
    like = torch.zeros(1, 3, 1, 1)
    drawn = model.draw(like, torch.Generator()) if knows_draw else EMPTY
    return choose(model, State(like, 1.0, {name: value for name, value in drawn.items() if name not in model.degradation.hidden}), sampler)


def _preview(work: Work, whole: Plan, folder: Path, n: int, *, alone: bool) -> Tally:
    def one(job: Job) -> tuple[Loaded, list[State]]:
        loaded = load(work, job)
        if work.verdict(loaded.estimate) != "damaged":  # it would be left as it is, in no time
            return loaded, [State(upright(loaded.x, loaded.turn)[None], 0.0)]
        states = compute(work, [loaded])
        return loaded, [states[0]._replace(x=upright(states[0].x, loaded.turn)), states[-1]._replace(x=finished(loaded, states[-1].x[0])[None])]

    path = whole.jobs[0].source.with_name(f"{whole.jobs[0].source.stem}-preview.png") if alone else folder / "preview.png"
    found, failed = preview_of(whole.jobs, one, n, path, reason, max_pixels=work.max_pixels)
    return Tally(len(whole.jobs) + len(whole.refused), work.how(), failed=failed, preview=found)


def writable(folder: Path) -> None:
    """Refuse an output folder in which nothing can be written, before anything is computed; leaves no trace.

    Raises:
        OSError: nothing can.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write into {folder}: {error.strerror or error}; choose another --out") from error


def _nothing(text: str) -> None:
    """Say nothing."""
