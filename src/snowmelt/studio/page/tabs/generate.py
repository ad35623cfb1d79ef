"""Generate: new pictures from a model with a prior, and the whole walk that made them, to be moved through by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from snowmelt.evaluation import Report
from snowmelt.files import BadFile
from snowmelt.model import located
from snowmelt.pictures import scrubber
from snowmelt.studio.desk import Desk
from snowmelt.studio.page import keeping
from snowmelt.studio.page.asking import chosen_of, counted, escaped, whole
from snowmelt.studio.page.visiting import QUIET, Menus, Visitor, forget
from snowmelt.studio.shelf import Entry
from snowmelt.studio.words import handled
from snowmelt.studio.work import again, making
from snowmelt.studio.work.looking import Walked

NUMBER = 16
NONE = """### No model here makes new pictures yet
Train one: it takes some minutes. Open **Train**, choose the bundled digits and the degradation *noise*. Or, in a terminal:
```
snowmelt train --data bundled:digits --data.size 16 --degradation noise --model.conditions label --images 50000 --out runs/noise
```
A model that undoes noise can begin with noise alone, and what it makes of it is new. Then choose it here."""
UNMEASURED = (
    "Nobody has measured this model yet: how close these lie to the training pictures is unknown. "
    "`{command}` searches them for copies and says how far they are from real ones."
)


class _Panel(NamedTuple):
    """The components of the tab."""

    empty: gr.Markdown
    room: gr.Row
    model: gr.Dropdown
    label: gr.Dropdown
    number: gr.Slider
    seed: gr.Number
    another: gr.Button
    guidance: gr.Slider
    calls: gr.Number
    go: gr.Button
    walk: gr.HTML
    said: gr.Markdown
    everything: gr.DownloadButton
    single: gr.Accordion
    files: gr.Files
    again: gr.Accordion
    repeat: gr.Code


class Wish(NamedTuple):
    """What is asked for.

    Attributes:
        label: the names of what to draw; none for whatever comes.
        number: how many pictures.
        seed: of the draws.
        guidance: how strongly the labels guide.
        calls: of the restorer; None as suits the model.
    """

    label: Sequence[str]
    number: int
    seed: int
    guidance: float
    calls: int | None


def tab(desk: Desk) -> None:
    """The tab."""
    handlers, panel = _Handlers(desk), _panel(desk)
    handlers.keep(panel.empty, panel.room, panel.model, [panel.label])
    asked = [panel.model, panel.label, panel.number, panel.seed, panel.guidance, panel.calls]
    result = [panel.walk, panel.said, panel.everything, panel.single, panel.files, panel.again, panel.repeat]
    for button in (panel.go, panel.another):
        forget(button, result)
    panel.go.click(handled(handlers.made), asked, result, api_visibility="private")
    further = panel.another.click(lambda seed: int(seed or 0) + 1, panel.seed, panel.seed, **QUIET)
    further.then(handled(handlers.made), asked, result, api_visibility="private")


def _panel(desk: Desk) -> _Panel:
    empty = gr.Markdown(NONE)
    with gr.Row() as room:
        with gr.Column(scale=2, min_width=280):
            model = gr.Dropdown(label="Model", info="What it has learnt is what it draws.")
            label = gr.Dropdown(label="What to draw", info="Nothing chosen: whatever comes. Several share the pictures.", multiselect=True)
            number = gr.Slider(1, desk.limits.samples, NUMBER, step=1, label="How many")
            with gr.Row():
                seed = gr.Number(0, precision=0, minimum=0, label="Seed", min_width=100)
                another = gr.Button("Another seed", min_width=100)
            with gr.Accordion("More", open=False):
                guidance = gr.Slider(
                    0, 8, 1, step=0.5, label="Guidance", info="1: as trained. More: more typical of what was chosen, less varied. 0 ignores it."
                )
                calls = gr.Number(None, precision=0, minimum=1, label="Calls", info="How often the network is asked. Empty: as suits the model.")
            go = gr.Button("Generate", variant="primary")
        with gr.Column(scale=3, min_width=300):
            walk = gr.HTML()
            said = gr.Markdown()
            with gr.Row():
                everything = gr.DownloadButton("All as a zip", visible=False, size="sm")
            with gr.Accordion("One by one", open=False, visible=False) as single:
                files = gr.Files(label="PNG, each says how it was made", interactive=False)
            with gr.Accordion("Make the same again", open=False, visible=False) as again:
                repeat = gr.Code(language="shell", interactive=False, show_label=False)
    asked = (model, label, number, seed, another, guidance, calls, go)
    return _Panel(empty, room, *asked, walk, said, everything, single, files, again, repeat)


class _Handlers(Menus):
    """What the events of the tab do: each returns the values of its outputs."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, labels_of)

    # How gradio finds out that a handler wants its progress: by the default.
    def made(self, request: gr.Request, name: str | None, progress: gr.Progress = gr.Progress(), *wish: Any) -> list[Any]:  # noqa: B008
        """New pictures."""
        return made(self.desk, name, Wish(*wish), Visitor.of(self.desk, request, progress))


