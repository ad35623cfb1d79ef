"""The sections of a run's page: what its evaluation and the page of a run that is still under way have in common.

Each function returns markup in order; those that are given a folder also write what they show there, each picture as a file of its own.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from snowmelt import files, pictures, registry
from snowmelt.data import images
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import BEST, TITLES, Report
from snowmelt.evaluation.bits import Bits
from snowmelt.evaluation.report import severity_rows
from snowmelt.evaluation.scoring import LAST, MEASUREMENT
from snowmelt.evaluation.sets import ACCURACY
from snowmelt.metrics.measures import measures_for
from snowmelt.model import Model
from snowmelt.pictures import page
from snowmelt.pictures.scan import explained_views
from snowmelt.pictures.scrubber import of_images
from snowmelt.pictures.sheets import evenly
from snowmelt.recipes import figures
from snowmelt.samplers import Sampler
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.training import history
from snowmelt.training.diary import SAMPLES
from snowmelt.training.learning import words
from snowmelt.types import Batch, State

_GRIDS = 24  # of a training, in the page
_LOSSLESS_PX = 24_000_000  # in all: beyond that sheets are compressed as photographs are, or the page would weigh too much
_STORED_PX = 50_000_000  # of a sheet; what is larger, no run has made
# The words that stand over the columns of a sheet, explained: the same in every caption.
LEGEND = "Degraded is what was given, Direct one call of the restorer, Sampled the end of the walk, Clean the truth."
# What stands under a picture of a run, by the name of its file. "picture" is read as below, {measure} is the main one, {degradation} a spec.
CAPTIONS = {
    "grid": f"The first test pictures. {LEGEND}",
    "trajectory": "What the restorer believes at each step of the walk.",
    "degradation": "The degradation {degradation} from t = 0 to t = 1.",
    "worst": "The pictures that one call restores worst, with the {measure} of that call.",
    "median": "The pictures in the middle, which stand for all, with the {measure} of that call.",
    "generated": "The first generated pictures, as they came: none was chosen.",
    "nearest": "The generated pictures that lie closest to a training picture, each with it: the most suspicious ones.",
    "walks": "The first pictures of each walk, one walk a row; a column is one start.",
}
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


def told(verdict: list[str]) -> list[str]:
    """The verdict; a headline that disappoints must not be overlooked."""
    first, *others = verdict or ["The evaluation gives no verdict."]
    return [page.note(first) if first.startswith("Not convincing") else page.text(first), page.text(" ".join(others))]


def worded(text: str, signal: Signal) -> str:
    """A sentence about pictures, about samples of another signal."""
    return text.replace("pictures", signal.many).replace("picture", signal.one)


def captioned(name: str, signal: Signal, degradation: str = "") -> str:
    """What stands under the picture of that name."""
    return worded(CAPTIONS[name], signal).format(measure=measures_for(signal).first.title, degradation=degradation)


def seen(model: Model, test: Dataset, seed: int, sampler: Sampler, out: Path | None, device: torch.device | str = "cpu") -> list[str]:
    """A walk on some test samples: as outcomes, to move through, as estimates, and the degradation itself.

    Args:
        model: what walks.
        test: samples it never saw.
        seed: of the draws.
        sampler: the walk.
        out: gets these pictures as files too, and the walk as trajectory.gif; None writes nothing.
        device: where the model computes.
    """
    walk, clean = figures.journey(model.to(device), test, sampler, seed, device=device)
    signal = model.to("cpu").signal
    sheets = {
        "grid": figures.outcomes(walk, clean, signal=signal),
        "trajectory": figures.trajectory_strip(walk, clean, signal=signal),
        "degradation": figures.degradation_strip(model, test.batch(range(len(clean)))),
    }
    if out is not None:
        for name, sheet in sheets.items():
            pictures.save(out / f"{name}.png", sheet)
        gif = pictures.gif_bytes([s.x for s in walk], [f"t = {float(s.t):.2f}" for s in walk], ms=200, hold_ms=1500, signal=signal)
        files.write_bytes(out / "trajectory.gif", gif)
    unfair = " It is handed a part of the draw that nobody could know." if figures.handed(model, sampler) else ""
    frames, labels = figures.steps(walk, clean, signal)
    moved = f"{registry.spec(sampler)} walks from t = 1 to t = 0.{unfair} Beside x at t stands the estimate from which the next step is made."
    return [
        page.heading("Seen"),
        *_first(walk, clean, sheets["grid"], signal, out),
        of_images(frames, labels, caption=moved, lossless=figures.small(clean)),
        page.figure(sheets["trajectory"], captioned("trajectory", signal)),
        page.figure(sheets["degradation"], captioned("degradation", signal, registry.spec(model.degradation))),
    ]


def _first(walk: list[State], clean: Batch, sheet: Image.Image, signal: Signal, out: Path | None) -> list[str]:
    """The first samples: seen, and whatever else one can do with them."""
    said = f"{captioned('grid', signal)} {pictures.explained(signal)}".strip()
    if isinstance(signal, Sound):
        heard = {name: torch.nan_to_num(x) for name, x in figures.compared(walk, clean).items()}
        return [page.listening(heard, signal, caption=said)]
    if isinstance(signal, Scan):
        views = figures.from_above(walk, clean, signal)
        if out is not None:
            pictures.save(out / "birds-eye.png", views)
        return [page.figure(sheet, said), page.figure(views, f"The same scans. {explained_views(signal)}")]
    return [page.figure(sheet, said)]


def measured(report: Report, signal: Signal = PICTURE) -> list[str]:
    """The tables: one for each input, what their columns mean, and how sure they are."""
    order = sorted(report.inputs(), key=lambda name: name != report.main)
    sections: list[str] = [page.heading("Measured")]
    for name in order:
        n = report.of(name)[0]["images"]
        sections.append(page.text(f"{n:,} test {signal.many}, degraded all the way (t = 1), {TITLES[name]}. Bold is best in its column."))
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
    calls, *others = [(name, worded(text, signal)) for name, text in COLUMNS.items()]
    return dict([calls, *MEASURES[signal.name].items(), *others])


def curves(report: Report, out: Path | None, signal: Signal = PICTURE) -> list[str]:
    """Quality against calls, and error against severity; as files too where `out` is a folder."""
    sections: list[str] = []
    if (plane := figures.plane(report, signal)) is not None:
        if out is not None:
            files.write_text(out / "curve.svg", plane)
        bought = "Down and to the right detail is bought with error: pictures that look more real, and are further from the one that was."
        said = worded(bought, signal)
        sections += [page.heading("Calls"), page.svg(plane, f"{said} Bars are 95 % intervals; the figure beside a point is its number of calls.")]
    sections += [] if sections else [page.heading("Calls")]
    sections += [page.svg(chart) for chart in figures.over_calls(report)]
    if report.severities:
        chart = figures.error_per_severity(report)
        if out is not None:
            files.write_text(out / "severity.svg", chart)
        said = f"The same {signal.many}, degraded less and more. Where Direct lies above Degraded, the restorer does harm."
        sections += [page.heading("Error per severity"), page.svg(chart, said)]
        sections.append(page.folded("As numbers", [page.table(severity_rows(report.severities), mark=False)]))
    return sections


def coded(report: Report, out: Path) -> list[str]:
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


def trained(run: Path) -> list[str]:
    """How the training went: its curves, whether it learns, and its sample grids to move through."""
    return [*charted(run), *learns(run), *grown(run)]


def charted(run: Path) -> list[str]:
    """The losses of a run against the images seen."""
    return [page.svg(curve) for curve in figures.loss_curves(run)]


def learns(run: Path) -> list[str]:
    """Whether a run learns, in words; nothing while there is nothing to say."""
    said = words(history.read(run))
    return [page.heading("Is it learning?", 3), *map(page.text, said)] if said else []


def grown(run: Path) -> list[str]:
    """The sample grids of a run, from the first validation to the last: at most 24 of them, evenly chosen."""
    found = sorted((run / SAMPLES).glob("*.png"))
    sheets = {path.stem: sheet for path in evenly(found, _GRIDS) if (sheet := opened(path, run)) is not None}
    if not sheets:
        return []
    labels = [f"after {int(name):,} images" if name.isdecimal() else name for name in sheets]
    lossless = sum(sheet.width * sheet.height for sheet in sheets.values()) <= _LOSSLESS_PX and len({s.size for s in sheets.values()}) == 1
    said = f"The same validation samples all through the training. {LEGEND}"
    return [page.heading("Over the training", 3), of_images(list(sheets.values()), labels, caption=said, lossless=lossless)]


def opened(path: Path, run: Path) -> Image.Image | None:
    """A stored picture of a run; None where there is none that can be read: one that is being written, damaged, or a link to elsewhere."""
    try:
        files.require_inside(run, path)
        x = images.read(path, max_pixels=_STORED_PX).x
    except (OSError, ValueError):
        return None
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(images.to_uint8(x[None])[0], (*x.shape[1:], 3))))
