"""Forms: the fields of a part as controls of the page, and back to a spec.

What a form needs lies in the registry's schema, so that the parts of a plug-in get theirs as snowmelt's own do. A number in a range is a slider, a
choice a menu, a truth value a box to tick; all else, such as lists and parts in parts, is text as it would stand in a spec. A slider ends at a
few times its default, where the registered range goes farther: the whole range is open to the spec, which can be written by hand.

A form does not judge: values go through :func:`snowmelt.registry.build`, whose errors name the field, the value and the bounds.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.fields import Raw
from snowmelt.fields import number as number_text
from snowmelt.registry import Field, Part

_TIMES = 4  # how many times the default a slider reaches
_TICKS = 200
_DIGITS = 10
_BEGUN = {
    "compose": "gaussian-blur:sigma_px=2+poisson-noise:peak=20",
    "mixture": "mixture:parts=(gaussian-blur(sigma_px=3),poisson-noise,jpeg)",
    "choice": "choice:parts=(gaussian-blur,pixelate,jpeg)",
}


class Span(NamedTuple):
    """The ends and the step of a slider."""

    low: float
    high: float
    step: float


def pictured() -> list[str]:
    """The registered degradations that pictures can be given to, those that are made of others last."""
    found = [name for name in registry.names() if _takes_pictures(name)]
    return sorted(found, key=lambda name: (any(field.required for field in registry.schema(name)), name))


def needs_spec(name: str, kind: str = "degradation") -> bool:
    """Whether a part cannot be made from its name alone, so that somebody has to write its spec."""
    return any(field.required for field in registry.schema(name, kind))


def begun(name: str) -> str:
    """The spec that a degradation begins with: of one that is made of others, an example."""
    return _BEGUN.get(name, name)


def span(field: Field) -> Span | None:
    """The slider of a field; None where none would do: no number, no end, or none may be given."""
    if field.range is None or field.type not in ("int", "float") or field.default is None:
        return None
    low, high, default = field.range.low, field.range.high, field.default
    reach = _TIMES * abs(default)
    if field.type == "int":
        reach = max(reach, 10)
    elif high - low <= 1 or (default == 0 and math.isfinite(high - low)):
        reach = max(abs(low), abs(high))
    top, bottom = min(high, max(reach, low + 10 if field.type == "int" else low)), max(low, -reach)
    if top <= bottom:
        return None
    step = 1 if field.type == "int" else 10.0 ** math.floor(math.log10((top - bottom) / _TICKS) + 0.5)
    bottom = math.ceil(round(bottom / step, 6)) * step  # on the grid, or every value would carry the digits of the low end
    return Span(*(round(value, _DIGITS) for value in (bottom, top, step)))


def values_of(part: Part) -> list[Any]:
    """The fields of a part as the controls of its form show them."""
    return [_shown(field, getattr(part, field.name)) for field in registry.schema(part)]


def spec_of(name: str, values: Sequence[Any], kind: str = "degradation") -> str:
    """The spec of the part `name` with the values of its form, in the order of its schema.

    Raises:
        SpecError: a value that the part does not take.
    """
    table: dict[str, Any] = {"name": name}
    for field, value in zip(registry.schema(name, kind), values, strict=True):
        table[field.name] = _read(field, value)
    return registry.spec(registry.build(table, kind))


class Form:
    """The controls of several parts of one kind, of which those of one part are shown. Made inside a block of a page.

    Args:
        names: the parts.
        kind: of all of them.
        shown: the part whose controls are there at first.

    Attributes:
        controls: of all parts, in one row.
        groups: one for each part.
    """

    def __init__(self, names: Sequence[str], kind: str = "degradation", shown: str | None = None) -> None:
        self.kind = kind
        self.controls: list[Component] = []
        self.groups: list[gr.Column] = []
        self._places: dict[str, slice] = {}
        for name in names:
            fields = () if needs_spec(name, kind) else registry.schema(name, kind)
            first = len(self.controls)
            with gr.Column(visible=name == shown and bool(fields), elem_classes="form") as group:
                self.controls += [_control(field) for field in fields]
            self.groups.append(group)
            self._places[name] = slice(first, len(self.controls))

    def spec(self, name: str, values: Sequence[Any]) -> str:
        """The spec of a part from the values of all controls.

        Raises:
            SpecError: a value that the part does not take.
        """
        return spec_of(name, values[self._places[name]], self.kind)

    def show(self, name: str) -> list[Any]:
        """For :attr:`groups`: the controls of one part, and no others; of a part without a form none."""
        return [gr.update(visible=one == name and place.start < place.stop) for one, place in self._places.items()]

    def fill(self, part: Part) -> list[Any]:
        """For :attr:`controls`: the values of a part, each within its slider; those of other parts stay."""
        out: list[Any] = [gr.skip()] * len(self.controls)
        name = registry.label(type(part))
        if name in self._places and self._places[name].start < self._places[name].stop:
            fields = registry.schema(part)
            out[self._places[name]] = [_within(field, value) for field, value in zip(fields, values_of(part), strict=True)]
        return out


def _control(field: Field) -> Component:
    label, info = field.name.replace("_", " "), _info(field)
    value, bounds = _shown(field, field.default), span(field)
    if field.type == "bool":
        return gr.Checkbox(bool(value), label=label, info=info)
    if field.choices and not field.type.endswith("none"):
        return gr.Dropdown(list(field.choices), value=value, label=label, info=info, filterable=False)
    if bounds is not None:
        low, high, step = bounds
        return gr.Slider(low, high, value, step=step, label=label, info=info, buttons=["reset"])
    if field.type in registry.kinds():
        return gr.Dropdown(_parts_without_needs(field.type), value=value, label=label, info=info, allow_custom_value=True)
    return gr.Textbox(value, label=label, info=info, lines=1)


def _info(field: Field) -> str | None:
    """What a field means and, where its slider ends before its range does, where that ends."""
    unit = field.range.unit if field.range is not None else ""
    said = [text for text in (field.doc, f"in {unit}" if unit and unit not in field.doc else "") if text]
    bounds = span(field)
    if bounds is not None and field.range is not None and field.range.high > bounds.high:
        said.append(f"up to {number_text(float(field.range.high))} in the spec")
    return "; ".join(said) or None


def _shown(field: Field, value: Any) -> Any:
    """A value as its control holds it: numbers, choices and truth values as they are, all else as text of a spec."""
    if field.type == "bool" or field.choices or (span(field) is not None):
        return value
    return "" if value is None and field.required else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Part):
        return registry.spec(value)
    if isinstance(value, tuple):
        return f"({','.join(f'({_text(one)})' if isinstance(one, Part) else _text(one) for one in value)})"
    return "none" if value is None else number_text(value)


def _read(field: Field, value: Any) -> Any:
    """What the registry is given for the value of a control."""
    if isinstance(value, str) and not field.choices:
        return value if field.type == "str" else Raw(value.strip())
    if field.type == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if field.type == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return round(float(value), _DIGITS)  # 0.1 + 0.2 of a slider is 0.3
    return value


def _within(field: Field, value: Any) -> Any:
    bounds = span(field)
    return value if bounds is None else min(max(value, bounds.low), bounds.high)


def _parts_without_needs(kind: str) -> list[str]:
    return [name for name in registry.names(kind) if not needs_spec(name, kind)]


def _takes_pictures(name: str) -> bool:
    if needs_spec(name):
        return True  # what it takes depends on what it is made of
    part: Degradation = registry.build(name)
    return part.takes in (None, "picture")
