"""Being asked to stop: the first Ctrl-C or SIGTERM is a wish, granted between two pieces of work; the second interrupts at once.

Long work looks at the wish where stopping loses nothing, saves what there is, and raises :class:`Stopped`. Under torchrun one Ctrl-C arrives twice, from the
terminal and as the launcher's SIGTERM; so it is the second signal *of a kind* that interrupts at once.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Long work was interrupted between two steps; what is done is saved, and the same call goes on."""


@contextlib.contextmanager
def until_asked() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; the second one of a kind raises KeyboardInterrupt at once. Outside the main thread it is never set."""
    asked, heard = threading.Event(), set[int]()

    def ask(number: int, frame: FrameType | None) -> None:
        if number in heard:
            raise KeyboardInterrupt
        heard.add(number)
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
