"""From a run, and its tuned copy if there is one, to quality against calls: what is measured, what is kept of an earlier time, what is written.

Every row is on the disk when it is done, so that the same command goes on where it was stopped; rows of the same weights, pictures, draws and
features are not measured twice.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.data.sources import open_data
from snowmelt.evaluation.calls import Planned, beside, measured, named, planned, usual
from snowmelt.evaluation.curve import GENERATED, NAME, RESTORED, Curve
from snowmelt.evaluation.generated import against
from snowmelt.evaluation.sets import Judge, floor_row, judge_for
from snowmelt.metrics.features import Features, load_features
from snowmelt.model import Model, load, weights_of
from snowmelt.randomness import permutation
from snowmelt.recipes import generating
from snowmelt.recipes.judging import require_classes
from snowmelt.recipes.recipe import EvaluationOptions, Recipe
from snowmelt.recipes.report import commit, environment
from snowmelt.recipes.run import judged, laid
from snowmelt.recipes.tuning import copy_of
from snowmelt.restoration.identity import digest_of
from snowmelt.training.prior import noise_at_end
from snowmelt.training.progress import Bar

_LABEL = 12  # digits of a SHA-256


@dataclass(frozen=True)
class Task:
    """Everything that rows are measured with."""

    model: Model
    tuned: Model | None
    weights: tuple[str, str]
    test: Dataset
    train: Dataset
    ids: list[int]
    o: EvaluationOptions
    features: Features | None
    judge: Judge
    device: torch.device | str

    @property
    def images(self) -> dict[str, int]:
        """How many pictures of each kind."""
        generates = self.model.prior is not None and self.o.generate and self.features is not None
        restores = not (generates and noise_at_end(self.model.degradation) is not None)  # else a restoration would start from noise alone
        return ({RESTORED: len(self.ids)} if restores else {}) | ({GENERATED: self.o.generate} if generates else {})

    def plan(self) -> list[tuple[str, Planned]]:
        """All walks, few calls first."""
        walks = planned(self.model, self.o.curve_calls, self.tuned)
        both = [(of, one) for of in self.images for one in walks if of == RESTORED or one.sampler is not None]
        return sorted(both, key=lambda pair: pair[1].calls)

    def weights_for(self, one: Planned) -> str:
        """The weights that a walk is walked with."""
        return self.weights[one.tuned]

    def row(self, of: str, one: Planned, tick: Callable[[int], None]) -> dict[str, Any]:
        """Measure one walk."""
        o = self.o
        if of == RESTORED:
            how: dict[str, Any] = {"seed": o.seed, "batch": o.batch, "device": self.device, "tick": tick}
            return measured(self.model, one, self.test, self.ids, self.judge, tuned=self.tuned, **how)
        model = self.tuned if one.tuned and self.tuned is not None else self.model
        assert one.sampler is not None  # noqa: S101 - one call is not generated with
        x = generating.made_by(model, o.generate, one.sampler, seed=o.seed, device=self.device, tick=lambda n: tick(n * one.calls))()
        lost, found = generating.scored(x, self.test, self.features, o)
        return {**named(one), "images": o.generate, **({"diverged": lost} if lost else {}), **found}

    def beside(self, of: str) -> list[dict[str, Any]]:
        """The rows without a restorer: what doing nothing, the truth and real pictures score."""
        o = self.o
        if of == GENERATED:
            real = against(None, self.test, self.features, train=self.train, n=o.generate, seed=o.seed, batch=o.batch)
            return [{"walk": "floor", "calls": 0, "sampler": "", "images": o.generate, **real}]
        how: dict[str, Any] = {"seed": o.seed, "batch": o.batch, "device": self.device, "tick": lambda n: None}
        rows = [beside(self.model, kind, self.test, self.ids, self.judge, **how) for kind in ("degraded", "clean")]
        if self.features is not None and len(self.ids) > 1:
            real = floor_row(self.features, lambda: self.judge, self.train, len(self.ids), seed=o.seed, batch=o.batch)()
            rows.append({**real, "walk": "floor", "calls": 0, "sampler": "", "images": len(self.ids)})
        return rows


def curve(
    run: str | Path,
    *,
    path: str | None = None,
    images: int | None = None,
    out: str | Path | None = None,
    part: str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Curve:
    """Measure a run's walks, and its tuned copy's, at rising numbers of calls, and write curve.json, curve.md and calls.svg.

    Args:
        run: the run directory; its tuned copy is RUN/fast, where there is one.
        path: other data than the recipe's, or where these lie now.
        images: how many test pictures, if not as many as the recipe says.
        out: where to write; the run directory by default, or the folder in it that has the part's name.
        part: of a choice, the one degradation to undo.
        device: where to compute.
        options: fields of :class:`~snowmelt.recipes.recipe.EvaluationOptions` to lay over the recipe's; None leaves one as it is.

    Raises:
        ValueError: pictures are to be generated, and the model has no prior; or other classes than those it was trained with.
        BadFile: the curve.json that is there is damaged.
    """
    run, recipe, model, place = judged(run, path, out, part)
    recipe = laid(recipe, images=images, **options)
    if options.get("generate") and model.prior is None:
        raise ValueError(f"a model of {registry.spec(model.degradation)} has no prior to generate from: leave --generate out, or fit one first")
    task = _task(run, recipe, model, part, device)
    found = _kept(place, task, recipe)
    todo = [(of, one) for of, one in task.plan() if found.row(one.walk, one.calls, of) is None]
    found.facts.update(_facts(task, recipe, run, part))
    with Bar("measuring", sum(one.calls * task.images[of] for of, one in todo), unit="calls") as bar:
        for of in task.images:
            if found.row("floor" if of == GENERATED or task.features else "clean", 0, of) is None:
                found.rows[:] = [row for row in found.rows if row["of"] != of or row["calls"]]
                found.rows.extend({"of": of, **row, "weights": "", "commit": commit()} for row in task.beside(of))
        for of, one in todo:
            row = task.row(of, one, bar.advance)
            found.rows.append({"of": of, **row, "weights": task.weights_for(one)[:_LABEL], "commit": commit()})
            found.keep(place)
    found.facts["commit"] = ", ".join(dict.fromkeys(row["commit"] for row in found.rows))  # kept rows may be older
    found.write(place)
    return found


def _task(run: Path, recipe: Recipe, model: Model, part: str | None, device: torch.device | str) -> Task:
    o = recipe.evaluation
    features = load_features(o.features) if o.features else None
    test, train = open_data(recipe.data, "test"), open_data(recipe.data, "train")
    require_classes(model, test)
    ids = permutation(o.seed, "evaluation", 0, len(test))[: o.images].tolist()
    copy = copy_of(run)
    tuned = None if copy is None or model.gap else load(copy / part if part else copy)
    weights = (weights_of(run), weights_of(copy) if tuned is not None and copy is not None else "")
    judge = judge_for(features, test, ids, seed=o.seed, batch=o.batch)[1]()
    return Task(model.to(device), tuned and tuned.to(device), weights, test, train, ids, o, features, judge, device)


def _kept(place: Path, task: Task, recipe: Recipe) -> Curve:
    """What of an earlier measurement still holds."""
    settings = {
        "degradation": registry.spec(task.model.degradation),
        "data": Path(recipe.data.path).name,
        "shape": list(task.test.shape),
        "test pictures": len(task.test),
        "seed": task.o.seed,
        "input": task.model.input,
        "noise floor": task.model.noise_floor,
        "features": None if task.features is None else task.features.name,
        "prior": None if task.model.prior is None else registry.spec(task.model.prior),
        **({} if task.model.prior is None else {"prior_sha256": digest_of(task.model.prior.tensors())}),
    }
    earlier = Curve.read(place / NAME) if (place / NAME).is_file() else Curve()
    return dataclasses.replace(earlier.valid(settings, ("", *(one[:_LABEL] for one in task.weights)), task.images), facts={})


def _facts(task: Task, recipe: Recipe, run: Path, part: str | None) -> dict[str, Any]:
    """What it was measured on; names, not paths: a kept report says nothing of the machine it was made on."""
    model, o = task.model, task.o
    facts: dict[str, Any] = {
        "title": f"{recipe.about or run.name}{f': {part}' if part else ''}",
        "degradation": registry.spec(model.degradation),
        "data": Path(recipe.data.path).name,
        "pictures": f"{len(task.ids):,} of {len(task.test):,} test pictures, drawn with seed {o.seed}; the same ones and draws for every walk",
        "input": "rounded to 8 bits" if model.input == "8bit" else f"floating point, noise floor {model.noise_floor:g}",
        "estimates": model.estimates,
        "weights": task.weights[0][:_LABEL],
    }
    if task.tuned is not None:
        most = task.tuned.most_calls
        facts["tuned"] = f"{task.tuned.estimates}, good for {most} call{'s' if most != 1 else ''}; weights {task.weights[1][:_LABEL]}"
        facts["tuned walk"] = usual(task.tuned)
    if model.degradation.knots is not None:
        facts["knots"] = model.degradation.knots
    if RESTORED not in task.images:
        facts["restored"] = "not measured: at t = 1 nothing is left of the picture, so what counts is what is generated"
    if GENERATED in task.images:
        facts["generated"] = f"{o.generate:,} pictures a walk, from the same draws of the prior"
    facts["features"] = "none: distances of sets were not computed (--features)" if task.features is None else task.features.name
    facts |= {"caveat": said} if (said := task.judge.caveat()) else {}
    return facts | environment()
