"""The gate: one wish is worked on at a time, some wait in the order in which they came, and whoever leaves is not waited for.

A network takes all cores there are, so two at once would both take twice as long and twice the memory. Work asks the gate between two calls of the
restorer (:meth:`Turn.check`), so that a closed page stops its work within one step.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from snowmelt.studio.limits import Busy, Late, Left, Limits

_LOOK_S = 0.05  # how often one who waits looks whether he still has to
_MOST_SESSIONS = 10_000


class Turn:
    """The right to compute.

    Attributes:
        left: set when whoever asked is gone.
    """

    def __init__(self, left: threading.Event, seconds: float, closed: Callable[[], bool]) -> None:
        self.left, self._seconds, self._until, self._closed = left, seconds, time.monotonic() + seconds, closed

    def check(self) -> None:
        """Called between two calls of the restorer.

        Raises:
            Left: whoever asked is gone, or the studio is being closed.
            Late: the time for one wish is over.
        """
        if self.left.is_set():
            raise Left("whoever asked for this has left: it was stopped")
        if self._closed():
            raise Left("the studio is being closed: this was stopped")
        if time.monotonic() > self._until:
            raise Late(f"this took longer than {self._seconds:g} s, the limit of one wish: take a smaller picture, or fewer steps")


class Gate:
    """Lets one wish in at a time, with as many threads of torch as the thread has that made the gate.

    Args:
        limits: how many may wait, and how long one may take.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = torch.get_num_threads()
        self._changed = threading.Condition()
        self._line: deque[object] = deque()  # the first one is being worked on
        self._sessions: OrderedDict[str, threading.Event] = OrderedDict()
        self._closed = False  # no lock around it: a signal's handler sets it, and another signal may come amid that

    @property
    def waiting(self) -> int:
        """How many wait, the one that is worked on not counted."""
        with self._changed:
            return max(len(self._line) - 1, 0)

    @contextmanager
    def turn(self, left: threading.Event | None = None) -> Iterator[Turn]:
        """Wait for one's turn, and hold it.

        Args:
            left: set it to be gone, waiting or not.

        Raises:
            Busy: as many as may wait do so already.
            Left: `left` was set while waiting, or the studio is being closed.
        """
        gone = left or threading.Event()
        ticket = object()
        with self._changed:
            if len(self._line) > self._limits.queue:
                raise Busy(f"{len(self._line) - 1} others wait already, and no more may: try again in a moment")
            self._line.append(ticket)
        try:
            with self._changed:
                while self._line[0] is not ticket:
                    if gone.is_set() or self._closed:
                        raise Left("whoever asked for this has left: it was not begun")
                    self._changed.wait(_LOOK_S)
            torch.set_num_threads(self._threads)  # a thread begins with what another set last, which may have been 1 for small work
            yield Turn(gone, self._limits.seconds, lambda: self._closed)
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def close(self) -> None:
        """The studio is being closed: whatever is under way ends at the next step, and whoever waits is sent home."""
        self._closed = True

    def leaving(self, session: str | None) -> threading.Event:
        """The event that is set when the page of a session is closed; without a session, one that nobody sets."""
        if session is None:
            return threading.Event()
        with self._changed:
            event = self._sessions.setdefault(session, threading.Event())
            self._sessions.move_to_end(session)
            while len(self._sessions) > _MOST_SESSIONS:  # pages that never said that they were closed
                self._sessions.popitem(last=False)
            return event

    def leave(self, session: str | None) -> None:
        """The page of a session was closed: its work ends at the next step."""
        with self._changed:
            event = self._sessions.pop(session, None) if session is not None else None
        if event is not None:
            event.set()
