"""Errors in plain words: what a visitor can do about it, never a traceback."""

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from snowmelt.fields import UnknownName, shown
from snowmelt.restoration.picture import reason
from snowmelt.restorers.tiles import out_of_memory
from snowmelt.studio.limits import Busy, Late, Left

_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def expected(error: BaseException) -> bool:
    """Whether an error is somebody's input or machine, and no bug of ours."""
    return isinstance(error, ValueError | OSError | Busy | Late | Left) or out_of_memory(error)


def plain(error: BaseException) -> str:
    """One sentence for whoever asked. Paths of the server's disk are not in it: files are called by their names."""
    if isinstance(error, Busy | Late | Left):
        return str(error)
    if expected(error):
        return reason(error)
    return "something went wrong that is not your fault; the window where the studio was started says what"


def on_the_page(error: BaseException) -> str:
    """The same where the names that there are stand in a list beside it: of a name that is unknown, only the nearest one is said."""
    if not isinstance(error, UnknownName):
        return plain(error)
    return f"unknown {error.kind} {shown(error.name)}{error.nearest or ': choose one of the list'}"


def log_bug(error: BaseException) -> None:
    """Of a bug, the terminal gets the traceback."""
    if not expected(error):
        _log.error("a bug in the studio, or in a plug-in", exc_info=error)


def handled(work: Callable[P, R]) -> Callable[P, R]:
    """A handler of the page whose errors appear there in plain words; of bugs, the terminal gets the traceback."""

    @functools.wraps(work)
    def handler(*arguments: P.args, **keywords: P.kwargs) -> Any:
        try:
            return work(*arguments, **keywords)
        except gr.Error:
            raise
        except Exception as error:
            log_bug(error)
            raise gr.Error(on_the_page(error), duration=None, print_exception=False) from None  # until it is closed: it says why nothing came

    return handler
