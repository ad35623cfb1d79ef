"""Train: from a folder or a bundled set to a model of one's own, watched live; it goes on when the page closes."""

import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from snowmelt import pictures, registry
from snowmelt.recipes.directory import RECIPE
from snowmelt.recipes.dryrun import Cost, measure
from snowmelt.recipes.recipe import Recipe
from snowmelt.restorers.cost import size as in_bytes
from snowmelt.studio.desk import Desk
from snowmelt.studio.limits import LONGEST_SPEC, Late, Refused
from snowmelt.studio.page import forms
from snowmelt.studio.page.visiting import QUIET
from snowmelt.studio.trainings.orders import BUNDLED, Order, short
from snowmelt.studio.trainings.runs import BUSY, CLOSED, Runs, State
from snowmelt.studio.words import handled
from snowmelt.studio.work import again

FOLDER = "a folder of mine"
SETS = ("bundled:digits", "bundled:photos")
FIRST = "gaussian-blur:sigma_px=2"
NAME = "Train"
_TICK_S = 1.5  # while a run is shown and alive
_CHART_PX = 560  # wide, and half as high: the samples below it are to be seen, too
_MOST_GRID_BYTES = 8 << 20
_TRACK = "height:.6rem;margin:.4rem 0;border-radius:.3rem;background:#e2e8f0;overflow:hidden"
_BAR = "height:100%;background:#0ea5e9"
_OUTPUTS = 12  # of what shows a run
_WORDS = {
    "starting": "is starting: the first picture takes some seconds",
    "running": "is being trained",
    "stopped": "was stopped",
    "finished": "is finished: it is a model now, in the list of every tab that can use it",
    "failed": "did not come to its end",
}
_BEGIN = (
    "Choose what to learn from and what to undo, look at the cost, start. A training is a process of its own: it goes on when you close this page, "
    "and when the studio ends."
)


class Priced(NamedTuple):
    """What was looked at, and may be started.

    Attributes:
        order: as it stood in the fields.
        recipe: whose cost was measured.
    """

    order: Order
    recipe: Recipe


def tab(desk: Desk) -> Callable[[gr.Tabs], None]:
    """The tab.

    Returns:
        What follows the visitor from tab to tab: the run is drawn anew when this one is opened, and nothing is asked for while another one is.
    """
    runs = Runs(desk.folder, desk.device, allowed=desk.trains)
    handlers = _Handlers(desk, runs)
    gr.Markdown(_BEGIN if desk.trains else f"**Training is closed here.** {CLOSED[0].upper()}{CLOSED[1:]}.")
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320, visible=desk.trains):
            source = gr.Dropdown([*SETS, FOLDER], value=SETS[0], label="Pictures", info="A set that comes with snowmelt, or a folder.")
            folder = gr.Textbox(label="Folder", info="Its whole path on this machine.", visible=False)
            known = gr.Dropdown(trainable(), value=FIRST.partition(":")[0], label="Undo", info="What was done to the pictures.")
            spec = gr.Textbox(FIRST, label="Spec", max_length=LONGEST_SPEC, info="The same in one line, with its numbers. Look shows what they do.")
            with gr.Row():
                size = gr.Number(0, label="Size in px", precision=0, minimum=0, min_width=100, info="0: as fits the pictures")
                images = gr.Number(20_000, label="Images to see", precision=0, minimum=0, min_width=100, info="in all, each as often as it is shown")
            name = gr.Textbox("my first model", label="Name", max_length=60)
            with gr.Row():
                check = gr.Button("What will it cost?", variant="secondary", min_width=120)
                start = gr.Button("Start", variant="primary", interactive=False, min_width=120)
            cost = gr.HTML(elem_id="train-cost")
        with gr.Column(scale=3, min_width=320):
            chosen = gr.Dropdown(runs.names(), value=None, label="Run", info="Those of this studio's folder, the newest first.")
            status = gr.HTML(elem_id="train-status")
            with gr.Row(visible=desk.trains):
                buttons = [gr.Button(text, size="sm", interactive=False, min_width=80) for text in ("Save now", "Sample now", "Stop", "Resume")]
            curve = gr.HTML(elem_id="train-curve")
            learning = gr.Markdown(elem_id="train-learning")
            grid = gr.HTML(elem_id="train-grid")
    with gr.Accordion("Do it again without this page", open=False):
        shell = gr.Code(language="shell", label="Command line", interactive=False, lines=1, wrap_lines=True)
    seen, priced, timer = gr.State(None), gr.State(None), gr.Timer(_TICK_S, active=False)

    private: dict[str, Any] = {"api_visibility": "private"}
    order = [source, folder, spec, size, images, name]
    shown = [chosen, status, *buttons, curve, grid, learning, shell, timer, seen]
    source.input(lambda value: gr.update(visible=value == FOLDER), source, folder, **QUIET)
    known.input(handled(handlers.begun), known, spec, **QUIET)
    for one in order:
        one.input(lambda: gr.update(interactive=False), None, start, **QUIET)  # what was not looked at is not started
    known.input(lambda: gr.update(interactive=False), None, start, **QUIET)
    check.click(handled(handlers.checked), order, [cost, start, priced], show_progress="minimal", show_progress_on=cost, **private)
    start.click(handled(handlers.started), [priced, *order], [*shown, start], show_progress="minimal", show_progress_on=status, **private)
    for button, work in zip(buttons, (handlers.save, handlers.sample, handlers.stop, handlers.resume), strict=True):
        button.click(handled(work), chosen, shown, **QUIET)
    chosen.input(handled(handlers.looked), chosen, shown, **QUIET)
    chosen.focus(handled(handlers.listed), None, chosen, **QUIET)
    timer.tick(handled(handlers.ticked), [chosen, seen], shown, trigger_mode="once", **QUIET)
    return lambda tabs: tabs.select(handled(handlers.turned), chosen, shown, **QUIET)


