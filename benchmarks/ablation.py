"""What a restorer's coefficients, its loss and the weight of a severity are worth, at equal images and three seeds each.

Seven trainings on each of two paths, alike but for parameterization, loss and weight; the learning rate is chosen once, on validation
pictures, for all of them. Every row is scored on the same test pictures, degraded by the same draws:

- RMSE of one call at t = 1 and at t = 1/4, on [0, 1];
- FD in the features mnist-v1 and measurement error of what a walk of 12 calls of order 2 and one of 50 calls of Algorithm 2 end with.

    python benchmarks/ablation.py --data DIR --out benchmarks/results/ablation.json   # goes on where it stopped; DIR holds MNIST
    python benchmarks/ablation.py --docs                                              # writes the tables of docs/preconditioning.md anew
    python benchmarks/ablation.py --quick --out FILE                                  # bundled digits, one seed, nothing to conclude from
"""

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.data.sources import open_data
from snowmelt.evaluation import methods
from snowmelt.evaluation.filters import clean_batches
from snowmelt.evaluation.methods import Entry
from snowmelt.evaluation.scoring import score
from snowmelt.evaluation.sets import Judge, features_of, judge_for
from snowmelt.evaluation.severities import per_severity
from snowmelt.files import write_json, write_text
from snowmelt.metrics.distribution import frechet
from snowmelt.metrics.features import load_features
from snowmelt.model import Model
from snowmelt.pictures import between_markers
from snowmelt.randomness import permutation
from snowmelt.recipes.recipe import Recipe, from_table
from snowmelt.recipes.report import environment
from snowmelt.recipes.run import make_model
from snowmelt.restorers import Wiener
from snowmelt.restorers.restorer import preferred
from snowmelt.samplers import TACoS
from snowmelt.training.loop import Diverged, Trainer

ROOT = Path(__file__).parents[1]
KEPT, PAGE = ROOT / "benchmarks" / "results" / "ablation.json", ROOT / "docs" / "preconditioning.md"
PATHS = {"blur": "gaussian-blur:sigma_px=4", "mask": "mask:width=0.25"}
WALKS = {"12 calls, order 2": TACoS(steps=12, order=2), "50 calls, Algorithm 2": TACoS(steps=50)}
FEATURES = "mnist-v1"
SEED = 0  # of the choice of test pictures and of their draws
BATCH = 250
TUNING_SEED = 100  # no seed of the table


class Choice(NamedTuple):
    """What a row of the table is trained with."""

    parameterization: str
    loss: str
    weight: str


CHOICES = (
    *(Choice(parameterization, loss, "uniform") for parameterization in ("residual", "x0", "wiener") for loss in ("l1", "l2")),
    Choice("wiener", "l2", "min-output"),
)
PAPER, OURS = Choice("x0", "l1", "uniform"), Choice("wiener", "l2", "uniform")
PAIRS = {  # what is compared with what: title, the second choice against the first
    "wiener for residual, L2": (Choice("residual", "l2", "uniform"), OURS),
    "wiener for x0, L2": (Choice("x0", "l2", "uniform"), OURS),
    "wiener for residual, L1": (Choice("residual", "l1", "uniform"), Choice("wiener", "l1", "uniform")),
    "wiener for x0, L1": (PAPER, Choice("wiener", "l1", "uniform")),
    "L2 for L1, residual": (Choice("residual", "l1", "uniform"), Choice("residual", "l2", "uniform")),
    "L2 for L1, x0": (PAPER, Choice("x0", "l2", "uniform")),
    "L2 for L1, wiener": (Choice("wiener", "l1", "uniform"), OURS),
    "min-output for uniform, wiener, L2": (OURS, OURS._replace(weight="min-output")),
    "wiener, L2 for the paper's x0, L1": (PAPER, OURS),
}


@dataclass(frozen=True)
class Settings:
    """What all rows have in common. The data are named, not located."""

    data: str
    size: int = 32
    backbone: str = "unet:widths=(24,32),patch=4,blocks=1"
    images: int = 32_000
    batch: int = 64
    precision: str = "fp32"  # rounding of the network's output would hurt x0 more than the others
    noise_floor: float = 0.02
    test_pictures: int = 1000
    validation_pictures: int = 1000
    seeds: int = 3
    rates: tuple[float, ...] = (1e-3, 3e-3, 9e-3)


def quick(data: str) -> Settings:
    """Seconds, to see that everything runs."""
    few = {"test_pictures": 8, "validation_pictures": 8, "seeds": 2, "rates": (2e-3,)}
    return Settings(data, size=8, backbone="unet:widths=(8,),patch=2,blocks=1,attention=false", images=32, batch=16, **few)  # type: ignore[arg-type]


