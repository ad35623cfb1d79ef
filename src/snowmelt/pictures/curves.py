"""Curves: a line chart as a few kilobytes of SVG, readable on white and on black.

Text and axes take the colour of the text around them; lines have six colours that colour-blind readers tell
apart (after Okabe and Ito 2008, lighter on dark pages) and, beyond six, dashes. Ticks stand at 1, 2 and 5
times powers of ten; on a logarithmic axis over many decades, at powers of ten.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, BOTTOM = 80, 20, 52
TITLE_PX, LEGEND_PX = 28, 22
# An average letter of a 13-px sans serif, generously: the legend wraps by it.
LETTER_PX = 7.2
FEW_POINTS = 16

_LIGHT = ("#0072b2", "#d55e00", "#00805c", "#a8558a", "#8a6a00", "#4a4f57")
_DARK = ("#5bb8f0", "#ff9a4d", "#3fcfa4", "#e39ac8", "#e6c14a", "#b8bec7")
_DASHES = ("", "7 4", "2 3")

STYLE = (
    ".curves{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:#23272e;max-width:100%;height:auto}"
    ".curves text{fill:currentColor}.curves .title{font-size:15px;font-weight:600}.curves .tick{opacity:.72;font-size:12px}"
    ".curves .rule{stroke:currentColor;opacity:.13}.curves .axis{stroke:currentColor;opacity:.5}"
    ".curves .line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}"
    + "".join(f".curves .s{i}{{stroke:{c}}}.curves .d{i}{{fill:{c}}}" for i, c in enumerate(_LIGHT))
    + "@media(prefers-color-scheme:dark){.curves{color:#dfe3e8}"
    + "".join(f".curves .s{i}{{stroke:{c}}}.curves .d{i}{{fill:{c}}}" for i, c in enumerate(_DARK))
    + "}"
)


@dataclass(frozen=True)
class Axis:
    """A map from values to pixels, and the values worth a tick.

    Attributes:
        low, high: the values at its two ends.
        start_px, end_px: where these ends lie.
        log: equal ratios, not equal differences, have equal lengths.
    """

    low: float
    high: float
    start_px: float
    end_px: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], start_px: float, end_px: float, *, log: bool) -> "Axis":
        """The axis whose ends are ticks at or beyond the smallest and largest of `values`."""
        low, high = min(values), max(values)
        if log:
            below = [v for v in _round_numbers(low, high) if v <= low * (1 + 1e-9)]
            above = [v for v in _round_numbers(low, high) if v >= high * (1 - 1e-9) and v > below[-1]]
            return cls(below[-1], above[0], start_px, end_px, log)
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-300):
            room = abs(low) / 2
            low, high = (low - room, high + room) if room else (0.0, 1.0)  # what counts from 0 on has nothing below it
        step = _step(low, high)
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start_px, end_px, log)

    def px(self, value: float) -> float:
        """Where `value` lies."""
        low, high, v = (math.log10(self.low), math.log10(self.high), math.log10(value)) if self.log else (self.low, self.high, value)
        return self.start_px + (v - low) / (high - low) * (self.end_px - self.start_px)

    def ticks(self) -> list[tuple[float, str]]:
        """Values and how they are written."""
        if self.log:
            inside = [v for v in _round_numbers(self.low, self.high) if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)]
            decades = [v for v in inside if math.log10(v) % 1 < 1e-9]
            few = inside if len(inside) <= 8 else decades
            return [(value, _written(value)) for value in few[:: -(-len(few) // 8)]]
        step = _step(self.low, self.high)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        count = math.floor((self.high - self.low) / step + 1e-6)  # the axis may end between two ticks, and none stands outside it
        values = [self.low + i * step for i in range(count + 1)]
        in_full = max(abs(self.low), abs(self.high)) < 1e6 and digits <= 4
        return [(v, f"{v if abs(v) > step / 1e6 else 0.0:,.{digits}f}" if in_full else _written(v)) for v in values]


def curve_svg(series: Mapping[str, Points], *, title: str, x_label: str, y_label: str, log_x: bool = False, log_y: bool = False) -> str:
    """A line chart as one ``<svg>`` element, for a page or a file of its own.

    Args:
        series: label to points (x, y), drawn in the order given. Points that are not finite, or not
            positive on a logarithmic axis, are left out.
        title: what the chart shows, above it.
        x_label: quantity and unit of x.
        y_label: quantity and unit of y.
        log_x: equal ratios of x have equal lengths.
        log_y: equal ratios of y have equal lengths.
    """
    kept = {label: [p for p in points if _drawable(p[0], log_x) and _drawable(p[1], log_y)] for label, points in series.items()}
    head, top = legend(list(kept))
    bottom = top + HEIGHT - BOTTOM
    body = [f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>', *head]
    everything = [point for points in kept.values() for point in points]
    if everything:
        x = Axis.over([p[0] for p in everything], LEFT, WIDTH - RIGHT, log=log_x)
        y = Axis.over([p[1] for p in everything], bottom, top + 6, log=log_y)
        body += axes(x, y)
        body += [_line(points, x, y, i) for i, points in enumerate(kept.values()) if points]
    else:
        body.append(f'<text x="{WIDTH / 2}" y="{(top + bottom) / 2:.0f}" text-anchor="middle" class="tick">no data yet</text>')
    middle = (top + bottom) / 2
    body.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 42}" text-anchor="middle">{escape(x_label)}</text>')
    body.append(f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    total = bottom + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" role="img">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>{''.join(body)}</svg>"
    )


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times all powers of ten, from one that is at most `low` to one that is above `high`."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    return [float(f"{factor}e{exponent}") for exponent in exponents for factor in (1, 2, 5)]


def _step(low: float, high: float) -> float:
    """The tick distance 1, 2 or 5 times a power of ten that gives four to nine ticks."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    return unit * next((m for m in (1, 2, 5) if m * unit >= rough * 0.8), 10)


