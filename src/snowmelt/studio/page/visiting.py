"""What the tabs that make pictures have in common: who asks, the menus of models that draw and of what they can draw, and an old result that goes."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import gradio as gr
from gradio.blocks import Block

from snowmelt.studio.desk import Desk
from snowmelt.studio.page.asking import menu_of
from snowmelt.studio.shelf import Entry
from snowmelt.studio.surroundings import kept_in
from snowmelt.studio.words import handled

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_TEXT = (gr.HTML, gr.Markdown, gr.Code)  # empty, they hold no null


class Visitor(NamedTuple):
    """Who asks.

    Attributes:
        left: set as soon as nobody waits any more.
        progress: where it is said how far the work is.
        cache: the folder that files for the visitor are written to.
    """

    left: threading.Event
    progress: gr.Progress
    cache: str

    @classmethod
    def of(cls, desk: Desk, request: gr.Request, progress: gr.Progress) -> Self:
        """Who sent a request."""
        return cls(desk.gate.leaving(request.session_hash), progress, str(kept_in()))


def forget(button: gr.Button, result: Sequence[Block]) -> None:
    """Have a press of a button first take the result before away: whoever is refused, or waits, sees and takes home nothing of it.

    To be called before the press gets its handler. It happens in the browser itself, before anything is asked.

    Args:
        button: that is pressed.
        result: all that shows it; each becomes empty, and as visible and with the label that it has as the page opens.
    """
    begun = [{"__type__": "update", "visible": one.visible, **_empty(one)} for one in result]
    button.click(None, None, list(result), js=f"() => {json.dumps(begun)}", **QUIET)


def _empty(one: Block) -> dict[str, Any]:
    value = {"value": "" if isinstance(one, _TEXT) else None} if hasattr(one, "value") else {}
    return value | ({"label": label} if (label := getattr(one, "label", None)) is not None else {})


class Menus:
    """The menus of a tab that draws: each handler returns the values of its outputs.

    Args:
        desk: whose models there are.
        labels_of: the menus of labels for a model.
    """

    def __init__(self, desk: Desk, labels_of: Callable[[Entry | None], list[Any]]) -> None:
        self.desk, self.labels_of = desk, labels_of

    def listed(self, now: str | None = None) -> list[Any]:
        """The models there are now; where that chooses another one, its labels too. Else nothing that was chosen is touched."""
        entries = self.desk.shelf.entries(lambda entry: entry.generates)
        names = [entry.name for entry in entries]
        labels = self.labels_of(entries[0] if entries else None)
        return [*menu_of(names, now), *([gr.skip()] * len(labels) if now in names else labels)]

    def chosen(self, name: str | None) -> Any:
        """The labels of another model: of a single menu, gradio takes what there is without a list around it."""
        menus = self.labels_of(self.desk.shelf.entry(name) if name else None)
        return menus if len(menus) > 1 else menus[0]

    def labelled(self, name: str | None, *picked: Any) -> Any:
        """The labels of the same model: it may have been trained again. What is picked is not sent back, unless some of it is gone."""
        entry = self.desk.shelf.entry(name) if name else None
        asked = {label for one in picked for label in (one if isinstance(one, list) else [one]) if label}
        menus = self.labels_of(entry)
        if entry is not None and asked <= set(entry.labels):
            menus = [{key: value for key, value in menu.items() if key != "value"} for menu in menus]
        return menus if len(menus) > 1 else menus[0]

    def keep(self, empty: gr.Markdown, room: gr.Row, model: gr.Dropdown, labels: Sequence[gr.Dropdown]) -> None:
        """Have the menus say what there is: as the page opens, as a menu is opened, and as another model is chosen.

        Args:
            empty: what is said where no model draws.
            room: all that is shown where one does.
            model: the menu of models.
            labels: the menus of what to draw.
        """
        listed = [empty, room, model, *labels]
        gr.on(None, handled(self.listed), None, listed, **QUIET)  # when the page opens
        model.focus(handled(self.listed), model, listed, **QUIET)
        model.change(handled(self.chosen), model, list(labels), **QUIET)
        for menu in labels:
            menu.focus(handled(self.labelled), [model, *labels], list(labels), **QUIET)
