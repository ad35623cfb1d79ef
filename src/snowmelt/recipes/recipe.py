"""Recipes: one value says everything about a run, and one file holds it.

A recipe is a tree of frozen dataclasses that hold text and numbers only; nothing here imports torch. It is
written as TOML, every field can be overridden by its dotted name, and a run directory keeps the resolved recipe it was
made from::

    degradation = "gaussian-blur:sigma_px=4"

    [data]
    path = "photos"
    size = 64

    [training]
    images = 200_000
"""

import dataclasses
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from snowmelt.data.options import DataOptions
from snowmelt.fields import DEEPEST, require_small, shown
from snowmelt.registry import SpecError, checked, nearest
from snowmelt.training.options import TrainingOptions

MAX_BYTES = 65_536
_MOST_BASES = 8
# Strings and comments of TOML, one that is not closed up to where it would have to be.
_STRINGS = re.compile(r'''"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)|\'{3}.*?(?:\'{3,5}|\Z)|"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?|\#[^\n]*''', re.DOTALL)


@dataclass(frozen=True)
class ModelOptions:
    """What is trained.

    Attributes:
        backbone: the network, as a spec: unet:widths=(64,96),patch=2.
        parameterization: what it predicts, as a spec; by default wiener where the operator is diagonal in a basis, else residual.
        told: whether the restorer is told what the degradation tells of its draw (a mask, for instance).
        noise_floor: standard deviation of the noise added to every degraded picture, on [-1, 1]; 0 for none.
        input: 8bit rounds degraded pictures as a file would, float leaves them as they are; by default 8bit,
            but float where the degradation ends in noise, which no file could hold.
        init: a run directory, or a model in the package, whose averaged weights training starts from; by default fresh ones.
        prior: what new pictures start from, as a spec (gaussian-mixture:components=4,grid=2), fitted at the end of training and saved in the model;
            by default normal where the degradation ends in pure noise, else none: such a model only restores.
        conditions: what the restorer is told of a sample besides its damage: label, vector, image (the other picture of its pair).
        variance: learned if the network also says how much noise an ancestral step should draw (Improved DDPM), else fixed.
    """

    backbone: str = "unet"
    parameterization: str | None = None
    told: bool = True
    noise_floor: float = 0.0
    input: Literal["float", "8bit"] | None = None
    init: str | None = None
    prior: str | None = None
    conditions: tuple[Literal["label", "vector", "image"], ...] = ()
    variance: Literal["fixed", "learned"] = "fixed"

    def __post_init__(self) -> None:
        """Refuse a noise floor outside [0, 1].

        Raises:
            ValueError: it is.
        """
        if not 0 <= self.noise_floor <= 1:
            raise ValueError(f"model.noise_floor = {self.noise_floor} lies outside [0, 1]")


@dataclass(frozen=True)
class EvaluationOptions:
    """How the trained model is judged.

    Attributes:
        images: test pictures, drawn by the seed; all of them if there are fewer.
        samplers: specs of the samplers to compare, each at every number of calls; one that says its steps is taken once, as it is.
        calls: numbers of calls of the restorer.
        walk: the sampler whose pictures are shown, as a spec; by default what restore would use.
        seed: of the choice of pictures and of the draws.
        batch: pictures at a time.
        inputs: how test pictures are degraded: float, 8bit (rounded as in a file), or both.
        features: what sets of pictures and labels are judged by: mnist-v1, fashion-v1, a directory that train-features wrote or a file
            model.onnx; by default nothing, and FD, KID and label accuracy are not computed.
        handed: also show walks that are handed the part of the draw that nobody could know (the flakes of snow), beside the comparison.
        severities: at how many severities one call is scored; 0 for none.
        generate: how many pictures to generate from the model's prior and measure; 0 for none.
        bits_per_dim: of how many test pictures the bits per dimension are bounded, too, for a model of noise; 0 for none.
        generators: specs of walks that generate as many each, in one table beside each other.
        guidance: for a model that knows labels, scales of guidance, each with each of those walks.
        curve_calls: numbers of calls at which ``evaluate --curve`` measures every walk.
    """

    images: int = 1000
    samplers: tuple[str, ...] = ("naive:snap=true", "tacos:snap=true", "tacos:order=2,snap=true")
    calls: tuple[int, ...] = (4, 8, 20)
    walk: str | None = None
    seed: int = 0
    batch: int = 250
    inputs: tuple[Literal["float", "8bit"], ...] = ("float", "8bit")
    features: str | None = None
    handed: bool = False
    severities: int = 8
    generate: int = 0
    bits_per_dim: int = 0
    generators: tuple[str, ...] = ()
    guidance: tuple[float, ...] = ()
    curve_calls: tuple[int, ...] = (1, 2, 4, 8, 12, 20, 50)

    def __post_init__(self) -> None:
        """Refuse numbers that ask for nothing.

        Raises:
            ValueError: a number lies out of range, or there is no input.
        """
        for name, least in (("images", 1), ("batch", 1), ("severities", 0), ("generate", 0), ("bits_per_dim", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"evaluation.{name} = {getattr(self, name)} lies under {least}")
        if self.generate == 1:
            raise ValueError("evaluation.generate = 1: no set has one picture; give at least 2, better 1,000, or 0 for none")
        if (self.generators or self.guidance) and not self.generate:
            raise ValueError("evaluation.generators and guidance compare generated pictures: say how many, evaluation.generate")
        if not self.curve_calls or min(self.curve_calls) < 1:
            raise ValueError(f"evaluation.curve_calls = {self.curve_calls}: give numbers of calls, 1 and more")
        if not self.inputs:
            raise ValueError("evaluation.inputs is empty: give float, 8bit or both")


@dataclass(frozen=True)
class Recipe:
    """A run, whole.

    Attributes:
        degradation: what is to be undone, as a spec.
        about: one sentence for people.
        data: which pictures.
        model: what is trained.
        training: how.
        evaluation: how it is judged.
    """

    degradation: str
    about: str = ""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)