class _Handlers:
    """What the events of the tab do."""

    def __init__(self, desk: Desk, runs: Runs) -> None:
        self.desk, self.runs = desk, runs

    def begun(self, name: str) -> str:
        """The spec of a degradation that was picked: its defaults; of one that is made of others, an example."""
        return forms.begun(name) if forms.needs_spec(name) else registry.spec(registry.build(name))

    def checked(self, request: gr.Request, *order: Any) -> list[Any]:
        """What an order will cost, measured on some real steps; only then it can be started."""
        wanted = _order(*order)
        self.runs.require_free(wanted.name)
        with self.desk.gate.turn(self.desk.gate.leaving(request.session_hash)) as turn:
            try:
                recipe, reasons = wanted.recipe(turn.check)
                found = measure(recipe, device=self.desk.device, check=turn.check)
            except Late:
                limit = f"the cost of this was not known within {self.desk.limits.seconds:g} s, the limit of one wish"
                raise Late(f"{limit}: choose a smaller size, or train from the command line") from None
        return [costs(found, recipe, reasons), gr.update(interactive=True), Priced(wanted, recipe)]

    def started(self, priced: Priced | None, *order: Any) -> list[Any]:
        """Begin what was looked at, and nothing else: an edit may have come while its cost was measured. The page then shows this run."""
        wanted = _order(*order)
        if priced is None or priced.order != wanted:
            raise Refused("this is not what the cost was measured of: look at the cost first")
        state = self.runs.start(wanted, priced.recipe)
        return [*self.looked(state.name), gr.update(interactive=False)]

    def save(self, name: str | None) -> list[Any]:
        """Save now."""
        self.runs.ask(_picked(name), "save")
        gr.Info(f"{name}: it is saved within a second or a step.")
        return self.looked(name)

    def sample(self, name: str | None) -> list[Any]:
        """Sample now."""
        self.runs.ask(_picked(name), "sample")
        gr.Info(f"{name}: samples come within a second or a step.")
        return self.looked(name)

    def stop(self, name: str | None) -> list[Any]:
        """Stop, after saving."""
        self.runs.stop(_picked(name))
        gr.Info(f"{name}: it saves and stops after this step.")
        return self.looked(name)

    def resume(self, name: str | None) -> list[Any]:
        """Go on."""
        self.runs.resume(_picked(name))
        return self.looked(name)

    def looked(self, name: str | None) -> list[Any]:
        """A run, as it is now."""
        return self._drawn(self.runs.names(), self.runs.state(name) if name is not None else None)

    def listed(self) -> Any:
        """The runs there are now: somebody else may have begun one."""
        return gr.update(choices=self.runs.names())

    def turned(self, to: gr.SelectData, name: str | None) -> list[Any]:
        """The visitor has turned to this tab, or to another."""
        if to.value == NAME:
            return self.ticked(name, None)
        return [*[gr.skip()] * (_OUTPUTS - 2), gr.update(active=False), gr.skip()]

    def ticked(self, name: str | None, seen: Any) -> list[Any]:
        """Time has passed: what is new; where no run was chosen yet, the one that is trained now, or the newest."""
        names = self.runs.names()
        known = name in names
        if not known:
            name = next((one for one in (self.runs.busy(), *names) if one in names), None)  # another program's run may have a name that none has here
        state = self.runs.state(name) if name is not None else None
        if _signature(names, state) == seen:
            return [gr.skip()] * _OUTPUTS
        drawn = self._drawn(names, state)
        if known:  # the visitor's choice stays: since this tick set out, another run may have been chosen or begun
            drawn[0] = gr.update(choices=names)
        return drawn

    def _drawn(self, names: list[str], state: State | None) -> list[Any]:
        if state is None:
            nothing = '<p class="train-none">No run yet. What you start appears here.</p>'
            locked, idle = [gr.update(interactive=False)] * 4, gr.update(active=False)
            return [gr.update(choices=names), nothing, *locked, "", "", "", "", idle, _signature(names, None)]
        busy, can = state.doing in BUSY, self.desk.trains
        enabled = (state.doing == "running", state.doing == "running", state.doing == "running", state.resumes and can)
        return [
            gr.update(choices=names, value=state.name),
            status(state),
            *[gr.update(interactive=one and can) for one in enabled],
            curves(state),
            sheet(state),
            "\n".join(f"- {escape(line, quote=False)}" for line in state.learning) if state.learning or not busy else "",
            command(self.runs.folder / state.name),
            gr.update(active=busy),
            _signature(names, state),
        ]


