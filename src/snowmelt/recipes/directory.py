"""Run directories: whose they are, what lies in them, and what of it may go."""

import contextlib
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snowmelt.evaluation.kept import PREFIX
from snowmelt.files import read_json
from snowmelt.locks import FILES
from snowmelt.model import located, noted, weights_of
from snowmelt.recipes.recipe import Recipe, from_table, to_table
from snowmelt.recipes.recipe import load as read_table
from snowmelt.recipes.report import FURTHER, OPENING, WRITTEN
from snowmelt.training import checkpoint, history, tracking, wishes
from snowmelt.training.loop import BEST

RECIPE = "recipe.toml"
LOG, PID = "train.log", "train.pid"  # what the studio keeps of the process that it has begun
MARK = "=== "  # begins that log, and each line of it that says that a process was begun
# Fields that change nothing of the restorer.
_UNTRAINED = ("about", "evaluation", "model.prior", "training.severity_images", "training.keep", "training.keep_best")


def claim(recipe: Recipe, out: Path, *, fresh: bool) -> None:
    """Make sure `out` is free for this recipe, or holds its own earlier run.

    Raises:
        ValueError: it is not, with the way out.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give --out a directory")
    if fresh and (out / RECIPE).is_file():
        clear(out)
        return  # what else lies there was put beside a run by its owner, and stays
    if not out.exists() or all(path.name in (OPENING, wishes.FOLDER, *FILES) or path.match(f".{RECIPE}.*.part") for path in out.iterdir()):
        return  # nothing, or what a process left that was killed before it had begun
    if not (out / RECIPE).is_file():
        raise ValueError(f"{out} is not empty and holds no run of snowmelt: choose another --out")
    differing = differences(to_table(recipe), to_table(stored(out)))
    if recipe.training.gap and recipe.model.init is not None:  # what it is tuned from is known by its weights, wherever it lies now
        differing.pop("model.init", None)
    for name, own in (("training.precision", "auto"), ("training.shards", 0)):  # the checkpoint knows what was meant by a choice left open
        if own in differing.get(name, ()):
            del differing[name]
    if differing:
        key, (new, old) = next(iter(differing.items()))
        raise ValueError(
            f"{out} holds the run of another recipe: {key} is {old!r} there and {new!r} here"
            f"{f' ({len(differing)} fields differ)' if len(differing) > 1 else ''}; choose another --out, or --fresh to start over"
        )
    if recipe.training.gap and recipe.model.init is not None:
        _require_same_parent(recipe.model.init, out)


def _require_same_parent(init: str, out: Path) -> None:
    """Refuse to go on with a copy that was begun from other weights than those it is to be tuned from.

    Raises:
        ValueError: it was.
    """
    begun = noted(read_json(out / "model.json"), "notes", "init", "weights") if (out / "model.json").is_file() else None
    if begun not in (None, weights_of(located(init))):
        raise ValueError(f"{out} was tuned from other weights than {init} has now: choose another --out, or --fresh to start over")


def clear(out: Path) -> None:
    """Delete what a run of snowmelt wrote to `out`, and nothing else."""
    reports = ("evaluation.*", *WRITTEN, *FURTHER, OPENING)
    begun, followed = (LOG, PID) if _of_studio(out / LOG) else (), _followed(out / tracking.NAME)
    checkpoint.clear(out)
    for pattern in (RECIPE, "model.json", history.NAME, tracking.NAME, *begun, "*-????????????.safetensors", *reports):
        for path in out.glob(pattern):
            path.unlink()
    for part in {path.parent for name in ("evaluation.json", "bound.json") for path in out.glob(f"*/{name}")}:
        if (part / RECIPE).is_file():  # a run of its own, such as a tuned copy
            continue
        for path in itertools.chain(*map(part.glob, reports)):
            path.unlink()
        with contextlib.suppress(OSError):  # what somebody put beside a report stays, and its folder with it
            part.rmdir()
    further = (out / name for name in ("samples", BEST, wishes.FOLDER, *followed))
    for folder in (*further, *out.glob(f"{PREFIX}*"), *out.glob(f"*/{PREFIX}*")):
        shutil.rmtree(folder, ignore_errors=True)


def _of_studio(log: Path) -> bool:
    """Whether the studio wrote a log; another's may have that name."""
    try:
        with log.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def _followed(told: Path) -> list[str]:
    """The folders of the trackers that followed a run; others may have those names."""
    try:
        said = read_json(told)
    except (OSError, ValueError):
        return []
    known = said.get("told") if isinstance(said, dict) else None
    return [name for name in tracking.FOLDERS if isinstance(known, list) and name in known]


def stored(run: Path) -> Recipe:
    """The resolved recipe a run directory was made from.

    Raises:
        FileNotFoundError: it has none.
    """
    path = run / RECIPE
    if not path.is_file():
        raise FileNotFoundError(f"{run} has no {RECIPE}: give a directory that 'snowmelt train --out' wrote")
    return from_table(read_table(path), where=str(path))


def differences(new: Mapping[str, Any], old: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields, by dotted name, in which two recipe tables differ in a way that changes the training."""
    out: dict[str, tuple[Any, Any]] = {}
    for key in new.keys() | old.keys():
        a, b = new.get(key), old.get(key)
        if f"{prefix}{key}" in _UNTRAINED:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out[f"{prefix}{key}"] = (a, b)
    return dict(sorted(out.items()))
