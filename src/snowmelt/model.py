r"""The model: degradation + restorer (+ prior), and the directory it is saved in.

A model degrades as it was trained: on top of the pure D(x0, t, z) it adds its *noise floor* and, when it was trained for
pictures from 8-bit files, rounds to their grid:

.. math:: x_t = \mathrm{round}_8\left(D(x_0, t, z) + \sigma_{floor}\, z_{floor}\right).

Saved, it is a directory: ``model.json`` says everything in words and numbers, safetensors files hold weights and their
moving average, each with its SHA-256 in model.json, which is written last and has its own, the seal. ``load`` rebuilds all
of it; nothing has to be typed again and nothing is ever unpickled.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.data.images import quantise
from snowmelt.degradations import Choice, Degradation, chain
from snowmelt.files import BadFile, described_by, read_hashed, read_sealed, require_inside, sweep_hashed, write_hashed, write_sealed
from snowmelt.priors import Prior
from snowmelt.randomness import normal
from snowmelt.registry import Range, label
from snowmelt.restorers import Conditions, Informed, Restorer
from snowmelt.restorers.severity import Estimator
from snowmelt.signals import PICTURE, Signal
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity, State, expand, severity

FORMAT = 1
_TUNED = re.compile(r"consistency\((0?\.(?=\d*[1-9])\d+)\)")
_WALK = 32
_GROUPS = ("weights", "ema", "prior", "estimator")
SHIPPED = Path(__file__).parent / "shipped"
# What model.json says of a model, and of its restorer.
_SAID = {
    "noise_floor": Annotated[float, Range(0, 1)],
    "input": Literal["float", "8bit"],
    "range": Annotated[tuple[float, ...], Range(-1e6, 1e6)],
    "estimates": str,
}
_OF_RESTORER = {"shape": Annotated[tuple[int, ...], Range(1, 65_536)], "told": bool, "variance": Literal["fixed", "learned"]}
_MOST_VALUES = 3 * 8192**2  # of one sample, the largest that a recipe can ask for


@dataclass(frozen=True)
class Model:
    """A degradation and what undoes it. A plain, frozen holder of parts.

    Attributes:
        degradation: D.
        restorer: R, called as restorer(x_t, t) -> x0_hat; a plain function will do.
        prior: where generation starts; None if the model only restores.
        noise_floor: standard deviation of the noise added to every x_t.
        input: "8bit" rounds x_t to the grid of an 8-bit file, as if it had been saved.
        range: the interval of the data.
        estimates: what R was trained to return: "mean" or "median" of all x0 that x_t may have come from, "penalised", or, tuned for few calls,
            "consistency(g)": what it returns at severity g t of the same sample.
        signal: what the samples are.
        estimator: reads severities from degraded pictures, where one was fitted.
        notes: what else is known: recipe, metrics.
    """

    degradation: Degradation
    restorer: Callable[..., Tensor]
    prior: Prior | None = None
    _: KW_ONLY
    noise_floor: float = 0.0
    input: Literal["float", "8bit"] = "float"
    range: tuple[float, float] = (-1.0, 1.0)
    estimates: str = "mean"
    signal: Signal = PICTURE
    estimator: Estimator | None = None
    notes: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse a restorer that was made for another noise floor, and estimates that are none.

        Raises:
            ValueError: its preconditioning would not fit what it is shown; or `estimates` is no word that is known.
        """
        _require_word(self.estimates)
        if isinstance(self.restorer, Restorer) and self.restorer.noise_floor != self.noise_floor:
            made_for = self.restorer.noise_floor
            raise ValueError(f"model.noise_floor = {self.noise_floor:g}, but its restorer was made for {made_for:g}: give both the same")

    @property
    def gap(self) -> float:
        """g = s / t of a restorer tuned to estimate the same at s and t; 0 of one that is not tuned."""
        found = _TUNED.fullmatch(self.estimates)
        return float(found[1]) if found else 0.0

    @property
    def most_calls(self) -> int | None:
        """The longest walk that a tuned restorer is good for, 32 (1 - g) calls, beyond which its errors add up; None of one that is not tuned."""
        return max(1, round(_WALK * (1 - self.gap))) if self.gap else None

    def draw(self, like: Batch, generator: Generators = None, item: Mapping[str, Tensor] = EMPTY) -> Draw:
        """The degradation's draw, with what the data `item` gives of it, and, when there is a noise floor, its noise as "floor"."""
        z = {**self.degradation.draw(like, generator), **self.degradation.given_by(item), **self.told(item)}
        return {**z, "floor": normal(like, generator)} if self.noise_floor > 0 else z

    def told(self, item: Mapping[str, Tensor]) -> Draw:
        """What of a data item conditions this model's restorer; the picture it is told is the item's "image", or the other one of its pair."""
        conditions = (self.restorer.conditions if isinstance(self.restorer, Informed) else None) or Conditions()
        known = {"image": item["endpoint"], **item} if "endpoint" in item else item
        return {name: known[name] for name in conditions.names if name in known}

    def degrade(self, x0: Batch, t: Severity, z: Draw) -> Batch:
        """x_t as R sees it: D(x0, t, z), the noise floor, the rounding."""
        return self.finish(self.degradation(x0, t, z), z)

    def finish(self, x_t: Batch, z: Draw) -> Batch:
        """A degraded batch with the noise floor added (if `z` holds its noise) and rounded as the model's input is."""
        if self.noise_floor > 0 and "floor" in z:
            x_t = x_t + self.noise_floor * z["floor"]
        return quantise(x_t) if self.input == "8bit" else x_t

    def corrupt(self, x0: Batch, t: float | Severity = 1.0, generator: Generators = None, item: Mapping[str, Tensor] = EMPTY) -> State:
        """Clean samples x0 (b, *d) degraded to severity t, with their draw: where restoring starts."""
        z = self.draw(x0, generator, item)
        return State(self.degrade(x0, severity(t, x0), z), t, z)

    def estimate(self, x_t: Batch, t: Severity, z: Draw = EMPTY, cond: Tensor | None = None) -> Batch:
        """x0_hat = R(x_t, t): R is told what it was trained to be told of the draw, and sees x_t rounded if it always did.

        The steps of a walk lie between the levels of an 8-bit file, where a restorer trained on files has never been.
        """
        return self.predict(x_t, t, z, cond)[0]

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY, cond: Tensor | None = None) -> tuple[Batch, Batch | None]:
        """x0_hat as :meth:`estimate` returns it and, of a model that learned it, the spread of an ancestral step, about [0, 1]."""
        if self.input == "8bit":
            x_t = quantise(x_t)
        if isinstance(self.restorer, Informed):
            if cond is not None:
                raise TypeError('cond is for plain functions, and this restorer reads its conditions from the draw: give z["label"], for instance')
            return self.restorer.predict(x_t, t, z)
        return (self.restorer(x_t, t) if cond is None else self.restorer(x_t, t, cond=cond)), None

    def score(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        r"""The score of x_t's law, the gradient of its log-density: (mu_t(x0_hat) - x_t) / sigma^2, with sigma all the Gaussian noise in x_t.

        Raises:
            TypeError: nothing in x_t is Gaussian noise, so its law has no density that the estimate could tell; or R returns no mean.
            ValueError: there is no noise at one of the severities.
        """
        name = label(type(self.degradation))
        strange = [one for one in self.degradation.hidden if one not in self.degradation.noise]
        if strange or not (self.degradation.noise or self.noise_floor):
            why = f"hides {', '.join(strange)} in its draw" if strange else "has no noise"
            raise TypeError(f"{name} {why}, so its x_t has no score: append '+noise', or train with a noise floor")
        if self.estimates != "mean":
            raise TypeError(f"the score is known from the posterior mean, but this restorer estimates the {self.estimates}: train it with loss l2")
        variance = self.degradation.sigma(t).square() + self.noise_floor**2
        if bool((variance <= 0).any()):
            raise ValueError(f"{name} has no noise at t = {float(t[variance <= 0][0]):g}, where the score is infinite: ask for it at t > 0")
        return (chain.mean(self.degradation, self.estimate(x_t, t, z), t, z) - x_t) / expand(variance.to(x_t), x_t)

    def to(self, device: torch.device | str) -> "Model":
        """This model with its weights on `device`; a plain function stays as it is."""
        parts = {"restorer": self.restorer, "estimator": self.estimator}
        moved: dict[str, Any] = {name: part.to(device) for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        return dataclasses.replace(self, **moved) if moved else self


def noted(notes: Any, *names: str) -> str | None:
    """The word in a model's notes under names, each in the one before: ("recipe", "data", "path"); None where there is none."""
    for name in names:
        notes = notes.get(name) if isinstance(notes, Mapping) else None
    return notes if isinstance(notes, str) else None


def _require_word(estimates: str) -> None:
    """Refuse what is no word for what a restorer estimates; a TypeError if it is no word at all.

    Raises:
        ValueError: it is none.
    """
    if estimates not in ("mean", "median", "penalised") and not _TUNED.fullmatch(estimates):
        raise ValueError(f"model.estimates = {estimates!r} is none of mean, median, penalised and consistency(g) with g in (0, 1)")


def alone(model: Model, part: str) -> Model:
    """The model of one part of a :class:`~snowmelt.degradations.Choice`: that degradation alone, and a restorer that is told it is that one.

    Raises:
        ValueError: the model's degradation is no choice, or has no part of that name.
    """
    choice = model.degradation
    if not isinstance(choice, Choice) or not isinstance(model.restorer, Restorer):
        raise ValueError(f"a model of {registry.spec(choice)} has no parts to take one from: it undoes this one degradation")
    if part not in choice.names:
        raise ValueError(f"this model has no part {part!r}{registry.nearest(part, choice.names)}; its parts: {', '.join(choice.names)}")
    number = choice.names.index(part)
    restorer = model.restorer.bound({"which": torch.tensor(number)})
    return dataclasses.replace(model, degradation=choice.parts[number], restorer=restorer, prior=None)


def save(model: Model, path: str | Path, *, ema: Mapping[str, Tensor] | None = None) -> None:
    """Write a model to the directory `path`; a reader sees the old model or the new one, never a mixture.

    Args:
        model: its restorer must be a :class:`Restorer`.
        path: the directory.
        ema: the moving average of the restorer's state, saved beside the weights and preferred by :func:`load`.

    Raises:
        TypeError: the restorer is a plain function, which no file can hold.
        OSError: the disk is full or the directory cannot be written.
    """
    path, restorer = Path(path), model.restorer
    if isinstance(restorer, Restorer) and restorer.held:
        raise TypeError(f"this restorer has {', '.join(restorer.held)} held, which no file keeps: save the model it was taken from")
    if not isinstance(restorer, Restorer):
        raise TypeError("only a model whose restorer is a snowmelt.Restorer can be saved; this one is a plain callable")
    groups = {
        "weights": dict(restorer.state_dict()),
        "ema": dict(ema or {}),
        "prior": dict(model.prior.tensors() if model.prior else {}),
        "estimator": model.estimator.tensors() if model.estimator else {},
    }
    files = {}
    for group, tensors in groups.items():
        if tensors:
            files[group] = write_hashed(path, group, tensors)
    write_sealed(path / "model.json", {"format": FORMAT, "snowmelt": __version__, **_describe(model, restorer), "files": files})
    _sweep(path, files)


def save_estimator(estimator: Estimator, path: str | Path) -> None:
    """Add an estimator of severities to the model saved at `path`, or replace its own; all else there stays, bit for bit.

    Raises:
        FileNotFoundError: there is no model at `path`.
        BadFile: its model.json is damaged, or was written by a later format.
    """
    path = Path(path)
    info = _read(path)
    info["files"] = {**info["files"], "estimator": write_hashed(path, "estimator", estimator.tensors())}
    write_sealed(path / "model.json", {**info, "estimator": estimator.table()})
    _sweep(path, info["files"])


def save_prior(prior: Prior, path: str | Path) -> None:
    """Add a prior to the model saved at `path`, or replace its own; all else there stays, bit for bit. Raises as :func:`save_estimator`."""
    path = Path(path)
    info, tensors = _read(path), dict(prior.tensors())
    info["files"] = {name: entry for name, entry in info["files"].items() if name != "prior"}
    if tensors:
        info["files"]["prior"] = write_hashed(path, "prior", tensors)
    write_sealed(path / "model.json", {**info, "prior": registry.table(prior)})
    _sweep(path, info["files"])


def load(path: str | Path, *, weights: Literal["ema", "raw"] = "ema") -> Model:
    """The model saved in the directory `path`, ready to use on the CPU.

    Args:
        path: a run directory, any directory with a model.json, or the name of a model that comes with snowmelt: "photo".
            Of a model of several kinds of damage, RUN/PART is that part :func:`alone`.
        weights: "ema" prefers the moving average when there is one.

    Raises:
        FileNotFoundError: there is no model at `path`.
        BadFile: a file is damaged, or was written by a later format.
        SpecError: a part of the model is not registered here; load its plug-in first.
    """
    path, part = _parted(located(path))
    info = _read(path)
    with described_by(path / "model.json"):
        whole = _rebuild(info, path, weights)
    return whole if part is None else alone(whole, part)


def shipped() -> list[str]:
    """The names of the models that come with snowmelt."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))


def located(path: str | Path) -> Path:
    """The directory meant by a path, or by the name of a shipped model where no such directory is."""
    return SHIPPED / path if not Path(path).exists() and str(path) in shipped() else Path(path)


def weights_of(path: Path) -> str:
    """The SHA-256 of the weights that :func:`load` takes from a model's directory."""
    path = _parted(path)[0]
    info = _read(path)
    with described_by(path / "model.json"):
        return str(info["files"]["ema" if "ema" in info["files"] else "weights"]["sha256"])


def _parted(path: Path) -> tuple[Path, str | None]:
    """A model's directory, and the part of it that a path names beyond that."""
    if (path / "model.json").is_file() or not (path.parent / "model.json").is_file():
        return path, None
    info = _read(path.parent)
    with described_by(path.parent / "model.json"):
        several = info["degradation"].get("name") == label(Choice)
    return (path.parent, path.name) if several else (path, None)


def _read(path: Path) -> dict[str, Any]:
    """What model.json says."""
    if not (path / "model.json").is_file():
        known = f", or {' or '.join(shipped())}" if shipped() else ""
        raise FileNotFoundError(f"{path} holds no model (no model.json): give the directory that 'snowmelt train --out' wrote{known}")
    require_inside(path, path / "model.json")
    return read_sealed(path / "model.json", FORMAT, required=False)  # those of earlier versions have none


def _sweep(path: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Delete the tensors of a model's earlier states, and nothing else: checkpoints lie in the same directory."""
    for group in _GROUPS:
        sweep_hashed(path, {entry["file"] for entry in files.values()}, group)


def _describe(model: Model, restorer: Restorer) -> dict[str, Any]:
    return {
        "degradation": registry.table(model.degradation),
        "restorer": {
            "backbone": registry.table(restorer.backbone),
            "parameterization": registry.table(restorer.parameterization),
            "shape": list(restorer.shape),
            "told": restorer.told,
            **({"conditions": dataclasses.asdict(restorer.conditions)} if restorer.conditions else {}),
            **({"variance": restorer.variance} if restorer.variance != "fixed" else {}),
        },
        "prior": registry.table(model.prior) if model.prior else None,
        "noise_floor": model.noise_floor,
        "input": model.input,
        "range": list(model.range),
        "estimates": model.estimates,
        **({"signal": registry.table(model.signal)} if model.signal != PICTURE else {}),
        "estimator": model.estimator.table() if model.estimator else None,
        "notes": dict(model.notes),
    }


def _rebuild(info: Mapping[str, Any], path: Path, weights: str) -> Model:
    """What model.json describes. It may be a stranger's: what it asks for takes no memory before the tensors beside it are seen to be just that."""
    said, part, files = _entries(info, _SAID), info["restorer"], info["files"]
    _require_word(said["estimates"])
    own = _entries({"variance": "fixed", **part}, _OF_RESTORER)
    if len(shape := own.pop("shape")) not in (2, 3) or math.prod(shape) > _MOST_VALUES:
        raise ValueError(f"restorer.shape = {shape} is neither (c, h, w) nor (c, n) of at most {_MOST_VALUES:,} values")
    degradation, backbone = registry.build(info["degradation"]), registry.build(part["backbone"], "backbone")
    parameterization = registry.build(part["parameterization"], "parameterization")
    conditions = Conditions(**part.get("conditions", {}))  # models saved before there were any have no entry

    def described() -> Restorer:
        keywords = {**own, "parameterization": parameterization, "noise_floor": said["noise_floor"], "conditions": conditions}
        return Restorer(degradation, backbone, shape, **keywords)

    group = "ema" if weights == "ema" and "ema" in files else "weights"
    tensors = read_hashed(path, files[group], "model.json", described)
    strange = next((name for name, value in tensors.items() if value.is_complex() or not bool(value.isfinite().all())), None)
    if strange is not None:
        raise BadFile(f"the {group} in {path} are no numbers to compute with: {strange} holds NaN or infinity; take another model")
    restorer = described()
    try:
        restorer.load_state_dict(tensors)
    except RuntimeError as error:  # of a plug-in, whose sizes nobody knew before it was made
        raise BadFile(f"the {group} in {path} do not fit the model described there: {error}") from None
    prior = registry.build(info["prior"], "prior") if info["prior"] is not None else None
    if prior is not None and "prior" in files:
        prior = prior.with_tensors(read_hashed(path, files["prior"], "model.json"))
    if prior is not None:
        prior.require_learned(shape)
    said["range"] = (said["range"][0], said["range"][1])
    registry.checked("notes.classes", tuple[str, ...] | None, info["notes"].get("classes"))
    said["signal"] = registry.build(info.get("signal", {"name": "picture"}), "signal")
    return Model(degradation, restorer.eval().requires_grad_(False), prior, **said, estimator=_estimator(info, path), notes=info["notes"])


def _entries(table: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Those entries of a table, each of its kind and in its range."""
    return {name: registry.checked(name, kind, table[name]) for name, kind in kinds.items()}


def _estimator(info: Mapping[str, Any], path: Path) -> Estimator | None:
    """The estimator of severities; models saved before there was one have no entry."""
    table = info.get("estimator")
    if table is None:
        return None
    described = functools.partial(Estimator.described, table)
    try:
        tensors = read_hashed(path, info["files"]["estimator"], "model.json", described)
        return described().restored(tensors)
    except ValueError as error:
        raise BadFile(f"the estimator in {path} does not fit what is described there: {error}") from None
