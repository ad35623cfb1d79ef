"""The run's pictures and its one-file report: what was degraded, how it came back, what it scored, how it was trained."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from snowmelt import files, pictures, registry
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import BEST, TITLES, Report
from snowmelt.evaluation.bits import WRITTEN as BITS
from snowmelt.evaluation.bits import Bits
from snowmelt.evaluation.curve import WRITTEN as CURVE
from snowmelt.evaluation.report import generated_rows, severity_rows, walk_rows
from snowmelt.evaluation.scoring import LAST, MEASUREMENT
from snowmelt.evaluation.sets import ACCURACY
from snowmelt.metrics.measures import measures_for
from snowmelt.model import Model
from snowmelt.pictures import page
from snowmelt.pictures.scan import explained_portraits, explained_views
from snowmelt.recipes import figures
from snowmelt.recipes.figures import degradation_strip
from snowmelt.recipes.recipe import Recipe, to_toml
from snowmelt.samplers import Sampler
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.training import history
from snowmelt.training.learning import words
from snowmelt.types import Batch, State

__all__ = ["OPENING", "WRITTEN", "Made", "commit", "degradation_strip", "environment", "write"]

WRITTEN = ("degradation.png", "trajectory.png", "trajectory.gif", "grid.png", "loss.svg", "report.html")
# Written where there is something to show.
FURTHER = ("curve.svg", "severity.svg", "worst.png", "median.png", "generated.png", "nearest.png", "walks.png", "birds-eye.png", *BITS, *CURVE)
_HEARD, _VIEWED = 16, 16  # of what was generated
_SUSPICIOUS = "The generated pictures that lie closest to a training picture, each above it: the most suspicious ones."
OPENING = "photo.png"  # what the demo shows before it trains
# What a reader has to know of the columns. Of other signals, "picture" is read as their own word.
COLUMNS = {
    "calls": "how often the restorer was asked; time is nearly proportional to it.",
    MEASUREMENT: "the restored picture, degraded again, against what was given (RMSE). A pretty picture that is not what was there scores high. "
    "The row Clean says what the truth scores, since what was given holds rounding and noise.",
    "FD, KID": "distance of the restored pictures, as a set, to the clean ones, in the features that the name says: low where they look alike. "
    "Blur scores badly here. They compare at equal N only; the row Floor says what real pictures score.",
    ACCURACY: "how many restored pictures a classifier gives the label of the clean one. The row Clean is the ceiling.",
    LAST: "a walk ends with x at t = 0; its last estimate of the clean picture is often closer to it.",
    "in italics": "stands beside the comparison, and is never marked best.",
}
MEASURES = {
    "picture": {
        "RMSE, PSNR, SSIM": "distance to the clean picture, pixel by pixel. The blurry mean of all that is possible scores best here.",
    },
    "sound": {
        "SI-SDR": "the energy of the clean recording over that of everything else in the restored one, whatever the loudness. "
        "The mean of all that is possible scores best here.",
        "LSD": "log-spectral distance: how far the spectrograms lie apart. It hears missing high frequencies, to which SI-SDR is nearly deaf.",
        "segmental SNR": "signal to noise frame by frame, so that quiet passages count as much as loud ones.",
        "RMSE": "distance to the clean recording, value by value.",
    },
    "scan": {
        "MAE, RMSE of range": "distance of the ranges where both scans have a return. A point in the air between near and far costs least here.",
        "Chamfer": "how far the points of each cloud lie from the nearest of the other, on average. Points in the air score badly here.",
        "wrong returns": "the part of the rays that come back and should not, or the other way round.",
        "RMSE": "distance to the clean scan, value by value of all three channels.",
    },
}


class Made(NamedTuple):
    """Generated pictures (n, c, h, w), the training pictures they are compared with, and the first pictures of the walks compared."""

    pictures: Batch
    train: Dataset
    walks: Sequence[Batch] = ()


def write(
    run: Path,
    recipe: Recipe,
    model: Model,
    test: Dataset,
    report: Report,
    sampler: Sampler,
    *,
    title: str,
    out: Path,
    made: Made | None = None,
) -> None:
    """The pictures of :data:`WRITTEN`, those of :data:`FURTHER` that there is something for, and report.html in `out`.

    Args:
        run: the run directory, for its metrics.jsonl.
        recipe: what was run.
        model: what came of it.
        test: pictures it never saw.
        report: what it scored.
        sampler: the walk to show.
        title: of the page.
        out: where to write.
        made: generated pictures to show.
    """
    signal = model.signal
    sections = [
        *_told(report.verdict),
        *_seen(model, test, recipe.evaluation.seed, sampler, out),
        *_measured(report, signal),
        *_curves(report, out, signal),
        *_coded(report, out),
        *_extremes(report, model, test, sampler, recipe.evaluation.seed, out),
        *(_generated(report, made, out, signal) if made is not None else []),
        page.heading("Trained"),
        *_trained(run, out),
        page.heading("Made by"),
        page.facts(report.facts),
        page.details("Recipe", to_toml(recipe)),
    ]
    subtitle = f"snowmelt {__version__} · {datetime.now(UTC):%d %B %Y}"
    files.write_text(out / "report.html", page.page(title, sections, subtitle=subtitle))


def _told(verdict: list[str]) -> list[str]:
    """The verdict; a headline that disappoints must not be overlooked."""
    first, *others = verdict
    return [page.note(first) if first.startswith("Not convincing") else page.text(first), page.text(" ".join(others))]


def _worded(text: str, signal: Signal) -> str:
    """A sentence about pictures, about samples of another signal."""
    return text.replace("pictures", signal.many).replace("picture", signal.one)


def _seen(model: Model, test: Dataset, seed: int, sampler: Sampler, out: Path) -> list[str]:
    walk, clean = figures.journey(model, test, sampler, seed)
    signal = model.signal
    sheets = {
        "grid": figures.outcomes(walk, clean, signal=signal),
        "trajectory": figures.trajectory_strip(walk, clean, signal=signal),
        "degradation": figures.degradation_strip(model, test.batch(range(len(clean)))),
    }
    for name, sheet in sheets.items():
        pictures.save(out / f"{name}.png", sheet)
    gif = pictures.gif_bytes([s.x for s in walk], [f"t = {float(s.t):.2f}" for s in walk], ms=200, hold_ms=1500, signal=signal)
    files.write_bytes(out / "trajectory.gif", gif)
    unfair = " It is handed a part of the draw that nobody could know." if figures.handed(model, sampler) else ""
    return [
        page.heading("Seen"),
        *_first(walk, clean, sheets["grid"], signal, out),
        page.figure(gif, f"{registry.spec(sampler)} walks from t = 1 to t = 0.{unfair}"),
        page.figure(sheets["trajectory"], "What the restorer believes at each step of the walk."),
        page.figure(sheets["degradation"], f"The degradation {registry.spec(model.degradation)} from t = 0 to t = 1."),
    ]


def _first(walk: list[State], clean: Batch, sheet: Image.Image, signal: Signal, out: Path) -> list[str]:
    """The first samples: seen, and whatever else one can do with them."""
    said = _worded("The first test pictures: as degraded, after one call, after the whole walk, and the truth.", signal)
    said = f"{said} {pictures.explained(signal)}".strip()
    if isinstance(signal, Sound):
        heard = {name: torch.nan_to_num(x) for name, x in figures.compared(walk, clean).items()}
        return [page.listening(heard, signal, caption=said)]
    if isinstance(signal, Scan):
        views = figures.from_above(walk, clean, signal)
        pictures.save(out / "birds-eye.png", views)
        return [page.figure(sheet, said), page.figure(views, f"The same scans. {explained_views(signal)}")]
    return [page.figure(sheet, said)]


def _measured(report: Report, signal: Signal = PICTURE) -> list[str]:
    order = sorted(report.inputs(), key=lambda name: name != figures.main_input(report))
    sections: list[str] = [page.heading("Measured")]
    for name in order:
        n = report.of(name)[0]["images"]
        sections.append(page.text(f"{n:,} test {signal.many}, degraded {TITLES[name]}. Bold is best in its column."))
        sections.append(page.table(report.table(name), best=BEST, apart=report.apart(name)))
    sections.append(page.folded("What the columns mean", [page.facts(told_columns(signal))]))
    for name in order:
        if sure := report.certainty(name):
            said = f"How far each number would move with other {signal.many} from the same source. "
            said += "Two methods whose intervals overlap may be equally good."
            sections.append(page.folded(f"95 % intervals, {TITLES[name]}", [page.text(said), page.table(sure, mark=False)]))
    return sections


def told_columns(signal: Signal) -> dict[str, str]:
    """What the columns of a comparison mean."""
    calls, *others = [(name, _worded(text, signal)) for name, text in COLUMNS.items()]
    return dict([calls, *MEASURES[signal.name].items(), *others])


def _curves(report: Report, out: Path, signal: Signal = PICTURE) -> list[str]:
    sections: list[str] = []
    if (plane := figures.plane(report, signal)) is not None:
        files.write_text(out / "curve.svg", plane)
        bought = "Down and to the right detail is bought with error: pictures that look more real, and are further from the one that was."
        said = _worded(bought, signal)
        sections += [page.heading("Calls"), page.svg(plane, f"{said} Bars are 95 % intervals; the figure beside a point is its number of calls.")]
    sections += [] if sections else [page.heading("Calls")]
    sections += [page.svg(chart) for chart in figures.over_calls(report)]
    if report.severities:
        chart = figures.error_per_severity(report)
        files.write_text(out / "severity.svg", chart)
        said = f"The same {signal.many}, degraded less and more. Where Direct lies above Degraded, the restorer does harm."
        sections += [page.heading("Error per severity"), page.svg(chart, said)]
        sections.append(page.folded("As numbers", [page.table(severity_rows(report.severities), mark=False)]))
    return sections


def _coded(report: Report, out: Path) -> list[str]:
    """The bits per dimension that were measured there, if they are those of the same weights."""
    if not (out / "bound.json").is_file():
        return []
    bits = Bits.read(out / "bound.json")
    if bits.facts.get("weights") != report.facts.get("weights"):
        return []
    said = "What a code that the model stands for costs, part by part. All of the bounds hold; they differ in the variance of a step."
    bands = page.folded("Band by band", [page.table(bits.band_rows(), mark=False)])
    facts = page.folded("Measured on", [page.facts(bits.facts)])
    table = page.table(bits.rows(), mark=False)
    return [page.heading("Bits per dimension"), page.text(f"{bits.headline()} {said}"), table, page.svg(bits.curve()), bands, facts]


def _extremes(report: Report, model: Model, test: Dataset, sampler: Sampler, seed: int, out: Path) -> list[str]:
    told = {"worst": "The pictures that one call restores worst", "median": "The pictures in the middle, which stand for all"}
    main = measures_for(model.signal).first.title
    sections: list[str] = []
    for name, said in told.items():
        if found := report.extremes.get(name):
            sheet = figures.extreme(model, test, sampler, found, seed)
            pictures.save(out / f"{name}.png", sheet)
            sections.append(page.figure(sheet, f"{_worded(said, model.signal)}, with the {main} of that call."))
    return [page.heading("Worst and typical"), *sections] if sections else []


def _generated(report: Report, made: Made, out: Path, signal: Signal) -> list[str]:
    found = report.generated
    sheets = {"generated": figures.contact(made.pictures, signal), "nearest": figures.nearest_pairs(made.pictures, made.train, found["nearest"])}
    for name, sheet in sheets.items():
        pictures.save(out / f"{name}.png", sheet)
    return [
        page.heading("Generated"),
        page.text(" ".join(found["verdict"])),
        *_made(made, sheets["generated"], signal),
        page.table(generated_rows(found), mark=False),
        page.figure(sheets["nearest"], _worded(_SUSPICIOUS, signal)),
        page.facts(found["facts"]),
        *_walks(report, made, out, signal),
    ]


def _made(made: Made, sheet: Image.Image, signal: Signal) -> list[str]:
    """The first generated samples: seen, and heard or seen from above where that can be done."""
    said = _worded("The first generated pictures, as they came: none was chosen.", signal)
    if isinstance(signal, Sound):
        return [page.players(made.pictures[:_HEARD], signal, caption=f"{said} {pictures.explained(signal)}")]
    if isinstance(signal, Scan):
        views = pictures.show(pictures.birds_eye(made.pictures[:_VIEWED], signal), scale=1)
        return [page.figure(sheet, f"{said} {explained_portraits(signal)}"), page.figure(views, "More of them, from above.")]
    return [page.figure(sheet, said)]


def _walks(report: Report, made: Made, out: Path, signal: Signal) -> list[str]:
    """Walks that generate, beside each other."""
    if not report.walks:
        return []
    sheet = figures.walks(made.walks, report.walks, signal)
    pictures.save(out / "walks.png", sheet)
    n = f"{report.walks[0]['N']:,}"
    against = f"{n} {signal.many} each, against as many test {signal.many}"
    said = page.text(f"The same prior and seeds for each; {against}. Distances compare at equal N only.")
    table = page.table(walk_rows(report.walks), mark=False)
    figure = page.figure(sheet, _worded("The first pictures of each walk, one walk a row; a column is one start.", signal))
    return [page.heading("Walks beside each other"), said, table, figure]


def _trained(run: Path, out: Path) -> list[str]:
    curves = figures.loss_curves(run)
    files.write_text(out / "loss.svg", curves[0])
    said = words(history.read(run))
    told = [page.heading("Is it learning?", 3), *map(page.text, said)] if said else []
    return [*(page.svg(curve) for curve in curves), *told]


def environment() -> dict[str, str]:
    """What a number depends on besides the recipe."""
    return {
        "snowmelt": __version__,
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}",
    }


def commit() -> str:
    """The commit of the checkout snowmelt runs from, "+" if changed since; "released" for an installed package."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return "released"
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")
