"""From an exception to one line and an exit code.

An error of the user's (a wrong path, an unknown field, a full disk) is said in one line; a bug of ours keeps its
traceback. ``SNOWMELT_DEBUG=1`` shows the traceback of everything.
"""

import os
import sys
import traceback

from rich.console import Console
from rich.text import Text

from snowmelt.cli.speaking import shown
from snowmelt.processes import here

USED_WRONGLY, FAILED, INTERRUPTED = 2, 1, 130


def report(error: BaseException, *, usage: bool = False) -> int:
    """Say on stderr what went wrong, in one line where it is not a bug; the exit code.

    Args:
        error: what ended the command.
        usage: whether the command line itself could not be read.
    """
    if isinstance(error, BrokenPipeError):  # the reader has left, as `head` does; nor can Python's own flush at exit reach it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if os.environ.get("SNOWMELT_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    elif isinstance(error, KeyboardInterrupt):
        say("interrupted; the same command goes on with what was finished")
    elif _named(error, "Stopped"):
        say(str(error))
    elif usage or _expected(error):
        say(message(error), error=True)
    else:
        traceback.print_exception(error)
        say("this is a bug in snowmelt or in a plug-in; please report it with the lines above", error=True)
    return _code(error, usage=usage)


def say(text: str, *, error: bool = False) -> None:
    """One line on stderr: ``snowmelt: error: text`` or ``snowmelt: text``; one of several processes names itself, too."""
    line = Text(f"snowmelt{_rank()}: ")
    if error:
        line.append("error: ", style="bold red")
    line.append(shown(" ".join(text.split())))
    Console(stderr=True).print(line, soft_wrap=True, highlight=False)


def _rank() -> str:
    """Which of several processes speaks."""
    try:
        process = here()
    except ValueError:  # of which this very line may be about to tell
        return ""
    return "" if process.alone else f", rank {process.rank}"


def message(error: BaseException) -> str:
    """What to say of an error, without the error numbers of the system."""
    if _out_of_memory(error):
        return f"out of memory: give smaller pictures, or a smaller --training.batch ({str(error).partition('. ')[0]})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _code(error: BaseException, *, usage: bool) -> int:
    if isinstance(error, KeyboardInterrupt) or _named(error, "Stopped"):
        return INTERRUPTED
    return USED_WRONGLY if usage or isinstance(error, ValueError | TypeError | FileNotFoundError) else FAILED


def _expected(error: BaseException) -> bool:
    """Whether the error is somebody's input or machine; a TypeError is, where the library itself refuses."""
    if isinstance(error, TypeError):
        frames = traceback.extract_tb(error.__traceback__)
        return bool(frames) and (frames[-1].line or "").startswith("raise TypeError")
    return isinstance(error, ValueError | OSError) or _named(error, "Diverged") or _named(error, "Lost") or _out_of_memory(error)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _named(error, "OutOfMemoryError") or "can't allocate memory" in str(error)


def _named(error: BaseException, name: str) -> bool:
    """Whether the error is of a class with this name: asking by class would import torch."""
    return any(cls.__name__ == name for cls in type(error).__mro__)
