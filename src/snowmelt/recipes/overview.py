"""The page of a run from what there is: whether it is evaluated or not, still training or done, with its data or without.

Nothing is trained, scored or written beside the page. What an evaluation has measured is read from evaluation.json, and the pictures that
it made from their files; a walk is made anew where model and data can be opened, else the stored one is shown, and the page says so.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from snowmelt import files, registry
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.data.options import PREVIOUS
from snowmelt.data.sources import open_data
from snowmelt.evaluation import Report
from snowmelt.evaluation.report import SIGNAL, generated_rows, walk_rows
from snowmelt.model import Model, load, noted, weights_of
from snowmelt.pictures import page
from snowmelt.recipes import sections
from snowmelt.recipes.directory import stored
from snowmelt.recipes.generating import shown
from snowmelt.recipes.recipe import Recipe, to_toml
from snowmelt.recipes.report import environment
from snowmelt.recipes.run import as_trained, with_path
from snowmelt.restorers import Restorer
from snowmelt.signals import PICTURE, Signal, Sound
from snowmelt.training import history
from snowmelt.training.learning import counted

NAME = "report.html"
_BUNDLED = "bundled:"
_GIF_BYTES = 64_000_000  # of the stored walk; what is larger, no run has made
_OF_EVALUATION = "A part of the evaluation cannot be shown, since another version of snowmelt wrote it: 'snowmelt evaluate' writes it anew."
_OF_RUN = "A part of what the run says of itself cannot be shown, since another program or version wrote it."


class Written(NamedTuple):
    """A page, and what it lacks.

    Attributes:
        path: where it lies.
        lacks: sentences on what could not be shown, and how to have it shown.
        shows: the sources on this machine of which it shows samples because the run's recipe names them.
    """

    path: Path
    lacks: list[str]
    shows: list[str]


class _Run(NamedTuple):
    """What of a run could be opened."""

    place: Path
    recipe: Recipe
    model: Model | None
    report: Report | None
    lacks: list[str]
    shows: list[str]

    @property
    def signal(self) -> Signal:
        """What samples are, as far as the model or its evaluation says."""
        if self.model is not None or self.report is None:
            return PICTURE if self.model is None else self.model.signal
        try:
            signal: Signal = registry.build(str(self.report.facts.get(SIGNAL, PICTURE.name)), "signal")
        except ValueError:
            return PICTURE
        return signal


def overview(run: str | Path, *, out: str | Path | None = None, path: str | None = None, device: torch.device | str = "cpu") -> Written:
    """Write the page of a run; the run itself stays as it is.

    Args:
        run: the run directory; a training may be under way in it.
        out: the file to write; by default report.html in the run.
        path: where the data lie now, if not where the recipe says.
        device: where the walk that is shown is computed.

    Raises:
        FileNotFoundError: `run` is no run directory.
        BadFile: its recipe is damaged.
        ValueError: `out` is a directory.
    """
    run = Path(run)
    target = Path(out) if out is not None else run / NAME
    recipe = stored(run)
    if target.is_dir():
        raise ValueError(f"--out {target} is a directory: give the name of a file, such as {target / NAME}")
    lacks: list[str] = []
    found = _Run(run, recipe, _model(run, lacks), _report(run, lacks), lacks, [])
    body = [
        *_whole(found, [lambda: _how_well(found)], _OF_EVALUATION),
        page.heading("What it is"),
        *_whole(found, [lambda: [page.facts(dict(_described(found)))]], _OF_RUN),
        *_walked(found, device, path),
        *_scored(found),
        page.heading("Trained"),
        *_whole(found, [lambda: sections.charted(run), lambda: sections.learns(run), lambda: sections.grown(run)], _OF_RUN),
        page.heading("Made by"),
        *_whole(found, [lambda: _made_by(found)], _OF_RUN),
        page.details("Recipe", to_toml(recipe)),
    ]
    subtitle = f"{run.resolve().name} · snowmelt {__version__} · {datetime.now(UTC):%d %B %Y}"
    files.write_text(target, page.page(recipe.about or recipe.degradation, body, subtitle=subtitle))
    return Written(target, lacks, found.shows)


def _named(recipe: Recipe, path: str | None) -> list[str]:
    """The sources on this machine that the recipe itself names, in place of whoever wants the page: a stranger's may name whatever it likes."""
    named = (recipe.data.path if path is None else None, recipe.data.endpoint)
    return [one for one in named if one is not None and one != PREVIOUS and not one.startswith(_BUNDLED)]


