"""Text <-> parts: every configurable thing has a name, typed fields and a spec string.

A *part* is a frozen dataclass registered under a kebab-case name. From its fields alone it gets a
spec string, a TOML table, command-line help, range errors and a form in a user interface::

    gaussian-blur:sigma_px=8                          one part
    gaussian-blur:sigma_px=2+noise                    a composition, applied left first
    noise:schedule=betas(steps=200,beta_max=0.02)     a part inside a part

Values that hold one of ``, : + ( ) =`` are double-quoted, a quote in them doubled; lists are written ``(64,96)``. The promise is
``build(spec(part)) == part`` for every part.

Parts of other packages arrive through the entry-point group ``snowmelt`` (a module to import, whose
``@register`` lines do the rest), as snowmelt's own do, or from a file with :func:`load_plugin`.
"""

import abc
import dataclasses
import functools
import importlib
import importlib.util
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from snowmelt.fields import Range as Range  # re-exported: whoever writes a part meets these here
from snowmelt.fields import Raw, UnknownName, alternatives, number, require_small, scalar, shown, split, strip, type_name
from snowmelt.fields import SpecError as SpecError
from snowmelt.fields import checked as checked
from snowmelt.fields import nearest as nearest
from snowmelt.references import Cited, Paper, When, bibliography, paper