D = TypeVar("D")


def from_table(table: Mapping[str, Any], *, where: str = "") -> Recipe:
    """The recipe a table describes; `where` (a file's name) begins every message.

    Raises:
        ValueError: an unknown field (with the nearest valid one), a value of the wrong type or out of range.
    """
    values = dict(table)
    if isinstance(values.get("degradation"), Mapping):
        from snowmelt.registry import build, spec  # the table form needs the parts, and with them torch

        values["degradation"] = spec(build(values["degradation"]))
    try:
        return _read(Recipe, values, "")
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def to_table(recipe: Recipe) -> dict[str, Any]:
    """Every field of a recipe that is not None, as nested tables."""
    return _present(dataclasses.asdict(recipe))


def to_toml(recipe: Recipe) -> str:
    """The recipe as a TOML file."""
    import tomli_w

    return tomli_w.dumps(to_table(recipe))


def load(source: str | Path) -> dict[str, Any]:
    """The table of a recipe file, or of a preset by name, laid over its base if it names one: ``base = "mnist-deblur"``.

    Raises:
        FileNotFoundError: neither a file nor a preset; the presets are listed.
        ValueError: not TOML, or a recipe that is its own base.
    """
    tables, names = [_table(source)], [str(source)]
    while (base := tables[-1].pop("base", None)) is not None:
        if not isinstance(base, str) or "\0" in base:
            raise ValueError(f"{source}: base = {shown(base)} is no recipe: give the name of a preset or of a file")
        if base in names or len(names) > _MOST_BASES:
            way = "leads in a circle" if base in names else "is the end of too long a way"
            raise ValueError(f"{source}: base = {shown(base)} {way}: {shown(' -> '.join([*names, base]), quoted=False)}")
        tables.append(_table(base))
        names.append(str(base))
    out: dict[str, Any] = {}
    for table in reversed(tables):
        out = merged(out, table)
    return out


def _table(source: str | Path) -> dict[str, Any]:
    """One file, without its base."""
    path = Path(source)
    if not path.is_file():
        known = presets()
        if str(source) not in _packaged():
            close = nearest(str(source), known)
            raise FileNotFoundError(f"there is no recipe file {source} and no preset of that name{close}; presets: {', '.join(known)}")
        text = (resources.files(__package__) / f"{source}.toml").read_bytes()
    elif path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{source} has {path.stat().st_size:,} bytes; a recipe has at most {MAX_BYTES:,}")
    else:
        text = path.read_bytes()
    try:
        table = _parsed(text.decode())
    except (ValueError, RecursionError, OverflowError) as error:  # a TOMLDecodeError is a ValueError, and so is a number of too many digits
        raise ValueError(f"{source} is not a TOML file of a recipe: {error}") from None
    return table


def _parsed(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: it is none, or no recipe by its depth alone. A key of 30,000 words would cost tomllib 4 GB.
    """
    bare = _STRINGS.sub("", text)
    if max(key.count(".") for key in re.split(r"[,=\n\[\]{}]", bare)) > DEEPEST:
        raise ValueError(f"one of its keys is of more than {DEEPEST} words")
    table = tomllib.loads(text)
    require_small("it", table)
    return table


def presets() -> list[str]:
    """The names of the recipes in the package, sorted; _NAME is only a base for others."""
    return [name for name in _packaged() if not name.startswith("_")]


def _packaged() -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in resources.files(__package__).iterdir() if file.name.endswith(".toml"))


def merged(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with `overrides` laid over it, table by table."""
    out = dict(table)
    for key, value in overrides.items():
        old = out.get(key)
        out[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return out


def _read(cls: type[D], table: Mapping[str, Any], prefix: str) -> D:
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {}
    for key, value in table.items():
        if key not in hints:
            known = ", ".join(prefix + name for name in hints)
            raise SpecError(f"unknown field {prefix}{shown(key, quoted=False)}{nearest(key, hints)}; fields: {known}")
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise SpecError(f"{prefix}{key} = {shown(value)} is not a table: write [{prefix}{key}]")
            values[key] = _read(typing.cast("type[Any]", kind), value, f"{prefix}{key}.")
        else:
            values[key] = checked(f"{prefix}{key}", kind, value)
    if cls is Recipe and "degradation" not in values:
        raise SpecError("a recipe needs a degradation, such as degradation = \"gaussian-blur\" (snowmelt list shows all)")
    return cls(**values)


def _present(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _present(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        for key, value in table.items()
        if value is not None
    }
