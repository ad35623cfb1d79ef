"""How long the network waits: the share of the time that goes into data, draws and degradation before it can start.

On a CPU that is the time spent there, on the clock. A GPU works on while the CPU prepares, so there it is the time between two marks in the GPU's
own queue of work, one before and one after what is waited for: nothing, if the queue never ran dry and nothing was computed. The marks are read when
the loop writes a line, at which it waits for the GPU anyway.
"""

import dataclasses
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch

from snowmelt.model import Model
from snowmelt.types import Batch, Draw, Severity


class Waiting:
    """A stopwatch: ``with waiting: ...`` is time in which the network waits."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._on_gpu, self._clock = device, device.type == "cuda", clock
        self._begun, self._spent_s = 0.0, 0.0
        self._marks: list[torch.cuda.Event] = []

    def __enter__(self) -> Self:
        self._mark()
        self._begun = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._spent_s += self._clock() - self._begun
        self._mark()

    def read(self) -> float:
        """Seconds waited since the last reading. Waits for the GPU."""
        spent_s, self._spent_s = self._spent_s, 0.0
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
            spent_s = sum(a.elapsed_time(b) for a, b in zip(self._marks[::2], self._marks[1::2], strict=True)) / 1e3
            self._marks.clear()
        return spent_s

    def _mark(self) -> None:
        if self._on_gpu:
            self._marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self._marks[-1].record(torch.cuda.current_stream(self._device))


@dataclasses.dataclass(frozen=True)
class Timed(Model):
    """A model whose degrading is time in which the network waits."""

    waiting: Waiting = dataclasses.field(default_factory=lambda: Waiting(torch.device("cpu")), compare=False)

    def degrade(self, x0: Batch, t: Severity, z: Draw) -> Batch:
        """See :meth:`Model.degrade`."""
        with self.waiting:
            return super().degrade(x0, t, z)


def timed(model: Model, waiting: Waiting) -> Timed:
    """The same model, its degrading timed."""
    return Timed(**{field.name: getattr(model, field.name) for field in dataclasses.fields(Model) if field.init}, waiting=waiting)
