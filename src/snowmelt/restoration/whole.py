"""Collections of samples that are restored whole, through the door of their signal: scans, and whatever signal has no way of its own."""

import math
import shutil
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snowmelt.data.door import Door, Reading, door_for
from snowmelt.disk import replacing
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import severity_for
from snowmelt.restoration.loop import Loop, Made
from snowmelt.restoration.picture import Ready
from snowmelt.restoration.plan import Job, Plan
from snowmelt.restoration.work import Work
from snowmelt.restorers import Estimate
from snowmelt.types import State


@dataclass(frozen=True, eq=False)
class Taken(Ready):
    """A file that was read, and where its walk starts; `mask` (1, 1, ...) is 1 where the sample is known, if that is said."""

    job: Job
    reading: Reading
    severity: float
    estimate: Estimate | None = None
    mask: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """The sample (c, *d)."""
        return self.reading.x


class WholeCollection(Loop[Taken]):
    """One run over a plan of files that are read, restored and written whole, one in each call."""

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        super().__init__(work, jobs, journal, batch, overwrite=overwrite)
        self.door: Door = door_for(work.model.signal)

    def load(self, job: Job) -> Taken:
        """See :meth:`Loop.load`."""
        reading = self.door.read(job.source)
        severity, estimate = severity_for(self.work, reading.x)
        return Taken(job, reading, severity, estimate, self.mask_of(reading))

    def mask_of(self, reading: Reading) -> Tensor | None:
        """What of a sample is known (1, 1, ...), for models that have to be told and files that say it."""
        return None

    def compute(self, batch: list[Taken]) -> tuple[Tensor, Tensor]:
        """The sample as the walk starts, degraded if that was asked for, and as it ends: (c, *d) each, on the CPU."""
        one = batch[0]
        states: list[State] = self.work.walk(one.x[None].to(self.work.device), one.severity, [one.job.key], one.mask)
        return states[0].x[0].cpu(), states[-1].x[0].cpu()

    def weight(self, one: Taken) -> float:
        """See :meth:`Loop.weight`: millions of cells."""
        return one.x[0].numel() / 1e6

    def scores(self, clean: Tensor, degraded: Tensor, restored: Tensor) -> dict[str, float]:
        """How good a restoration of what was degraded here is: samples (c, *d)."""
        return {"degraded_rmse": rmse(degraded, clean), "restored_rmse": rmse(restored, clean)}

    def write(self, made: Made[Taken], row: int) -> dict[str, Any]:
        """See :meth:`Loop.write`."""
        one = made.batch[row]
        degraded, restored = made.result
        entry: dict[str, Any] = {"severity": one.severity, "shape": list(restored.shape), **self.damage(one)}
        if self.work.degrade:
            self.door.write(one.job.beside("degraded"), degraded, one.reading)
            entry |= self.scores(one.x, degraded, restored)
        self.door.write(one.job.target, restored, one.reading)
        return entry

    def leave(self, one: Taken, verdict: str) -> dict[str, Any]:
        """See :meth:`Loop.leave`."""
        copied(one.job)
        return {"left as it is": verdict, **self.damage(one)}


def copied(job: Job) -> None:
    """The file itself, as its own result."""
    with replacing(job.target) as temporary:
        shutil.copyfile(job.source, temporary)


def rmse(x: Tensor, clean: Tensor) -> float:
    """The root mean square of an error."""
    return math.sqrt(float((x - clean).double().square().mean()))
