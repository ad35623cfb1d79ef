"""The papers behind a run: what each of its parts, its training and its measures is from.

Parts say it themselves, where they are registered (:mod:`snowmelt.references`). What is no part says it here: how a restorer was trained, what it was
told, and by what it was measured. A model that was imported from diffusers names its pipeline and is walked as that one was.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, TypeAlias

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.evaluation import Report
from snowmelt.evaluation.bits import WRITTEN
from snowmelt.evaluation.sets import NOT_COMPUTED
from snowmelt.losses import PAPERS
from snowmelt.model import Model, load, located, noted
from snowmelt.recipes import recipe
from snowmelt.recipes.directory import RECIPE
from snowmelt.references import Paper, paper
from snowmelt.registry import Part, SpecError
from snowmelt.restorers import Restorer
from snowmelt.restorers.restorer import preferred
from snowmelt.samplers.default import default_sampler, default_walk

Reasoned: TypeAlias = Iterator[tuple[str, Paper]]
_EVALUATION = "evaluation.json"
TOLD: Mapping[str, tuple[str, ...]] = {"label": ("ho2022",), "image": ("saharia2021",)}
TRAINED: Mapping[str, tuple[str, ...]] = {
    "optimiser AdamW": ("loshchilov2017",),
    "scaled gradients of fp16": ("micikevicius2018",),
    "severities log-normal": ("karras2022",),
    "reading severities": ("kendall2017", "seitzer2022", "guo2017", "birge1932"),
    "mean of two trainings' weights": ("wortsman2022",),
    "imported from diffusers": ("vonplaten2022",),
}
MEASURED: Mapping[str, tuple[str, ...]] = {
    "one call beside walks": ("blau2018",),
    "Wiener": ("wiener1949",),
    "ssim": ("wang2004",),
    "si_sdr": ("leroux2019",),
    "lsd": ("gray1976",),
    "segmental_snr": ("hansen1998",),
    "chamfer_m": ("barrow1977", "fan2017"),
    "FD": ("dowson1982", "heusel2017"),
    "FID": ("dowson1982", "heusel2017"),
    "KID": ("binkowski2018",),
    "precision": ("kynkaanniemi2019",),
    "recall": ("kynkaanniemi2019",),
    "density": ("naeem2020",),
    "coverage": ("naeem2020",),
    "memorisation": ("stein2023",),
    "JSD": ("zyrianov2022", "nakashima2023"),
    "MMD": ("zyrianov2022", "nakashima2023"),
    "bits per dimension": ("sohldickstein2015", "ho2020", "nichol2021"),
}


@dataclass(frozen=True)
class Behind:
    """A paper, and what it is behind: ("degradation morph", "sampler tacos")."""

    paper: Paper
    reasons: tuple[str, ...]


def behind(name: str | Path) -> list[Behind]:
    """The papers behind a run directory, a model in the package, a recipe, a part or a spec; snowmelt itself comes last.

    Raises:
        SpecError: it is none of these.
    """
    word = str(name).partition(":")[0].partition("+")[0].strip()
    kinds = [kind for kind in registry.kinds() if word in registry.names(kind)]
    if (located(name) / "model.json").is_file():
        found = _of_run(located(name))
    elif (Path(name) / RECIPE).is_file():  # a run that has saved no model yet
        found = _of_recipe(recipe.load(Path(name) / RECIPE))
    elif kinds:
        found = _of_name(str(name), word, kinds)
    elif str(name) in recipe.presets() or (Path(name).suffix == ".toml" and Path(name).is_file()):
        found = _of_recipe(recipe.load(name))
    else:
        known = sorted({*recipe.presets(), *(one for kind in registry.kinds() for one in registry.names(kind))})
        raise SpecError(f"{name} is no run directory, no recipe and no part{registry.nearest(word, known)}; 'snowmelt list' shows all parts")
    return _collected(found)


def of_model(model: Model) -> Reasoned:
    """What a model is made of, what walks it when nothing is said, and how its notes say it was trained."""
    yield from _of_part(model.degradation)
    yield from _of_part(model.signal)
    if isinstance(model.restorer, Restorer):
        yield from _of_part(model.restorer.backbone)
        yield from _of_part(model.restorer.parameterization)
        for told in model.restorer.conditions.names:
            yield from _keyed(f"told: {told}", TOLD.get(told, ()))
        if model.restorer.variance == "learned":
            yield from _keyed("variance learned", PAPERS["variance learned"])
    if model.prior is not None:
        yield from _of_part(model.prior)
    walk = noted(model.notes, "diffusers", "sampler")
    yield from _of_part(default_walk(model) if walk is None else registry.build(walk, "sampler"))
    if model.estimator is not None:
        yield from _trained("reading severities")
    if "share" in model.notes:
        yield from _trained("mean of two trainings' weights")
    if "diffusers" in model.notes:
        yield from _trained("imported from diffusers")
    made = model.notes.get("recipe")
    yield from _of_training(made.get("training") if isinstance(made, Mapping) else None)


def _of_run(path: Path) -> Reasoned:
    model = load(path)
    yield from of_model(model)
    if (path / _EVALUATION).is_file():
        yield from _of_report(Report.read(path / _EVALUATION), model)
    if (path / WRITTEN[0]).is_file():
        yield from _keyed("bits per dimension", MEASURED["bits per dimension"])


def _of_name(name: str, word: str, kinds: Iterable[str]) -> Reasoned:
    """Of a bare name whatever any of its values may be from; of a spec, what it is from: of those kinds that have such fields."""
    if name.strip() == word:
        for kind in kinds:
            yield from ((f"{kind} {word}", one) for one in registry.papers(registry.lookup(word, kind)))
        return
    built: list[Part] = []
    wrong: SpecError | None = None
    for kind in kinds:
        try:
            built.append(registry.build(name, kind))
        except SpecError as error:
            wrong = error
    if wrong is not None and not built:
        raise wrong
    for part in built:
        yield from _of_part(part)


def _of_recipe(table: Mapping[str, Any]) -> Reasoned:
    """Of a recipe that was not trained: what it says, and what is taken where it says nothing."""
    asked = recipe.from_table(table)
    D, model = registry.build(asked.degradation), asked.model
    yield from _of_part(D)
    yield from _of_part(registry.build(model.backbone, "backbone"))
    if model.parameterization is not None:
        yield from _of_part(registry.build(model.parameterization, "parameterization"))
    elif D.takes != "sound":  # which is predicted as a residual
        yield from _of_part(preferred(D, told=model.told))
    if model.prior is not None:
        yield from _of_part(registry.build(model.prior, "prior"))
    for told in model.conditions:
        yield from _keyed(f"told: {told}", TOLD.get(told, ()))
    yield from _of_part(default_sampler(D))
    if asked.training.severity_images:
        yield from _trained("reading severities")
    yield from _of_training(table.get("training", {}))


def _of_part(part: Part) -> Reasoned:
    """What it is from, and what every part inside it is from."""
    for inner in registry.nested(part):
        yield from ((f"{inner.part_kind} {registry.label(type(inner))}", one) for one in registry.papers(inner, inside=False))


def _of_training(asked: Any) -> Reasoned:
    """How a restorer was trained, as its recipe says; nothing where there is no recipe, or none that can be read."""
    if not isinstance(asked, Mapping):
        return
    yield from _trained("optimiser AdamW")
    for option in ("loss", "weight", "penalty"):
        yield from _keyed(f"{option} {asked.get(option)}", PAPERS.get(f"{option} {asked.get(option)}", ()))
    if asked.get("unfold"):
        yield from _keyed("unfolded training", PAPERS["unfolded training"])
    if asked.get("gap"):
        yield from _keyed("consistency tuning", PAPERS["consistency tuning"])
    if asked.get("precision") == "fp16":
        yield from _trained("scaled gradients of fp16")
    if asked.get("severities") == "log-normal":
        yield from _trained("severities log-normal")


def _of_report(report: Report, model: Model) -> Reasoned:
    """By what a run was measured, and against which walks."""
    yield from _keyed("one call beside walks", MEASURED["one call beside walks"])
    made = model.notes.get("recipe")
    compared = made.get("evaluation") if isinstance(made, Mapping) else None
    walks = compared.get("samplers") if isinstance(compared, Mapping) else None
    for walk in walks if isinstance(walks, list | tuple) else ():
        yield from _of_part(registry.build(walk, "sampler"))
    measures = {*_names(report.rows), *_names(report.generated), *_names(report.walks)}
    if any("Wiener" in str(row.get("method")) for row in report.rows):
        measures.add("Wiener")
    for name in (name for name in MEASURED if name in measures):
        yield from _keyed(f"measure {name}", MEASURED[name])


def _names(value: Any) -> Iterator[str]:
    """The measures whose values are anywhere in it: "FD against train" and "KID-paired" are those of FD and KID."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner == NOT_COMPUTED:
                continue
            yield from str(name).replace("-", " ").split(" ", 1)[:1]
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)


def _trained(how: str) -> Reasoned:
    yield from _keyed(how, TRAINED[how])


def _keyed(reason: str, keys: Iterable[str]) -> Reasoned:
    yield from ((reason, paper(key)) for key in keys)


def _collected(found: Reasoned) -> list[Behind]:
    """Each paper once, with all reasons; snowmelt last. A key that another paper has, as one of a plugin may, gets a letter."""
    reasons: dict[Paper, dict[str, None]] = {}
    for reason, one in found:
        reasons.setdefault(one, {})[reason] = None
    own = dataclasses.replace(paper("snowmelt"), version=__version__)
    keyed: dict[str, Behind] = {}
    for one, why in [*reasons.items(), (own, {"everything": None})]:
        key = next(name for name in (one.key + letter for letter in ("", *ascii_lowercase[1:])) if name not in keyed)
        keyed[key] = Behind(dataclasses.replace(one, key=key), tuple(why))
    return list(keyed.values())
