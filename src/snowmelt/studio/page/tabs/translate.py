"""Translate: a picture of one kind turned into one of another by a model of morph, with what it believes at every step."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch

from snowmelt.pictures import strip
from snowmelt.pictures.scrubber import of_images
from snowmelt.pictures.tiles import tiles
from snowmelt.restoration import fitted
from snowmelt.studio.desk import Desk
from snowmelt.studio.page import keeping
from snowmelt.studio.page.asking import chosen_of, counted, menu_of, whole
from snowmelt.studio.page.dropping import drop
from snowmelt.studio.page.visiting import QUIET, Visitor, forget
from snowmelt.studio.uploads import opened
from snowmelt.studio.words import handled
from snowmelt.studio.work import again, making
from snowmelt.studio.work.looking import Walked

ENDPOINTS = {"solved anew at every step": "estimated", "kept as it was given": "fixed"}
MOST_ANSWERS = 8
NONE = """### No model here translates yet
A model of *morph* turns pictures of one kind into pictures of another: cats into faces, drawings into photographs. It learns from two folders,
with or without pairs. **Train** takes one folder, so this one is trained in a terminal:
```
snowmelt train --degradation morph --data FACES --data.endpoint CATS --out runs/cats-to-faces
```
Then choose it here."""
_COLUMNS = ["now", "will become", "came from"]
_CAPTION = (
    "Move the slider: on the left the picture as it is by then. In the middle what the model believes it will become, on the right what the "
    "model believes it came from."
)
_SHOWN_PX = 384
_SHARP = 4  # times enlarged, from which on every pixel counts


class Wish(NamedTuple):
    """What is asked for.

    Attributes:
        source: the file of the picture.
        answers: how many.
        noise: what is added to the picture; 0 for what the model was trained with.
        endpoint: one of :data:`ENDPOINTS`.
        calls: of the restorer; None as suits the model.
        seed: of the noise.
    """

    source: str | None
    answers: int
    noise: float
    endpoint: str
    calls: int | None
    seed: int


def tab(desk: Desk) -> None:
    """The tab."""
    empty = gr.Markdown(NONE)
    with gr.Row() as room:
        with gr.Column(scale=2, min_width=280):
            model = gr.Dropdown(label="Model", info="It takes pictures of the kind that it was given as endpoint.")
            picture = drop("Your picture", 260)
            answers = gr.Slider(
                1, MOST_ANSWERS, 1, step=1, label="Answers", info="Several differ by the noise that is added: one picture, many possibilities."
            )
            noise = gr.Slider(0, 0.5, 0, step=0.01, label="Noise", info="A little leaves it more freedom. 0: as the model was trained.")
            with gr.Accordion("More", open=False):
                endpoint = gr.Radio(list(ENDPOINTS), value=next(iter(ENDPOINTS)), label="The picture it comes from is")
                calls = gr.Number(None, precision=0, minimum=1, label="Calls", info="How often the network is asked. Empty: as suits the model.")
                seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Of the noise.")
            go = gr.Button("Translate", variant="primary")
        with gr.Column(scale=3, min_width=300):
            wiper = gr.ImageSlider(label="Before and after", interactive=False, visible=False, format="png", max_height=420)
            walk = gr.HTML()
            said = gr.Markdown()
            files = gr.Files(label="Results", interactive=False, visible=False)
            with gr.Accordion("Make the same again", open=False, visible=False) as again:
                repeat = gr.Code(language="shell", interactive=False, show_label=False)

    def refresh(now: str | None) -> list[Any]:
        names = [entry.name for entry in desk.shelf.entries(lambda entry: entry.translates)]
        return menu_of(names, now)

    # How gradio finds out that a handler wants its progress: by the default.
    def make(request: gr.Request, name: str | None, progress: gr.Progress = gr.Progress(), *wish: Any) -> list[Any]:  # noqa: B008
        return made(desk, name, Wish(*wish), Visitor.of(desk, request, progress))

    listed = [empty, room, model]
    gr.on(None, handled(lambda: refresh(None)), None, listed, **QUIET)  # when the page opens
    model.focus(handled(refresh), model, listed, **QUIET)
    inputs = [model, picture, answers, noise, endpoint, calls, seed]
    result = [wiper, walk, said, files, again, repeat]
    forget(go, result)
    go.click(handled(make), inputs, result, api_visibility="private")


def made(desk: Desk, name: str | None, wish: Wish, visitor: Visitor) -> list[Any]:
    """What the page shows of a translation: before and after, the walk, words about it, the files, the command.

    Raises:
        Refused: no model or no picture; or as :func:`~snowmelt.studio.work.making.translated`.
    """
    entry = chosen_of(desk, name, "translates", lambda one: one.translates)
    file, answers = Path(str(wish.source)).name, int(wish.answers)
    endpoint, calls, noise, seed = ENDPOINTS.get(wish.endpoint, wish.endpoint), whole(wish.calls), float(wish.noise) or None, whole(wish.seed) or 0
    asked: dict[str, Any] = {"endpoint": endpoint, "calls": calls, "noise": noise, "seed": seed, "answers": answers}
    with desk.gate.turn(visitor.left) as turn:
        found = desk.shelf.opened(entry.name)
        x = fitted(found.model, opened(wish.source, desk.limits), desk.limits.walk_px)  # here: who waits for a turn holds no pixels
        check = counted(turn.check, visitor.progress, "translating")
        walk = making.translated(found.model, x, **asked, key=file, limits=desk.limits, check=check)
    stem = f"{Path(file).stem}-translated"
    paths = keeping.pictures(keeping.folder_in(visitor.cache, desk.limits), walk.x, found, walk.how, stem)
    line = again.command(
        "translate",
        file,
        model=again.place(entry),
        endpoint=endpoint if endpoint != "estimated" else None,
        steps=calls,
        noise=noise,
        seed=seed,
        out="translated",
    )
    before, after = (tiles(one, size_px=_SHOWN_PX)[0] for one in (x, walk.x[:1]))
    told = f"{walk.how}; {max(walk.seconds, 0.1):.1f} s." + (f" Further answers have the seeds {seed + 1} and so on." if answers > 1 else "")
    shown = gr.update(value=(before, after), visible=True)
    return [shown, moving(walk, answers), told, gr.update(value=paths, visible=True), gr.update(visible=True), line]


def moving(walk: Walked, answers: int) -> str:
    """The walk, to be moved through: a row for each answer; what is there, what will come of it, what it came from."""
    sheets = [strip(list(torch.split(frame, answers)), _COLUMNS) for frame in walk.frames]
    return of_images(sheets, walk.labels, caption=_CAPTION, lossless=max(walk.frames[0].shape[-2:]) * _SHARP <= _SHOWN_PX)
