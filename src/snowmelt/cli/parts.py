"""``snowmelt list`` and ``snowmelt describe``: what there is, and what it does."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snowmelt import registry
from snowmelt.cli.machine import Plugins, plug_in
from snowmelt.cli.speaking import shown
from snowmelt.registry import Field, Part, SpecError

SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
_EXAMPLES = {
    "choice": "choice:parts=(gaussian-blur,mask,pixelate)",
    "compose": "gaussian-blur:sigma_px=2+noise",
    "mixture": "mixture:parts=(gaussian-blur,jpeg),chances=(0.3,0.5)",
}


def list_parts(kind: str | None = None, /, *, plugin: Plugins = ()) -> None:
    """List the parts there are: degradations, schedules, samplers, backbones, recipes.

    Args:
        kind: only this kind, such as degradation or sampler.
        plugin: parts of your own.
    """
    from snowmelt.recipes.recipe import load, presets

    plug_in(plugin)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "name", "what it is"):
        table.add_column(title, overflow="fold")
    for one in registry.kinds() if kind is None else [] if kind == "recipe" else [kind]:
        for name in registry.names(one):
            table.add_row(one, Text(name, style="cyan"), Text(_headline(registry.lookup(name, one))))
    for name in presets() if kind in (None, "recipe") else []:
        table.add_row("recipe", Text(name, style="cyan"), Text(str(load(name).get("about", ""))))
    Console().print(table)


def describe(name: str, /, *, kind: str | None = None, plugin: Plugins = ()) -> None:
    """Describe a part, a picture or a model: what it is, and how it came to be.

    Of a part: what it does, its fields, an example, and for a degradation what its severities mean. Of a picture: what the file
    says, and how it was restored. Of a run directory: what the model undoes, what it is, and how well it does.

    Args:
        name: a registered name, a whole spec such as gaussian-blur:sigma_px=4, a picture, a run directory, or a model in the package (photo).
        kind: where the same name stands for parts of several kinds.
        plugin: parts of your own.
    """
    plug_in(plugin)
    word = name.partition(":")[0].partition("+")[0].strip()
    if kind is None and not any(word in registry.names(one) for one in registry.kinds()) and _located(name).exists():
        for line in _of_path(_located(name)):
            print_plain(Console(), line)
        return
    kind = kind or _kind(word)
    cls = registry.lookup(word, kind)
    console = Console()
    print_plain(console, f"{word} ({kind})", style="bold cyan")
    print_plain(console, f"\n{inspect.cleandoc(cls.__doc__ or '')}\n")
    fields = registry.schema(cls)
    console.print(_fields(fields) if fields else Text("It has no fields."))
    part = None if any(field.required for field in fields) and name == word else registry.build(name, kind)
    if found := registry.papers(cls if part is None or name == word else part):
        print_plain(console, "\nPapers (snowmelt cite prints them for BibTeX):\n" + "\n".join(f"  {paper}" for paper in found))
    print_plain(console, f"\nExample: {_example(word, fields)}")
    if part is not None and kind == "degradation":
        _strengths(console, part, registry.spec(part))


def _located(name: str) -> Path:
    """A path, or where a model that comes with snowmelt lies."""
    from snowmelt.model import located

    return located(name)


def _of_path(path: Path) -> list[str]:
    """What a picture, or a run directory, says of itself."""
    if path.is_dir():
        return _of_run(path)
    from snowmelt.data import images

    picture, note = images.read(path), images.note(path)
    c, h, w = picture.x.shape
    kept = {"EXIF": picture.metadata.exif, "a colour profile": picture.metadata.icc, "XMP": picture.metadata.xmp}
    has = [name for name, value in kept.items() if value is not None]
    opacity = "" if picture.alpha is None else " with opacity"
    said = f"; it has {', '.join(has)}" if has else ""
    lines = [f"{path}: {w} x {h} px, {'grey' if c == 1 else 'colour'}{opacity}, {picture.bits} bits a channel{said}"]
    if note is None:
        return [*lines, "It does not say that snowmelt restored it."]
    return [*lines, "Restored by snowmelt:", *_listed(note)]


def _of_run(path: Path) -> list[str]:
    """Degradation, restorer and figures of a run directory."""
    from snowmelt.evaluation import Report
    from snowmelt.model import load
    from snowmelt.restorers import Restorer
    from snowmelt.restorers.cost import cost

    model = load(path)
    lines = [f"{path}: a model of {registry.spec(model.degradation)}"]
    if isinstance(model.restorer, Restorer):
        net = model.restorer
        said: dict[str, Any] = {
            "restorer": _network(net.backbone),
            "parameterization": registry.spec(net.parameterization),
            **cost(net, net.shape).said(),
            "trained on": "samples of (c, h, w) = " + str(tuple(net.shape)),
            "told": ", ".join(net.context or (net.degradation.given if net.told else ())) or "nothing of the draw",
        }
        lines += _listed(said)
    start = registry.spec(model.prior) if model.prior else "none: it restores; 'snowmelt sample RUN --prior SPEC' fits one"
    tuned = f"{model.estimates}: tuned, for walks of at most {model.most_calls} call{'s' if model.most_calls != 1 else ''}"
    said = {"estimates": tuned if model.gap else f"the {model.estimates}", "input": model.input, "noise_floor": model.noise_floor}
    lines += _listed({**said, "prior": start})
    if not (path / "evaluation.json").is_file():
        card = path / "README.md"
        how = f"How well it does is in {card}" if card.is_file() else "It has not been evaluated: 'snowmelt evaluate' measures how well it restores."
        return [*lines, how]
    rows = Report.read(path / "evaluation.json").rows
    lines.append("Measured on pictures that training has not seen:")
    for row in rows:
        figures = ", ".join(f"{name} {row[name]:.4g}" for name in ("rmse", "psnr", "ssim") if isinstance(row.get(name), int | float))
        if figures:  # a floor has none of these
            lines.append(f"  {row.get('method')} ({row.get('input')}, {row.get('calls')} calls): {figures}")
    return lines


def _network(backbone: Part) -> str:
    """Its spec, and the size that it has."""
    from snowmelt.restorers import UNet

    size = backbone.called if isinstance(backbone, UNet) else None
    return registry.spec(backbone) + (f" (size {size})" if size else "")


def _listed(said: Mapping[str, Any]) -> list[str]:
    return [f"  {name} = {value}" for name, value in said.items()]


def print_plain(console: Console, text: str, style: str = "") -> None:
    """A text as it is: no markup is read and no number coloured."""
    console.print(Text(shown(text), style=style), soft_wrap=True)


def _kind(name: str) -> str:
    """The one kind that has a part of this name."""
    found = [kind for kind in registry.kinds() if name in registry.names(kind)]
    if len(found) > 1:
        raise SpecError(f"{name} is the name of a {' and of a '.join(found)}: add --kind {found[0]}")
    if not found:
        known = sorted({n for kind in registry.kinds() for n in registry.names(kind)})
        raise SpecError(
            f"there is no part called {name!r}{registry.nearest(name, known)}; 'snowmelt list' shows all. "
            "If it comes from a file of your own, add --plugin FILE"
        )
    return found[0]


def _headline(cls: type[Part]) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0].replace("``", "")


def _fields(fields: tuple[Field, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("field", "type", "default", "range or choices", "meaning"):
        table.add_column(title, overflow="fold")
    for f in fields:
        allowed = " | ".join(map(str, f.choices)) or str(f.range or "")
        table.add_row(
            Text(f.name, style="cyan"), Text(f.type), Text("required" if f.required else _value(f.default)), Text(allowed), Text(f.doc)
        )
    return table


def _value(value: object) -> str:
    if isinstance(value, Part):
        return registry.spec(value)
    if isinstance(value, tuple):
        return f"({','.join(map(_value, value))})"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _example(name: str, fields: tuple[Field, ...]) -> str:
    """A spec with its first fields written out."""
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    shown = [f"{f.name}={_nested(f.default)}" for f in fields if not f.required][:2]
    return f"{name}:{','.join(shown)}" if shown else name


def _nested(value: object) -> str:
    if isinstance(value, Part):
        name, _, fields = registry.spec(value).partition(":")
        return f"{name}({fields})" if fields else name
    return _value(value)


def _strengths(console: Console, part: Part, spec: str) -> None:
    """What the severities 0, 1/4, 1/2, 3/4, 1 mean in the operator's own units."""
    from snowmelt.degradations import Degradation

    assert isinstance(part, Degradation)  # noqa: S101 - its kind says so
    rows = [(t, part.in_units(t)) for t in SEVERITIES]
    if not rows[-1][1]:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("t", *rows[-1][1]):
        table.add_column(title, justify="right")
    for t, strength in rows:
        table.add_row(f"{t:g}", *("-" if math.isnan(value) else f"{value:.4g}" for value in strength.values()))
    print_plain(console, f"\nWhat a severity t means for {spec}:\n")
    console.print(table)
