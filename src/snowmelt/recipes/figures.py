"""The pictures of a report: what a run looks like, walked, plotted and laid out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from snowmelt import pictures
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import Report, start
from snowmelt.evaluation.scoring import MEASUREMENT
from snowmelt.metrics.measures import measures_for
from snowmelt.model import Model
from snowmelt.pictures import Mark
from snowmelt.pictures.seen import stacked
from snowmelt.pictures.sheets import evenly
from snowmelt.randomness import generators
from snowmelt.samplers import Sampler
from snowmelt.signals import PICTURE, Scan, Signal
from snowmelt.training import history
from snowmelt.training.learning import counted
from snowmelt.types import Batch, State, severity

_ROWS = 6
_ROWS_STACKED = 3  # of what is so wide that it stands one below the other
_FRAMES = 8
_STEPS = 25  # of a walk that is moved through
_SMALL = 3 * 64 * 64
_SHOWN_OF_WALKS = 12
_SHOWN = 36  # generated pictures
_SHOWN_STACKED = 6


def journey(
    model: Model,
    data: Dataset,
    sampler: Sampler,
    seed: int,
    rows: int | None = None,
    ids: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[list[State], torch.Tensor]:
    """The walk of some test pictures from t = 1, by default the first `rows`, and the pictures; all on the CPU, wherever the model computes."""
    rows = rows or (_ROWS_STACKED if stacked(model.signal) else _ROWS)
    ids = range(min(rows, len(data))) if ids is None else ids
    # A walk of one call reads no more of the draw than the restorer does; handed() says when a longer one does.
    clean, begin = start(model, data, ids, seed=seed, device=device, handed=True)
    states = [
        state._replace(x=state.x.cpu(), x0=None if state.x0 is None else state.x0.cpu())
        for state in sampler.trajectory(model, begin, generators(seed, "evaluation-walk", ids))
    ]
    return states, clean.cpu()


def handed(model: Model, sampler: Sampler) -> bool:
    """Whether a walk is handed what nobody could know of the draw, and gains by it."""
    return sampler.steps > 1 and bool(sampler.reads(model.degradation) & set(model.degradation.hidden))


def compared(walk: list[State], clean: Batch) -> dict[str, Batch]:
    """What was given, one call, the end of the walk, and the truth, by the words that every caption explains."""
    return {"Degraded": walk[0].x, "Direct": estimate(walk[1]), "Sampled": walk[-1].x, "Clean": clean}


def outcomes(walk: list[State], clean: Batch, rows: Sequence[str] | None = None, signal: Signal = PICTURE) -> Any:
    """What is :func:`compared`: one row a picture."""
    return pictures.grid(compared(walk, clean), rows=rows, signal=signal)


def from_above(walk: list[State], clean: Batch, scan: Scan, rows: int = _ROWS_STACKED) -> Any:
    """Bird's-eye views of what is :func:`compared`."""
    return pictures.grid({name: pictures.birds_eye(x[:rows], scan) for name, x in compared(walk, clean).items()}, scale=1)


def degradation_strip(model: Model, item: Mapping[str, torch.Tensor], rows: int = 3, frames: int = 6) -> Any:
    """The clean pictures of a data item {"x0": ...} at evenly spaced severities, one draw each; what the item gives of it is taken from there."""
    rows = min(rows, 1) if stacked(model.signal) else rows
    item = {name: value[:rows] for name, value in item.items()}
    x = item["x0"]
    z = model.draw(x, generators(0, "strip", range(len(x))), item)
    severities = [i / (frames - 1) for i in range(frames)]
    return pictures.strip([model.degrade(x, severity(t, x), z) for t in severities], [f"t = {t:g}" for t in severities], signal=model.signal)


def trajectory_strip(walk: list[State], clean: torch.Tensor, rows: int = 4, signal: Signal = PICTURE) -> Any:
    """Degraded, the estimate at some of the steps, Sampled, Clean."""
    rows = 1 if stacked(signal) else rows
    shown = evenly(range(1, len(walk)), _FRAMES)
    frames = [walk[0].x, *(estimate(walk[i]) for i in shown), walk[-1].x, clean]
    labels = ["Degraded", *(f"call {i}" for i in shown), "Sampled", "Clean"]
    return pictures.strip([frame[:rows] for frame in frames], labels, signal=signal)


def steps(walk: list[State], clean: Batch, signal: Signal = PICTURE) -> tuple[list[Any], list[str]]:
    """A walk to move through: at some of its steps x at t, the estimate from which the next one is made, and the truth; and the severities."""
    last, rows = len(walk) - 1, 1 if stacked(signal) else _ROWS_STACKED  # few: the slider should stand beside what it moves
    shown = evenly(range(len(walk)), _STEPS)
    sheets = []
    for i in shown:
        believed = estimate(walk[i + 1]) if i < last else walk[i].x  # there x itself is the estimate
        columns = {"x at t": walk[i].x, "Estimate": believed, "Clean": clean}
        sheets.append(pictures.grid({name: torch.nan_to_num(x[:rows], nan=0.0) for name, x in columns.items()}, signal=signal))
    return sheets, [f"t = {float(walk[i].t):.2f}" for i in shown]


def small(x: Batch) -> bool:
    """Whether samples are so small that a page can hold a walk of them without loss."""
    return x[0].numel() <= _SMALL


