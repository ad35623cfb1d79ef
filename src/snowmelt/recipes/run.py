"""From a recipe to a trained run directory, and back."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from snowmelt import processes, registry
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.dataset import Dataset
from snowmelt.data.sources import left_out, open_data
from snowmelt.degradations import BeamDrop, Degradation, Several
from snowmelt.degradations.base import require_taken
from snowmelt.disk import sweep_parts
from snowmelt.evaluation import Report
from snowmelt.evaluation.bits import Bits
from snowmelt.files import write_text
from snowmelt.locks import locked
from snowmelt.model import Model, alone, load, located, save_estimator, save_prior, weights_of
from snowmelt.priors import Normal, Prior
from snowmelt.randomness import seed
from snowmelt.recipes import bits
from snowmelt.recipes.directory import RECIPE, claim, stored
from snowmelt.recipes.judging import judge
from snowmelt.recipes.recipe import Recipe, to_table, to_toml
from snowmelt.recipes.report import environment
from snowmelt.restorers import Conditions, Restorer
from snowmelt.restorers.cost import require_memory
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.training import history, tracking
from snowmelt.training import prior as priors
from snowmelt.training.loop import BEST, Trainer
from snowmelt.training.severity import fit

_log = logging.getLogger(__name__)


def make_model(recipe: Recipe, shape: tuple[int, ...], data: Dataset | None = None) -> Model:
    """The untrained model of a recipe for samples of `shape`; its weights depend on the recipe's seed alone.

    Args:
        recipe: what to make.
        shape: (c, h, w).
        data: the training pictures, which say how large the conditions are, if it has any.

    Raises:
        ValueError: settings that do not go together, or conditions that the data do not have.
    """
    o = recipe.model
    degradation = registry.build(recipe.degradation)
    signal = PICTURE if data is None else data.signal
    require_signal(degradation, signal, recipe)
    if degradation.noise and o.input == "8bit":
        raise ValueError(f"model.input = 8bit would clip the noise of {recipe.degradation} to [-1, 1]: leave it out, or give float")
    rounded: Literal["float", "8bit"] = o.input or ("float" if degradation.noise or signal != PICTURE else "8bit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(recipe.training.seed, "weights"))
        make = functools.partial(
            Restorer,
            degradation,
            registry.build(o.backbone, "backbone"),
            shape,
            parameterization=registry.build(o.parameterization, "parameterization") if o.parameterization else None,
            told=o.told,
            noise_floor=o.noise_floor,
            conditions=conditions_of(recipe, data),
            variance=o.variance,
        )
        require_memory(make)
        restorer = make()
    notes: dict[str, Any] = {"recipe": to_table(recipe), "trained_with": environment()}
    estimator = None
    if restorer.conditions.classes and data is not None and data.classes is not None:
        notes["classes"] = list(data.classes)
    if o.init is not None:
        given = begin_from(restorer, o.init)
        like = torch.zeros(1, *shape)
        unknowns = degradation.unknowns(torch.ones(1), degradation.draw(like, torch.Generator()))
        if given.estimator is not None and given.estimator.unknowns == tuple(unknowns):
            estimator = given.estimator  # severities are read as before
        notes["init"] = {"model": Path(o.init).name, "weights": weights_of(located(o.init))}
    model = Model(degradation, restorer, noise_floor=o.noise_floor, input=rounded, signal=signal, estimator=estimator, notes=notes)
    if o.prior is None:
        return priors.prior_for(model)
    asked: Prior = registry.build(o.prior, "prior")
    priors.require(asked, degradation, shape)  # before hours of training, not after
    return dataclasses.replace(model, prior=asked) if isinstance(asked, Normal) else model


def require_signal(degradation: Degradation, signal: Signal, recipe: Recipe) -> None:
    """Refuse a degradation of sound for pictures, and whatever else does not go together.

    Raises:
        ValueError: it does not.
    """
    require_taken(degradation, signal, recipe.data.path, "give other data.path")
    if isinstance(signal, Scan):
        _require_sensor(degradation, signal, recipe.data.path)
    if signal != PICTURE and recipe.model.input == "8bit":
        raise ValueError(f"model.input = 8bit is for pictures, and {recipe.data.path} holds {signal.many}: leave it out")
    if signal != PICTURE and recipe.training.severity_images:
        raise ValueError(f"training.severity_images: what reads severities reads pictures, and {recipe.data.path} holds {signal.many}: leave it out")


def _require_sensor(degradation: Degradation, scan: Scan, path: str) -> None:
    """Refuse what degrades scans of another sensor, also as a part of something.

    Raises:
        ValueError: it has other rings, or sees farther or less far.
    """
    if isinstance(degradation, Several):
        for part in degradation.parts:
            _require_sensor(part, scan, path)
    for name, unit in (("rings", "rings"), ("farthest_m", "m")):
        asked, there = getattr(degradation, name, None), getattr(scan, name)
        if asked is None or asked == there:
            continue
        changes: dict[str, Any] = {name: there}
        if isinstance(degradation, BeamDrop):  # the same share of the beams, or as many as halving leads to
            changes["beams"] = there // min(degradation.rings // degradation.beams, there & -there)
        own = registry.spec(degradation)
        with contextlib.suppress(registry.SpecError):
            way_out = f"write {registry.spec(dataclasses.replace(cast(Any, degradation), **changes))}"
            raise ValueError(f"{own} is of a sensor of {asked:g} {unit}, and the scans in {path} are of one of {there:g}: {way_out}")
        raise ValueError(f"{own} is of a sensor of {asked:g} rings, and no halving leads on from the {there:g} of the scans in {path}")


def conditions_of(recipe: Recipe, data: Dataset | None) -> Conditions:
    """What the recipe's restorer is told of a sample, as large as the data have it.

    Raises:
        ValueError: the data do not have it.
    """
    wanted = recipe.model.conditions
    if not wanted:
        return Conditions()
    if data is None:
        raise ValueError(f"model.conditions = {', '.join(wanted)}: their size is that of the data, which are not given here")
    sizes = {
        "label": len(data.classes or ()),
        "vector": 0 if data.vectors is None else data.vectors.shape[1],
        "image": data.shape[0] if recipe.data.endpoint and recipe.data.pairs else 0,
    }
    ways = {
        "label": "give a folder of a folder for each class, or files of labels",
        "vector": "give a .npz file with an array vector (n, k)",
        "image": "give --data.endpoint and --data.pairs",
    }
    for name in wanted:
        if not sizes[name]:
            raise ValueError(f"model.conditions = {name}, but {recipe.data.path} has none: {ways[name]}, or leave it out")
    return Conditions(**{{"label": "classes"}.get(name, name): sizes[name] for name in wanted})


def begin_from(restorer: Restorer, init: str) -> Model:
    """Give a fresh restorer the averaged weights of a trained model, and return that.

    Raises:
        ValueError: they are those of another network.
    """
    given = load(init)
    assert isinstance(given.restorer, Restorer)  # noqa: S101 - nothing else is ever saved
    try:
        restorer.load_state_dict(given.restorer.state_dict())
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"model.init = {init} holds another network than {registry.spec(restorer.backbone)}: {why}") from None
    return given


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    fresh: bool = False,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    inexact: bool = False,
    track: Sequence[str] = (),
) -> Model:
    """Train a recipe in the run directory `out`, or go on with what is there.

    Args:
        recipe: what to do.
        out: the run directory; gets the resolved recipe, the model, checkpoints, metrics.jsonl and sample grids, and at
            the end an estimator of severities and a prior, if the recipe wants them and they are not there.
        fresh: start over, deleting what an earlier run left there.
        device: "cpu", "cuda", "mps".
        workers: threads that prepare batches; by default one where there is a GPU.
        inexact: go on with a run also where its last digits will be others than without an interruption.
        track: what else follows the run: "tensorboard", "trackio", "wandb".

    Returns:
        The model with averaged weights.

    Raises:
        ValueError: `out` holds the run of another recipe, or files that no run made; the last digits would be others; or a tracker is not installed.
        InUse: another process trains there.
        Stopped: interrupted, and saved.
    """
    out = Path(out)
    tracking.require(track)
    if not fresh:
        claim(recipe, out, fresh=False)
    trainer = make_trainer(recipe, out, device=device, workers=workers, inexact=inexact)
    with locked(out) if trainer.process.first else contextlib.nullcontext():
        if trainer.process.first:
            if fresh:  # only now that the data and the parts are known to be sound is an earlier run given up
                claim(recipe, out, fresh=True)
            for folder, names in ((out, (RECIPE, history.NAME)), (out / "samples", ("*",)), (out / BEST, ("*",))):
                sweep_parts(folder, *names)
            write_text(out / RECIPE, to_toml(recipe))
        processes.barrier()
        trainer.resume()
        follow = track if trainer.process.first else ()
        with tracking.following(follow, out, trainer.step * recipe.training.step_images, to_table(recipe)) as trainer.diary.tracker:
            model = trainer.run()
        if not trainer.process.first:
            return model  # what else the recipe wants, the first process fits
        return _able_to_generate(_able_to_read(model, trainer, recipe, out), trainer, recipe, out)


def _able_to_read(model: Model, trainer: Trainer, recipe: Recipe, out: Path) -> Model:
    """The trained model with the estimator of severities that lies in `out`; if there is none but the recipe wants it, one is fitted."""
    estimator, wanted = load(out).estimator, recipe.training.severity_images
    if estimator is None and wanted:
        estimator = fit(model, trainer.train, trainer.validation, images=wanted, seed=recipe.training.seed, device=trainer.device)
        save_estimator(estimator, out)
    return dataclasses.replace(model, estimator=estimator)


def _able_to_generate(model: Model, trainer: Trainer, recipe: Recipe, out: Path) -> Model:
    """The trained model with the prior that lies in `out`; if the recipe wants another, that one is fitted."""
    prior, o = load(out).prior, recipe.model
    if o.prior is not None and prior != (asked := registry.build(o.prior, "prior")) and not isinstance(asked, Normal):
        prior = priors.fit(model, asked, trainer.train, seed=recipe.training.seed)
        save_prior(prior, out)
    return dataclasses.replace(model, prior=prior)


def fit_prior(run: str | Path, spec: str, *, path: str | None = None) -> Model:
    """Fit a prior to the training pictures of a finished run and save it in its model, in place of any that is there; the weights stay.

    Args:
        run: the run directory.
        spec: the prior, such as gaussian-mixture:components=4,grid=2.
        path: where the data lie now, if not where the recipe says.

    Returns:
        The model with the prior.

    Raises:
        ValueError: the prior does not describe where the model's degradation ends.
        SpecError: no prior of that name, or a field out of range.
    """
    run, asked = Path(run), registry.build(spec, "prior")
    recipe, model = with_path(stored(run), path), load(run)
    data = open_data(recipe.data, "train")
    priors.require(asked, model.degradation, data.shape)
    prior = priors.fit(model, asked, data, seed=recipe.training.seed)
    save_prior(prior, run)
    return dataclasses.replace(model, prior=prior)


def make_trainer(
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    inexact: bool = False,
    check: Check = unchecked,
) -> Trainer:
    """The trainer of a recipe, its data opened, nothing trained or written; `check` is as in :func:`snowmelt.data.sources.open_data`."""
    data = open_data(recipe.data, "train", check)
    model, held_out = make_model(recipe, data.shape, data), validation(recipe, check)
    if processes.here().first and (line := left_out(data, held_out)):
        _log.warning(line)
    return Trainer(model, data, held_out, recipe.training, out, device=device, workers=workers, inexact=inexact)


def validation(recipe: Recipe, check: Check = unchecked) -> Dataset:
    """The recipe's validation pictures."""
    return open_data(recipe.data, "validation", check)


