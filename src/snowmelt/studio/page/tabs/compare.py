"""Compare: what several runs say of themselves side by side, their reports, and one picture restored by each."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from snowmelt.data.images import Picture
from snowmelt.pictures import strip
from snowmelt.restoration import fitted
from snowmelt.studio.desk import Desk
from snowmelt.studio.limits import Refused
from snowmelt.studio.page import examples, keeping
from snowmelt.studio.page.asking import counted, escaped, picture
from snowmelt.studio.page.dropping import drop
from snowmelt.studio.page.visiting import QUIET, forget
from snowmelt.studio.surroundings import kept_in
from snowmelt.studio.uploads import opened
from snowmelt.studio.words import handled
from snowmelt.studio.work import comparing

MODES = {"one call: faithful": "faithful", "a walk: the most detail": "best"}
_OWN = "my picture"
_SIDE_PX = 256  # of a picture that is restored by each: enough to tell models apart
_STYLE = (
    "<style>.runs{overflow-x:auto;margin:.4rem 0 1.4rem}.runs h3{font-size:1rem;margin:.2rem 0 .5rem}"
    ".runs table,.runs table *{border:0!important}"
    ".runs table{border-collapse:collapse!important;font-variant-numeric:tabular-nums;width:auto!important}"
    ".runs table th,.runs table td{padding:.3rem 1.1rem .3rem 0!important;border-bottom:1px solid #8883!important;text-align:left}"
    ".runs table th{font-weight:500!important;opacity:.7}.runs table .number{text-align:right}.runs .pending{opacity:.55}"
    ".charts{display:flex;flex-wrap:wrap;gap:1rem}.charts>*{flex:1 1 320px;min-width:0}</style>"
)
NONE = """### Nothing to compare yet
Two runs are needed. **Train** makes them: the same data twice, with one thing changed."""


class _Panel(NamedTuple):
    """The components of the tab."""

    empty: gr.Markdown
    room: gr.Column
    runs: gr.Dropdown
    go: gr.Button
    said: gr.Markdown
    tables: gr.HTML
    which: gr.Dropdown
    source: gr.Image
    clean: gr.Checkbox
    severity: gr.Slider
    mode: gr.Radio
    restore: gr.Button
    side: gr.HTML
    told: gr.Markdown
    report: gr.Dropdown
    show: gr.Button
    file: gr.DownloadButton
    frame: gr.HTML


def tab(desk: Desk) -> None:
    """The tab."""
    handlers, panel = _Handlers(desk), _panel()
    listed = [panel.empty, panel.room, panel.runs]
    gr.on(None, handled(handlers.listed), None, listed, **QUIET)  # when the page opens
    panel.runs.focus(handled(handlers.listed), panel.runs, listed, **QUIET)
    panel.which.change(lambda name: gr.update(visible=name == _OWN), panel.which, panel.source, **QUIET)
    forget(panel.go, [panel.said, panel.tables])
    panel.go.click(handled(handlers.compared), panel.runs, [panel.said, panel.tables, panel.report], api_visibility="private")
    asked = [panel.runs, panel.which, panel.source, panel.clean, panel.severity, panel.mode]
    forget(panel.restore, [panel.side, panel.told])
    panel.restore.click(handled(handlers.restored), asked, [panel.side, panel.told], api_visibility="private")
    forget(panel.show, [panel.frame])
    panel.show.click(handled(handlers.shown), panel.report, panel.frame, api_visibility="private")
    panel.report.change(handled(handlers.taken), panel.report, panel.file, **QUIET)


def _panel() -> _Panel:
    empty = gr.Markdown(NONE)
    with gr.Column() as room:
        with gr.Row(equal_height=False):
            runs = gr.Dropdown(
                label="Runs",
                info=f"Two or more, {comparing.MOST_RUNS} at most.",
                multiselect=True,
                max_choices=comparing.MOST_RUNS,
                scale=4,
                min_width=240,
            )
            go = gr.Button("Compare", variant="primary", scale=1, min_width=120)
        said = gr.Markdown()
        tables = gr.HTML()
        with gr.Accordion("One picture, restored by each", open=False), gr.Row():
            with gr.Column(scale=2, min_width=280):
                which = gr.Dropdown([*examples.NAMES, _OWN], value=examples.NAMES[-1], label="Picture")
                source = drop("Yours", 200, visible=False)
                clean = gr.Checkbox(True, label="It is clean: degrade it first, as the first run's training did")
                severity = gr.Slider(0, 1, 1, step=0.05, label="Severity", info="1 is the strongest that the models have seen.")
                mode = gr.Radio(list(MODES), value=next(iter(MODES)), label="How")
                restore = gr.Button("Restore with each")
            with gr.Column(scale=3, min_width=300):
                side = gr.HTML()
                told = gr.Markdown()
        with gr.Accordion("Reports", open=False):
            with gr.Row():
                report = gr.Dropdown(label="Of", min_width=160)
                show = gr.Button("Show here", min_width=120)
                file = gr.DownloadButton("Take it along", min_width=120, visible=False)
            frame = gr.HTML()
    asked = (which, source, clean, severity, mode, restore)
    return _Panel(empty, room, runs, go, said, tables, *asked, side, told, report, show, file, frame)


class _Handlers:
    """What the events of the tab do: each returns the values of its outputs."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def listed(self, now: Sequence[str] | None = None) -> list[Any]:
        """The runs there are now. What is chosen is not sent back, unless one of them is gone: it might have been changed meanwhile."""
        names = [entry.name for entry in self.desk.shelf.entries()]
        kept = [name for name in now or () if name in names]
        menu = gr.update(choices=names) if len(kept) == len(now or ()) else gr.update(choices=names, value=kept)
        return [gr.update(visible=len(names) < 2), gr.update(visible=len(names) > 1), menu]

    def compared(self, names: list[str]) -> list[Any]:
        """What runs say."""
        return made(self.desk, names)

    def restored(
        self,
        names: list[str],
        which: str,
        source: str | None,
        clean: bool,
        severity: float,
        mode: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - how gradio finds out that a handler wants one
    ) -> list[Any]:
        """One picture by each."""
        wish: dict[str, Any] = {"which": which, "source": source, "clean": clean, "severity": severity, "mode": mode}
        return beside(self.desk, names, **wish, left=self.desk.gate.leaving(request.session_hash), progress=progress)

    def shown(self, name: str | None) -> str:
        """A report within the page."""
        return comparing.framed(told_of(self.desk, [name] if name else [], 1)[0])

    def taken(self, name: str | None) -> Any:
        """A report as a file."""
        return gr.update(value=along(self.desk, name, str(kept_in())) if name else None, visible=bool(name))


