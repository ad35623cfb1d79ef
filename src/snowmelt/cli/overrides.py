"""Recipe fields as flags: ``--data.size 64``, ``--training.lr 1e-3``, for every field there is.

The flags are derived from the recipe's dataclasses: names and types from their fields, help from the "Attributes:" of
their docstrings. A new field of a recipe is a new flag, with no line here. Only what was given counts; all else stays as
the recipe has it.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from snowmelt.data.options import DataOptions
from snowmelt.recipes.recipe import EvaluationOptions, ModelOptions
from snowmelt.training.options import TrainingOptions

TABLES: dict[str, type[Any]] = {"data": DataOptions, "model": ModelOptions, "training": TrainingOptions, "evaluation": EvaluationOptions}
_SHORT = {"data.path": "--data", "data.endpoint": "--endpoint", "training.images": "--images"}


def documented(cls: type[Any]) -> dict[str, str]:
    """Field to sentence, from the "Attributes:" section of a docstring."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def numbers(kind: type[Any], tokens: Sequence[Token]) -> tuple[Any, ...]:
    """Numbers separated by commas, 0,.2,.4 for instance; two of them where a field is a pair."""
    item, *others = typing.get_args(kind)
    words = [word for token in tokens for word in token.value.split(",") if word.strip()]
    pair = others != [...]
    try:
        if pair and len(words) != 2:
            raise ValueError
        return tuple(item(word) for word in words)
    except ValueError:
        wanted = (
            "a pair of numbers, such as 0,1"
            if pair
            else "a list of " + ("whole numbers, such as 4,8,20" if item is int else "numbers, such as 0,.5,1")
        )
        raise ValueError(f'"{tokens[0].value}" is not {wanted}') from None


def listed(*, item: type[Any], **settings: Any) -> Parameter:
    """The Parameter of a field that holds many values: numbers with commas, words by repeating the flag."""
    words = item is str or typing.get_origin(item) is Literal
    many: dict[str, Any] = {} if words else {"converter": numbers, "n_tokens": 1, "allow_leading_hyphen": True, "metavar": "N,N,…"}
    return Parameter(negative=(), **many, **settings)


def _flag(table: str, field: "dataclasses.Field[Any]", hint: Any, doc: str, group: Group) -> tuple[str, Any, Any]:
    """One field of a table as an optional field of Overrides."""
    path = f"{table}.{field.name}"
    names = (f"--{path}", *([_SHORT[path]] if path in _SHORT else []))
    default = "" if field.default is None else f" [recipe: {_shown(field.default)}]"
    settings: dict[str, Any] = {"name": names, "group": group, "help": doc + default}
    optional = types.NoneType in typing.get_args(hint)
    inner = next(o for o in typing.get_args(hint) if o is not types.NoneType) if optional else hint
    if typing.get_origin(inner) is not tuple:
        return path.replace(".", "__"), Annotated[inner | None, Parameter(**settings)], None
    item = typing.get_args(inner)[0]
    return path.replace(".", "__"), Annotated[inner | None, listed(item=item, **settings)], None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:,}" if type(value) is int else f"{value:g}" if isinstance(value, float) else str(value).lower()


def _overrides() -> type[Any]:
    fields = []
    for table, cls in TABLES.items():
        docs, hints = documented(cls), typing.get_type_hints(cls)
        group = Group.create_ordered(f"Recipe: {table}")
        fields += [_flag(table, field, hints[field.name], docs.get(field.name, ""), group) for field in dataclasses.fields(cls)]
    made = dataclasses.make_dataclass("Overrides", fields, frozen=True)
    made.__module__ = __name__  # cyclopts takes the module that make_dataclass names for one of Python's own
    return made


if TYPE_CHECKING:

    class Overrides:
        """Every field of a recipe's tables, each optional."""
else:
    Overrides = _overrides()

Given = Annotated[Overrides | None, Parameter(name="*")]


def given(overrides: Overrides | None, **scalars: Any) -> dict[str, Any]:
    """What was given, as the nested table that overrides a recipe; `scalars` are its top-level fields."""
    out: dict[str, Any] = {name: value for name, value in scalars.items() if value is not None}
    for name, value in vars(overrides).items() if overrides is not None else ():
        if value is not None:
            table, _, field = name.partition("__")
            out.setdefault(table, {})[field] = value
    return out
