"""``snowmelt suggest-schedule``: at which severities should a walk call its restorer? Equal losses from each to the next."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from snowmelt.cli.machine import Plugins, plug_in

if TYPE_CHECKING:
    from snowmelt.degradations import Degradation
    from snowmelt.restorers.suggestion import Suggestion

_PICTURES = 2000


def suggest_schedule(
    degradation: str,
    /,
    *,
    steps: int = 12,
    data: Annotated[str, Parameter(name=("--data.path", "--data"))] = "bundled:digits",
    size: Annotated[int | None, Parameter(name=("--data.size", "--size"))] = None,
    severity: float = 1.0,
    out: Path | None = None,
    plugin: Plugins = (),
) -> None:
    """Suggest the severities of a walk: each step restores as much as any other, as far as a linear estimate of the data can tell.

    Args:
        degradation: as a spec: gaussian-blur:sigma_px=8.
        steps: calls of the restorer.
        data: the pictures: a folder, a file or a bundled set. Of large ones the middle is looked at.
        size: side in px to which they are resized; by default as they are, if all are equal.
        severity: where the walk starts.
        out: an SVG to draw the loss and the severities into.
        plugin: parts of your own.
    """
    if not 1 <= steps <= 1000:
        raise ValueError(f"--steps {steps} lies outside [1, 1000]")
    if not 0 < severity <= 1:
        raise ValueError(f"--severity {severity:g} lies outside (0, 1]: a walk starts above 0")
    if out is not None and out.suffix.lower() != ".svg":
        raise ValueError(f"--out {out} is no .svg file: the plot is drawn as SVG")
    plug_in(plugin)
    from snowmelt import registry
    from snowmelt.data.options import DataOptions
    from snowmelt.data.sources import open_data
    from snowmelt.restorers.suggestion import suggest
    from snowmelt.samplers import default_sampler

    part: Degradation = registry.build(degradation)
    pictures = open_data(DataOptions(path=data, size=size, limit=_PICTURES), "train")
    found = suggest(part, pictures.batch(range(len(pictures)))["x0"], steps, start=severity)
    _print(found, part, f"{data} ({len(pictures):,} pictures, {' x '.join(map(str, found.shape))})")
    rounded = _rounded([t / severity for t in found.times])
    walk: Any = default_sampler(part)
    spec = registry.spec(dataclasses.replace(walk, steps=type(walk).steps, times=rounded))
    print(f"\nAs a sampler:  {spec}")
    print("In a recipe:   [evaluation] walk = the line above; at the prompt: snowmelt restore ... --sampler the line above")
    for line in _notes(part, found, steps):
        print(line)
    if out is not None:
        _draw(out, found, registry.spec(part))
        print(f"wrote {out}")


def _rounded(times: Sequence[float]) -> tuple[float, ...]:
    """Times that fall from 1, to 4 digits, or to as many as keep them apart and above 0."""
    for digits in range(4, 17):
        out = (1.0, *(round(t, digits) for t in times[1:]))
        if out[-1] > 0 and all(s < t for t, s in itertools.pairwise(out)):
            return out
    return (1.0, *times[1:])


def _print(found: "Suggestion", part: "Degradation", data: str) -> None:
    units = list(part.in_units(1.0))
    print(f"{'exact, for an operator that is linear in x' if found.exact else 'by regression on the pictures'}; data: {data}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    knots = [] if part.knots is None or found.knots is None else ["knot"]
    for title in ("call", "t", *knots, *units, "error", "lost", "step restores"):
        table.add_column(title, justify="right")
    ends = [*found.losses[1:], 0.0]
    for i, (t, loss, end) in enumerate(zip(found.times, found.losses, ends, strict=True), 1):
        strengths = [f"{value:.3g}" for value in part.in_units(t).values()]
        knot = [f"{round(t * part.knots)}/{part.knots}"] if knots and part.knots else []
        row = (str(i), f"{t:.4f}", *knot, *strengths, f"{loss**0.5:.3f}", f"{loss / found.variance:.1%}", f"{(loss - end) / found.variance:.1%}")
        table.add_row(*row)
    Console().print(table)
    print("\nerror: root mean square of the best linear estimate, on [-1, 1]; lost: its square in parts of the variance of the pictures")


def _notes(part: "Degradation", found: "Suggestion", steps: int) -> list[str]:
    """What one should know before one uses it."""
    out = []
    if len(found.times) < steps:
        out.append(f"Note: a table of {part.knots} knots has no more than {len(found.times)} severities to offer up to there.")
    if hidden := set(part.hidden) - set(part.noise):
        names = ", ".join(sorted(hidden))
        out.append(f"Note: nobody knows {names} of a stranger's picture, so restoring one takes a single call; a walk is for pictures of your own.")
    if part.noise:
        out.append("Note: for noise that is solved for, uniform severities did better in our measurement (docs: Your own degradation).")
    if found.cut:
        size = " x ".join(map(str, found.whole))
        out.append(f"Note: of pictures of {size} the middle was looked at: units in px fit them, shares of the side do not.")
    return out


def _draw(path: Path, found: "Suggestion", title: str) -> None:
    from snowmelt.files import write_text
    from snowmelt.pictures.curves import curve_svg

    shares = [loss / found.variance for loss in found.curve]
    series = {
        "lost at t": list(zip(found.severities, shares, strict=True)),
        "suggested": [(t, loss / found.variance) for t, loss in zip(found.times, found.losses, strict=True)],
    }
    write_text(path, curve_svg(series, title=f"What {title} loses", x_label="severity t", y_label="part of the variance"))
