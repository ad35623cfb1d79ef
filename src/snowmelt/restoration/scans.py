r"""Scans restored: what a file shows of its own gaps, and what is written.

A model of missing rings, azimuths or rays has to be told which cells are known, and the file itself says it:

=============  ===================================================================================================
beam-drop      the rings with returns: all of them every 2nd, 4th, ... of the sensor's; so many times it was halved
azimuth-drop   the same of columns
ray-drop       every cell with a return, and those with none around them either: sky, which no ray that got lost hides
=============  ===================================================================================================

So its severity need not be given either. What is known stays as it was measured, bit for bit, also points that share a cell, and whatever the
network thinks of them; new returns are put in the centres of their cells (:meth:`snowmelt.sensor.Projected.points`). With any other degradation
all returns are the network's, each moved along its own ray.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.door import Unreadable
from snowmelt.data.scans import Cloud, ScanDoor
from snowmelt.degradations.scan import AzimuthDrop, BeamDrop, Dropping, RayDrop
from snowmelt.metrics import measures_for
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import severity_for
from snowmelt.restoration.plan import Job, Plan
from snowmelt.restoration.whole import Taken, WholeCollection
from snowmelt.restoration.work import Work
from snowmelt.sensor import returns
from snowmelt.signals import Scan

_NEAR = 2  # cells around a lost ray in which something came back
_MOST_STRAYS = 0.05  # of the returns, in rings that ought to be empty
_EMPTY = 0.05  # of the returns that the ring in the middle has: fewer, and a ring is missing
_MOST_GAPS = 1 / 3  # of the rings that ought to have returns, between the first and the last that do


class ScanCollection(WholeCollection):
    """One run over a plan of scans."""

    amount: ClassVar[str] = "million_cells"
    sentences: tuple[str, ...] = ("{n} had points that the sensor cannot have seen: they are left out; restored.jsonl says how many",)

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        signal = work.model.signal
        if not isinstance(signal, Scan):
            raise ValueError(f"a model of {signal.many} restores no scans")
        super().__init__(work, jobs, journal, batch, overwrite=overwrite)
        self.door: ScanDoor = ScanDoor(signal)
        self.scan = signal

    def load(self, job: Job) -> Taken:
        """See :meth:`Loop.load`."""
        reading = self.door.read(job.source)
        d, x = self.work.model.degradation, reading.x
        severity, estimate = self.work.severity, None
        if severity is None and isinstance(d, Dropping) and self.work.model.estimator is None:
            severity = missing(d, x, job)
        else:
            severity, estimate = severity_for(self.work, x)
        return Taken(job, reading, severity, estimate, known(d, x, severity)[None, None].float() if self.work.shows else None)

    def compute(self, batch: list[Taken]) -> tuple[Tensor, Tensor]:
        """See :meth:`WholeCollection.compute`; what is known is put back, and what is no return is none in all channels."""
        one, (before, after) = batch[0], super().compute(batch)
        after = torch.where(returns(after), after.clamp(-1, 1), -1.0)
        if one.mask is not None:
            after = torch.where((one.mask[0] > 0) | returns(one.x), one.x, after)
        elif self.work.degrade and isinstance(self.work.model.degradation, Dropping):
            after = torch.where(((before == one.x).all(0) & returns(before)), before, after)
        return before, after

    def scores(self, clean: Tensor, degraded: Tensor, restored: Tensor) -> dict[str, float]:
        """As an evaluation scores: the mean error of ranges in m over all returns of the file, lost ones as 0 m, and the share of wrong returns."""
        found: dict[str, float] = {}
        measures = measures_for(self.scan)
        for name, x in (("degraded", degraded), ("restored", restored)):
            parts = measures.each(x[None], clean[None])
            found |= {f"{name}_{part}": float(parts[part][0]) for part in ("mae_m", "return_error")}
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def write(self, made: Any, row: int) -> dict[str, Any]:
        """See :meth:`Loop.write`."""
        entry = super().write(made, row)
        reading: Cloud = made.batch[row].reading
        entry["returns"] = [int(returns(reading.x).sum()), int(returns(made.result[1]).sum())]
        if (found := reading.projected) is not None:
            left = {"invalid": found.invalid, "far": found.far, "outside": found.outside}
            if any(left.values()):
                self.remark(0)
                entry["points left out"] = left
        return entry


def known(d: object, x: Tensor, severity: float) -> Tensor:
    """Which cells of a scan x (3, h, w) a model of d at that severity may take for measured: (h, w) bool."""
    there = returns(x)
    if isinstance(d, BeamDrop | AzimuthDrop):
        every = 2 ** round(severity * d.knots)
        axis = 0 if isinstance(d, BeamDrop) else 1
        lines = torch.arange(x.shape[1 + axis]) % every == 0
        whole: Tensor = (lines[:, None] if axis == 0 else lines[None]).expand_as(there)
        return whole
    around = functional.pad(there.float()[None, None], (_NEAR, _NEAR, 0, 0), mode="circular")
    around = functional.max_pool2d(functional.pad(around, (0, 0, _NEAR, _NEAR)), 2 * _NEAR + 1, 1)[0, 0]
    sky: Tensor = around == 0
    found: Tensor = there | sky
    return found


def missing(d: Dropping, x: Tensor, job: Job) -> float:
    """The severity that a scan x (3, h, w) shows by what it lacks.

    Raises:
        Unreadable: it lacks nothing that d takes away, or more than that.
    """
    there = returns(x)
    if isinstance(d, BeamDrop | AzimuthDrop):
        what = "rings" if isinstance(d, BeamDrop) else "azimuths"
        count = there.sum(1 if isinstance(d, BeamDrop) else 0)
        at = torch.arange(len(count))
        for step in range(d.knots, 0, -1):
            if int(count[at % 2**step > 0].sum()) <= _MOST_STRAYS * int(count.sum()):
                _require_rest(count, 2**step, what, job)
                return step / d.knots
        used = int((count > 0).sum())
        said = f"{used} of {len(count)} {what} have returns, and not only every second, fourth, ... of them: none that this model fills is missing"
        raise Unreadable(job.source, f"{said}; say how degraded it is (--severity), or --degrade it, if it is clean", broken=False)
    if isinstance(d, RayDrop):
        unknown = ~known(d, x, 1.0)
        return min(1.0, float(unknown.sum()) / max(int((unknown | there).sum()), 1) / d.lost)
    raise Unreadable(job.source, "how degraded it is cannot be seen: give --severity", broken=False)


def _require_rest(count: Tensor, every: int, what: str, job: Job) -> None:
    """Refuse a file whose lines, of which every so many should have returns, (n,), lack more than those between: they are no sky.

    Raises:
        Unreadable: they do.
    """
    at = torch.arange(len(count))
    known = count[::every]
    fill = f"this model fills every {_ordinal(every)}"
    sparser = every
    while 2 * sparser < len(count) and int(count[at % (2 * sparser) > 0].sum()) <= _MOST_STRAYS * int(count.sum()):
        sparser *= 2
    way_out = "give a model of so few, or the file with those between"
    if sparser > every:
        raise Unreadable(job.source, f"only every {_ordinal(sparser)} of the {what} has returns, and {fill}: {way_out}", broken=False)
    shown = (known > 0).nonzero().flatten()
    inside = known[int(shown[0]) : int(shown[-1]) + 1] if len(shown) else known
    gaps = int((inside <= _EMPTY * float(known[known > 0].double().median())).sum()) if len(shown) else 0
    if what == "rings" and gaps > _MOST_GAPS * len(inside):  # azimuths may look at the sky, all of one side
        said = f"of {len(inside)} rings that should have returns, every {_ordinal(every)}, {gaps} have hardly any, and {fill}"
        raise Unreadable(job.source, f"{said}: {way_out}", broken=False)


def _ordinal(n: int) -> str:
    """2nd, 4th, 32nd."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(n % 10 if n % 100 not in (11, 12, 13) else 0, "th")
    return f"{n}{suffix}"
