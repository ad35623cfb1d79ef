"""What the handlers of a page have in common: the model that was chosen, the numbers of a form, how far a walk is, and what is put into the page."""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from snowmelt.data.checks import Check
from snowmelt.pictures import data_url, png_bytes
from snowmelt.studio.desk import Desk
from snowmelt.studio.limits import Refused
from snowmelt.studio.shelf import Entry

_SPACE = re.compile(r"\s+")
_SIGNS = "\\`*_{}[]()#+!|<>~$"


def chosen_of(desk: Desk, name: str | None, does: str, fits: Callable[[Entry], bool]) -> Entry:
    """The model with a name.

    Args:
        desk: whose shelf it stands on.
        name: what was chosen; None for nothing.
        does: what it has to do, for the message: "draws new pictures".
        fits: whether it does.

    Raises:
        Refused: nothing was chosen, it is gone, or does something else.
        BadFile: it is damaged.
    """
    if not name:
        raise Refused(f"choose a model first, one that {does}")
    entry = desk.shelf.entry(name)
    if not fits(entry):
        raise Refused(f"{name} is a model of {entry.degradation}, not one that {does}: choose one of the list")
    return entry


def menu_of(names: Sequence[str], now: str | None) -> list[Any]:
    """Models as a page shows them: whether the words in their place, the room for them, and the menu.

    A choice that still stands there is not sent back: the answer comes later than the question, and would undo what was chosen meanwhile.

    Args:
        names: of the models.
        now: the one that is chosen; where it is none of them, the first one will be.
    """
    menu = gr.update(choices=list(names)) if now in names else gr.update(choices=list(names), value=next(iter(names), None))
    return [gr.update(visible=not names), gr.update(visible=bool(names)), menu]


def whole(value: float | None) -> int | None:
    """A number of a form; None where it was left empty.

    Raises:
        Refused: it is none.
    """
    if value is None:
        return None
    if not float(value).is_integer():
        raise Refused(f"{value:g} is no whole number")
    return int(value)


def counted(check: Check, progress: gr.Progress, doing: str, of: int | None = None) -> Check:
    """`check`, that also says how many calls are done: of how many, where that is known."""
    done = 0

    def ask() -> None:
        nonlocal done
        check()
        progress((done, of) if of is None or done <= of else (of, of), desc=doing, unit="calls")
        done += 1

    return ask


def escaped(text: str) -> str:
    """Text as it is, in Markdown: what a file says is never markup."""
    return "".join(f"\\{sign}" if sign in _SIGNS else sign for sign in _SPACE.sub(" ", text))


def picture(image: Image.Image, about: str) -> str:
    """A picture in the page, never wider than it."""
    return f'<img src="{data_url(png_bytes(image))}" alt="{escape(about)}" style="max-width:100%;height:auto;background:#fff">'
