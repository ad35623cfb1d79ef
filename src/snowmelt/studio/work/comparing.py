"""What two or more runs say, side by side: scores, curves, recipes, reports, and one picture restored by each.

Only files of the runs are read, nothing is measured here. What was not evaluated is *pending*, with the command that does it; and where numbers do
not compare (other pictures, another degradation, weights that were trained further), that is said first.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.data.checks import Check
from snowmelt.evaluation import BEST, Report
from snowmelt.evaluation.methods import compared
from snowmelt.evaluation.report import generated_rows
from snowmelt.files import BadFile
from snowmelt.metrics import measures_for
from snowmelt.model import located, weights_of
from snowmelt.pictures import Panel, page, panels_svg
from snowmelt.pictures.markup import Html
from snowmelt.pictures.sheets import evenly
from snowmelt.pictures.tables import Row
from snowmelt.randomness import generator
from snowmelt.recipes.directory import differences, stored
from snowmelt.recipes.recipe import to_table
from snowmelt.restoration.identity import Opened
from snowmelt.studio.limits import Refused
from snowmelt.studio.shelf import Entry
from snowmelt.studio.work.again import command, place
from snowmelt.studio.work.looking import Mode, measured, restored
from snowmelt.training import history
from snowmelt.training.learning import counted

MOST_RUNS = 6
MOST_BYTES = 32 * 2**20  # of a report that is shown within the page
_POINTS = 400  # of a curve
_SAME = {"degradation": "degradations", "data": "data", "test pictures": "test pictures"}
_METHODS = {"direct": "Direct"}  # one call, as pictures and reports call it
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_NAMED = 12  # hexadecimal digits by which a report names its weights


@dataclass(frozen=True)
class Told:
    """What a run says of itself.

    Attributes:
        name: by which it was chosen.
        entry: where it lies.
        recipe: all its fields, as nested tables; empty where there is no recipe.
        report: what was measured; None where nothing was.
        lines: of its log.
        wrong: what of it could not be read, in words.
    """

    name: str
    entry: Entry
    recipe: Mapping[str, Any]
    report: Report | None
    lines: Sequence[Mapping[str, Any]]
    wrong: str = ""

    @property
    def evaluate(self) -> str:
        """The command that measures it."""
        return command("evaluate", place(self.entry))

    @property
    def page(self) -> Path | None:
        """Its report.html; None where there is none."""
        path = located(self.entry.path) / "report.html"
        return path if path.is_file() else None


class Result(NamedTuple):
    """What one model makes of a picture.

    Attributes:
        name: of the model.
        x: its picture (1, c, h, w).
        psnr: in dB, next to the clean picture; None if nobody knows it.
        ssim: likewise; None also of pictures that are too small for it.
    """

    name: str
    x: Tensor
    psnr: float | None = None
    ssim: float | None = None


def told(entry: Entry) -> Told:
    """What a run says; what is damaged is left out, and said."""
    path, wrong = located(entry.path), []

    def tried(read: Callable[[], Any], none: Any) -> Any:
        try:
            return read()
        except FileNotFoundError:
            return none
        except (BadFile, OSError, ValueError) as error:
            wrong.append(str(error).replace(str(path), entry.name))
            return none

    recipe = tried(lambda: to_table(stored(path)), {})
    report = tried(lambda: Report.read(path / "evaluation.json"), None)
    lines = tried(lambda: history.read(path), [])
    return Told(entry.name, entry, recipe, report, lines, "; ".join(wrong))


def scores(runs: Sequence[Told]) -> list[Row]:
    """A row for one call of each run, and one for the best of its walks; of a run that was not evaluated one that is pending."""
    found: list[tuple[Told, list[dict[str, Any]]]] = [(run, [] if run.report is None else _rows(run.report)) for run in runs]
    names = list(dict.fromkeys(name for _, rows in found for row in rows for name in row if name not in ("method", "calls", "N")))
    pending = {name: None for name in names or ("rmse", "psnr", "ssim")}
    out: list[Row] = []
    for run, rows in found:
        out += [{"run": run.name, **row} for row in rows] or [{"run": run.name, "method": "not evaluated", **pending}]
    return out


def generation(runs: Sequence[Told]) -> list[Row]:
    """What was measured of the samples that runs generate: a row a measure, a column a run, and the first run's real ones beside them."""
    found = {run.name: run.report.generated for run in runs if run.report is not None and run.report.generated}
    out: dict[str, dict[str, Any]] = {}
    for name, generated in found.items():
        for row in generated_rows(generated):
            cells = out.setdefault(str(row["measure"]), {"measure": row["measure"]})
            cells[name] = row["generated"]
            cells.setdefault("real pictures", row["real pictures"])
    return [{**{k: v for k, v in row.items() if k != "real pictures"}, "real pictures": row["real pictures"]} for row in out.values()]