def _written(value: float) -> str:
    """A number on a wide axis: 0.001, 500, 1e6, 2e-5."""
    if value == 0 or 1e-4 < abs(value) < 1e6:
        return f"{value:,.6g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def colour(i: int) -> int:
    """The colour of line number i, of six."""
    return i % len(_LIGHT)


def look(i: int) -> str:
    """The attributes of line number i: its colour and its dashes."""
    dash = _DASHES[i // len(_LIGHT) % len(_DASHES)]
    return f'class="line s{i % len(_LIGHT)}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def legend(labels: list[str], *, always: bool = False) -> tuple[list[str], int]:
    """The legend's elements, wrapped under the title, and the y where the plot begins. One series needs none, but where `always` asks for it."""
    if len(labels) < 2 and not (always and labels):
        return [], TITLE_PX + 4
    parts, x, y = [], float(LEFT), TITLE_PX + 14
    for i, label in enumerate(labels):
        room = 30 + LETTER_PX * len(label) + 16
        if x > LEFT and x + room > WIDTH - RIGHT:
            x, y = float(LEFT), y + LEGEND_PX
        parts.append(f'<path {look(i)} d="M{x:.0f} {y - 4}h22"/><text x="{x + 30:.0f}" y="{y}">{escape(label)}</text>')
        x += room
    return parts, y + 12


def axes(x: Axis, y: Axis) -> list[str]:
    """Rules across the plot at the ticks of y, marks under it at those of x, and their numbers."""
    parts = []
    for value, text in y.ticks():
        at = f"{y.px(value):.1f}"
        parts.append(f'<path class="rule" d="M{x.start_px} {at}H{x.end_px}"/>')
        parts.append(f'<text class="tick" x="{x.start_px - 8}" y="{at}" dy=".35em" text-anchor="end">{text}</text>')
    for value, text in x.ticks():
        at = f"{x.px(value):.1f}"
        parts.append(f'<path class="axis" d="M{at} {y.start_px}v5"/>')
        parts.append(f'<text class="tick" x="{at}" y="{y.start_px + 20}" text-anchor="middle">{text}</text>')
    return [*parts, f'<path class="axis" d="M{x.start_px} {y.start_px}H{x.end_px}"/>']


def _line(points: Points, x: Axis, y: Axis, i: int) -> str:
    """One series; few points are also dotted, so that one sees where the numbers are."""
    at = [(f"{x.px(a):.1f}", f"{y.px(b):.1f}") for a, b in points]
    line = f'<path {look(i)} d="M{"L".join(f"{a} {b}" for a, b in at)}"/>'
    dots = "".join(f'<circle class="d{i % len(_LIGHT)}" cx="{a}" cy="{b}" r="3.2"/>' for a, b in at) if len(at) <= FEW_POINTS else ""
    return line + dots
