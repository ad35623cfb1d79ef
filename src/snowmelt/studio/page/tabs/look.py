"""Look: what a degradation does to a picture, at 21 severities that the reader moves through by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from snowmelt import registry
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.images import shrunk
from snowmelt.degradations import Degradation
from snowmelt.pictures import scrubber
from snowmelt.pictures.markup import Html
from snowmelt.pictures.scrubber import ALONE_PX
from snowmelt.samplers import entries
from snowmelt.studio.desk import Desk
from snowmelt.studio.limits import LONGEST_SPEC, Limits, Refused, require_short
from snowmelt.studio.page import examples, forms
from snowmelt.studio.page.dropping import drop
from snowmelt.studio.uploads import opened
from snowmelt.studio.words import handled
from snowmelt.studio.work import again
from snowmelt.studio.work.looking import degraded
from snowmelt.studio.work.units import in_words, units_of

FIRST = "gaussian-blur"
FIRST_PICTURE, SECOND_PICTURE = examples.NAMES[:2]
SEVERITIES = tuple(i / 20 for i in range(21))
_SHOWN = 10  # t = 0.5
_DROP_PX = 120
_MOVE = "Move the slider under the picture from clean (t = 0) to the strongest (t = 1)."
STYLE = (
    ".look [data-scrubber]{--scrubber-px:var(--look-px)!important}.look [data-scrubber] img{width:100%}"
    ".look.sharp [data-scrubber] img{image-rendering:pixelated}"
)
_SPEC = "All of it in one line. Edit it and press Enter; + puts one after another: jpeg+grey"


@dataclass(frozen=True)
class Picked:
    """Which picture: a file that somebody brought, or a bundled one where there is none.

    Attributes:
        upload: the file.
        name: of the bundled picture.
    """

    upload: str | None
    name: str

    @property
    def file(self) -> str:
        """What it is called in a command."""
        return Path(self.upload).name if self.upload else examples.file_of(self.name)

    def pixels(self, limits: Limits) -> Tensor:
        """The picture (1, c, h, w), transparent parts laid over white, its longer side at most `limits.look_px`."""
        x = opened(self.upload, limits).over() if self.upload else examples.example(self.name)
        return shrunk(x, limits.look_px)[None]


@dataclass(frozen=True)
class Looked:
    """What the tab shows.

    Attributes:
        frames: the scrubber.
        about: the degradation in words.
        command: the line that repeats it, after those that write bundled pictures.
        python: the lines that do.
    """

    frames: Html
    about: str
    command: str
    python: str


def look(desk: Desk, spec: str, picked: Picked, second: Picked | None, seed: int, check: Check) -> Looked:
    """A picture at all severities.

    Args:
        desk: the studio.
        spec: the degradation.
        picked: the picture.
        second: the one that a morph ends in.
        seed: of what is random.
        check: called before every severity.

    Raises:
        SpecError: the spec describes no degradation.
        Refused: as :func:`snowmelt.studio.work.looking.degraded`, or of the upload.
        UnreadableImage: the upload is no picture.
    """
    D: Degradation = registry.build(spec)
    x = picked.pixels(desk.limits)
    endpoint = second.pixels(desk.limits) if second is not None and D.needs else None
    frames = degraded(D, x, SEVERITIES, seed=seed, endpoint=endpoint, check=check)
    labels = [f"t = {t:.2f}{in_words(units_of(D, t), units_of(D, 1.0)) if t else ': clean'}" for t in SEVERITIES]
    taken = [picked, *([second] if second is not None and endpoint is not None else [])]
    own = list(dict.fromkeys(one.name for one in taken if not one.upload))
    file, other = picked.file, taken[1].file if len(taken) > 1 else None
    shell = "\n".join([*map(examples.shell, own), command(D, file, other, seed)])
    return Looked(wide(scrubber(frames, labels, start=_SHOWN), x), about(D), shell, python(D, file, other, seed, own))


def wide(frames: Html, x: Tensor) -> Html:
    """A scrubber as wide as its column, unless it would leave no room below it for its slider; small pictures in sharp squares.

    Args:
        frames: the scrubber.
        x: the picture in it, (1, c, h, w).
    """
    h, w = x.shape[2:]
    kind = "look sharp" if max(h, w) * 2 <= ALONE_PX else "look"
    return Html(f'<div class="{kind}" style="--look-px:min(100%, max(65vh, {ALONE_PX}px) * {w / h:.4f})">{frames}</div>')


def about(D: Degradation) -> str:
    """A degradation in words: what it is, and what of it is random."""
    name = registry.label(type(D))
    line = " ".join((type(D).__doc__ or "").partition("\n\n")[0].split()).replace("``", "`")
    return f"### {name}\n{line}\n\n{drawn(D)}"


def drawn(D: Degradation) -> str:
    """What of a degradation is random, in a sentence."""
    names = [name for name in entries(D) if name not in D.needs]
    if D.needs:
        return "It ends in a second picture. Nothing else is random: t only says how far the one has become the other."
    if not names:
        return "Nothing is random here: the same picture always becomes the same."
    if set(names) <= set(D.noise):
        return "The noise is drawn once, by the seed; t only says how much of it there is. Another seed is another noise."
    listed = ", ".join(f"`{name}`" for name in names)
    return f"What is random ({listed}) is drawn once, by the seed, and stays while you move t."


def command(D: Degradation, file: str, endpoint: str | None, seed: int) -> str:
    """The command that draws the same from the whole picture."""
    return again.command("degrade", file, degradation=registry.spec(D), severities="0,.25,.5,.75,1", endpoint=endpoint, seed=seed or None)


def python(D: Degradation, file: str, endpoint: str | None, seed: int, bundled: Sequence[str] = ()) -> str:
    """The lines that do the same in Python.

    Args:
        D: the degradation.
        file: the picture.
        endpoint: the picture that a morph ends in.
        seed: of what is random.
        bundled: the bundled pictures among them, which are written first.
    """
    names = "read, resize, to_channels" if endpoint else "read"
    lines = [
        "import snowmelt, torch",
        *([examples.IMPORTS] if bundled else []),
        f"from snowmelt.data.images import {names}",
        "from snowmelt.randomness import generators",
        "",
        *map(examples.python, bundled),
        f"x = read({file!r}).over()[None]",
        f"D = snowmelt.build({registry.spec(D)!r})",
        f'z = D.draw(x, generators({seed}, "degrade", [0]))',
    ]
    if endpoint:
        lines += [
            f"other = to_channels(read({endpoint!r}).over(), x.shape[1])  # with the colours and the size of x",
            'z = {**z, **D.given_by({"endpoint": resize(other, x.shape[2:]).expand_as(x)})}',
        ]
    return "\n".join([*lines, "y = D(x, torch.tensor([0.5]), z)  # t = 0.5"])


def tab(desk: Desk) -> None:
    """The tab."""
    names = forms.pictured()
    now = look(desk, FIRST, Picked(None, FIRST_PICTURE), None, 0, unchecked)  # drawn here, so that it comes with the page
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            frames = gr.HTML(now.frames, elem_id="look-frames")
            words = gr.Markdown(now.about)
        with gr.Column(scale=1, min_width=320):
            name = gr.Dropdown(names, value=FIRST, label="Degradation", info=_MOVE)
            spec = gr.Textbox(FIRST, elem_id="look-spec", label="Spec", buttons=["copy"], info=_SPEC, max_length=LONGEST_SPEC)
            form = forms.Form(names, shown=FIRST)
            with gr.Row():
                example = gr.Dropdown(list(examples.NAMES), value=FIRST_PICTURE, label="Picture", min_width=120)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=80)
            upload = drop("or your own", _DROP_PX)
            with gr.Column(visible=False) as ending:
                second = gr.Dropdown(list(examples.NAMES), value=SECOND_PICTURE, label="Second picture, in which it ends")
                upload_second = drop("or your own", _DROP_PX)
    with gr.Accordion("Do it again without this page", open=False):
        shell = gr.Code(now.command, language="shell", label="Command line", interactive=False, lines=1, wrap_lines=True)
        lines = gr.Code(now.python, language="python", label="Python", interactive=False, lines=1, wrap_lines=True)
        gr.Markdown(f"Here the picture is made {desk.limits.look_px} px large first; these lines take it as it is.")

    pictures = [example, upload, second, upload_second, seed]
    shown = [frames, words, shell, lines, ending]
    handlers = _Handlers(desk, form)
    show: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": frames, "trigger_mode": "always_last", "api_visibility": "private"}
    name.input(handled(handlers.chosen), [name, *pictures], [*shown, spec, *form.groups, *form.controls], **show)
    for event in moved(form.controls):
        event(handled(handlers.moved), [name, *pictures, *form.controls], [*shown, spec], **show)
    spec.submit(handled(handlers.written), [spec, *pictures], [*shown, name, *form.groups, *form.controls], **show)
    for event in (example.input, second.input, upload.upload, upload.clear, upload_second.upload, upload_second.clear, seed.submit, seed.blur):
        event(handled(handlers.redrawn), [spec, *pictures], shown, **show)


def moved(controls: Sequence[Any]) -> list[Callable[..., Any]]:
    """The events that say that somebody has moved a control of a form, by pointer or by keys; of text, that it is written."""
    events: list[Callable[..., Any]] = []
    for control in controls:
        events += [control.submit, control.blur] if isinstance(control, gr.Textbox) else [control.input]
    return events


def _written(spec: str | None) -> str:
    """What stands in the line.

    Raises:
        Refused: nothing does, or too much.
    """
    require_short(spec)
    text = (spec or "").strip()
    if not text:
        raise Refused("the line is empty: choose a degradation, or write one")
    return text


class _Handlers:
    """What the events of the tab do: each returns the values of its outputs."""

    def __init__(self, desk: Desk, form: forms.Form) -> None:
        self.desk, self.form = desk, form

    def chosen(self, request: gr.Request, name: str, *pictures: Any) -> list[Any]:
        """Another degradation."""
        part = registry.build(forms.begun(name))
        return [*self._drawn(forms.begun(name), pictures, request), forms.begun(name), *self.form.show(name), *self.form.fill(part)]

    def moved(self, request: gr.Request, name: str, *values: Any) -> list[Any]:
        """One of its controls."""
        pictures, controls = values[:5], values[5:]
        require_short(*controls)
        spec = self.form.spec(name, controls)
        return [*self._drawn(spec, pictures, request), spec]

    def written(self, request: gr.Request, spec: str, *pictures: Any) -> list[Any]:
        """A spec by hand."""
        spec = _written(spec)
        part = registry.build(spec)
        name = registry.label(type(part))
        return [*self._drawn(spec, pictures, request), name, *self.form.show(name), *self.form.fill(part)]

    def redrawn(self, request: gr.Request, spec: str, *pictures: Any) -> list[Any]:
        """Another picture, or another draw."""
        return self._drawn(_written(spec), pictures, request)

    def _drawn(self, spec: str, pictures: Sequence[Any], request: gr.Request) -> list[Any]:
        example, upload, second, upload_second, seed = pictures
        with self.desk.gate.turn(self.desk.gate.leaving(request.session_hash)) as turn:
            found = look(self.desk, spec, Picked(upload, example), Picked(upload_second, second), int(seed or 0), turn.check)
        ends = bool(registry.build(spec).needs)
        return [found.frames, found.about, found.command, found.python, gr.update(visible=ends)]