def remarks(runs: Sequence[Told]) -> list[str]:
    """What a reader has to know before he compares: the gravest first."""
    out = [f"{run.name}: {run.wrong}" for run in runs if run.wrong]
    judged = [run for run in runs if run.report is not None]
    for fact, many in _SAME.items():
        said = {str(run.report.facts.get(fact, "not said")) for run in judged if run.report is not None}
        if len(said) > 1:
            out.append(f"These runs were judged on different {many} ({'; '.join(sorted(said))}): their numbers do not compare.")
    for run in judged:
        assert run.report is not None  # noqa: S101 - see above
        weights = str(run.report.facts.get("weights", ""))
        if weights and not weights_of(located(run.entry.path)).startswith(weights[:_NAMED]):
            out.append(f"{run.name} has other weights than when it was evaluated: `{run.evaluate}` measures it anew.")
    return out + [f"{run.name} was not evaluated yet: `{run.evaluate}`" for run in runs if run.report is None]


def comparable(runs: Sequence[Told]) -> bool:
    """Whether the best of a column means anything: all were judged on the same pictures."""
    facts = [run.report.facts for run in runs if run.report is not None]
    return all(one.get(fact) == facts[0].get(fact) for one in facts for fact in _SAME)


def curves(runs: Sequence[Told]) -> list[str]:
    """How runs learned, as SVG: the loss on validation pictures, and their PSNR once restored. Loss compares within one kind of training only."""
    charts = []
    for title, name, unit in (
        ("Loss on validation pictures; lower is better", "validation_loss", "loss"),
        ("Restored validation pictures; higher is better", "validation_restored_psnr_db", "PSNR, dB"),
    ):
        lines = {run.name: _points(run.lines, name) for run in runs}
        if any(lines.values()):
            charts.append(panels_svg([Panel(title, lines, "images seen", unit)], title="", columns=1))
    return charts


def recipes(runs: Sequence[Told]) -> list[Row]:
    """The fields in which recipes differ in a way that changes the training: a row a field, a column a run."""
    first, *others = runs
    fields = sorted({field for other in others for field in differences(first.recipe, other.recipe)})
    return [{"field": field, **{run.name: _field(run.recipe, field) for run in runs}} for field in fields]


def framed(run: Told) -> Html:
    """A run's report within the page, in a frame of its own in which no script runs, no form is sent and nothing else of the page can be reached.

    Raises:
        Refused: it has none, or one too large to be shown.
    """
    path = run.page
    if path is None:
        raise Refused(f"{run.name} has no report yet: {run.evaluate} writes one")
    if path.stat().st_size > MOST_BYTES:
        raise Refused(f"the report of {run.name} has {path.stat().st_size / 2**20:.0f} MB, too many to be shown here: open its file in a browser")
    still = _SCRIPT.sub("", path.read_text(encoding="utf-8", errors="replace"))  # they would not run: this only spares the browser's complaint
    text = escape(still, quote=True)
    look = "width:100%;height:80vh;border:1px solid #8884;border-radius:6px;background:#fff"
    return Html(f'<iframe sandbox="" referrerpolicy="no-referrer" title="{escape(run.name)}" style="{look}" srcdoc="{text}"></iframe>')


