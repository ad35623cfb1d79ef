"""Progress of long work: a bar with loss, images/s and ETA on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from snowmelt import processes

_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "–/s", style="cyan")


class Bar:
    """A context manager: ``with Bar("training", total) as bar: bar.advance(n, loss=…)``."""

    def __init__(self, what: str, total: int, *, done: int = 0, unit: str = "images", console: Console | None = None) -> None:
        self.what, self.total, self.done, self.unit = what, total, done, unit
        self._first, self._start, self._said = done, time.monotonic(), time.monotonic()
        self._console = console or Console(stderr=True)
        self._quiet = not processes.here().first  # one of several processes speaks for all
        self._rich: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                _Rate(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._rich = Progress(*columns, console=self._console)
            self._rich.start()
            self._task = self._rich.add_task(self.what, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._rich is not None:
            self._rich.stop()
        elif kind is None and self.done > self._first:
            self._line("")

    def advance(self, n: int, **values: float | str) -> None:
        """`n` more done; `values` are shown beside the bar."""
        self.done += n
        note = "  ".join(f"{name} {value if isinstance(value, str) else format(value, '.4g')}" for name, value in values.items())
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self.done, note=note)
        elif time.monotonic() - self._said >= _LINE_EVERY_S:
            self._said = time.monotonic()
            self._line(note)

    def say(self, text: str) -> None:
        """A line of text above the bar."""
        if self._rich is not None:
            self._rich.console.print(Text(text))
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def _line(self, note: str) -> None:
        if self._quiet:
            return
        spent = time.monotonic() - self._start
        rate = (self.done - self._first) / spent if spent else 0.0
        left = (self.total - self.done) / rate if rate else float("inf")
        eta = f"ETA {int(left // 60)}:{int(left % 60):02d}" if left < 1e6 else "ETA –"
        text = f"{self.what}: {self.done:,} / {self.total:,} {self.unit}, {rate:,.0f}/s, {eta}  {note}"
        print(text.rstrip(), file=sys.stderr, flush=True)
