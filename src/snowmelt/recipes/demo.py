"""The demo: damaged photographs, restored by the model in the package; then a training on real pictures, in minutes."""

import dataclasses
from pathlib import Path

from snowmelt import pictures
from snowmelt.evaluation import Report
from snowmelt.model import load as load_model
from snowmelt.recipes import run, showcase
from snowmelt.recipes.recipe import Recipe, from_table, load
from snowmelt.recipes.report import OPENING

_QUICK_IMAGES = 3_000


def opening(out: str | Path) -> dict[str, tuple[float, float]]:
    """Restore damaged photographs with the shipped model, and write them beside the originals to photo.png in `out`.

    Returns:
        The PSNR of each scene in dB, before and after.
    """
    sheet, scores = showcase.sheet(load_model("photo"))
    pictures.save(Path(out) / OPENING, sheet)
    return scores


def demo(out: str | Path, *, quick: bool = False, fresh: bool = False, device: str = "cpu") -> Report:
    """Train the demo's recipe in `out`, evaluate it and write its pictures; a finished demo is only evaluated again.

    Args:
        out: the run directory.
        quick: a few seconds of training, to see that everything works; its pictures convince nobody.
        fresh: start over.
        device: where to compute.
    """
    run.train(recipe(quick=quick), out, fresh=fresh, device=device)
    return run.evaluate(out, device=device)


def recipe(*, quick: bool = False) -> Recipe:
    """The demo's recipe."""
    full = from_table(load("demo"), where="demo")
    if not quick:
        return full
    training = dataclasses.replace(full.training, images=_QUICK_IMAGES, validate_every=_QUICK_IMAGES)
    return dataclasses.replace(full, training=training, evaluation=dataclasses.replace(full.evaluation, images=64))
