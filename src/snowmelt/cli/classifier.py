"""``snowmelt train-classifier``: a classifier of noisy pictures for a run, to guide a model that was trained without labels."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch


def train_classifier(
    run: Path,
    /,
    *,
    out: Path,
    images: int = 60_000,
    batch: int = 64,
    backbone: str | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    seed: int = 0,
    overwrite: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Train a classifier of a run's own noisy pictures; 'snowmelt sample RUN --label 3 --classifier OUT' is then guided by it.

    It is for models of noise; a model that was trained with --model.conditions label needs none.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        out: the directory to write.
        images: how many pictures to learn from, each with a severity of its own.
        batch: pictures per step.
        backbone: the network, as a spec: unet:widths=(32,64); by default of the sizes of the run's own.
        data: where the pictures are now, if not where the recipe says.
        seed: of everything random.
        overwrite: replace the classifier that is there.
        machine: where to compute.
    """
    _check(out, images, batch, overwrite=overwrite)
    where = machine.prepare()
    from snowmelt import registry
    from snowmelt.data import open_data
    from snowmelt.model import load, weights_of
    from snowmelt.recipes.directory import stored
    from snowmelt.recipes.report import environment
    from snowmelt.recipes.run import with_path
    from snowmelt.training import classifier

    recipe, model = with_path(stored(run), data), load(run)
    train, validation = (open_data(recipe.data, split) for split in ("train", "validation"))
    began = time.perf_counter()
    net = None if backbone is None else registry.build(backbone, "backbone")
    found = classifier.fit(model, train, validation, images=images, batch=batch, backbone=net, seed=seed, device=where)
    minutes = round((time.perf_counter() - began) / 60, 1)
    found.notes = {**found.notes, "run": weights_of(run), "minutes": minutes, "trained_with": environment()}
    classifier.save_classifier(found, out)
    pictures, chance = f"{found.notes['pictures']:,} {found.notes['split']} pictures", f"{1 / len(found.classes):.1%}"
    print(f"of {pictures} the class is told right, by severity (chance {chance}):")
    for band, right in found.notes["accuracy"].items():
        print(f"  t in {band:8} {right:.1%}")
    print(f"the classifier is in {out}. Next:")
    print(f"  snowmelt sample {run} --label {found.classes[0]} --guidance 1 --classifier {out} --out new")


def _check(out: Path, images: int, batch: int, *, overwrite: bool) -> None:
    """Refuse, before minutes of training, numbers that make none and a directory that holds something else."""
    for name, value in (("images", images), ("batch", batch)):
        if value < 1:
            raise ValueError(f"--{name} {value} lies under 1")
    ours = (out / "classifier.json").is_file()
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not ours)):
        raise ValueError(f"--out {out} holds something else: give a new directory")
    if ours and not overwrite:
        raise ValueError(f"--out {out} holds a classifier: give another directory, or add --overwrite")
