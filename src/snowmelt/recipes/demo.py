"""The demo: train on real pictures that installed packages bundle, then show what was learned, in minutes."""

import dataclasses
from pathlib import Path

from snowmelt.evaluation import Report
from snowmelt.recipes import run
from snowmelt.recipes.recipe import Recipe, from_table, load

_QUICK_IMAGES = 3_000


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
