"""What gradio finds around it when it is imported: no statistics sent, no hub asked, no public link, and a folder for the page's files.

Gradio reads the environment, some of it while it is being imported. So this comes first, and imports nothing of it.
"""

import contextlib
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from snowmelt.locks import HOLDER, InUse, locked

_PREFIX = "snowmelt-studio-"
_FILES = 4096
_YOUNG_S = 60.0
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@contextlib.contextmanager
def settled() -> Iterator[Path]:
    """While this lasts, gradio is quiet and keeps the page's files in a folder that nobody else can read; it is gone afterwards.

    It is gone also when SIGTERM comes or the terminal is closed: both interrupt as Ctrl-C does, unless whoever runs meanwhile catches SIGTERM. What
    a studio has left that was killed is removed by the next one of the same user. Settings of gradio that somebody has made in the shell are for
    other pages, and are left out.
    """
    with _interrupted():
        clear()
        whole = Path(tempfile.mkdtemp(prefix=_PREFIX))  # 0700
        kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GRADIO_")}
        before = {name: os.environ.get(name) for name in _SETTINGS}
        try:
            with locked(whole, what="the studio"):
                folder = whole / "files"  # beside the lock, which nobody fetches or sweeps away
                folder.mkdir(0o700)
                os.environ.update(_SETTINGS, GRADIO_TEMP_DIR=str(folder))
                yield folder
        finally:
            shutil.rmtree(whole, ignore_errors=True)
            for name in (*_SETTINGS, "GRADIO_TEMP_DIR"):
                os.environ.pop(name, None)
            os.environ.update({name: value for name, value in before.items() if value is not None}, **kept)


def clear() -> int:
    """Remove the folders of this user's studios that are gone without a clean end. How many were locked once."""
    gone = 0
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, InUse):  # somebody works in it, or was faster
            state = place.lstat()
            if not stat.S_ISDIR(state.st_mode) or (hasattr(os, "getuid") and state.st_uid != os.getuid()):
                continue
            if not (place / HOLDER).exists():  # a studio is about to lock it; or was, but then it is empty
                if time.time() - state.st_mtime > _YOUNG_S:
                    place.rmdir()
                continue
            with locked(place, what="clearing it away", tell=lambda line: None):
                shutil.rmtree(place, ignore_errors=True)
            gone += 1
    return gone


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    """While this lasts, SIGTERM interrupts as Ctrl-C does, and SIGHUP is another SIGTERM, whoever catches that; but under nohup it is ignored."""
    if threading.current_thread() is not threading.main_thread():  # to which signals go
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a terminal that is closed says so twice, and the second may not cut the cleaning up short
        raise KeyboardInterrupt

    def hang_up(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kept_in() -> Path:
    """The folder in which gradio keeps the page's files."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def sweep(folder: Path, most_bytes: int, most_files: int = _FILES) -> int:
    """Remove files below a folder, the oldest first, until it holds no more than it may, and folders that are empty. How many files went.

    What is younger than a minute stays: somebody is about to write, or to fetch it.
    """
    found: list[tuple[float, int, str]] = []
    now = time.time()
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):  # another request was faster
                state = os.lstat(path)
                found.append((state.st_mtime, state.st_size, path))
        with contextlib.suppress(OSError):  # gradio removes what it made, but not the folder that each result has of its own
            if not names and place != str(folder) and now - os.lstat(place).st_mtime > _YOUNG_S:
                os.rmdir(place)
    found.sort(reverse=True)
    held, gone = 0, 0
    for number, (changed, size, path) in enumerate(found):
        held += size
        if (held > most_bytes or number >= most_files) and now - changed > _YOUNG_S:
            with contextlib.suppress(OSError):
                os.unlink(path)
                gone += 1
                os.rmdir(os.path.dirname(path))
    return gone
