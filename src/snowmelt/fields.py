"""Typed fields: what a value may be, how text becomes one, and what to say when it cannot.

A field is an annotation: a number with a :class:`Range`, a choice, a list, a word. :func:`checked` holds a value against
its annotation, :func:`scalar` reads one from text, and every refusal is a :class:`SpecError` that begins with the dotted
name of the field. Parts (:mod:`snowmelt.registry`) and recipes use the same rules.

A text may come from a stranger: its length and depth are bounded here, so that reading it takes milliseconds, whatever it says.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

MOST_LETTERS, MOST_VALUES, DEEPEST = 20_000, 5_000, 32
_LONGEST_WORD, _SHOWN = 80, 200
_EXPONENT = re.compile(r"[=(,][-+]?[\d.]+[eE]$")


class SpecError(ValueError):
    """A spec, a name or a field that cannot be used; the message says what would be."""


class UnknownName(SpecError):
    """A name that no part of its kind is registered under.

    Attributes:
        kind: of the part that was asked for.
        name: that is unknown.
        nearest: " (did you mean 'x'?)" for the closest known name, or nothing.
        known: all names there are.
    """

    def __init__(self, kind: str, name: str, known: typing.Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        self.nearest = nearest(name, self.known)
        super().__init__(
            f"unknown {kind} {shown(name)}{self.nearest}; known: {', '.join(self.known)}. "
            "If it comes from a plug-in file, load that first (--plugin FILE, snowmelt.registry.load_plugin)"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # an exception is made again from its message alone, in another process
        return type(self), (self.kind, self.name, self.known), {"args": self.args}


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval a field may lie in, with its unit: ``Annotated[float, Range(0, 100, "px")]``."""

    low: float = -math.inf
    high: float = math.inf
    unit: str = ""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        bounds = f"[{number(self.low)}, {number(self.high)}]"
        return f"{bounds} {self.unit}".rstrip()


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """" (did you mean 'x'?)" for the known word closest to `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4) if len(word) <= _LONGEST_WORD else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def strip(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Annotated[T, ...] -> (T, extras)."""
    if typing.get_origin(annotation) is Annotated:
        base, *extras = typing.get_args(annotation)
        return base, tuple(extras)
    return annotation, ()


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside quotes and parentheses; the + of an exponent (1e+5) does not count.

    Raises:
        SpecError: quotes or parentheses are unbalanced or nested too deeply, or the text is longer than any spec.
    """
    if len(text) > MOST_LETTERS:
        raise SpecError(f"{shown(text)} has {len(text):,} letters; a spec has at most {MOST_LETTERS:,}")
    out, depth, quoted, start = [], 0, False, 0
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char == "(":
            depth += 1
            if depth > DEEPEST:
                raise SpecError(f"{shown(text)} has parentheses in parentheses, more than {DEEPEST} deep")
        elif char == ")":
            depth -= 1
            if depth < 0:
                break
        elif char == separator and depth == 0 and not (char == "+" and text[i - 1 : i] in ("e", "E") and _EXPONENT.search(text[max(i - 64, 0) : i])):
            out.append(text[start:i])
            start = i + 1
    if quoted or depth != 0:
        raise SpecError(f"unbalanced {'quotes' if quoted else 'parentheses'} in {shown(text)}")
    return [*out, text[start:]]


class Raw(str):
    """A value as it stands in a spec string, still to be read by its field's type."""

    __slots__ = ()


def scalar(where: str, kind: Any, value: str) -> Any:
    """A number, a choice, a truth value or a word from text; a quoted value is always a word."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace('""', '"')
    if typing.get_origin(kind) is Literal:
        return next((c for c in typing.get_args(kind) if str(c) == value), str(value))
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise SpecError(f"{where} = {shown(str(value), quoted=False)} is not {'a whole number' if kind is int else 'a number'}") from None
    return str(value)


def checked(where: str, annotation: Any, value: Any) -> Any:
    """`value` if it fits the annotation (an int becomes a float where one is due, a list a tuple).

    Raises:
        SpecError: it does not; the message begins with `where`, the dotted name of the field.
    """
    base, extras = strip(annotation)
    options = alternatives(base)
    if value is None and type(None) in options:
        return None
    kind = next((o for o in options if o is not type(None)), base)
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            said = shown(value, quoted=False)
            raise SpecError(f"{where} = {said} is unknown{nearest(said, map(str, choices))}; choose one of {', '.join(map(str, choices))}")
        return value
    if typing.get_origin(kind) is tuple:
        item = Annotated[(typing.get_args(kind)[0], *extras)] if extras else typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise SpecError(f"{where} = {shown(value)} is not a list")
        return tuple(checked(where, item, v) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number beyond all floats lies outside every range, or is no float
            value = float(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
        raise SpecError(f"{where} = {shown(value)} is not {type_name(kind)}")
    if isinstance(value, float) and math.isnan(value):
        raise SpecError(f"{where} is not a number (NaN)")
    for bounds in extras:
        if isinstance(bounds, Range) and value not in bounds:
            said = number(value) if isinstance(value, float) else shown(value)
            raise SpecError(f"{where} = {said} lies outside {bounds}")
    return value


def require_small(where: str, table: Any) -> None:
    """Refuse tables and lists in each other that are deeper or hold more than any description of a part.

    Raises:
        SpecError: they do.
    """
    level, seen = [table], 0
    for _ in range(DEEPEST):
        level = [one for outer in level for one in (outer.values() if isinstance(outer, Mapping) else outer)]
        seen += len(level)
        level = [one for one in level if isinstance(one, Mapping | list | tuple)]
        if not level or seen > MOST_VALUES:
            break
    if level:
        raise SpecError(f"{where} describes more than {MOST_VALUES:,} things, or things more than {DEEPEST} deep in each other")


def alternatives(base: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    union = typing.get_origin(base) in (typing.Union, types.UnionType)
    return typing.get_args(base) if union else (base,)


def type_name(kind: Any) -> str:
    """What a person calls the type."""
    if typing.get_origin(kind) is Literal:
        return "choice"
    if typing.get_origin(kind) is tuple:
        return f"list of {type_name(strip(typing.get_args(kind)[0])[0])}"
    options = alternatives(kind)
    if len(options) > 1:
        return " or ".join("none" if o is type(None) else type_name(o) for o in options)
    names = [getattr(o, "part_kind", "") or o.__name__ for o in options]  # a part is called by its kind
    return " or ".join("none" if n == "NoneType" else n for n in names)


def shown(value: Any, *, quoted: bool = True) -> str:
    """Somebody's value as a message shows it: in one line, and not all of a long one."""
    try:
        text = value if isinstance(value, str) and not quoted else repr(value)
    except (ValueError, RecursionError):  # Python writes no whole number of more than 4,300 digits, and no list in a thousand lists
        text = "something too long to write"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def number(value: Any) -> str:
    """A number as a spec writes it: 8 for 8.0, and no + in an exponent, where + joins parts."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value).replace("e+", "e")
    return str(value)
