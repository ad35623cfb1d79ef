"""Panels: several line charts side by side, with one colour a name throughout and the names beside the ends of their lines.

Where the same things are measured in several ways, or on several paths, small charts with equal axes compare better than one with many lines.
Names stand at their lines, pushed apart where the lines end close together; a name has the same colour in every panel. Colours and axes are
those of :mod:`~snowmelt.pictures.curves`.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from snowmelt.pictures.curves import LETTER_PX, STYLE, Axis, Points, axes, colour, look

PANEL_PX, HEIGHT_PX, LEFT_PX, TOP_PX, BOTTOM_PX = 480, 300, 72, 34, 54
TITLE_PX, APART_PX = 34, 14
_WIDE = 3.0  # a smaller ratio has too few round numbers for the ticks of a logarithmic axis
_NAMES = (
    ".curves .panel{font-weight:600}.curves .name{font-size:12px}.curves .level{stroke:currentColor;opacity:.6;fill:none;stroke-dasharray:5 4}"
)


class Level(NamedTuple):
    """A value of y that is drawn across a panel: a floor, a ceiling."""

    name: str
    y: float


class Panel(NamedTuple):
    """One chart.

    Attributes:
        title: above it.
        lines: name to points (x, y). Points that are not finite and positive are left out.
        x_label, y_label: quantity and unit.
        levels: values of y to draw across.
    """

    title: str
    lines: Mapping[str, Points]
    x_label: str
    y_label: str
    levels: Sequence[Level] = ()


def panels_svg(panels: Sequence[Panel], *, title: str, columns: int = 2) -> str:
    """The panels, row by row, as one ``<svg>`` element. Axes are logarithmic, but linear where all values lie within a factor of 3.

    Args:
        panels: at least one.
        title: what they show, above them.
        columns: panels in a row.

    Raises:
        ValueError: no panel.
    """
    if not panels:
        raise ValueError("a picture of no panels shows nothing: give at least one")
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    room = 16 + LETTER_PX * max((len(name) for name in names), default=0)
    wide, across = PANEL_PX + room, min(columns, len(panels))
    w, h = round(wide * across), TITLE_PX + (HEIGHT_PX + TOP_PX + BOTTOM_PX) * -(-len(panels) // across)
    body = [f'<text class="title" x="{LEFT_PX}" y="20">{escape(title)}</text>']
    for i, panel in enumerate(panels):
        left, top = wide * (i % across), TITLE_PX + (HEIGHT_PX + TOP_PX + BOTTOM_PX) * (i // across)
        body.append(f'<g transform="translate({left:.0f} {top})">{"".join(_panel(panel, names))}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
        f"<title>{escape(title)}</title><style>{STYLE}{_NAMES}</style>{''.join(body)}</svg>"
    )


def _panel(panel: Panel, names: Sequence[str]) -> list[str]:
    kept = {name: [p for p in points if all(math.isfinite(v) and v > 0 for v in p)] for name, points in panel.lines.items()}
    kept = {name: points for name, points in kept.items() if points}
    bottom, right = TOP_PX + HEIGHT_PX, PANEL_PX - 8
    body = [f'<text class="panel" x="{LEFT_PX}" y="18">{escape(panel.title)}</text>']
    if kept:
        xs, ys = ([p[k] for points in kept.values() for p in points] for k in (0, 1))
        levels = [level for level in panel.levels if math.isfinite(level.y) and level.y > 0]
        x = _axis(xs, LEFT_PX, right)
        y = _axis([*ys, *(level.y for level in levels)], bottom, TOP_PX)
        body += axes(x, y)
        body += [part for level in levels for part in _level(level, x, y)]
        body += [_line(points, x, y, names.index(name)) for name, points in kept.items()]
        body += _labels({name: (x.px(points[-1][0]), y.px(points[-1][1])) for name, points in kept.items()}, names, right, bottom)
    else:
        body.append(f'<text x="{(LEFT_PX + right) / 2:.0f}" y="{(TOP_PX + bottom) / 2:.0f}" text-anchor="middle" class="tick">no data yet</text>')
    body.append(f'<text class="tick" x="{(LEFT_PX + right) / 2:.0f}" y="{bottom + 40}" text-anchor="middle">{escape(panel.x_label)}</text>')
    middle = (TOP_PX + bottom) // 2
    body.append(f'<text class="tick" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(panel.y_label)}</text>')
    return body


def _axis(values: Sequence[float], start_px: float, end_px: float) -> Axis:
    return Axis.over(values, start_px, end_px, log=max(values) >= _WIDE * min(values))


def _level(level: Level, x: Axis, y: Axis) -> list[str]:
    at = y.px(level.y)
    return [
        f'<path class="level" d="M{x.start_px} {at:.1f}H{x.end_px}"/>',
        f'<text class="name" x="{x.start_px + 4}" y="{at - 5 if at > TOP_PX + 16 else at + 14:.1f}">{escape(level.name)}</text>',
    ]


def _line(points: Points, x: Axis, y: Axis, i: int) -> str:
    at = [(f"{x.px(a):.1f}", f"{y.px(b):.1f}") for a, b in points]
    line = f'<path {look(i)} d="M{"L".join(f"{a} {b}" for a, b in at)}"/>' if len(at) > 1 else ""
    return line + "".join(f'<circle class="d{colour(i)}" cx="{a}" cy="{b}" r="3.2"/>' for a, b in at)


def _labels(ends: Mapping[str, tuple[float, float]], names: Sequence[str], right: float, bottom: float) -> list[str]:
    """Names right of the plot, each as high as the end of its line, or as near as the others leave room; a thin line leads there."""
    places = apart([y for _, y in ends.values()], APART_PX, TOP_PX, bottom)
    out = []
    for (name, (across, up)), place in zip(ends.items(), places, strict=True):
        i = colour(names.index(name))
        out.append(f'<path class="s{i}" fill="none" opacity=".4" d="M{across + 4:.1f} {up:.1f}L{right + 6:.1f} {place:.1f}"/>')
        out.append(f'<text class="name" x="{right + 10:.1f}" y="{place:.1f}" dy=".35em"><tspan class="d{i}">{escape(name)}</tspan></text>')
    return out


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places as near as possible to those wanted, in their order, at least `least` apart and between `low` and `high`, if so many fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    out = [0.0] * len(wanted)
    before = low - least
    for i in order:
        out[i] = before = max(wanted[i], before + least)
    after = high + least
    for i in reversed(order):
        out[i] = after = min(out[i], after - least)
    return out
