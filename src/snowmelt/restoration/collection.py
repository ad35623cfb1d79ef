"""Collections of pictures: how they are read, share calls, are written and scored; the loop itself is :mod:`snowmelt.restoration.loop`."""

import shutil
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snowmelt.data.images import upright, write
from snowmelt.disk import replacing
from snowmelt.restoration import trajectory
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import load
from snowmelt.restoration.loop import Loop, Made
from snowmelt.restoration.memory import UNMEASURED, fitting, peak_bytes, uncompiled
from snowmelt.restoration.picture import Loaded, compute, finished, lossless, psnr, save
from snowmelt.restoration.plan import Job, Plan
from snowmelt.restoration.work import Work, several
from snowmelt.types import State

_BATCH_PIXELS = 250_000
_OVERLAP_PIXELS = 1_000_000  # what is written is in memory too


class _Walked(NamedTuple):
    """The walk of a batch of pictures; mean and spread of each, where several samples were asked for."""

    states: list[State]
    spreads: list[tuple[Tensor, Tensor]]


class Collection(Loop[Loaded]):
    """One run over a plan of pictures."""

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        super().__init__(work, jobs, journal, batch, overwrite=overwrite)
        self._fit: dict[tuple[int, ...], int] = {}

    def load(self, job: Job) -> Loaded:
        """See :meth:`Loop.load`."""
        return load(self.work, job)

    def most(self, one: Loaded, *, shared: bool) -> int:
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

    def full(self, batch: list[Loaded], one: Loaded) -> bool:
        """See :meth:`Loop.full`."""
        return (len(batch) + 1) * one.x[0].numel() > _BATCH_PIXELS

    def overlaps(self, batch: list[Loaded]) -> bool:
        """See :meth:`Loop.overlaps`."""
        return sum(one.x[0].numel() for one in batch) <= _OVERLAP_PIXELS

    def alike(self, a: Loaded, b: Loaded) -> bool:
        """Whether they are of one shape, and of one severity where the model is a table."""
        return a.x.shape == b.x.shape and (self.work.model.degradation.knots is None or a.severity == b.severity)

    def weight(self, one: Loaded) -> float:
        """Its megapixels, as written."""
        return one.x[0].numel() / 1e6

    def compute(self, batch: list[Loaded]) -> _Walked:
        """The walks of a batch."""
        states = compute(self.work, batch)
        # Here and not where it is written: only the main thread can be interrupted, and N walks take N times as long as one.
        return _Walked(states, [self._spread(one, states, row) for row, one in enumerate(batch)] if self.work.samples > 1 else [])

    def _spread(self, one: Loaded, states: list[State], row: int) -> tuple[Tensor, Tensor]:
        """The mean of several restorations of a picture, and how far it may be off; on the CPU."""
        work, degraded = self.work, states[0].x[row]
        seen = degraded if work.degrade else one.x
        state = State(degraded[None], one.severity, {name: value[row : row + 1] for name, value in states[0].z.items()})
        mean, uncertainty = several(work, seen[None].to(work.device), state, one.job.key, one.mask)
        return mean[0].cpu(), uncertainty[0].cpu()

    def write(self, made: Made[Loaded], row: int) -> dict[str, Any]:
        """Everything of one picture, its restoration last: that it is there says that all of it is."""
        one, work = made.batch[row], self.work
        states, spreads = made.result
        degraded, restored = states[0].x[row], finished(one, states[-1].x[row])
        entry: dict[str, Any] = {"severity": one.severity, "width": restored.shape[2], "height": restored.shape[1]}
        entry |= self.damage(one)
        note = {**work.settings(), "severity": one.severity, **self.damage(one)}
        if work.degrade:
            write(lossless(one.job.beside("degraded")), upright(degraded, one.turn))
            entry |= {"degraded_psnr_db": psnr(degraded, one.x), "restored_psnr_db": psnr(restored, upright(one.x, one.turn))}
        if work.trajectory:
            trajectory.save(one.job.beside("trajectory"), states, row, endpoint=work.endpoint is not None, animation=work.animation)
        if spreads:
            save(one.job.beside("mean"), finished(one, spreads[row][0]), one.picture, note)
            save(one.job.beside("uncertainty"), upright(spreads[row][1], one.turn), one.picture, note)
        save(one.job.target, restored, one.picture, note)
        self.tally.greyed += one.greyed
        return entry

    def leave(self, one: Loaded, verdict: str) -> dict[str, Any]:
        """A picture that is clean, or that the model cannot judge, stays as it is: the file itself is copied."""
        if one.job.source.suffix == one.job.target.suffix:
            with replacing(one.job.target) as temporary:
                shutil.copyfile(one.job.source, temporary)
        else:
            save(one.job.target, one.picture.x, one.picture, None)
        return {"left as it is": verdict, **self.damage(one)}


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
