"""Translate: a picture of one kind turned into one of another by a model of morph, with what it believes at every step."""

import threading
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from snowmelt.pictures import strip
from snowmelt.pictures.scrubber import of_images
from snowmelt.pictures.tiles import tiles
from snowmelt.studio.desk import Desk
from snowmelt.studio.page import keeping
from snowmelt.studio.page.asking import chosen_of, counted, whole
from snowmelt.studio.page.dropping import drop
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
        chosen = now if now in names else next(iter(names), None)
        return [gr.update(visible=not names), gr.update(visible=bool(names)), gr.update(choices=names, value=chosen)]

    @handled
    def make(
        name: str | None,
        source: str | None,
        answers: int,
        noise: float,
        endpoint: str,
        calls: int | None,
        seed: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - how gradio finds out that a handler wants one
    ) -> list[Any]:
        wish: dict[str, Any] = {"answers": answers, "noise": noise, "endpoint": endpoint, "calls": calls, "seed": seed}
        return made(desk, name, source, **wish, left=desk.gate.leaving(request.session_hash), progress=progress, cache=files.GRADIO_CACHE)

    gr.on(None, handled(lambda: refresh(None)), None, [empty, room, model], show_progress="hidden", api_visibility="private")  # when the page opens
    model.focus(handled(refresh), model, [empty, room, model], show_progress="hidden", api_visibility="private")
    inputs = [model, picture, answers, noise, endpoint, calls, seed]
    go.click(make, inputs, [wiper, walk, said, files, again, repeat], api_visibility="private")


def made(
    desk: Desk,
    name: str | None,
    source: str | None,
    *,
    answers: int,
    noise: float,
    endpoint: str,
    calls: int | None,
    seed: int,
    left: threading.Event,
    progress: gr.Progress,
    cache: str,
) -> list[Any]:
    """What the page shows of a translation: before and after, the walk, words about it, the files, the command.

    Raises:
        Refused: no model or no picture; or as :func:`~snowmelt.studio.work.making.translated`.
    """
    entry = chosen_of(desk, name, "translates", lambda one: one.translates)
    picture = opened(source, desk.limits)
    file = Path(str(source)).name
    wish: dict[str, Any] = {"calls": whole(calls), "noise": float(noise) or None, "seed": whole(seed) or 0}
    wish["endpoint"] = ENDPOINTS.get(endpoint, endpoint)
    with desk.gate.turn(left) as turn:
        found = desk.shelf.opened(entry.name)
        x = making.fitted(found.model, picture, desk.limits)
        check = counted(turn.check, progress, "translating")
        walk = making.translated(found.model, x, **wish, answers=int(answers), key=file, limits=desk.limits, check=check)
    stem = f"{Path(file).stem}-translated"
    paths = keeping.pictures(keeping.folder_in(cache, desk.limits), walk.x, found, walk.how, stem)
    line = again.command(
        "translate",
        file,
        model=again.place(entry),
        endpoint=wish["endpoint"] if wish["endpoint"] != "estimated" else None,
        steps=wish["calls"],
        noise=wish["noise"],
        seed=wish["seed"],
        out="translated",
    )
    before, after = (tiles(one, size_px=_SHOWN_PX)[0] for one in (x, walk.x[:1]))
    told = f"{walk.how}; {max(walk.seconds, 0.1):.1f} s." + (f" Further answers have the seeds {wish['seed'] + 1} and so on." if answers > 1 else "")
    shown = gr.update(value=(before, after), visible=True)
    return [shown, moving(walk, int(answers)), told, gr.update(value=paths, visible=True), gr.update(visible=True), line]


def moving(walk: Walked, answers: int) -> str:
    """The walk, to be moved through: a row for each answer; what is there, what will come of it, what it came from."""
    sheets = [strip(list(torch.split(frame, answers)), _COLUMNS) for frame in walk.frames]
    return of_images(sheets, walk.labels, caption=_CAPTION, lossless=max(walk.frames[0].shape[-2:]) * _SHARP <= _SHOWN_PX)
