"""From a trained model to its evaluation: the recipe's data, walks and features, and everything that is written."""

import dataclasses
import hashlib
import json
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.data.sources import open_data
from snowmelt.evaluation import Report, distinct, evaluate, generated, work
from snowmelt.evaluation.kept import Kept
from snowmelt.files import sha256
from snowmelt.metrics.features import Features, load_features
from snowmelt.model import Model, noted, weights_of
from snowmelt.recipes import generating
from snowmelt.recipes.recipe import EvaluationOptions, Recipe
from snowmelt.recipes.report import Made, environment
from snowmelt.recipes.report import write as write_report
from snowmelt.restoration.identity import digest_of
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler, default_walk
from snowmelt.signals import PICTURE
from snowmelt.training import history
from snowmelt.training.learning import counted
from snowmelt.training.prior import noise_at_end
from snowmelt.training.progress import Bar

_DEFAULT = EvaluationOptions().samplers
_LOOKED_AT = 8
_FOR_NOISE = ("ancestral:eta=0,snap=true", "ancestral:eta=1,snap=true")  # the default walks read the noise, which nobody could know


def judge(run: Path, recipe: Recipe, model: Model, out: Path, *, title: str = "", device: torch.device | str = "cpu") -> Report:
    """Score a model as its recipe says, and write evaluation.json, evaluation.md, pictures and report.html to `out`.

    What is done stays in `out` until all is: the same call goes on after an interruption. Processes that torchrun started share the work; every
    one of them returns the report, and the first writes it.

    Args:
        run: the run directory, for what it says of the training.
        recipe: data and options; its `evaluation` decides what is measured.
        model: what is judged: the run's own, or that of one part of its degradation.
        out: where to write.
        title: of the page; by default what the recipe is about.
        device: where to compute.

    Raises:
        FileNotFoundError: there are no such data, or no such features.
        ValueError: options that do not fit: pictures are to be generated and the model has no prior.
        Stopped: interrupted; what is done is kept.
    """
    o = fitting(recipe.evaluation, model)
    features = load_features(o.features) if o.features else None
    test, validation, train = (open_data(recipe.data, split) for split in ("test", "validation", "train"))
    require_signal(model, test)
    require_classes(model, test)
    own = generating.shown(o, model)
    with Kept.at(out, settles(run, o, model, (test, validation, train), features, device)) as kept:
        asked = generating.make(model, o.generate, own, seed=o.seed, device=device, kept=kept) if o.generate else None  # first: it needs a prior
        report = _scored(model, o, (test, validation, train), features, device, kept)
        made, sheets = None if asked is None else asked(), list[torch.Tensor]()
        del asked  # and with it the pieces that they were made of
        if made is not None:
            report.generated.update(generated(made, train, test, features=features, seed=o.seed, batch=o.batch, kept=kept))
            report.generated["facts"]["sampler"] = registry.spec(own)
            if noise_at_end(model.degradation) is not None:  # all that restoring could start from is noise: what counts is what comes of it
                report.verdict[:] = report.generated["verdict"]
        if o.generators or o.guidance:
            found, sheets = generating.compare(model, o, test, train, features, device, made, kept)
            report.walks.extend(found)
        _add_facts(report, run, recipe, model, features)
        if kept.process.first:
            report.write(out)
            shown = Made(made, train, sheets) if made is not None else None
            name = title or recipe.about or f"{run.name}: {recipe.degradation}"
            write_report(run, recipe, model.to("cpu"), test, report, own, title=name, out=out, made=shown)
    return report


def _scored(
    model: Model,
    o: EvaluationOptions,
    data: tuple[Dataset, Dataset, Dataset],
    features: Features | None,
    device: torch.device | str,
    kept: Kept,
) -> Report:
    """The comparison, under a progress bar; `data` are the pictures of test, validation and training."""
    test = data[0]
    fair, handed = walks(o, model)
    count = min(o.images, len(test))
    todo = work(model, test.shape, count, len(fair) + len(handed), inputs=o.inputs, severities=o.severities)
    with Bar("evaluating", todo) as bar:
        return evaluate(
            model,
            *data,
            samplers=fair,
            images=count,
            seed=o.seed,
            batch=o.batch,
            device=device,
            tick=bar.advance,
            inputs=o.inputs,
            features=features,
            handed=handed,
            severities=o.severities,
            kept=kept,
        )


def settles(
    run: Path,
    o: EvaluationOptions,
    model: Model,
    data: Sequence[Dataset],
    features: Features | None,
    device: torch.device | str,
) -> dict[str, Any]:
    """All that settles the numbers of an evaluation, for what is kept of one that was interrupted.

    Args:
        run: whose weights are judged.
        o: what is measured.
        model: what is judged.
        data: all pictures; where they lie does not matter.
        features: what is measured in.
        device: where it is computed.
    """
    restorer, place = model.restorer, torch.device(device)
    return {
        "versions": [__version__, torch.__version__],
        "plug-ins": [_source(module) for module in registry.plugins()],
        "device": [place.type, torch.cuda.get_device_name(place) if place.type == "cuda" else "", torch.get_num_threads()],
        "compiled": isinstance(restorer, Restorer) and restorer.compiled,
        "weights": weights_of(run),
        "model": [registry.spec(model.degradation), model.input, model.noise_floor, model.estimates],
        "prior": None if model.prior is None else [registry.spec(model.prior), digest_of(model.prior.tensors())],
        "options": dataclasses.asdict(o),
        "features": None if features is None else features.name,
        "data": [_looked_at(one) for one in data],
    }