def extreme(model: Model, data: Dataset, sampler: Sampler, found: Sequence[dict[str, Any]], seed: int) -> Any:
    """Pictures that the evaluation found, named by the main measure of one call."""
    main, found = measures_for(model.signal).first, found[: _ROWS_STACKED if stacked(model.signal) else len(found)]
    walk, clean = journey(model, data, sampler, seed, ids=[one["number"] for one in found])
    return outcomes(walk, clean, [f"{one[main.name]:.{1 if main.unit == 'dB' else 2}f} {main.unit}" for one in found], model.signal)


def plane(report: Report, signal: Signal = PICTURE) -> str | None:
    """RMSE against the distance of sets over the number of calls; None where no distance was computed."""
    names = report.distances()
    if not names:
        return None
    rows = report.of(report.main)
    lines: dict[str, list[Mark]] = {}
    for row in rows:
        if row["kind"] in ("direct", "walk") and names[0] in row:
            sure = row["intervals"]
            mark = Mark(row["rmse"], row[names[0]], str(row["calls"]), _pair(sure.get("rmse")), _pair(sure.get(names[0])))
            lines.setdefault(row["method"], []).append(mark)
    floor = next((row for row in rows if row["kind"] == "floor"), None)
    return pictures.plane_svg(
        lines,
        title="Distortion and perception: each point a number of calls",
        x_label="RMSE (lower: closer to the truth)",
        y_label=f"{names[0]} (lower: more like clean {signal.many})",
        level=None if floor is None else (f"training {signal.many}", floor[names[0]]),
    )


def over_calls(report: Report) -> list[str]:
    """RMSE and measurement error of the walks against their calls, from one call on."""
    rows = report.of(report.main)
    once = next(row for row in rows if row["kind"] == "direct")
    charts = []
    for name, label in (("rmse", "RMSE"), (MEASUREMENT, MEASUREMENT.capitalize())):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["kind"] == "walk" and name in row:
                lines.setdefault(row["method"], [(1, once[name])] if name in once else []).append((row["calls"], row[name]))
        charts += [pictures.curve_svg(lines, title=f"{label} over the number of calls", x_label="calls", y_label=label, log_x=True)] if lines else []
    return charts


def error_per_severity(report: Report) -> str:
    """RMSE of Degraded and Direct against the severity."""
    lines = {title: [(point["t"], point[title.lower()]) for point in report.severities] for title in ("Degraded", "Direct")}
    return pictures.curve_svg(lines, title="Error per severity", x_label="severity t", y_label="RMSE")


def nearest_pairs(made: Batch, train: Dataset, found: Sequence[dict[str, Any]]) -> Any:
    """The generated pictures that lie closest to a training picture, each above it, under their distance."""
    theirs = train.batch([one["train"] for one in found])["x0"]
    names, distances = ["Generated", "Nearest training"], [f"{one['distance']:.2g}" for one in found]
    ours = torch.stack([made[one["generated"]] for one in found])
    if stacked(train.signal):
        return pictures.grid(dict(zip(names, (ours, theirs), strict=True)), rows=distances, signal=train.signal)
    return pictures.strip(list(torch.stack([ours, theirs], 1)), distances, rows=names, signal=train.signal)


def walks(made: Sequence[Batch], rows: Sequence[dict[str, Any]], signal: Signal = PICTURE) -> Any:
    """The first pictures of each walk that generates, one walk a row; a column is one start."""
    names = [f"{row['method']}, {row['calls']} calls" + (f", guidance {row['guidance']:g}" if "guidance" in row else "") for row in rows[: len(made)]]
    count = min(_ROWS_STACKED if stacked(signal) else _SHOWN_OF_WALKS, *(len(one) for one in made))
    return pictures.strip([torch.stack([one[i] for one in made]) for i in range(count)], [""] * count, rows=names, signal=signal)


def contact(made: Batch, signal: Signal = PICTURE) -> Any:
    """The first generated pictures, as they came."""
    if isinstance(signal, Scan):
        return pictures.show(pictures.portraits(made[:_SHOWN_STACKED], signal), scale=1)
    return pictures.show(made[:_SHOWN], samples=6, signal=signal)


def loss_curves(run: Path) -> list[str]:
    """Loss against images seen, and validation loss by severity, as SVG."""
    lines = counted(history.read(run))
    training = {"training": [(line["images"], line["loss"]) for line in lines if "loss" in line]}
    validation = {"validation": [(line["images"], line["validation_loss"]) for line in lines if "validation_loss" in line]}
    bands = [(i, f"t in ({i / 4:g}, {(i + 1) / 4:g}]") for i in range(4)]
    seen = [(line["images"], line["validation_bands"]) for line in lines if len(line.get("validation_bands", ())) == len(bands)]
    banded = {label: [(images, losses[i]) for images, losses in seen if losses[i] is not None] for i, label in bands}
    return [
        pictures.curve_svg(training | validation, title="Loss", x_label="images seen", y_label="loss", log_y=True),
        pictures.curve_svg(banded, title="Validation loss by severity", x_label="images seen", y_label="loss", log_y=True),
    ]


def estimate(state: State) -> torch.Tensor:
    """The estimate a state came from."""
    assert state.x0 is not None  # noqa: S101 - every state after the first holds the estimate it came from
    return state.x0


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])
