"""Which process trains in a run directory, by what the operating system says of it, and how it is asked to stop.

``.lock.json`` names a process by its number (:mod:`snowmelt.locks`), and numbers are used again: what a killed training has left may name an
editor by now. So a number is believed only if that very process has the run's ``.lock`` open, which nobody but the holder does. It is asked without
touching the lock: a look must not be in the way of a training that begins. Where a system has no ``/proc`` to ask, the holder's sign of life
counts, and before a signal is sent, that the lock cannot be had.
"""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from snowmelt.files import BadFile, read_json
from snowmelt.locks import HOLDER, LOCK
from snowmelt.recipes.directory import LOG, PID

_FRESH_S = 120.0  # a holder gives a sign of life every few seconds
_PROC = Path("/proc/self/fd")
_WINDOWS = os.name == "nt"


def holder(run: Path) -> int | None:
    """The number of the process of this machine that trains in a run directory now; None if there is none."""
    said = _said(run)
    pid = said.get("pid")
    if type(pid) is not int or pid <= 1:
        return None
    opens = has_open(pid, run / LOCK)
    if opens is None:
        opens = said.get("host") == socket.gethostname() and _fresh(run / HOLDER)
    return pid if opens else None


def elsewhere(run: Path) -> str | None:
    """The name of another machine on which a process trains in a run directory, by its signs of life; None if there is none."""
    host = _said(run).get("host")
    return host if isinstance(host, str) and host != socket.gethostname() and _fresh(run / HOLDER) else None


def begins(run: Path) -> bool:
    """Whether a process that the studio has begun for a run still lives: it writes to the run's train.log."""
    try:
        with (run / PID).open("rb") as file:
            pid = int(file.read(20))
    except (OSError, ValueError):
        return False
    opens = has_open(pid, run / LOG) if pid > 1 else False
    return _fresh(run / LOG) if opens is None else opens


def stop(run: Path) -> bool:
    """Ask the process that trains in a run directory to save and end (SIGTERM); False where there is none that could be meant for sure.

    Raises:
        OSError: it is another user's.
    """
    try:
        handle = os.pidfd_open(_said(run).get("pid", -1)) if hasattr(os, "pidfd_open") else None
    except (OSError, TypeError, ValueError, OverflowError):  # there is no such process, or a system that has no handles of them
        handle = None
    try:
        pid = holder(run)  # after the handle was taken: it is that process's, even if it ends here and its number is given to another
        if pid is None or _WINDOWS or (not _PROC.is_dir() and not _taken(run)):
            return False
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGTERM)
        return True
    except ProcessLookupError:
        return False
    finally:
        if handle is not None:
            os.close(handle)


def has_open(pid: int, path: Path) -> bool | None:
    """Whether a process has a file open; None where the system does not say. A process that has ended has none."""
    if not _PROC.is_dir():
        return None
    try:
        wanted = path.stat()
        with os.scandir(f"/proc/{pid}/fd") as links:
            return any(_same(link.path, wanted) for link in links)
    except OSError:
        return False


def _same(link: str, wanted: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # closed meanwhile
        return os.path.samestat(os.stat(link), wanted)
    return False


def _said(run: Path) -> dict[str, Any]:
    try:
        said = read_json(run / HOLDER)
    except (OSError, BadFile, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _fresh(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime < _FRESH_S
    return False


def _taken(run: Path) -> bool:
    """Whether the lock cannot be had."""
    lock = FileLock(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False