def with_path(recipe: Recipe, path: str | None) -> Recipe:
    """The recipe on data that lie elsewhere; as it is when `path` is None."""
    return recipe if path is None else dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, path=path))


def as_trained(recipe: Recipe, model: Model) -> Recipe:
    """The recipe on data that come as those of the training did: sound at its rate, scans of its sensor, whatever lies at the path now."""
    known: dict[str, Any] = {}
    if isinstance(model.signal, Sound):
        mono = isinstance(model.restorer, Restorer) and model.restorer.shape[0] == 1
        known = {"rate_hz": model.signal.rate_hz, **({"channels": 1} if mono else {})}
    elif isinstance(model.signal, Scan):
        known = {"sensor": registry.spec(model.signal)}
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **known))


def laid(recipe: Recipe, **options: Any) -> Recipe:
    """The recipe with fields of its evaluation laid over; None leaves one as it is."""
    changes = {name: value for name, value in options.items() if value is not None}
    return dataclasses.replace(recipe, evaluation=dataclasses.replace(recipe.evaluation, **changes))


def evaluate(
    run: str | Path,
    *,
    path: str | None = None,
    images: int | None = None,
    out: str | Path | None = None,
    part: str | None = None,
    device: torch.device | str = "cpu",
    compiled: bool = False,
    **options: Any,
) -> Report:
    """Score a trained run on its test pictures and write evaluation.json, evaluation.md, pictures and report.html.

    Args:
        run: the run directory.
        path: other data than the recipe's, or where these lie now.
        images: how many test pictures, if not as many as the recipe says.
        out: where to write; the run directory by default, or the folder in it that has the part's name.
        part: of a choice, the one degradation to undo; None for all of them at once, as in training.
        device: where to compute.
        compiled: whether the network is compiled first.
        options: fields of :class:`~snowmelt.recipes.recipe.EvaluationOptions` to lay over the recipe's; None leaves one as it is.
    """
    run, recipe, model, place = judged(run, path, out, part)
    if isinstance(model.restorer, Restorer):
        model.restorer.compiled = compiled
    recipe = laid(recipe, images=images, **options)
    if (n := recipe.evaluation.bits_per_dim) and processes.here().first:  # one bound is no work to share; the others wait for it where they meet
        bits.bits_per_dim(run, recipe, model, place, images=n, device=device)
    title = f"{recipe.about or run.name}: {part}" if part else ""
    return judge(run, recipe, model, place, title=title, device=device)