def _model(run: Path, lacks: list[str]) -> Model | None:
    """The model as it is now; None where there is none yet, or none that can be read."""
    if not (run / "model.json").is_file():
        lacks.append("The run has no model yet, so nothing can be restored with it: the first is saved at the first checkpoint.")
        return None
    for last in (False, True):
        try:
            return load(run)
        except (OSError, ValueError) as error:  # a training may replace the weights just now: then the second look finds the new ones
            if last:
                lacks.append(f"The model could not be opened: {error}")
    return None


def _report(run: Path, lacks: list[str]) -> Report | None:
    """What an evaluation measured; None where there was none."""
    if not (run / "evaluation.json").is_file():
        lacks.append(f"Not evaluated yet: snowmelt evaluate {shlex.quote(str(run))}")
        return None
    try:
        return Report.read(run / "evaluation.json")
    except (OSError, ValueError) as error:
        lacks.append(f"Its evaluation could not be read: {error}")
        return None


def _how_well(run: _Run) -> list[str]:
    """The verdict; and what is to be known before anything else is read."""
    if run.report is None:
        done, measures = "Not evaluated yet, or its evaluation could not be read.", "measures how well it restores"
        return [page.note(f"{done} {_evaluate(run.place)} {measures}, beside doing nothing and classical methods.")]
    of, now = run.report.facts.get("weights"), _weights(run)
    older = "The tables and the stored pictures are of earlier weights than those of the walk: 'snowmelt evaluate' measures these."
    return [*sections.told(run.report.verdict), *([page.note(older)] if None not in (of, now) and of != now else [])]


def _evaluate(place: Path) -> str:
    """The command as it works where the page was asked for; a full path says too much of the machine for a page that is handed on."""
    plain = shlex.quote(str(place)) == str(place)  # else its own quotes would stand within these
    return f"'snowmelt evaluate {place}'" if plain and not place.is_absolute() else "'snowmelt evaluate RUN', with the directory of this run,"


def _weights(run: _Run) -> str | None:
    """The weights there are now, as an evaluation names them."""
    return None if run.model is None else weights_of(run.place)[:12]


def _described(run: _Run) -> Iterator[tuple[str, object]]:
    """Degradation, data, model and parameters, as far as they are known."""
    recipe, model = run.recipe, run.model
    yield "undoes", recipe.degradation if model is None else registry.spec(model.degradation)
    yield "data", _called(recipe.data.path)
    if model is not None and isinstance(model.restorer, Restorer):
        net = model.restorer
        yield "network", registry.spec(net.backbone)
        yield "parameters", sum(p.numel() for p in net.parameters())
        yield "predicts", registry.spec(net.parameterization)
        yield "samples", " x ".join(map(str, net.shape))
    elif recipe.model.backbone:
        yield "network", recipe.model.backbone
    if model is not None:
        yield "estimates", model.estimates if model.gap else f"the {model.estimates}"
        yield "input", f"{model.input}, noise floor {model.noise_floor:g}"
        yield "prior", "none: it restores" if model.prior is None else registry.spec(model.prior)
    lines = [line for line in counted(history.read(run.place)) if "loss" in line]
    name, planned = f"{run.signal.many} seen", f"{recipe.training.steps * recipe.training.step_images:,}"  # whole steps, as they are counted
    if lines:
        done, minutes = lines[-1]["images"], lines[-1].get("wall_s", 0.0) / 60
        yield name, f"{done:,} of {planned}, in {minutes:.1f} minutes"
    else:
        yield name, f"0 of {planned}"


def _called(path: str) -> str:
    """Data without the folders in which they lie."""
    return Path(path).name if "/" in path else path