def _looked_at(data: Dataset) -> str:
    """A hash of what the source holds, of all names and of all that comes with the pictures; and of a few pictures as they are decoded here."""
    some = range(0, len(data), max(len(data) // _LOOKED_AT, 1))
    names = hashlib.sha256(json.dumps([data.ids, data.shape, data.split, data.classes]).encode()).hexdigest()
    told = {name: values for name, values in (("label", data.labels), ("vector", data.vectors)) if values is not None}
    return data.content() + names + digest_of(told) + digest_of(data.batch(list(some)[:_LOOKED_AT]))


def _source(module: types.ModuleType) -> str:
    """A hash of what a module was made from; its name alone where there is no such file any more."""
    path = Path(module.__file__ or "")
    return module.__name__ + (sha256(path) if path.is_file() else "")


def require_signal(model: Model, test: Dataset) -> None:
    """Refuse to judge a model of sound by scans, or by recordings at another rate.

    Raises:
        ValueError: the samples are of another kind than those it was trained with.
    """
    if test.signal != model.signal:
        ours, theirs = (registry.spec(one) for one in (model.signal, test.signal))
        raise ValueError(f"this model was trained on {ours}, and the data are {theirs}: give other data")


def require_classes(model: Model, test: Dataset) -> None:
    """Refuse to tell a model labels that mean other classes than those it was trained with.

    Raises:
        ValueError: the pictures are of other classes.
    """
    trained = model.notes.get("classes")
    if trained is not None and test.classes is not None and list(test.classes) != list(trained):
        theirs, own = (", ".join(map(str, names[:5])) for names in (test.classes, trained))
        raise ValueError(f"these pictures are of the classes {theirs}, and the model was trained with {own}: take pictures of the same classes")


def fitting(o: EvaluationOptions, model: Model) -> EvaluationOptions:
    """The options without the walks that generate and are too long for a tuned model, and without 8 bits for what is not stored in them.

    A tuned model has its options from the run that it was tuned from, and no recipe of sound has to say that no recording is rounded.
    """
    if model.signal != PICTURE:
        o = dataclasses.replace(o, inputs=("float",))
    short = [spec for spec in (o.walk, *o.generators) if spec is not None and _short(registry.build(spec, "sampler"), model)]
    return dataclasses.replace(o, walk=o.walk if o.walk in short else None, generators=tuple(spec for spec in o.generators if spec in short))


def walks(o: EvaluationOptions, model: Model) -> tuple[list[Sampler], list[Sampler]]:
    """The walks to compare, and those to show beside because they read what nobody could know; none of these unless asked for.

    Of a tuned model those that are not too long for it, and the one that it is tuned for.
    """
    degradation = model.degradation
    own = _FOR_NOISE if degradation.noise and o.samplers == _DEFAULT else o.samplers  # what was asked for stays
    hidden = set(degradation.hidden)
    fair = [one for one in _each(own, o.calls) if not one.reads(degradation) & hidden]
    handed = [one for one in _each(o.samplers, o.calls) if one.reads(degradation) & hidden] if o.handed else []
    if model.most_calls is not None:
        fair = [*(one for one in fair if _short(one, model)), default_walk(model)]
        handed = [one for one in handed if _short(one, model)]
    return distinct(fair, degradation), distinct(handed, degradation)


def _short(walk: Sampler, model: Model) -> bool:
    """Whether a walk is short enough for the model, if that is tuned for few calls."""
    try:
        walk.require_short(model)
    except ValueError:
        return False
    return True


def _each(specs: tuple[str, ...], calls: tuple[int, ...]) -> list[Sampler]:
    built: Callable[[str], Sampler] = lambda spec: registry.build(spec, "sampler")  # noqa: E731
    own = [built(spec) for spec in specs if "steps=" in spec]
    return [*own, *(built(f"{spec}{',' if ':' in spec else ':'}steps={n}") for spec in specs if "steps=" not in spec for n in calls)]


def _add_facts(report: Report, run: Path, recipe: Recipe, model: Model, features: Features | None) -> None:
    """What the evaluation itself does not know."""
    # Names, not paths: a kept report says nothing of the machine it was made on.
    facts: dict[str, Any] = {"data": Path(recipe.data.path).name, "weights": weights_of(run)[:12]}
    trained = noted(model.notes, "recipe", "data", "path")
    if trained is not None and trained != recipe.data.path:
        facts["trained on pictures of"] = Path(trained).name
    if features is not None:
        facts["features"] = features.name
    lines = [line for line in counted(history.read(run)) if "loss" in line]
    if lines:
        facts["trained on"] = f"{lines[-1]['images']:,} images in {lines[-1].get('wall_s', 0.0) / 60:.1f} minutes"
    report.facts.update({**facts, **environment()})
