"""Interpolate: the way from one picture to another through what a model knows, as a strip and to be moved along by hand."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch
from torch import Tensor

from snowmelt.pictures import scrubber, strip
from snowmelt.pictures.sheets import evenly
from snowmelt.restoration import fitted
from snowmelt.restoration.identity import Opened
from snowmelt.restoration.translation import prepared
from snowmelt.studio.desk import Desk
from snowmelt.studio.page import keeping
from snowmelt.studio.page.asking import chosen_of, counted, picture, whole
from snowmelt.studio.page.dropping import drop
from snowmelt.studio.page.visiting import Menus, Visitor, forget
from snowmelt.studio.shelf import Entry
from snowmelt.studio.uploads import opened
from snowmelt.studio.words import handled
from snowmelt.studio.work import again, making

STEPS = 13
SHOWN = 7  # in the strip, both ends among them
NONE = """### No model here makes new pictures yet
The way from one picture to another leads through a model that can draw them. **Train** makes one in some minutes: the bundled digits, the
degradation *noise*. Or, in a terminal:
```
snowmelt train --data bundled:digits --data.size 16 --degradation noise --model.conditions label --images 50000 --out runs/noise
```"""
_CAPTION = "Move the slider: from one end to the other. Every picture is drawn anew; none is a mixture of pixels."


def edits(entry: Entry) -> bool:
    """Whether a model can take pictures of one's own on the way: one of noise."""
    return entry.generates and entry.degradation == "noise"


class _Panel(NamedTuple):
    """The components of the tab."""

    empty: gr.Markdown
    room: gr.Row
    model: gr.Dropdown
    steps: gr.Slider
    a: gr.Number
    b: gr.Number
    seed: gr.Number
    first: gr.Dropdown
    last: gr.Dropdown
    go: gr.Button
    one: gr.Image
    other: gr.Image
    severity: gr.Slider
    own: gr.Button
    way: gr.HTML
    row: gr.HTML
    said: gr.Markdown
    files: gr.DownloadButton
    again: gr.Accordion
    repeat: gr.Code


class New(NamedTuple):
    """The way that is asked for between two new pictures.

    Attributes:
        a: the number of the first, as Generate counts those of this seed.
        b: the number of the last.
        seed: of both.
        first: what to draw first; nothing for whatever comes.
        last: what to draw at the end.
        steps: how many pictures, both ends among them.
    """

    a: int
    b: int
    seed: int
    first: str | None
    last: str | None
    steps: int


class Own(NamedTuple):
    """The way that is asked for between two pictures of the visitor's.

    Attributes:
        one: the file of the first.
        other: the file of the last.
        severity: how much is made anew.
        seed: of the draw.
        steps: how many pictures, both ends among them.
    """

    one: str | None
    other: str | None
    severity: float
    seed: int
    steps: int


def tab(desk: Desk) -> None:
    """The tab."""
    handlers, panel = _Handlers(desk), _panel(desk)
    handlers.keep(panel.empty, panel.room, panel.model, [panel.first, panel.last])
    result = [panel.way, panel.row, panel.said, panel.files, panel.again, panel.repeat]
    for button in (panel.go, panel.own):
        forget(button, result)
    asked = [panel.model, panel.a, panel.b, panel.seed, panel.first, panel.last, panel.steps]
    panel.go.click(handled(handlers.made), asked, result, api_visibility="private")
    brought = [panel.model, panel.one, panel.other, panel.severity, panel.seed, panel.steps]
    panel.own.click(handled(handlers.blended), brought, result, api_visibility="private")


def _panel(desk: Desk) -> _Panel:
    empty = gr.Markdown(NONE)
    with gr.Row() as room:
        with gr.Column(scale=2, min_width=280):
            model = gr.Dropdown(label="Model")
            steps = gr.Slider(3, min(33, desk.limits.samples), STEPS, step=1, label="Pictures on the way")
            with gr.Tabs():
                with gr.Tab("New pictures"):
                    gr.Markdown("From one picture of **Generate** to another one of the same seed, by their numbers: the first is 0.")
                    with gr.Row():
                        a = gr.Number(0, precision=0, minimum=0, label="From number", min_width=100)
                        b = gr.Number(1, precision=0, minimum=0, label="To number", min_width=100)
                        seed = gr.Number(0, precision=0, minimum=0, label="Seed", min_width=100)
                    with gr.Row():
                        first = gr.Dropdown(label="What to draw first", min_width=100)
                        last = gr.Dropdown(label="And at the end", min_width=100)
                    go = gr.Button("Go from one to the other", variant="primary")
                with gr.Tab("Your pictures"):
                    with gr.Row():
                        one = drop("From", 180, min_width=120)
                        other = drop("To", 180, min_width=120)
                    severity = gr.Slider(
                        0.05, 1, 0.5, step=0.05, label="How much is made anew", info="Little: the two fade into each other. Much: the model draws."
                    )
                    own = gr.Button("Go from one to the other", variant="primary")
        with gr.Column(scale=3, min_width=300):
            way = gr.HTML()
            row = gr.HTML()
            said = gr.Markdown()
            files = gr.DownloadButton("All as a zip", visible=False, size="sm")
            with gr.Accordion("Make the same again", open=False, visible=False) as again:
                repeat = gr.Code(language="python", interactive=False, show_label=False)
    asked = (model, steps, a, b, seed, first, last, go, one, other, severity, own)
    return _Panel(empty, room, *asked, way, row, said, files, again, repeat)