def _walked(run: _Run, device: torch.device | str, path: str | None) -> list[str]:
    """A walk of the model on data that it has not seen, which lie at `path` if not where the recipe says; the stored one where there is none."""
    if run.model is not None:
        way = " If the data lie elsewhere now, give --data."
        data, why = _unseen(with_path(run.recipe, path), run.model)
        if data is not None:
            try:
                walked = sections.seen(run.model, data, run.recipe.evaluation.seed, shown(run.recipe.evaluation, run.model), None, device)
                run.shows.extend(_named(run.recipe, path))
                return walked if path is None else [*walked[:1], page.text(f"On samples of {_called(path)}."), *walked[1:]]
            except (OSError, ValueError, RuntimeError) as error:  # data of another shape or signal, files that are gone, a device that is full
                why = f"{str(error).rstrip('.') or type(error).__name__}."
                if isinstance(error, RuntimeError):  # not the fault of the data
                    way = "" if torch.device(device).type == "cpu" else " Try --device cpu."
        run.lacks.append(f"No walk is shown: {why}{way}")
    pictures = _pictures(run, "grid", "trajectory", "degradation")
    if not pictures:
        return []
    said = "No walk could be made for this page: these are the pictures that the last evaluation stored."
    return [page.heading("Seen"), page.note(said), *pictures[:1], *_moving(run.place), *pictures[1:]]


def _moving(run: Path) -> list[str]:
    """The stored walk, where there is one: read once, for what is checked is what is shown."""
    path = run / "trajectory.gif"
    if not path.is_file():
        return []
    try:
        files.require_inside(run, path)
        with path.open("rb") as stream:
            data = stream.read(_GIF_BYTES + 1)
        return [page.figure(data, "The walk, as it was stored.")] if len(data) <= _GIF_BYTES and data.startswith(b"GIF") else []
    except (OSError, ValueError):  # what begins as a GIF and is none
        return []


def _unseen(recipe: Recipe, model: Model) -> tuple[Dataset | None, str]:
    """Test data, else validation data; or why there are none."""
    why = ""
    for split in ("test", "validation"):
        try:
            data = open_data(as_trained(recipe, model).data, split)
        except (OSError, ValueError, ImportError) as error:
            why = why or f"{str(error).rstrip('.')}."
            continue
        if len(data):
            return data, ""
    return None, why or "neither test nor validation data are left aside."


def _pictures(run: _Run, *wanted: str) -> list[str]:
    """The stored pictures there are."""
    found = ((sections.opened(run.place / f"{name}.png", run.place), name) for name in wanted)
    return [page.figure(sheet, sections.captioned(name, run.signal, run.recipe.degradation)) for sheet, name in found if sheet is not None]


def _scored(run: _Run) -> list[str]:
    """What was measured, and the pictures that the evaluation stored."""
    report, signal = run.report, run.signal
    if report is None:
        return []
    parts: list[Callable[[], list[str]]] = [
        lambda: sections.measured(report, signal),
        lambda: sections.curves(report, None, signal),
        lambda: sections.coded(report, run.place),
        lambda: _typical(run),
        lambda: _generated(run, report),
    ]
    return _whole(run, parts, _OF_EVALUATION)


def _whole(run: _Run, parts: Sequence[Callable[[], list[str]]], lack: str) -> list[str]:
    """The parts that can be shown, under a note on `lack` where one cannot."""
    out: list[str] = []
    lacking = False
    for part in parts:
        try:
            out += part()
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, StopIteration):  # plain values of any version, or of anybody
            lacking = True
    if lacking and lack not in run.lacks:
        run.lacks.append(lack)
    return [*([page.note(lack)] if lacking else []), *out]


def _typical(run: _Run) -> list[str]:
    found = _pictures(run, "worst", "median")
    return [page.heading("Worst and typical"), *found] if found else []


def _generated(run: _Run, report: Report) -> list[str]:
    """What was measured of generated samples, and those that were stored."""
    out: list[str] = []
    if made := report.generated:
        out += [page.heading("Generated"), page.text(" ".join(made["verdict"])), *_pictures(run, "generated")]
        if isinstance(run.signal, Sound):
            out.append(page.text("To hear some: 'snowmelt sample' writes as many as you ask for."))
        out += [page.table(generated_rows(made), mark=False), *_pictures(run, "nearest"), page.facts(made["facts"])]
    if report.walks:
        table = page.table(walk_rows(report.walks), mark=False)
        out += [page.heading("Walks beside each other"), table, *_pictures(run, "walks")]
    return out


def _made_by(run: _Run) -> list[str]:
    """The machine and the versions of each stage that says so."""
    out: list[str] = []
    trained = noted(run.model.notes, "trained_with") if run.model is not None else None
    stages = {"Training": trained, "Evaluation": run.report.facts if run.report is not None else None, "This page": environment()}
    for name, facts in stages.items():
        if isinstance(facts, dict) and facts:
            out += [page.heading(name, 3), page.facts(facts)]
    return out
