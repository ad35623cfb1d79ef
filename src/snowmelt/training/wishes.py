"""What somebody asks of a training that runs: to save now, to show samples now.

A wish is a file without content, ``RUN/wishes/save`` or ``RUN/wishes/sample``, which anybody who may write to the run directory can make, by hand
too, on every system and on another machine of the same disk. The training looks for it between two steps, at most twice a second; of several
processes the first one does, which is the one that writes. What was asked for is done, and the file goes: that is how one sees that it was done.
One that is made again meanwhile is a wish of its own.

A wish changes nothing of the weights that come of the run. What is saved is no regular checkpoint, so a rollback leads where it leads in every run
of the recipe; samples are drawn from numbered generators, with the moving average of the weights; and neither counts as time of the training.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from snowmelt.restorers.tiles import out_of_memory

FOLDER = "wishes"
SAVE, SAMPLE = "save", "sample"
WISHES = (SAVE, SAMPLE)
_LOOK_S = 0.5
_OLD_NS = 10**18  # in the year 2001, before anybody wished
_log = logging.getLogger(__name__)


def ask(run: str | Path, wish: str) -> None:
    """Ask a training for something.

    Args:
        run: its run directory.
        wish: save or sample.

    Raises:
        ValueError: no training knows such a wish.
        OSError: the file cannot be written.
    """
    if wish not in WISHES:
        raise ValueError(f"a training knows no wish {wish!r}: ask for {' or '.join(WISHES)}")
    folder = Path(run) / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / wish).touch()


def asked(run: str | Path) -> tuple[str, ...]:
    """What has been asked for and is not done yet."""
    with contextlib.suppress(OSError):
        there = {path.name for path in (Path(run) / FOLDER).iterdir()}
        return tuple(wish for wish in WISHES if wish in there)
    return ()


class Wishes:
    """Looks for wishes and grants them.

    Args:
        run: the run directory.
        granted: what to do for each wish; nothing in a process that grants none.
        tell: gets a line where one could not be granted, or not be taken away: a training does not end for that.
    """

    def __init__(self, run: Path, granted: Mapping[str, Callable[[], None]], *, tell: Callable[[str], None] = _log.warning) -> None:
        self._run, self._granted, self._tell = run, granted, tell
        self._looked = time.monotonic()
        self._stuck = set[str]()  # granted, and there for ever

    def look(self, *, but: Collection[str] = ()) -> None:
        """Grant what is asked for; to be called between steps, and cheap.

        Args:
            but: what needs no doing, because this very step has done it.
        """
        now = time.monotonic()
        if not self._granted or now - self._looked < _LOOK_S:
            return
        self._looked = now
        found = asked(self._run)
        self._stuck.intersection_update(found)
        for wish in found:
            if wish in self._stuck:
                continue
            path = self._run / FOLDER / wish
            aged = _aged(path)
            if not aged:
                self._remove(path)
            try:
                if wish not in but:
                    self._granted[wish]()
            except (OSError, RuntimeError, MemoryError) as error:  # on a CPU, torch says that memory ran out by a plain RuntimeError
                if not isinstance(error, OSError) and not out_of_memory(error):
                    raise
                self._tell(f"'{wish} now' could not be granted, and the training goes on: {str(error) or type(error).__name__}")
            if aged and not _young(path):
                self._remove(path)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._stuck.add(path.name)
            why = error.strerror or type(error).__name__
            self._tell(f"{path} cannot be taken away ({why}): '{path.name} now' is granted this once, and again when somebody has removed it")

    def withdraw(self) -> None:
        """Nobody looks any more: what is still asked for is taken back."""
        folder = self._run / FOLDER
        if not self._granted or folder.is_symlink():  # it leads to somebody else's files
            return
        for wish in WISHES:
            with contextlib.suppress(OSError):  # something else lies there, and stays
                (folder / wish).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # likewise; or nothing is there
            folder.rmdir()


def _aged(path: Path) -> bool:
    """Make a wish old, so that it is told from one that is made while it is granted, however coarse a disk's clock is; False where that fails."""
    try:
        os.utime(path, ns=(0, 0), follow_symlinks=False)
    except (OSError, NotImplementedError):  # it is another user's; a system that would change what a link leads to
        return False
    return not _young(path)


def _young(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime_ns >= _OLD_NS
    return False
