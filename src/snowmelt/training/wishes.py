"""What somebody asks of a training that runs: to save now, to show samples now.

A wish is a file without content, ``RUN/wishes/save`` or ``RUN/wishes/sample``, which anybody who may write to the run directory can make, by hand
too, on every system and on another machine of the same disk. The training looks for it between two steps, at most twice a second; of several
processes the first one does, which is the one that writes. What was asked for is done, and the file goes: that is how one sees that it was done.

A wish changes nothing of the weights that come of the run. What is saved is no regular checkpoint, so a rollback leads where it leads in every run
of the recipe; samples are drawn from numbered generators, with the moving average of the weights; and neither counts as time of the training.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from snowmelt.restorers.tiles import out_of_memory

FOLDER = "wishes"
SAVE, SAMPLE = "save", "sample"
WISHES = (SAVE, SAMPLE)
_LOOK_S = 0.5
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
        tell: gets a line where one could not be granted: a training does not end for that.
    """

    def __init__(self, run: Path, granted: Mapping[str, Callable[[], None]], *, tell: Callable[[str], None] = _log.warning) -> None:
        self._run, self._granted, self._tell = run, granted, tell
        self._looked = time.monotonic()

    def look(self, *, but: Collection[str] = ()) -> None:
        """Grant what is asked for; to be called between steps, and cheap.

        Args:
            but: what needs no doing, because this very step has done it.
        """
        now = time.monotonic()
        if not self._granted or now - self._looked < _LOOK_S:
            return
        self._looked = now
        for wish in asked(self._run):
            try:
                if wish not in but:
                    self._granted[wish]()
            except (OSError, RuntimeError, MemoryError) as error:  # on a CPU, torch says that memory ran out by a plain RuntimeError
                if not isinstance(error, OSError) and not out_of_memory(error):
                    raise
                self._tell(f"'{wish} now' could not be granted, and the training goes on: {str(error) or type(error).__name__}")
            with contextlib.suppress(OSError):
                (self._run / FOLDER / wish).unlink()

    def withdraw(self) -> None:
        """Nobody looks any more: what is still asked for is taken back."""
        folder = self._run / FOLDER
        if not self._granted or folder.is_symlink():  # it leads to somebody else's files
            return
        with contextlib.suppress(OSError):  # something else lies there, and stays; or nothing is there
            for wish in WISHES:
                (folder / wish).unlink(missing_ok=True)
            folder.rmdir()
