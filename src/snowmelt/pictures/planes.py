"""Planes: two measures of the same things against each other, with their intervals, as a few kilobytes of SVG.

Where two measures disagree about what is better, no table shows it as well as a point for each method: here distortion (RMSE) against the distance
of sets (FD), the *perception-distortion plane* of Blau and Michaeli 2018 (arXiv 1711.06077). A line joins the points of one sampler in the
order of its calls; low and left is better in both. Colours and axes are those of :mod:`~snowmelt.pictures.curves`.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from snowmelt.pictures.curves import BOTTOM, HEIGHT, LEFT, RIGHT, STYLE, WIDTH, Axis, axes, colour, legend, look

_TALLER = 60
_END = 4  # px: half the cap of an error bar


class Mark(NamedTuple):
    """One point.

    Attributes:
        x, y: where it lies.
        label: written beside it.
        x_range, y_range: its intervals, drawn as bars; None for none.
    """

    x: float
    y: float
    label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


def plane_svg(lines: Mapping[str, Sequence[Mark]], *, title: str, x_label: str, y_label: str, level: tuple[str, float] | None = None) -> str:
    """Points in a plane as one ``<svg>`` element.

    Args:
        lines: label to points, joined in their order.
        title: what it shows, above it.
        x_label: quantity and unit of x.
        y_label: quantity and unit of y.
        level: a name and a value of y, drawn across as a dashed rule: a floor.
    """
    head, top = legend(list(lines), always=True)
    bottom = top + HEIGHT + _TALLER - BOTTOM
    body = [f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>', *head]
    marks = [mark for points in lines.values() for mark in points]
    if marks:
        xs = [value for mark in marks for value in (mark.x, *(mark.x_range or ()))]
        ys = [value for mark in marks for value in (mark.y, *(mark.y_range or ()))] + ([level[1]] if level else [])
        x = Axis.over(xs, LEFT, WIDTH - RIGHT, log=False)
        y = Axis.over(ys, bottom, top + 6, log=False)
        body += axes(x, y)
        body += _level(level, x, y) if level else []
        body += [_bars(points, x, y, i) for i, points in enumerate(lines.values())]
        body += [_points(points, x, y, i) for i, points in enumerate(lines.values())]
    else:
        body.append(f'<text x="{WIDTH / 2}" y="{(top + bottom) / 2:.0f}" text-anchor="middle" class="tick">no data yet</text>')
    body.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 42}" text-anchor="middle">{escape(x_label)}</text>')
    body.append(f'<text transform="translate(16 {(top + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    total = bottom + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" role="img">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>{''.join(body)}</svg>"
    )


def _level(level: tuple[str, float], x: Axis, y: Axis) -> list[str]:
    name, value = level
    at = y.px(value)
    return [
        f'<path class="axis" stroke-dasharray="5 4" fill="none" d="M{x.start_px} {at:.1f}H{x.end_px}"/>',
        f'<text class="tick" x="{x.end_px - 4}" y="{at - 6:.1f}" text-anchor="end">{escape(name)}</text>',
    ]


def _bars(points: Sequence[Mark], x: Axis, y: Axis, i: int) -> str:
    """The intervals, faint, so that the points stay readable."""
    parts = []
    for mark in points:
        across, up = x.px(mark.x), y.px(mark.y)
        if mark.x_range:
            low, high = (x.px(value) for value in mark.x_range)
            parts.append(f"M{low:.1f} {up:.1f}H{high:.1f}M{low:.1f} {up - _END:.1f}v{2 * _END}M{high:.1f} {up - _END:.1f}v{2 * _END}")
        if mark.y_range:
            low, high = (y.px(value) for value in mark.y_range)
            parts.append(f"M{across:.1f} {low:.1f}V{high:.1f}M{across - _END:.1f} {low:.1f}h{2 * _END}M{across - _END:.1f} {high:.1f}h{2 * _END}")
    return f'<path class="s{colour(i)}" fill="none" stroke-width="1.2" opacity=".45" d="{"".join(parts)}"/>' if parts else ""


def _points(points: Sequence[Mark], x: Axis, y: Axis, i: int) -> str:
    at = [(f"{x.px(mark.x):.1f}", f"{y.px(mark.y):.1f}") for mark in points]
    line = f'<path {look(i)} d="M{"L".join(f"{a} {b}" for a, b in at)}"/>' if len(at) > 1 else ""
    dots = "".join(f'<circle class="d{colour(i)}" cx="{a}" cy="{b}" r="4"/>' for a, b in at)
    texts = "".join(
        f'<text class="tick" x="{float(a) + 7:.1f}" y="{float(b) - 7:.1f}">{escape(mark.label)}</text>'
        for mark, (a, b) in zip(points, at, strict=True)
        if mark.label
    )
    return line + dots + texts
