"""Being asked to stop: the first Ctrl-C or SIGTERM is a wish, granted between two pieces of work; the second interrupts at once.

Long work looks at the wish where stopping loses nothing, saves what there is, and raises :class:`Stopped`. Under torchrun one wish arrives
several times: Ctrl-C from the terminal and again as the launcher's SIGTERM, SIGTERM from a batch system and from the launcher. So it is the
second signal *of a kind* that interrupts at once, and under torchrun the second Ctrl-C.
"""

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

_LAUNCHED = "TORCHELASTIC_RUN_ID"  # what torchrun says in the environment


@dataclass
class Look:
    """A look at many things, and how far it has come."""

    done: int = 0


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Long work was interrupted between two steps; what is done is saved, and the same call goes on."""


@contextlib.contextmanager
def until_asked(patience: float | None = None) -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; the second one of a kind raises KeyboardInterrupt at once.

    Outside the main thread, to which signals go, it is never set.

    Args:
        patience: the seconds after which a wish that was not granted interrupts as a second signal would; None waits for ever.
    """
    asked, late, heard, timers = threading.Event(), threading.Event(), set[int](), list[threading.Timer]()
    main = threading.main_thread().ident or 0
    repeated = {signal.SIGTERM} if _LAUNCHED in os.environ else set()

    def ask(number: int, frame: FrameType | None) -> None:
        if late.is_set() or (number in heard and number not in repeated):
            raise KeyboardInterrupt
        heard.add(number)
        asked.set()
        if patience is not None and not timers:
            timers.append(threading.Timer(patience, interrupt, (number,)))
            timers[-1].daemon = True
            timers[-1].start()

    def interrupt(number: int) -> None:
        late.set()
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)  # a real one, which also ends a wait
        else:  # Windows
            _thread.interrupt_main(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def looking(what: str) -> Iterator[Look]:
    """Work of which nothing is kept, such as a look at all files of a folder; whoever does it counts what it has seen.

    Raises:
        Stopped: interrupted, with how far it came: "3,000 pictures of FOLDER were looked at".
    """
    seen = Look()
    try:
        yield seen
    except KeyboardInterrupt:
        raise Stopped(f"interrupted: {seen.done:,} {what}; nothing was written, and the same command begins again") from None