class Data(NamedTuple):
    """The three parts of a data set, the test pictures that are scored, and what judges them as a set."""

    train: Dataset
    validation: Dataset
    test: Dataset
    ids: list[int]
    judge: Judge


def main() -> None:
    """Train and score what is not yet in --out, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bundled:digits", help="a folder with MNIST's files, or bundled:digits")
    parser.add_argument("--out", type=Path, default=KEPT, help="a JSON file; what it holds is not done again")
    parser.add_argument("--quick", action="store_true", help="a tiny network and few pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--docs", action="store_true", help="only write docs/preconditioning.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.docs:
        document()
        return
    name = Path(options.data).name
    measure(options.data, quick(name) if options.quick else Settings(name), options.out)
    if options.out.resolve() == KEPT and not options.quick:
        document()


def document() -> None:
    """Write the tables of the page anew."""
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}))


# --- measuring -------------------------------------------------------------------------------------------


def measure(path: str, settings: Settings, out: Path) -> dict[str, Any]:
    """Tune, train and score; every training is written to `out` when it is done.

    Raises:
        ValueError: `out` holds figures that were made with other settings.
    """
    asked = json.loads(json.dumps(dataclasses.asdict(settings)))  # as a file gives it back
    found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"settings": asked, "tuning": [], "beside": [], "rows": []}
    if found["settings"] != asked:
        raise ValueError(f"{out} was made with other settings: give another --out, or remove it")
    data = opened(path, settings)
    keep = partial(_kept, found, out)
    for parameterization, rate in itertools.product(("residual", "x0", "wiener"), settings.rates):
        choice = {"path": "blur", **Choice(parameterization, "l2", "uniform")._asdict(), "seed": TUNING_SEED, "lr": rate}
        keep("tuning", choice, lambda choice=choice: {"validation loss": trained(path, settings, data, **choice)[1]})
    found["lr"] = best_rate(found["tuning"])
    for name in PATHS:
        keep("beside", {"path": name}, lambda name=name: beside(path, settings, data, name))
    for seed, name, choice in itertools.product(range(settings.seeds), PATHS, CHOICES):
        what = {"path": name, **choice._asdict(), "seed": seed}
        keep("rows", what, lambda what=what: row(path, settings, data, what, found["lr"]))
    return found


def _kept(found: dict[str, Any], out: Path, group: str, what: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
    """Do what is not yet found, and write it down."""
    if any(what.items() <= entry.items() for entry in found[group]):
        return
    entry = {**what, **make(), "environment": environment()}
    found[group].append(entry)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)
    print({key: value for key, value in entry.items() if key != "environment"}, flush=True)


def opened(path: str, settings: Settings) -> Data:
    """The data, read once for all trainings."""
    options = recipe(path, settings, "blur").data
    train, validation, test = (open_data(options, split) for split in ("train", "validation", "test"))
    ids = permutation(SEED, "evaluation", 0, len(test))[: settings.test_pictures].tolist()
    return Data(train, validation, test, ids, judge_for(load_features(FEATURES), test, ids, seed=SEED, batch=BATCH)[1]())


def recipe(path: str, settings: Settings, name: str, **training: Any) -> Recipe:
    """The recipe of a training on one of the paths."""
    parameterization = training.pop("parameterization", "wiener")
    common = {"images": settings.images, "batch": settings.batch, "precision": settings.precision}
    model = {"backbone": settings.backbone, "parameterization": parameterization, "noise_floor": settings.noise_floor, "input": "float"}
    watched = {"validate_every": settings.images, "validation_images": settings.validation_pictures}
    return from_table(
        {"degradation": PATHS[name], "data": {"path": path, "size": settings.size}, "model": model, "training": {**common, **watched, **training}}
    )


def trained(where: str, settings: Settings, data: Data, *, path: str, **training: Any) -> tuple[Model, float]:
    """The averaged model and its loss on validation pictures, over all severities."""
    asked = recipe(where, settings, path, **training)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(make_model(asked, data.train.shape, data.train), data.train, data.validation, asked.training, Path(folder))
        model = trainer.run()
    return model, float(trainer.model.notes["validation"]["loss"])


def best_rate(tuning: Iterable[dict[str, Any]]) -> float:
    """The learning rate with the least geometric mean of the validation losses."""
    losses: dict[float, list[float]] = {}
    for entry in tuning:
        losses.setdefault(entry["lr"], []).append(math.log(entry["validation loss"]))
    return min(losses, key=lambda rate: statistics.mean(losses[rate]))


def row(where: str, settings: Settings, data: Data, what: dict[str, Any], rate: float) -> dict[str, Any]:
    """The scores of one training; one that diverges is done again at half the rate, which the row then says."""
    try:
        model, loss = trained(where, settings, data, **what, lr=rate)
    except Diverged:
        if rate < min(settings.rates) / 8:
            raise
        return row(where, settings, data, what, rate / 2)
    return {"lr": rate, "validation loss": loss, **scores(model, data)}


def beside(where: str, settings: Settings, data: Data, name: str) -> dict[str, Any]:
    """What a path scores without a trained network: degraded pictures, the filter that wiener begins as, and training pictures as a set."""
    made = make_model(recipe(where, settings, name), data.train.shape, data.train)
    made.restorer.fit(clean_batches(data.train))  # type: ignore[union-attr, attr-defined]
    model = dataclasses.replace(made, restorer=made.restorer.eval())  # type: ignore[union-attr, attr-defined]
    nothing = {f"RMSE at {one['t']:g}": one["degraded"] for one in curve(model, data)}
    ids = permutation(SEED, "evaluation-floor", 0, len(data.train))[: len(data.ids)].tolist()
    floor = frechet(features_of(data.judge.network, data.train, ids)(), data.judge.clean)  # type: ignore[arg-type]
    return {"degraded": nothing, "filter": scores(model, data), "floor": {"FD": floor}}


def curve(model: Model, data: Data) -> list[dict[str, Any]]:
    """One call at t = 1/4, 1/2, 3/4 and 1."""
    return per_severity(model, data.test, data.ids, 4, seed=SEED, batch=BATCH, device="cpu", tick=lambda n: None)()


def scores(model: Model, data: Data) -> dict[str, float]:
    """Every figure of a row."""
    found = {f"RMSE at {one['t']:g}": one["direct"] for one in curve(model, data)}
    for title, sampler in WALKS.items():
        entry = Entry(title, "walk", sampler.steps, methods.walk(sampler, SEED))
        kept = score(model, entry, data.test, data.ids, data.judge, seed=SEED, batch=BATCH, device="cpu", tick=lambda n: None)()
        found[f"RMSE, {title}"] = kept.end.compute()["rmse"]
        found[f"FD, {title}"] = frechet(torch.cat(kept.features), data.judge.clean)  # type: ignore[arg-type]
        found[f"measurement, {title}"] = float(torch.cat(kept.squares).mean().sqrt())
    return found


# --- tables ----------------------------------------------------------------------------------------------

FIGURES = {  # key: column, digits
    "RMSE at 1": ("RMSE, t = 1", 4),
    "RMSE at 0.25": ("RMSE, t = 1/4", 4),
    **{f"FD, {walk}": (f"FD, {walk}", 2) for walk in WALKS},
    **{f"measurement, {walk}": (f"measurement error, {walk}", 4) for walk in WALKS},
}


def chosen(found: dict[str, Any], path: str, choice: Choice, figure: str) -> list[float]:
    """A figure of every seed of one choice."""
    what = {"path": path, **choice._asdict()}
    return [entry[figure] for entry in found["rows"] if what.items() <= entry.items()]


def change(before: list[float], after: list[float]) -> tuple[float, bool]:
    """How much more the second mean is than the first, as a part of it; and whether no seed of one lies among those of the other."""
    apart = max(after) < min(before) or min(after) > max(before)
    return statistics.mean(after) / statistics.mean(before) - 1, apart


def path_table(found: dict[str, Any], path: str) -> str:
    """Mean and standard deviation over the seeds of every choice on one path."""
    by_hand = next(entry for entry in found["beside"] if entry["path"] == path)
    rows = [
        ["degraded", "", "", *(_number(by_hand["degraded"].get(figure), digits) for figure, (_, digits) in FIGURES.items())],
        ["wiener, untrained", "", "", *(_number(by_hand["filter"][figure], digits) for figure, (_, digits) in FIGURES.items())],
        ["training pictures", "", "", *(_number(by_hand["floor"]["FD"] if figure.startswith("FD") else None, 2) for figure in FIGURES)],
    ]
    for choice in CHOICES:
        values = {figure: chosen(found, path, choice, figure) for figure in FIGURES}
        if all(len(each) > 1 for each in values.values()):
            spread = (f"{statistics.mean(values[f]):.{n}f} ± {statistics.stdev(values[f]):.{n}f}" for f, (_, n) in FIGURES.items())
            rows.append([choice.parameterization, choice.loss, choice.weight, *spread])
    return _table(["prediction", "loss", "weight", *(column for column, _ in FIGURES.values())], rows)


def pair_table(found: dict[str, Any], path: str) -> str:
    """What each exchange changes, in percent; in brackets where seeds of one lie among those of the other."""
    rows = []
    for title, (before, after) in PAIRS.items():
        cells = []
        for figure in FIGURES:
            values = [chosen(found, path, choice, figure) for choice in (before, after)]
            by, apart = change(*values)
            cells.append(f"{by:+.0%}" if apart else f"({by:+.0%})")
        rows.append([title, *cells])
    return _table(["exchange", *(column for column, _ in FIGURES.values())], rows)


def tables(found: dict[str, Any]) -> str:
    """The Markdown of the page that depends on the figures."""
    if not found.get("rows"):
        return "*Pending*: not measured yet."
    parts = []
    for path, spec in PATHS.items():
        parts.append(f"### {path}: `{spec}`\n\n{path_table(found, path)}")
        if all(chosen(found, path, choice, "RMSE at 1") for choice in CHOICES):
            parts.append(f"What an exchange changes:\n\n{pair_table(found, path)}")
    return "\n\n".join([*parts, conditions(found)])


def conditions(found: dict[str, Any]) -> str:
    """What the figures were measured on and with."""
    o, entries = found["settings"], [*found["tuning"], *found["beside"], *found["rows"]]
    seen = {key: ", ".join(sorted({entry["environment"][key] for entry in entries})) for key in ("commit", "date", "device", "threads", "torch")}
    slower = sum(entry["lr"] != found["lr"] for entry in found["rows"])
    own = ", ".join(f"{name} {best_rate(e for e in found['tuning'] if e['parameterization'] == name):g}" for name in ("residual", "x0", "wiener"))
    return (
        f"{o['data']}, {o['size']} px; `{o['backbone']}`; {o['images']:,} images, batch {o['batch']}, {o['precision']}, "
        f"noise floor {o['noise_floor']:g}; {o['test_pictures']:,} test pictures; {o['seeds']} seeds, mean ± standard deviation. "
        f"Learning rate {found['lr']:g}: of {', '.join(f'{rate:g}' for rate in o['rates'])} the one with the least validation loss of the three "
        f"predictions together, L2 on the blur with a seed of its own (each for itself: {own}); "
        f"{slower or 'no'} training(s) diverged and were repeated at a lower one. "
        f"Measured on {seen['date']} with commit {seen['commit']} on {seen['device']}, {seen['threads']} thread(s), torch {seen['torch']}."
    )


OPERATORS = {  # spec: why it has no basis; None where it has one
    "gaussian-blur": None,
    "gaussian-blur:padding=circular": None,
    "recursive-blur": None,
    "recursive-blur:padding=reflect": "these edges are diagonal in the DCT-I, which is not orthonormal: white noise would not stay white",
    "noise": None,
    "noise:schedule=ve": None,
    "gaussian-blur+noise": None,
    "noise+gaussian-blur": "noise that enters early is coloured by what comes after it",
    "mask": None,
    "holes": None,
    "mask+noise": None,
    "fade-mask": None,
    "fade-mask:reverse=true,towards=colour": "the colour it leaves is added: the filter would take it for a part of the picture",
    "grey": None,
    "decolour": None,
    "gaussian-blur+grey": "each has a basis, and they are not the same",
    "pixelate": "means of blocks are diagonal in the Haar basis, which is not among those here and needs sizes that the blocks divide",
    "resample": "its first step is bicubic without smoothing: it mixes frequencies (aliases)",
    "motion-blur": "a slanted smear is not the same read backwards along an axis, which a basis for mirrored edges needs",
    "poisson-noise": "its noise depends on the sample",
    "jpeg": "it rounds: not linear",
    "snow": "it clips: not linear",
    "morph": "what is mixed in is a picture, not white noise",
    "choice:parts=(gaussian-blur,mask)": "which part it is changes from sample to sample, and with it the basis",
    "mixture:parts=(gaussian-blur,noise)": "which parts act changes from sample to sample, each with a strength of its own",
}
BASES = {"any": "any (DCT is used)", "dct": "DCT", "fft": "FFT", "pixel": "pixel", "channel": "grey and colour"}


def operator_table() -> str:
    """Every operator: its basis, and what a restorer does by default, told and not told what it may know of the draw."""
    rows = []
    for spec, why in OPERATORS.items():
        d = registry.build(spec)
        does = ["wiener" if isinstance(preferred(d, told=told), Wiener) else "residual" for told in (True, False)]
        default = does[0] if does[0] == does[1] else f"{does[0]} if told {', '.join(name.rpartition('.')[2] for name in d.tells)}, else {does[1]}"
        rows.append([f"`{spec}`", BASES[d.basis] if d.basis else "none", default, why or ""])
    return _table(["operator", "diagonal in", "default", "why not"], rows)


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    for name, text in (("operators", operator_table()), ("ablation", tables(found))):
        page = between_markers(page, name, text)
    return page


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, [":---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
