"""Restore: a degraded picture made clean, degraded and restored under a wiper, with every step between."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from snowmelt.pictures.markup import Html
from snowmelt.studio.desk import Desk
from snowmelt.studio.page import examples
from snowmelt.studio.page.dropping import drop
from snowmelt.studio.page.keeping import folder_in
from snowmelt.studio.page.restoring import Wish, about, beside, by_chance, commands, elsewhere, is_blind, sheet, tells, work
from snowmelt.studio.page.visiting import QUIET, forget
from snowmelt.studio.surroundings import kept_in
from snowmelt.studio.words import handled

FIRST = "photo"
DAMAGED, CLEAN = "is damaged", "is clean: damage it first"
MODES = [
    ("fast: a tuned copy's few calls", "fast"),
    ("faithful: one call (Direct), the smallest error", "faithful"),
    ("best: a walk (Sampled), more plausible detail", "best"),
]
_STEPS = 12
_OTHER_DAMAGE, _OTHER_NOISE = "another seed, another damage", "another seed, other noise on the way"
_EMPTY = "Press **Restore**. Degraded and restored appear here, and below them every step between the two."


class _Panel(NamedTuple):
    """The components of the tab."""

    upload: gr.Image
    source: gr.Radio
    example: gr.Dropdown
    model: gr.Dropdown
    told: gr.Markdown
    mode: gr.Radio
    tell: gr.Checkbox
    severity: gr.Slider
    anyway: gr.Checkbox
    seed: gr.Number
    button: gr.Button
    wiper: gr.ImageSlider
    words: gr.Markdown
    download: gr.DownloadButton
    every: gr.Accordion
    steps: gr.HTML
    calls: gr.Slider
    compare: gr.Button
    ways: gr.HTML
    shell: gr.Code
    python: gr.Code


def tab(desk: Desk) -> None:
    """The tab."""
    handlers = _Handlers(desk)
    panel = _panel(desk, handlers.models())
    asked = [panel.model, panel.upload, panel.example, panel.source, panel.mode, panel.tell, panel.severity, panel.seed, panel.anyway]
    fitting = [panel.told, panel.mode, panel.tell, panel.severity, panel.anyway, panel.example, panel.seed]
    panel.model.focus(handled(handlers.listed), None, panel.model, **QUIET)
    for event in (panel.model.change, panel.source.change, panel.tell.input):
        event(handled(handlers.fitted), [panel.model, panel.source, panel.tell], fitting, **QUIET)
    panel.upload.upload(lambda: DAMAGED, None, panel.source, **QUIET)
    result = [panel.wiper, panel.words, panel.download, panel.every, panel.steps, panel.shell, panel.python]
    once: dict[str, Any] = {"trigger_mode": "once", "api_visibility": "private"}
    forget(panel.button, result)
    panel.button.click(handled(handlers.restored), asked, result, show_progress_on=panel.wiper, **once)
    forget(panel.compare, [panel.ways])
    panel.compare.click(handled(handlers.compared), [*asked, panel.calls], panel.ways, show_progress_on=panel.ways, **once)


def _panel(desk: Desk, models: Sequence[str]) -> _Panel:
    first = FIRST if FIRST in models else (models[0] if models else None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            source = gr.Radio([DAMAGED, CLEAN], value=CLEAN, label="The picture")
            upload = drop("Drop a picture", 190)
            example = gr.Dropdown(list(examples.NAMES), value=examples.NAMES[0], label="Without one of your own: take")
            model = gr.Dropdown(list(models), value=first, label="Model")
            told = gr.Markdown(about(desk, first) if first else "There is no model for pictures here.")
            mode = gr.Radio(MODES, value="faithful", label="How", visible=False)
            tell = gr.Checkbox(True, label="Let the model tell how degraded it is", visible=False)
            severity = gr.Slider(0, 1, 1, step=0.01, label="How degraded (severity t)", info="0 is clean, 1 the strongest it knows", visible=False)
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=80, info=_OTHER_DAMAGE)
                anyway = gr.Checkbox(False, label="Restore it anyway", info="even if it looks clean to the model", visible=False, min_width=160)
            button = gr.Button("Restore", variant="primary")
            if text := elsewhere(desk.shelf.entries()):
                gr.Markdown(text)
        with gr.Column(scale=3, min_width=320):
            wiper = gr.ImageSlider(label="Degraded | Restored", format="png", interactive=False, max_height=560, buttons=["fullscreen"])
            words = gr.Markdown(_EMPTY)
            download = gr.DownloadButton("Download at full size (PNG)", visible=False)
            with gr.Accordion("Every step", open=True, visible=False) as every:
                steps = gr.HTML("")
    with gr.Accordion("Naive next to TACoS next to order 2", open=False):
        gr.Markdown(
            "The same picture by several walks of as many calls. **Naive** degrades each estimate anew and forgets where it was; **TACoS** moves "
            "by the difference that the estimate predicts, so that errors do not pile up; **order 2** also uses the estimate before."
        )
        with gr.Row():
            calls = gr.Slider(2, min(50, desk.limits.steps), min(_STEPS, desk.limits.steps), step=1, label="Calls of each walk", scale=3)
            compare = gr.Button("Compare", scale=1)
        ways = gr.HTML("", min_height=60)
    with gr.Accordion("Do it again without this page", open=False):
        shell = gr.Code("", language="shell", label="Command line", interactive=False, lines=1, wrap_lines=True)
        python = gr.Code("", language="python", label="Python", interactive=False, lines=1, wrap_lines=True)
    parts = (upload, source, example, model, told, mode, tell, severity, anyway, seed, button)
    return _Panel(*parts, wiper, words, download, every, steps, calls, compare, ways, shell, python)


class _Handlers:
    """What the events of the tab do: each returns the values of its outputs."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def models(self) -> list[str]:
        """The names of the models that restore pictures."""
        return [entry.name for entry in self.desk.shelf.entries(lambda entry: entry.restores)]

    def listed(self) -> Any:
        """The models there are now: a training may have made one."""
        return gr.update(choices=self.models())

    def fitted(self, model: str, source: str, tell: bool) -> list[Any]:
        """What there is to be set with this model and picture."""
        found, clean = self.desk.shelf.opened(model).model, source == CLEAN
        blind, guesses = is_blind(found), tells(found)
        level = not blind and (clean or not (guesses and tell))
        return [
            about(self.desk, model),
            gr.update(visible=not blind),
            gr.update(visible=guesses and not clean),
            gr.update(visible=level, label="How much to degrade it (severity t)" if clean else "How degraded it is (severity t)"),
            gr.update(visible=blind and not clean),
            gr.update(visible=clean),
            gr.update(visible=clean or by_chance(found), info=_OTHER_DAMAGE if clean else _OTHER_NOISE),
        ]

    def wish(
        self, model: str, upload: str | None, example: str, source: str, mode: Any, tell: bool, severity: float, seed: float | None, anyway: bool
    ) -> Wish:
        """What is asked for. What is hidden says nothing."""
        found, clean = self.desk.shelf.opened(model).model, source == CLEAN
        guessed = is_blind(found) or (not clean and tell and tells(found))
        level, drawn = None if guessed else float(severity), int(seed or 0) if clean or by_chance(found) else 0
        return Wish(model, upload, example, clean, mode, level, drawn, anyway=bool(anyway) and not clean)

    # How gradio finds out that a handler wants its progress: by the default, and before what has no names.
    def restored(self, request: gr.Request, progress: gr.Progress = gr.Progress(), *asked: Any) -> list[Any]:  # noqa: B008
        """The wish granted."""
        gate = self.desk.gate
        with gate.turn(gate.leaving(request.session_hash)) as turn:
            wish = self.wish(*asked)
            done = work(self.desk, wish, turn.check, lambda i, n: progress((i, n), unit="calls"))
        path = done.write(folder_in(kept_in(), self.desk.limits))
        return [
            gr.update(value=done.wiper(), label=f"Degraded | {done.result}"),
            done.summary(),
            gr.update(value=str(path), visible=True),
            gr.update(visible=True, open=len(done.walked.frames) > 2),  # of two, the wiper shows all there is
            done.steps(),
            *commands(self.desk, wish),
        ]

    def compared(self, request: gr.Request, *asked: Any) -> Html:
        """The ways next to each other."""
        gate = self.desk.gate
        with gate.turn(gate.leaving(request.session_hash)) as turn:
            found = beside(self.desk, self.wish(*asked[:-1]), int(asked[-1]), turn.check)
        return sheet(found, self.desk.limits.walk_px)
