"""One writer for each directory: a lock that names who holds it, and that the system lets go of with the process.

Two files: ``.lock`` is locked by the operating system, which knows better than any file whether the process that holds it still lives: it lets go
of the lock of a process that ends, however it ends. ``.lock.json`` says who that is. Both are gone after a clean end.

A ``.lock.json`` without the system's lock is what a killed process has left: it is taken over, with a line that says so. One case is open: some
network disks do not pass locks on to other machines. So the holder gives a sign of life, the time of ``.lock.json``, every few seconds, and what
another machine has left is taken over only when there has been none for two minutes; or at once by the same job of torchrun, which starts its
processes anew, maybe elsewhere, only when all of them have ended.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK, HOLDER = ".lock", ".lock.json"
_PART = f"{HOLDER}.part"
FILES = (LOCK, HOLDER, _PART)
_BEAT_S, _LAPSED_S = 15.0, 120.0
_MOST_BYTES = 10_000
_PATIENCE = 10
_JOB, _NO_JOB = "TORCHELASTIC_RUN_ID", "none"  # what torchrun says in the environment, and what it says of a job without a name
_WINDOWS = os.name == "nt"
_log = logging.getLogger(__name__)


class InUse(ValueError):
    """Another process works on the directory; the message names it and the way out."""


@contextlib.contextmanager
def locked(folder: str | Path, *, what: str = "training", tell: Callable[[str], None] = _log.warning) -> Iterator[None]:
    """While this lasts, `folder` is this process's alone. It is made if it is not there, and goes if it is empty again at the end.

    Args:
        folder: the directory.
        what: what is done there, for the message to others.
        tell: gets a line where the lock of a process that is gone is taken over; by default the log.

    Raises:
        InUse: another process holds it, or this one does already.
        OSError: the directory cannot be written.
    """
    folder, pid = Path(folder), os.getpid()
    lock, made = FileLock(folder / LOCK, timeout=0, thread_local=False), _made(folder)
    try:
        _acquire(lock, folder)
        try:
            with _named(folder, what, tell):
                yield
        finally:
            if os.getpid() == pid:  # not in a child that was forked meanwhile
                _let_go(lock, folder)
    finally:
        if os.getpid() == pid:
            for one in made:
                with contextlib.suppress(OSError):  # not empty
                    one.rmdir()


def _let_go(lock: FileLock, folder: Path) -> None:
    if _WINDOWS:  # no file goes there while somebody has it open
        lock.release()
        _delete(folder / LOCK)
        return
    _delete(folder / LOCK)  # while it is ours: who waits for it sees that it is no file any more
    lock.release()


def _delete(path: Path) -> None:
    """Take a file away; not on Windows where another process, which is then the holder or reads who that is, has it open."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not _WINDOWS:
            raise


def _made(folder: Path) -> list[Path]:
    """Make a folder; what of it and of its parents was not there, innermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if not _gone_meanwhile(error, folder):
            raise OSError(error.errno, f"cannot make {folder}: {error.strerror or error}") from error
    return missing


def _gone_meanwhile(error: OSError, folder: Path) -> bool:
    """Whether a folder was there when it was to be made, and taken away before mkdir looked what it was: its next user makes it again."""
    return isinstance(error, FileExistsError) and not (folder.exists() and not folder.is_dir())


def _acquire(lock: FileLock, folder: Path) -> None:
    for _ in range(_PATIENCE):  # who has just left may take the empty folder away
        with contextlib.suppress(FileNotFoundError):
            return _try(lock, folder)
        _made(folder)
    raise InUse(_in_use(folder, {}))


def _try(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire()
    except FileNotFoundError:
        raise
    except Timeout:
        for _ in range(_PATIENCE):  # who has just locked it is about to say so
            if "pid" in (holder := _holder(folder)):
                break
            time.sleep(0.02)
        raise InUse(_in_use(folder, holder)) from None
    except OSError as error:
        if _gone_meanwhile(error, folder):
            raise FileNotFoundError(error.errno, f"{folder} was taken away") from None
        raise OSError(error.errno, f"cannot lock {folder}: {error.strerror or error}; choose a directory that can be written") from error


@contextlib.contextmanager
def _named(folder: Path, what: str, tell: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, .lock.json says who we are, and that we live."""
    path, pid = folder / HOLDER, os.getpid()
    before = _holder(folder)
    if path.exists():
        _require_gone(folder, before)
        tell(_took_over(folder, before))
    mine = {"pid": pid, **_here(), "what": what, "since": time.time()}
    part = folder / _PART  # ours alone, as the lock is; not flushed, as after a power cut nobody holds it
    try:  # half of it would name nobody, and who comes next would wait for a machine that is not known
        part.write_text(json.dumps(mine) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, over), name="lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        if os.getpid() == pid:
            over.set()
            beat.join()
            _delete(path)


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(_BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _require_gone(folder: Path, before: dict[str, Any]) -> None:
    """Refuse to take over from a process of another machine that may live: the system's lock may not reach that far.

    Raises:
        InUse: it gave a sign of life within two minutes.
    """
    if any(value and before.get(name) == value for name, value in _here().items()):
        return  # the system's lock was free, and it knows; so does torchrun
    os.utime(folder / LOCK)  # by the disk's own clock: the machines' need not agree
    silent = (folder / LOCK).stat().st_mtime - (folder / HOLDER).stat().st_mtime
    if silent < _LAPSED_S:
        left = min(_LAPSED_S, _LAPSED_S - silent)
        raise InUse(f"{_in_use(folder, before)}; if it is gone, its lock lapses in {left:.0f} s, or delete {folder / HOLDER}")


def _holder(folder: Path) -> dict[str, Any]:
    """Who has written .lock.json; nothing where it cannot be read: it is only told, never trusted."""
    try:
        with (folder / HOLDER).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)} if isinstance(found, dict) else {}


def _in_use(folder: Path, holder: dict[str, Any]) -> str:
    has = " ".join(filter(None, (_who(holder), "has been", str(holder.get("what", "working")), "there", _since(holder))))
    return f"{folder} is in use: {has}; wait for it, or stop it"


def _took_over(folder: Path, before: dict[str, Any]) -> str:
    was = " ".join(filter(None, (_who(before), "was", str(before.get("what", "working")), "there", _since(before))))
    return f"{folder}: {was} and is gone without a clean end; this process takes over"


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if "pid" in holder and "host" in holder else "another process"


def _since(holder: dict[str, Any]) -> str:
    """The words "since 12:03", with the day if that is not today; none if it is not known."""
    try:
        then = time.localtime(holder["since"])
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
    today = then[:3] == time.localtime()[:3]
    return f"since {time.strftime('%H:%M' if today else '%Y-%m-%d %H:%M', then)}"


def _here() -> dict[str, str]:
    """What tells this machine from others, and this job from other jobs of torchrun; empty where there is no telling."""
    job = os.environ.get(_JOB, "")
    return {"host": socket.gethostname(), "system": _system(), "job": "" if job == _NO_JOB else job}


def _system() -> str:
    """The running system's own number, which containers on one machine share as they share its locks; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