def made(desk: Desk, name: str | None, wish: Wish, visitor: Visitor) -> list[Any]:
    """What the page shows of new pictures: the walk, words about it, the files, the command.

    Raises:
        Refused: no model was chosen, or it does not generate; or as :func:`~snowmelt.studio.work.making.generated`.
    """
    entry = chosen_of(desk, name, "draws new pictures", lambda one: one.generates)
    n, seed, calls = int(wish.number), whole(wish.seed) or 0, whole(wish.calls)
    guidance = float(wish.guidance) if wish.label else None  # without a label it has nothing to guide towards
    with desk.gate.turn(visitor.left) as turn:
        opened = desk.shelf.opened(entry.name)
        asked: dict[str, Any] = {"calls": calls, "seed": seed, "label": wish.label or None, "guidance": guidance}
        walk = making.generated(opened.model, n, **asked, limits=desk.limits, check=counted(turn.check, visitor.progress, "drawing"))
    folder = keeping.folder_in(visitor.cache, desk.limits)
    paths = keeping.pictures(folder, walk.x, opened, walk.how)
    line = again.command(
        "sample",
        again.place(entry),
        number=n,
        seed=seed,
        label=",".join(wish.label) or None,
        guidance=guidance if guidance != 1 else None,
        steps=calls,
        out="new",
    )
    caption = f"{len(walk.x)} new picture{'' if len(walk.x) == 1 else 's'}. Move the slider: from noise to picture."
    html = scrubber(walk.frames, walk.labels, caption=caption)
    shown = gr.update(value=keeping.zipped(paths, f"{entry.name}-{seed}"), visible=True)
    return [html, words(entry, walk), shown, gr.update(visible=True), paths, gr.update(visible=True), line]


def words(entry: Entry, walk: Walked) -> str:
    """How pictures were made, and what is known of how good they are."""
    return f"{walk.how}; {max(walk.seconds, 0.1):.1f} s.\n\n{remark(entry)}"


def remark(entry: Entry) -> str:
    """What an evaluation said of what this model generates; else that there was none, and the command."""
    path = located(entry.path) / "evaluation.json"
    try:
        found = Report.read(path).generated if path.is_file() else {}
    except (BadFile, OSError):
        found = {}
    sentences = [line for line in found.get("verdict", ()) if isinstance(line, str)]
    if sentences:
        return "**Measured:** " + escaped(" ".join(sentences))
    return UNMEASURED.format(command=again.command("evaluate", again.place(entry), generate=1000))


def labels_of(entry: Entry | None) -> list[Any]:
    """The choice of labels for a model: none where it knows none."""
    names = list(entry.labels) if entry else []
    return [gr.update(choices=names, value=[], visible=bool(names))]
