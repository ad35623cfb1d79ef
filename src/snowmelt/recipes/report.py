"""The run's pictures and its one-file report: what was degraded, how it came back, what it scored, how it was trained."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from snowmelt import files, pictures
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import Report
from snowmelt.evaluation.bits import WRITTEN as BITS
from snowmelt.evaluation.curve import WRITTEN as CURVE
from snowmelt.evaluation.report import generated_rows, walk_rows
from snowmelt.model import Model
from snowmelt.pictures import page
from snowmelt.pictures.scan import explained_portraits
from snowmelt.recipes import figures, sections
from snowmelt.recipes.figures import degradation_strip
from snowmelt.recipes.recipe import Recipe, to_toml
from snowmelt.samplers import Sampler
from snowmelt.signals import Scan, Signal, Sound
from snowmelt.types import Batch

__all__ = ["OPENING", "WRITTEN", "Made", "commit", "degradation_strip", "environment", "write"]

WRITTEN = ("degradation.png", "trajectory.png", "trajectory.gif", "grid.png", "loss.svg", "report.html")
# Written where there is something to show.
FURTHER = ("curve.svg", "severity.svg", "worst.png", "median.png", "generated.png", "nearest.png", "walks.png", "birds-eye.png", *BITS, *CURVE)
_HEARD, _VIEWED = 16, 16  # of what was generated
OPENING = "photo.png"  # what the demo shows before it trains


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
    files.write_text(out / "loss.svg", figures.loss_curves(run)[0])
    body = [
        *sections.told(report.verdict),
        *sections.seen(model, test, recipe.evaluation.seed, sampler, out),
        *sections.measured(report, signal),
        *sections.curves(report, out, signal),
        *sections.coded(report, out),
        *_extremes(report, model, test, sampler, recipe.evaluation.seed, out),
        *(_generated(report, made, out, signal) if made is not None else []),
        page.heading("Trained"),
        *sections.trained(run),
        page.heading("Made by"),
        page.facts(report.facts),
        page.details("Recipe", to_toml(recipe)),
    ]
    subtitle = f"snowmelt {__version__} · {datetime.now(UTC):%d %B %Y}"
    files.write_text(out / "report.html", page.page(title, body, subtitle=subtitle))


def _extremes(report: Report, model: Model, test: Dataset, sampler: Sampler, seed: int, out: Path) -> list[str]:
    shown: list[str] = []
    for name in ("worst", "median"):
        if found := report.extremes.get(name):
            sheet = figures.extreme(model, test, sampler, found, seed)
            pictures.save(out / f"{name}.png", sheet)
            shown.append(page.figure(sheet, sections.captioned(name, model.signal)))
    return [page.heading("Worst and typical"), *shown] if shown else []


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
        page.figure(sheets["nearest"], sections.captioned("nearest", signal)),
        page.facts(found["facts"]),
        *_walks(report, made, out, signal),
    ]


def _made(made: Made, sheet: Image.Image, signal: Signal) -> list[str]:
    """The first generated samples: seen, and heard or seen from above where that can be done."""
    said = sections.captioned("generated", signal)
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
    figure = page.figure(sheet, sections.captioned("walks", signal))
    return [page.heading("Walks beside each other"), said, table, figure]


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
    """The commit of the checkout snowmelt runs from, "+" if changed since; for a copy that pip has made of it, that there is none."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return "none (installed package)"
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")
