"""Tune a finished run for few calls: a copy whose estimate at severity t is what it is at g t, all the way down.

A restorer returns the mean of all samples that x_t may have come from; a walk of many calls turns such means into one sample. The tuned copy
returns, in one or two calls, about what that walk ends with. It is no mean any more, so longer walks are refused
(:attr:`snowmelt.Model.most_calls`), and the run it was tuned from stays as it is.

Source: Song et al. 2023 (arXiv 2303.01469) for training on pairs without a teacher; Geng et al. 2024 (arXiv 2406.14548) for beginning with a
trained model and a gap that grows.
"""

import dataclasses
from pathlib import Path

import torch

from snowmelt.degradations import Mixture
from snowmelt.files import read_json
from snowmelt.model import Model, load, located, noted, save_prior, weights_of
from snowmelt.priors.base import Learned
from snowmelt.recipes.directory import RECIPE, stored
from snowmelt.recipes.recipe import Recipe
from snowmelt.recipes.run import train, with_path
from snowmelt.training import history
from snowmelt.training.learning import counted

FAST = "fast"
_STAGE_STEPS = 500
_SLOWER = 20  # at a quarter of the rate of training, estimates drifted away from what was measured (--lr tries others)
_WARMUP, _EMA = 0.02, 0.02


def tune(
    run: str | Path,
    gap: float = 0.94,
    *,
    images: int | None = None,
    lr: float | None = None,
    path: str | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    device: torch.device | str = "cpu",
) -> Model:
    """Train the tuned copy of a finished run, or go on with it.

    Args:
        run: the run directory; it stays as it is.
        gap: g in [.01, .99]: 0.94 for walks of two calls, 0.97 for one, 0.75 for eight.
        images: to see in all; by default 500 steps for each stage of the gap, 1/2, 3/4, 7/8, ...
        lr: peak learning rate; by default a twentieth of the run's.
        path: where the data lie now, if not where the recipe says.
        out: the directory of the copy; by default `run`/fast, where ``restore --fast`` finds it.
        fresh: start over, deleting an earlier copy.
        device: "cpu", "cuda", "mps".

    Raises:
        ValueError: a gap outside [.01, .99]; the run is itself tuned, is not finished, or `out` is the run or holds something else, such as
            the copy of other weights than the run has now.
        Stopped: interrupted, and saved.
    """
    run = Path(run)
    out = Path(out) if out else run / FAST
    if out.resolve() == run.resolve():  # --fresh would delete what is to be tuned
        raise ValueError(f"--out {out} is the run itself, which stays as it is: give another directory, or leave --out away for {run / FAST}")
    parent = load(run)
    made = train(tuning(run, parent, gap, images=images, lr=lr, path=path), out, fresh=fresh, device=device)
    if isinstance(parent.prior, Learned):  # the law of x at t = 1 is the degradation's: nothing to fit again
        save_prior(parent.prior, out)
        made = dataclasses.replace(made, prior=parent.prior)
    return made


def copy_of(run: Path) -> Path | None:
    """Where the tuned copy of a run lies, of RUN/PART its part; None where there is none.

    Raises:
        ValueError: it was tuned from other weights than the run has now, or its tuning was interrupted.
    """
    whole, part = (run, "") if (run / "model.json").is_file() else (run.parent, run.name)
    if not all((place / "model.json").is_file() for place in (whole, whole / FAST)):
        return None
    tuned_from = noted(read_json(whole / FAST / "model.json"), "notes", "init", "weights")
    if tuned_from not in (None, weights_of(whole)):
        raise ValueError(f"{whole / FAST} was tuned from other weights than {whole} has now: make it anew with 'snowmelt tune {whole} --fresh'")
    if (whole / FAST / RECIPE).is_file():
        _require_finished(whole / FAST, stored(whole / FAST), f"the 'snowmelt tune {whole}' that began it goes on, and --fresh begins anew")
    return whole / FAST / part


def tuned_copy(run: str | Path) -> Path:
    """The directory of the copy of a run that is tuned for few calls, or of the run, if it is such a copy; of RUN/PART, its part.

    Raises:
        ValueError: there is none, with the command that makes one.
        FileNotFoundError: there is no model at `run`.
    """
    path = located(run)
    found = copy_of(path)
    if found is not None:
        return found
    model = load(run)
    if model.gap:
        return path
    if isinstance(model.degradation, Mixture):
        raise ValueError(f"{run} is blind and restores in one call, which is fast: leave --fast out")
    whole = path if (path / "model.json").is_file() else path.parent
    raise ValueError(f"{run} has no copy that is tuned for few calls: make one with 'snowmelt tune {whole}'")


def tuning(run: Path, parent: Model, gap: float, *, images: int | None = None, lr: float | None = None, path: str | None = None) -> Recipe:
    """The recipe of a tuned copy of the run whose model is `parent`.

    Raises:
        ValueError: as :func:`tune`.
    """
    recipe = with_path(stored(run), path)
    if parent.gap:
        raise ValueError(f"{run} is tuned already, {parent.estimates}: tune the run that it was tuned from")
    if not gap:
        raise ValueError("--gap 0 is a training proper, which tunes nothing: give 0.94, for instance")
    _require_finished(run, recipe, f"finish it with 'snowmelt train {run / RECIPE} --out {run}', then tune it")
    o = recipe.training
    asked = dataclasses.replace(
        o,
        gap=gap,
        loss="pseudo-huber",
        weight="uniform",
        lr=o.lr / _SLOWER if lr is None else lr,
        warmup=_WARMUP,
        ema=_EMA,
        severity_images=0,
    )
    asked = dataclasses.replace(asked, images=_STAGE_STEPS * asked.step_images * len(asked.gaps) if images is None else images)
    told = dataclasses.replace(recipe.model, init=str(run), prior=None)
    return dataclasses.replace(recipe, about=f"{recipe.about or run.name}, tuned for few calls", model=told, training=asked)


def _require_finished(run: Path, recipe: Recipe, way: str) -> None:
    """Refuse a run that has not seen all its images; one without metrics was made elsewhere, and is taken as it is.

    Raises:
        ValueError: it has not; the message ends in the way out.
    """
    lines, wanted = counted(history.read(run)), recipe.training.steps * recipe.training.step_images
    if lines and (seen := lines[-1]["images"]) < wanted:
        raise ValueError(f"{run} has seen {seen:,} of {wanted:,} images: {way}")
