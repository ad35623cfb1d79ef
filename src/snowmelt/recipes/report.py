"""The run's pictures and its one-file report: what was degraded, how it came back, what it scored, how it was trained."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from snowmelt import files, pictures, registry
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import BEST, INPUTS, TITLES, Report
from snowmelt.model import Model
from snowmelt.pictures import page
from snowmelt.randomness import generators
from snowmelt.recipes.recipe import Recipe, to_toml
from snowmelt.samplers import Sampler
from snowmelt.training.loop import history
from snowmelt.types import State, severity

WRITTEN = ("degradation.png", "trajectory.png", "trajectory.gif", "grid.png", "loss.svg", "report.html")
OPENING = "photo.png"  # what the demo shows before it trains
_ROWS = 6
_FRAMES = 8


def write(run: Path, recipe: Recipe, model: Model, test: Dataset, report: Report, sampler: Sampler, *, title: str, out: Path) -> None:
    """degradation.png, trajectory.png, trajectory.gif, grid.png and report.html in `out`.

    Args:
        run: the run directory, for its metrics.jsonl.
        recipe: what was run.
        model: what came of it.
        test: pictures it never saw.
        report: what it scored.
        sampler: the walk to show.
        title: of the page.
        out: where to write.
    """
    walk, clean = journey(model, test, sampler, recipe.evaluation.seed)
    sheets = {
        "degradation": degradation_strip(model, clean),
        "trajectory": trajectory_strip(walk, clean),
        "grid": pictures.grid({"Degraded": walk[0].x, "Direct": _estimate(walk[1]), "Sampled": walk[-1].x, "Clean": clean}),
    }
    for name, sheet in sheets.items():
        pictures.save(out / f"{name}.png", sheet)
    gif = pictures.gif_bytes([s.x for s in walk], [f"t = {float(s.t):.2f}" for s in walk], ms=200, hold_ms=1500)
    files.write_bytes(out / "trajectory.gif", gif)
    curves = loss_curves(run)
    files.write_text(out / "loss.svg", curves[0])
    first = "8bit" if model.input == "8bit" else "float"
    tables = [page.heading("Measured"), *(s for name in sorted(INPUTS, key=lambda n: n != first) for s in _table(report, name))]
    seen = [
        page.heading("Seen"),
        page.figure(gif, f"{registry.spec(sampler)} walks from t = 1 to t = 0."),
        page.figure(sheets["grid"], "Test pictures: as degraded, after one call, after the whole walk, and the truth."),
        page.figure(sheets["trajectory"], "What the restorer believes at each step of the walk."),
        page.figure(sheets["degradation"], f"The degradation {registry.spec(model.degradation)} from t = 0 to t = 1."),
    ]
    trained = [page.heading("Trained"), *(page.svg(curve) for curve in curves)]
    made = [
        page.heading("Made by"),
        page.facts(report.facts),
        page.details("Recipe", to_toml(recipe)),
    ]
    subtitle = f"snowmelt {__version__} · {datetime.now(UTC):%d %B %Y}"
    files.write_text(out / "report.html", page.page(title, [*report.verdict, *tables, *seen, *trained, *made], subtitle=subtitle))


def journey(model: Model, data: Dataset, sampler: Sampler, seed: int, rows: int = _ROWS) -> tuple[list[State], torch.Tensor]:
    """The walk of the first `rows` test pictures from t = 1, and the pictures."""
    ids = range(min(rows, len(data)))
    clean = data.batch(ids)["x0"]
    start = model.corrupt(clean, 1.0, generators(seed, "evaluation-draw", ids))
    return list(sampler.trajectory(model, start, generators(seed, "evaluation-walk", ids))), clean


def degradation_strip(model: Model, clean: torch.Tensor, rows: int = 3, frames: int = 6) -> Any:
    """Clean pictures at evenly spaced severities, one draw each."""
    x = clean[:rows]
    z = model.draw(x, generators(0, "strip", range(len(x))))
    severities = [i / (frames - 1) for i in range(frames)]
    return pictures.strip([model.degrade(x, severity(t, x), z) for t in severities], [f"t = {t:g}" for t in severities])


def trajectory_strip(walk: list[State], clean: torch.Tensor, rows: int = 4) -> Any:
    """Degraded, the estimate at some of the steps, Sampled, Clean."""
    last = len(walk) - 1
    shown = sorted({1 + round(i * (last - 1) / (_FRAMES - 1)) for i in range(_FRAMES)})
    frames = [walk[0].x, *(_estimate(walk[i]) for i in shown), walk[-1].x, clean]
    labels = ["Degraded", *(f"call {i}" for i in shown), "Sampled", "Clean"]
    return pictures.strip([frame[:rows] for frame in frames], labels)


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


def _table(report: Report, name: Any) -> list[str]:
    return [page.text(f"Degraded pictures {TITLES[name]}."), page.table(report.table(name), best=BEST)]


def loss_curves(run: Path) -> list[str]:
    """Loss against images seen, and validation loss by severity, as SVG."""
    lines = history(run)
    training = {"training": [(line["images"], line["loss"]) for line in lines if "loss" in line]}
    validation = {"validation": [(line["images"], line["validation_loss"]) for line in lines if "validation_loss" in line]}
    bands = [(i, f"t in ({i / 4:g}, {(i + 1) / 4:g}]") for i in range(4)]
    seen = [line for line in lines if "validation_bands" in line]
    banded = {label: [(ln["images"], ln["validation_bands"][i]) for ln in seen if ln["validation_bands"][i] is not None] for i, label in bands}
    return [
        pictures.curve_svg(training | validation, title="Loss", x_label="images seen", y_label="loss", log_y=True),
        pictures.curve_svg(banded, title="Validation loss by severity", x_label="images seen", y_label="loss", log_y=True),
    ]


def _estimate(state: State) -> torch.Tensor:
    assert state.x0 is not None  # noqa: S101 - every state after the first holds the estimate it came from
    return state.x0