_SPECIAL = re.compile(r'[,:+()="\s]')
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_parts: dict[str, dict[str, type["Part"]]] = {}
_names: dict[type["Part"], str] = {}
_papers: dict[type["Part"], tuple[Cited, ...]] = {}
_plugins: dict[Path, types.ModuleType] = {}


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a part, as data: what a form, a help page or an error message needs."""

    name: str
    type: str
    default: Any
    required: bool
    range: Range | None = None
    choices: tuple[Any, ...] = ()
    doc: str = ""


class Part(abc.ABC):
    """What can be registered: a frozen dataclass whose fields are checked when it is made.

    An abstract subclass names a kind once, ``class Degradation(Part, kind="degradation")``; its concrete
    subclasses are registered under that kind.
    """

    part_kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if kind is not None:
            cls.part_kind = kind

    def __post_init__(self) -> None:
        for field, annotation in _fields(type(self)):
            value = checked(f"{label(type(self))}.{field.name}", annotation, getattr(self, field.name))
            object.__setattr__(self, field.name, value)


P = TypeVar("P", bound=Part)


def register(name: str, papers: Sequence[Cited] = ()) -> Callable[[type[P]], type[P]]:
    """Class decorator: the part answers to `name` (kebab-case) within its kind, and is from `papers` (:mod:`snowmelt.references`).

    Raises:
        SpecError: the name is not kebab-case, is taken, the class has no kind, or there is no such paper.
    """

    def add(cls: type[P]) -> type[P]:
        if not _NAME.fullmatch(name):
            raise SpecError(f"{name!r} is not a registry name: use lower case words joined by '-'")
        if not cls.part_kind:
            raise SpecError(f"{cls.__name__} has no kind: derive it from Degradation, Schedule, Sampler, Prior, Backbone, ...")
        known = _parts.setdefault(cls.part_kind, {})
        if name in known:
            raise SpecError(f"the {cls.part_kind} {name!r} is already registered by {known[name].__module__}: choose another name")
        for key in (one.paper if isinstance(one, When) else one for one in papers):
            if isinstance(key, str) and key not in bibliography():
                raise SpecError(f"{name} is from {key!r}, which is no key of snowmelt.references{nearest(key, bibliography())}: give a Paper")
        known[name] = cls
        _names[cls], _papers[cls] = name, tuple(papers)
        return cls

    return add


def names(kind: str = "degradation") -> list[str]:
    """The registered names of a kind, sorted.

    Raises:
        SpecError: no such kind.
    """
    _discover()
    if kind not in _parts:
        raise SpecError(f"unknown kind {kind!r}{nearest(kind, _parts)}; kinds: {', '.join(sorted(_parts))}")
    return sorted(_parts[kind])


def kinds() -> list[str]:
    """The kinds that have at least one registered part, sorted."""
    _discover()
    return sorted(_parts)


def lookup(name: str, kind: str = "degradation") -> type[Part]:
    """The class registered under `name`.

    Raises:
        UnknownName: no part of this kind has it; a SpecError, with the nearest known one.
        SpecError: no such kind.
    """
    known = names(kind)
    if name not in known:
        raise UnknownName(kind, name, known)
    return _parts[kind][name]


def label(cls: type[Part]) -> str:
    """The registered name of a class, or its Python name when it has none."""
    return _names.get(cls, cls.__name__)


def schema(part: str | type[Part] | Part, kind: str = "degradation") -> tuple[Field, ...]:
    """The fields of a part, in order: names, types, defaults, ranges, choices."""
    if isinstance(part, str):
        part = lookup(part, kind)
    cls = part if isinstance(part, type) else type(part)
    out = []
    for field, annotation in _fields(cls):
        base, extras = strip(annotation)
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        out.append(
            Field(
                name=field.name,
                type=type_name(base),
                default=None if required else default,
                required=required,
                range=next((e for e in extras if isinstance(e, Range)), None),
                choices=tuple(c for o in alternatives(base) if typing.get_origin(o) is Literal for c in typing.get_args(o)),
                doc=next((e for e in extras if isinstance(e, str)), ""),
            )
        )
    return tuple(out)


def build(source: "str | Mapping[str, Any] | Part", kind: str = "degradation") -> Any:
    """The part that a spec string or a TOML table describes; a part is returned as it is.

    >>> build("gaussian-blur:sigma_px=8").sigma_px
    8.0

    Raises:
        SpecError: unknown name or field (with the nearest valid one), a value of the wrong type, or one
            outside its range.
    """
    if isinstance(source, Part):
        if source.part_kind != kind:
            raise SpecError(f"{spec(source)!r} is a {source.part_kind}, but a {kind} is needed here")
        return source
    if isinstance(source, Mapping):
        require_small(f"a {kind} table", source)
        return _of_table(source, kind)
    if not isinstance(source, str):
        raise SpecError(f"a {kind} is described by a spec or a table, and {shown(source)} is neither")
    terms = split(source, "+")
    parts = [_build_term(term, kind) for term in terms]
    return parts[0] if len(parts) == 1 else _make(lookup("compose", kind), {"parts": tuple(parts)})


def spec(part: Part) -> str:
    """The shortest spec string of a part: fields at their default are left out."""
    return _spec(part, nested=False)


def table(part: Part) -> dict[str, Any]:
    """A part as a plain table (JSON, TOML) with *every* field, so that files outlive changed defaults.

    What is None by default is left out: TOML has no None.
    """
    out: dict[str, Any] = {"name": label(type(part))}
    for field, _ in _fields(type(part)):
        value = getattr(part, field.name)
        if value is not None or field.default is not None:
            out[field.name] = _plain(value)
    return out


def nested(part: Part) -> Iterator[Part]:
    """A part, and all parts inside it, from the outside in."""
    yield part
    for field, _ in _fields(type(part)):
        value = getattr(part, field.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Part):
                yield from nested(inner)


def papers(part: type[Part] | Part, *, inside: bool = True) -> tuple[Paper, ...]:
    """What a part and, if `inside`, the parts in it are from; of a class all that any of its values may be from, and nothing of what is inside."""
    if isinstance(part, type):
        return tuple(dict.fromkeys(map(paper, _papers.get(part, ()))))
    cited = ((one, inner) for inner in (nested(part) if inside else (part,)) for one in _papers.get(type(inner), ()))
    return tuple(dict.fromkeys(paper(one) for one, inner in cited if not isinstance(one, When) or one.holds(inner)))


def load_plugin(source: str | Path) -> types.ModuleType:
    """Import a plug-in, a ``.py`` file or a module name, so that its ``@register`` lines run once.

    Raises:
        SpecError: there is no such file or module.
    """
    path = Path(source)
    if path.suffix != ".py":
        try:
            return importlib.import_module(str(source))
        except ModuleNotFoundError as error:
            raise SpecError(f"plug-in {str(source)!r} is neither a .py file nor a module: {error}") from None
    path = path.resolve()
    if path in _plugins:
        return _plugins[path]
    if not path.is_file():
        raise SpecError(f"plug-in file {path} does not exist")
    name = f"snowmelt_plugin_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None and found.loader is not None  # noqa: S101 - a .py file always has a loader
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and get_type_hints look the module up by name
    before = {kind: dict(known) for kind, known in _parts.items()}
    try:
        found.loader.exec_module(module)
    except BaseException:  # half a plug-in is none: what it registered before it failed goes too
        del sys.modules[name]
        _parts.clear()
        _parts.update(before)
        raise
    _plugins[path] = module
    return module


def plugins() -> list[types.ModuleType]:
    """The modules that parts come from which are not snowmelt's own, in the order of their names."""
    _discover()
    found = {part.__module__ for known in _parts.values() for part in known.values()}
    return [sys.modules[name] for name in sorted(found) if name.partition(".")[0] != "snowmelt" and name in sys.modules]


# --- from here on: how text becomes values and back ------------------------------------------------