def bits_per_dim(
    run: str | Path,
    *,
    path: str | None = None,
    images: int | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    part: str | None = None,
    device: torch.device | str = "cpu",
) -> Bits:
    """Bound the bits per dimension of a run's test pictures, and write bound.json, bound.md and bound.svg.

    Args:
        run: the run directory.
        path: other data than the recipe's, or where these lie now.
        images: how many test pictures, if not as many as the recipe says.
        steps: of the chain; by default the knots of its schedule, or 1000.
        out: where to write; the run directory by default, or the folder in it that has the part's name.
        part: of a choice, the one degradation to undo.
        device: where to compute.

    Raises:
        TypeError: the model's path is no chain of Gaussian noise.
        ValueError: the model adds to its x_t what is no part of the chain.
    """
    run, recipe, model, place = judged(run, path, out, part)
    asked = images or recipe.evaluation.bits_per_dim or recipe.evaluation.images
    return bits.bits_per_dim(run, recipe, model, place, images=asked, steps=steps, device=device)


def judged(run: str | Path, path: str | None, out: str | Path | None, part: str | None) -> tuple[Path, Recipe, Model, Path]:
    """The run, its recipe and model, that of its part if one is named, and where what is found of it goes."""
    run, model = Path(run), load(run)
    place = Path(out) if out else run / part if part else run
    return run, as_trained(with_path(stored(run), path), model), model if part is None else alone(model, part), place