def status(state: State) -> str:
    """How it goes, as markup: in words, as a bar, in numbers."""
    share = min(state.images / state.total, 1.0) if state.total else 0.0
    percent = math.floor(100 * share)  # 100 is the end, and nothing before it
    numbers = [f"{state.images:,} of {state.total:,} images ({percent}%)"] if state.total else []
    numbers += [f"loss {state.loss:.4g}"] if state.loss is not None else []
    numbers += [f"{state.rate:,.0f} images/s"] if state.rate else []
    numbers += [f"about {_time(state.eta_s)} left"] if state.eta_s is not None else []
    numbers += [f"asked to {' and '.join(state.asked)}"] if state.asked else []
    said = f"<p>{escape(state.said)}</p>" if state.said and state.doing != "running" else ""
    return (
        f'<div data-state="{state.doing}"><p><strong>{escape(state.name)}</strong> {_WORDS[state.doing]}.</p>'
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" aria-label="images seen" style="{_TRACK}">'
        f'<div style="{_BAR};width:{100 * share:.2f}%"></div></div>'
        f"<p>{' · '.join(map(escape, numbers))}</p>{said}"
        f'<p style="opacity:.75">{escape(state.degradation)} on {escape(short(state.data))}</p></div>'
    )


def curves(state: State) -> str:
    """The loss over the images seen."""
    losses = {name: points for name, points in state.losses.items() if points}
    if not losses:
        return ""
    chart = pictures.curve_svg(losses, title="Loss", x_label="images seen", y_label="loss", log_y=True)
    return f'<div style="max-width:{_CHART_PX}px">{chart}</div>'


def sheet(state: State) -> str:
    """The newest sample grid, inside the page."""
    if state.grid is None:
        return ""
    try:
        with state.grid.open("rb") as file:
            address = pictures.data_url(file.read(_MOST_GRID_BYTES))
    except (OSError, ValueError):  # a run that is begun anew, and what only has the name of a picture
        return ""
    caption = f"Samples after {int(state.grid.stem):,} images: Degraded, Direct (one call), Sampled (a walk), Clean."
    picture = f'<img src="{address}" alt="{caption}" style="max-width:100%;image-rendering:pixelated">'
    return f"<figure style='margin:0'>{picture}<figcaption>{caption}</figcaption></figure>"


def costs(found: Cost, recipe: Recipe, reasons: list[str]) -> str:
    """What a training will cost, and what was chosen for it and why."""
    facts = {
        "time": f"about {_time(found.step_s * found.steps)} for {found.images:,} images, {1e3 * found.step_s:.0f} ms a step",
        "memory": in_bytes(found.state_bytes + found.activation_bytes),
        "network": f"{found.parameters:,} weights, {recipe.model.backbone}",
        "pictures": f"{found.pictures:,} to train on, {' x '.join(map(str, found.shape[1:]))} px",
    }
    listed = "".join(f"<li><strong>{name}</strong>: {escape(text)}</li>" for name, text in facts.items())
    because = "".join(f"<li>{escape(line)}</li>" for line in reasons)
    strip = f'<img src="{pictures.data_url(found.strip)}" alt="the degradation from clean to its strongest" style="max-width:100%">'
    return f"<ul>{listed}</ul>{strip}<details><summary>What was chosen, and why</summary><ul>{because}</ul></details>"


def command(run: Path) -> str:
    """The command that is given, and that anybody may give: it starts, and it goes on."""
    place = again.nearby(run, run.name)
    return again.command("train", f"{place}/{RECIPE}", out=place)


def trainable() -> list[str]:
    """The degradations that one set of pictures is enough for, and that the page can begin a spec of."""
    known = [name for name in forms.pictured() if forms.begun(name) != name or not forms.needs_spec(name)]
    return [name for name in known if not registry.build(forms.begun(name)).needs]


def _order(source: str, folder: str, spec: str, size: float | None, images: float | None, name: str) -> Order:
    data = folder if source == FOLDER else source
    if source != FOLDER and not str(source).startswith(BUNDLED):
        raise Refused("choose a set of the list, or a folder")
    return Order((name or "").strip(), data or "", spec or "", int(size) if size else None, int(images) if images else None)


def _picked(name: str | None) -> str:
    if not name:
        raise Refused("choose a run first")
    return name


def _signature(names: list[str], state: State | None) -> tuple[Any, ...]:
    """What tells one look of the page from the next; None is that there is no run. Cheap: it is asked at every tick."""
    if state is None:
        return tuple(names), None
    grid = None if state.grid is None else state.grid.name
    return tuple(names), state.name, state.doing, state.said, state.images, state.loss, state.asked, grid, state.learning


def _time(seconds: float) -> str:
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:,.0f} {name}" if unit < 3600 else f"{seconds / unit:,.1f} {name}"
    return "for ever"
