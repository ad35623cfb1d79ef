"""``snowmelt train-features``: a small classifier of one's own labelled pictures, whose features compare sets of them."""

import re
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch


def train_features(
    *,
    data: Annotated[str, Parameter(name=("--data.path", "--data"))],
    name: str,
    out: Path,
    size: int = 32,
    channels: int | None = None,
    epochs: int = 7,
    flip: Switch = False,
    limit: int | None = None,
    seed: int = 0,
    machine: OnMachine = HERE,
) -> None:
    """Train a small classifier of labelled pictures; 'snowmelt evaluate --features OUT' then scores by what it sees.

    Labels come from MNIST-style label files beside the images, the array 'label' of a .npz, or one folder per class.

    Args:
        data: where the pictures are.
        name: what the data are called: the score is FD-NAME-xxxxxxxx, with eight digits of the hash of the weights.
        out: the directory to write; an older one of this kind is replaced.
        size: side in px at which pictures are seen; all others are resized.
        channels: 1 sees grey, 3 sees colours; by default as the pictures are.
        epochs: passes over the pictures.
        flip: mirror half of the pictures; never for digits or letters.
        limit: at most this many pictures of each split.
        seed: of everything random.
        machine: where to compute.
    """
    where = machine.prepare()
    from snowmelt.data import DataOptions, open_data
    from snowmelt.metrics.features import ClassifierFeatures, load_features, save_features
    from snowmelt.recipes.report import environment
    from snowmelt.training import features

    _check(name, out)
    if channels not in (None, 1, 3):
        raise ValueError(f"--channels {channels} is neither 1 (grey) nor 3 (RGB)")
    # Whatever is no test picture is learnt from: the recipe chooses nothing, so it needs no validation.
    options = DataOptions(path=data, size=size, channels=channels, limit=limit, validation=0.0)  # type: ignore[arg-type]
    train, test = open_data(options, "train"), open_data(options, "test")
    began = time.perf_counter()
    found = features.fit(train, name, epochs=epochs, seed=seed, flip=flip, device=where)
    right = features.accuracy(found, test)
    said = {
        "test_accuracy": round(right, 5),
        "test_pictures": len(test),
        "train_pictures": len(train),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "recipe": {**features.RECIPE, "epochs": epochs, "seed": seed, "flip": flip, "size": size},
        "trained_with": environment(),
    }
    save_features(ClassifierFeatures(found.net, name, found.classes or (), found.shape, said), out)
    print(f"{right:.2%} of {len(test):,} test pictures are told right, after {len(train):,} pictures {epochs} times over")
    print(f"the features are in {out}; their score is called {load_features(out).score}. Next:")
    print(f"  snowmelt evaluate RUN --features {out}")


def _check(name: str, out: Path) -> None:
    """Refuse, before minutes of training, a name that is none and a directory that holds something else."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > 40 or re.search(r"-v[0-9]+$", name):
        raise ValueError(f"--name {name!r}: give at most 40 small letters, digits and single hyphens, without a version at the end ('mnist')")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "features.json").is_file())):
        raise ValueError(f"--out {out} holds something else: give a new directory")