def tabulated(rows: Sequence[Row], *, mark: bool = True) -> str:
    """A table of the page; the best of each measure in bold."""
    return page.table(rows, best=BEST, mark=mark) if rows else ""


def restored_by(
    models: Sequence[Opened], x: Tensor, *, clean: bool, severity: float, mode: Mode, seed: int = 0, check: Check
) -> tuple[Tensor, list[Result]]:
    """One degraded picture, and what each model makes of it.

    Args:
        models: of pictures; where `x` is clean, the first one's degradation is what is done to it.
        x: (1, c, h, w).
        clean: degrade it first.
        severity: how much, or how degraded it is.
        mode: "faithful" or "best"; a model that is tuned for few calls is fast instead, since nothing else suits it.
        seed: of what is random.
        check: called before every call of the network; what it raises ends the work.

    Returns:
        The degraded picture (1, c, h, w), and a result for each model, with measures where the clean picture is known.

    Raises:
        ValueError: as :func:`~snowmelt.studio.work.looking.restored`.
    """
    given = x
    if clean:
        first = models[0].model
        with torch.no_grad():
            given = first.corrupt(x, severity, [generator(seed, "degrade")]).x.clamp(-1, 1)
    out = []
    for one in models:
        check()
        own: Mode = "fast" if one.model.gap else mode
        walked = restored(one.model, given, severity=severity, mode=own, seed=seed, anyway=True, check=check)
        psnr, ssim = measured(walked.x, x) if clean and walked.x.shape == x.shape else (None, None)
        out.append(Result(one.name, walked.x, psnr, ssim))
    return given, out


def same_degradation(models: Sequence[Opened]) -> str:
    """A warning where models undo different things; empty where they do not."""
    specs = {one.name: registry.spec(one.model.degradation) for one in models}
    draws = {one.name: ", and draws new pictures" if one.model.prior is not None else "" for one in models}
    if len(set(specs.values())) < 2:
        return ""
    return "They undo different things: " + "; ".join(f"{name} undoes {spec}{draws[name]}" for name, spec in specs.items()) + "."


def tuned(models: Sequence[Opened]) -> str:
    """Which models are tuned for few calls, in which :func:`restored_by` restores with them; empty where none is."""
    found = [one.name for one in models if one.model.gap]
    return f"Tuned for few calls, and restored in those whatever was chosen: {', '.join(found)}." if found else ""


def _rows(report: Report) -> list[dict[str, Any]]:
    """One call, and the walk with the best main measure, as :meth:`Report.table` writes them."""
    if not report.inputs():
        return []
    own = report.main
    pairs = [(row, shown) for row, shown in zip(report.of(own), report.table(own), strict=True) if compared(row)]
    main = measures_for(report.signal()).first
    walks = [pair for pair in pairs if pair[0].get("kind") == "walk" and isinstance(pair[0].get(main.name), float)]
    chosen = [pair for pair in pairs if pair[0].get("kind") == "direct"]
    if walks:
        chosen.append((max if main.better == "high" else min)(walks, key=lambda pair: float(pair[0][main.name])))
    return [{"method": _METHODS.get(str(row.get("kind")), shown["method"]), **_numbers(row, shown)} for row, shown in chosen]


def _numbers(row: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Calls, number of samples and measures of a row of a report."""
    measures = {name: value for name, value in shown.items() if name not in ("method", "calls")}
    return {"calls": shown.get("calls"), "N": row.get("images"), **measures}


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    numbers = [(float(line["images"]), float(line[name])) for line in counted(lines) if isinstance(line.get(name), int | float)]
    found = [(images, value) for images, value in numbers if images and math.isfinite(value)]
    return evenly(found, _POINTS)


def _field(recipe: Mapping[str, Any], field: str) -> str:
    """The value of a field by its dotted name, as text."""
    value: Any = recipe
    for key in field.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