def told_of(desk: Desk, names: Sequence[str], least: int = 2) -> list[comparing.Told]:
    """What the runs of these names say.

    Raises:
        Refused: too few, too many, or one that is gone.
        BadFile: one is damaged.
    """
    if not least <= len(names) <= comparing.MOST_RUNS:
        few = f"choose {'a run' if least == 1 else 'two runs or more'} first"
        raise Refused(few if len(names) < least else f"{len(names)} runs at once are too many to read: choose {comparing.MOST_RUNS} at most")
    return [comparing.told(desk.shelf.entry(name)) for name in names]


def made(desk: Desk, names: Sequence[str]) -> list[Any]:
    """What the page shows of a comparison: remarks, tables and curves, and the reports there are.

    Raises:
        Refused: as :func:`told_of`.
    """
    runs = told_of(desk, names)
    mark = comparing.comparable(runs)
    learned = comparing.recipes(runs)
    parts = [
        section("Restored", comparing.tabulated(comparing.scores(runs), mark=mark)),
        section("Generated", comparing.tabulated(comparing.generation(runs), mark=False)),
        section("How they learned", "".join(f"<div>{chart}</div>" for chart in comparing.curves(runs)), charts=True),
        section("Recipes differ in", comparing.tabulated(learned, mark=False) or "<p>nothing that changes the training.</p>"),
    ]
    reports = [run.name for run in runs if run.page is not None]
    choice = gr.update(choices=reports, value=reports[0] if reports else None)
    remarks = "\n".join(f"- {escaped_but_code(one)}" for one in comparing.remarks(runs))
    return [remarks, _STYLE + "".join(parts), choice]


def beside(
    desk: Desk,
    names: Sequence[str],
    *,
    which: str,
    source: str | None,
    clean: bool,
    severity: float,
    mode: str,
    left: threading.Event,
    progress: gr.Progress,
) -> list[Any]:
    """What the page shows of one picture restored by each run: the pictures in a row, and what they score.

    Raises:
        Refused: no run of pictures, no picture; or as :func:`~snowmelt.studio.work.comparing.restored_by`.
    """
    chosen = told_of(desk, names)
    runs = [run for run in chosen if run.entry.restores]
    if not runs:
        raise Refused("none of these runs restores pictures: choose others")
    if which == _OWN and source is None:
        raise Refused(f"there is no picture yet: drop one first, or choose another one than “{_OWN}”")
    with desk.gate.turn(left) as turn:
        brought = opened(source, desk.limits) if which == _OWN else Picture(examples.example(which), None, 8)  # here: who waits holds no pixels
        models = [desk.shelf.opened(run.name) for run in runs]
        x = fitted(models[0].model, brought, _SIDE_PX)
        how: Any = MODES.get(mode, mode)
        check = counted(turn.check, progress, "restoring")
        given, found = comparing.restored_by(models, x, clean=clean, severity=float(severity), mode=how, check=check)
    truth = {"Clean": x} if clean else {}
    columns = {"Degraded": given, **{one.name: one.x for one in found}, **truth}
    row = picture(strip(list(columns.values()), list(columns)), ", ".join(columns))
    rows = [{"run": one.name, "psnr": one.psnr, "ssim": one.ssim} for one in found]
    table = section("Next to the clean picture", comparing.tabulated(rows)) if clean else ""
    remarks = [comparing.same_degradation(models), comparing.tuned(models)]
    others = [run.name for run in chosen if not run.entry.restores]
    remarks += [f"Left out, as they do not restore: {', '.join(others)}."] if others else []
    many = sum(run.report is not None for run in runs) > 1
    remarks += [f"One picture proves nothing{': the table above says what many do' if many else ''}."] if clean else []
    return [_STYLE + row + table, escaped(" ".join(filter(None, remarks)))]


def along(desk: Desk, name: str | None, cache: str) -> str:
    """A report as a file to take along.

    Raises:
        Refused: no run was chosen, or it has no report.
    """
    run = told_of(desk, [name] if name else [], 1)[0]
    if run.page is None:
        raise Refused(f"{run.name} has no report yet: {run.evaluate} writes one")
    target = keeping.folder_in(cache, desk.limits) / f"{keeping.plain(run.name)}-report.html"
    target.write_bytes(run.page.read_bytes())
    return str(target)


def section(title: str, markup: str, *, charts: bool = False) -> str:
    """A part of the page under its title; nothing where there is nothing to show."""
    return f'<div class="runs"><h3>{title}</h3><div{" class=charts" if charts else ""}>{markup}</div></div>' if markup else ""


def escaped_but_code(text: str) -> str:
    """A sentence as it is, in Markdown, with commands between backticks as code."""
    return "`".join(part if i % 2 else escaped(part) for i, part in enumerate(text.split("`")))