@functools.cache
def _discover() -> None:
    """Import every module of the entry-point group ``snowmelt``: snowmelt's own parts and other packages'."""
    for entry in metadata.entry_points(group="snowmelt"):
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - somebody else's broken package must not take ours down
            if entry.value.startswith("snowmelt."):
                raise
            warnings.warn(f"the snowmelt plug-in {entry.name} ({entry.value}) failed to load: {error}", stacklevel=2)


@functools.cache
def _fields(cls: type[Part]) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    if not dataclasses.is_dataclass(cls):
        return ()
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple((field, hints[field.name]) for field in dataclasses.fields(cls) if field.init)


def _of_table(source: Mapping[str, Any], kind: str) -> Part:
    values = dict(source)
    if "name" not in values:
        raise SpecError(f"a {kind} table needs a 'name'; got the keys {shown(sorted(values))}")
    return _make(lookup(str(values.pop("name")), kind), values)


def _build_term(term: str, kind: str) -> Part:
    term = term.strip()
    match = _NAME.match(term)
    name, rest = (term[: match.end()], term[match.end() :]) if match else (term, "")
    if rest.startswith("(") and rest.endswith(")"):
        rest = ":" + rest[1:-1]
    if not match or (rest and not rest.startswith(":")):
        raise SpecError(f"cannot read {shown(term)} as a {kind}: expected name:field=value,field=value")
    values: dict[str, Any] = {}
    for item in split(rest[1:], ",") if rest[1:] else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise SpecError(f"cannot read {shown(item)} in {shown(term)}: expected field=value")
        if key.strip() in values:
            raise SpecError(f"{name}.{shown(key, quoted=False)} is given twice in {shown(term)}")
        values[key.strip()] = Raw(value.strip())
    return _make(lookup(name, kind), values)


def _make(cls: type[P], values: Mapping[str, Any]) -> P:
    annotations = {field.name: annotation for field, annotation in _fields(cls)}
    for key in values:
        if key not in annotations:
            allowed = ", ".join(_describe(f) for f in schema(cls)) or "it has none"
            raise SpecError(f"{label(cls)} has no field {shown(key)}{nearest(key, annotations)}; fields: {allowed}")
    read = {k: _read(f"{label(cls)}.{k}", annotations[k], v) for k, v in values.items()}
    missing = [f.name for f in schema(cls) if f.required and f.name not in read]
    if missing:
        raise SpecError(f"{label(cls)} needs {', '.join(missing)}")
    return cls(**read)


def _describe(field: Field) -> str:
    if field.choices:
        return f"{field.name} ({' | '.join(map(str, field.choices))})"
    return f"{field.name} in {field.range}" if field.range else field.name


def _read(where: str, annotation: Any, value: Any) -> Any:
    """A raw value, text of a spec or an entry of a table, as the field's type; ranges come later."""
    base, _ = strip(annotation)
    options = alternatives(base)
    if type(None) in options and (value is None or (isinstance(value, Raw) and value == "none")):
        return None
    kind = next((o for o in options if o is not type(None)), base)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, Raw):
            inner = value[1:-1] if value.startswith("(") and value.endswith(")") else value
            value = [Raw(v.strip()) for v in split(inner, ",") if v.strip()]
        if not isinstance(value, list | tuple):
            raise SpecError(f"{where} = {shown(value)} is not a list, such as (64,96)")
        return tuple(_read(where, item, v) for v in value)
    if isinstance(kind, type) and issubclass(kind, Part):
        if isinstance(value, Raw) and value.startswith("(") and value.endswith(")"):
            value = value[1:-1]
        if isinstance(value, Mapping):
            return _of_table(value, kind.part_kind)  # of a table whose size is known
        return build(str(value) if isinstance(value, str) else value, kind.part_kind)
    if not isinstance(value, Raw):
        return value
    return scalar(where, kind, value)


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return table(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _spec(part: Part, *, nested: bool) -> str:
    name = _names.get(type(part))
    if name is None:
        raise SpecError(f"{type(part).__name__} is not registered, so it has no spec: decorate it with @register('name')")
    parts: tuple[Part, ...] = getattr(part, "parts", ()) if name == "compose" else ()
    if len(parts) > 1:
        text = "+".join(_spec(p, nested=False) for p in parts)
        return f"({text})" if nested else text
    fields = [f"{f.name}={_text(getattr(part, f.name))}" for f in schema(part) if f.required or getattr(part, f.name) != f.default]
    if not fields:
        return name
    return f"{name}({','.join(fields)})" if nested else f"{name}:{','.join(fields)}"


def _text(value: Any) -> str:
    if isinstance(value, Part):
        return _spec(value, nested=True)
    if isinstance(value, tuple):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, str):
        return '"{}"'.format(value.replace('"', '""')) if not value or value == "none" or _SPECIAL.search(value) else value
    return number(value)