class _Handlers(Menus):
    """What the events of the tab do: each returns the values of its outputs."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, labels_of)

    # How gradio finds out that a handler wants its progress: by the default.
    def made(self, request: gr.Request, name: str | None, progress: gr.Progress = gr.Progress(), *way: Any) -> list[Any]:  # noqa: B008
        """The way between two new pictures."""
        return made(self.desk, name, New(*way), Visitor.of(self.desk, request, progress))

    def blended(self, request: gr.Request, name: str | None, progress: gr.Progress = gr.Progress(), *way: Any) -> list[Any]:  # noqa: B008
        """The way between two pictures of the visitor's."""
        return blended(self.desk, name, Own(*way), Visitor.of(self.desk, request, progress))


def made(desk: Desk, name: str | None, way: New, visitor: Visitor) -> list[Any]:
    """What the page shows of the way between two new pictures.

    Raises:
        Refused: no model was chosen; or as :func:`~snowmelt.studio.work.making.interpolated`.
    """
    entry = chosen_of(desk, name, "draws new pictures", lambda one: one.generates)
    pair, seed, steps = (whole(way.a) or 0, whole(way.b) or 0), whole(way.seed) or 0, int(way.steps)
    asked = [label or found for label, found in ((way.first, way.last), (way.last, way.first))]
    label = list(dict.fromkeys(one for one in asked if one))
    with desk.gate.turn(visitor.left) as turn:
        found = desk.shelf.opened(entry.name)
        check = counted(turn.check, visitor.progress, "drawing")
        x = making.interpolated(found.model, pair, steps, seed=seed, label=label or None, limits=desk.limits, check=check)
        rows = making.shared(making.numbers_of(found.model, label), steps).tolist() if label else None
    told = f', conditions={{"label": torch.tensor({rows})}}' if rows else ""
    lines = [
        *(["import torch", ""] if rows else []),
        "import snowmelt",
        "",
        f"model = snowmelt.load({again.place(entry)!r})",
        f"x = snowmelt.interpolate(model, {steps}, seed={seed}, pair={pair}{told})",
    ]
    how = f"{name}: from picture {pair[0]} to picture {pair[1]} of seed {seed}"
    how += f", drawing {label[0]}" + (f", from the middle on {label[1]}" if len(label) > 1 else "") if label else ""
    return shown(x, found, how, lines, keeping.folder_in(visitor.cache, desk.limits), f"{pair[0]}-to-{pair[1]}")


def blended(desk: Desk, name: str | None, way: Own, visitor: Visitor) -> list[Any]:
    """What the page shows of the way between two pictures of the visitor's.

    Raises:
        Refused: no model or a picture too few; or as :func:`~snowmelt.studio.work.making.blended`.
    """
    entry = chosen_of(desk, name, "undoes noise, which pictures of your own need", edits)
    severity, seed, steps = float(way.severity), whole(way.seed) or 0, int(way.steps)
    with desk.gate.turn(visitor.left) as turn:
        found = desk.shelf.opened(entry.name)
        a, b = (fitted(found.model, opened(source, desk.limits), desk.limits.walk_px) for source in (way.one, way.other))  # who waits holds no pixels
        check = counted(turn.check, visitor.progress, "drawing")
        x = making.blended(found.model, a, b, steps, severity=severity, seed=seed, limits=desk.limits, check=check)
    names = tuple(Path(str(source)).name for source in (way.one, way.other))
    largest = "" if prepared(found.model) else f", {desk.limits.walk_px}"  # where the training says no size
    lines = [
        "import snowmelt",
        "from snowmelt.data.images import read",
        "from snowmelt.restoration import blend, fitted",
        "",
        f"model = snowmelt.load({again.place(entry)!r})",
        f"a, b = (fitted(model, read(name){largest}) for name in {names!r})",
        f"x = blend(model, a, b, {severity!r}, steps={steps}, seed={seed})",
    ]
    how = f"{name}: mixtures of your two pictures, degraded to severity {severity:g} with one draw (seed {seed}) and walked back"
    return shown(x, found, how, lines, keeping.folder_in(visitor.cache, desk.limits), "own-pictures")


def shown(x: Tensor, found: Opened, how: str, lines: list[str], folder: Path, stem: str) -> list[Any]:
    """The way as the page shows it: to be moved along, in a row, as files, and as the Python that makes it again."""
    n = len(x)
    paths = keeping.pictures(folder, x, found, how, "step")
    labels = [f"{i + 1} of {n}" for i in range(n)]
    chosen = evenly(range(n), SHOWN)
    row = picture(strip([x[i : i + 1] for i in chosen], [labels[i] for i in chosen]), how)
    zipped = gr.update(value=keeping.zipped(paths, f"{found.name}-{stem}"), visible=True)
    way = scrubber(list(torch.split(x, 1)), labels, caption=_CAPTION, start=0)
    return [way, row, f"{how}.", zipped, gr.update(visible=True), "\n".join(lines)]


def labels_of(entry: Entry | None) -> list[Any]:
    """The choices of labels for a model: none where it knows none."""
    names = list(entry.labels) if entry else []
    choices = [("anything", ""), *((name, name) for name in names)]
    return [gr.update(choices=choices, value="", visible=bool(names)) for _ in range(2)]  # one each: gradio takes the value out of what it is given
