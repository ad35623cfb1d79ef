"""Tables: the same numbers in the same letters, in Markdown and in HTML.

A row is a mapping from column to value. The measures of :mod:`snowmelt.metrics` have fixed decimals, the ones the
literature reports, and a direction in which they are better; a number that has not been computed yet says so.

========  ==================================================
value     written
========  ==================================================
rmse      0.142; ssim alike
psnr      21.34, the unit (dB) stands in the column's header
None      pending: it will be computed
absent    –: there is no such number; NaN alike
(a, b)    a to b: an interval
========  ==================================================
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from snowmelt.metrics.scans import Scans
from snowmelt.metrics.sound import Recordings

Row: TypeAlias = Mapping[str, object]
Best: TypeAlias = Mapping[str, Literal["low", "high"]]

PENDING = "pending"
ABSENT = "–"


class Measure(NamedTuple):
    """How a measure is written.

    Attributes:
        header: its name and unit.
        decimals: digits after the point.
        best: which values are better; None where that makes no sense.
    """

    header: str
    decimals: int
    best: Literal["low", "high"] | None


MEASURES = {
    "rmse": Measure("RMSE", 3, "low"),
    "psnr": Measure("PSNR, dB", 2, "high"),
    "ssim": Measure("SSIM", 3, "high"),
    "fid": Measure("FID", 2, "low"),
    "kid": Measure("KID", 4, "low"),
    **{one.name: Measure(one.header, one.decimals, one.better) for kind in (Recordings, Scans) for one in kind.columns},
}
_FAMILIES = ("FD", "KID-")
_ARROWS = {"low": " ↓", "high": " ↑"}


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def header(column: str, best: Best | None = None, *, arrow: bool = True) -> str:
    """The column's title, with an arrow towards better values: "PSNR, dB ↑"."""
    measure = MEASURES.get(column.lower())
    way = _way(column, best) if arrow else None
    return (measure.header if measure else column) + (_ARROWS[way] if way else "")


def cell(row: Row, column: str) -> str:
    """The value of `column` in `row`, as text.

    >>> cell({"rmse": 0.14159}, "rmse"), cell({"psnr": None}, "psnr"), cell({}, "ssim"), cell({"images": 10000}, "images")
    ('0.142', 'pending', '–', '10,000')
    """
    return _written(row[column], column) if column in row else ABSENT


def best_rows(rows: Sequence[Row], column: str, best: Best | None = None, apart: Collection[int] = ()) -> set[int]:
    """The numbers of the rows that are best in `column`, as far as the written digits tell; none for a single number.

    Rows in `apart` stand beside the comparison: a floor, a ceiling.
    """
    way = _way(column, best)
    numbers = {i: row[column] for i, row in enumerate(rows) if column in row and i not in apart}
    finite = {i: float(v) for i, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool) and not math.isnan(v)}
    if way is None or len(finite) < 2:
        return set()
    winner = (min if way == "low" else max)(finite, key=lambda i: finite[i])
    return {i for i in finite if cell(rows[i], column) == cell(rows[winner], column)}


def markdown_table(rows: Sequence[Row], *, best: Best | None = None, apart: Collection[int] = (), mark: bool = True) -> str:
    """A GitHub Markdown table, the best of each column in bold; numbers are aligned right.

    Args:
        rows: mappings from column to value; columns stand in the order in which they first appear.
        best: "low" or "high" for further columns, beside those that are known.
        apart: the numbers of rows that are never best: a floor, a ceiling.
        mark: whether headers have arrows and the best are bold.
    """
    names = columns(rows)
    if not names:
        return ""
    lines = [[_literal(header(name, best, arrow=mark)) for name in names], ["---:" if numeric(rows, name) else ":---" for name in names]]
    winners = {name: best_rows(rows, name, best, apart) if mark else set() for name in names}
    for i, row in enumerate(rows):
        texts = {name: _literal(cell(row, name)) for name in names}
        lines.append([f"**{text}**" if i in winners[name] else text for name, text in texts.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def numeric(rows: Sequence[Row], column: str) -> bool:
    """Whether `column` holds numbers, intervals or gaps only, and a measure or at least one number."""
    values = [row[column] for row in rows if row.get(column) is not None]
    numbers = all(isinstance(value, int | float | tuple) and not isinstance(value, bool) for value in values)
    return numbers and bool(values or column.lower() in MEASURES)


def _way(column: str, best: Best | None) -> Literal["low", "high"] | None:
    measure = MEASURES.get(column.lower())
    # Distances of sets are named by what they are measured in: FD-mnist-v1.
    family: Literal["low"] | None = "low" if column.startswith(_FAMILIES) else None
    return (best or {}).get(column, measure.best if measure else family)


def _written(value: object, column: str) -> str:
    match value:
        case None:
            return PENDING
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " to ".join(_written(part, column) for part in value)
        case float() if math.isnan(value):
            return ABSENT
        case float() if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        case int() | float() if column.lower() in MEASURES:
            return f"{value:.{MEASURES[column.lower()].decimals}f}"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".removesuffix(".")  # three digits, zeros among them
    return str(value)


def _literal(text: str) -> str:
    """`text` so that Markdown prints it as it is, on one line."""
    for sign in "\\|*_`<[":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def between_markers(text: str, name: str, block: str) -> str:
    """A page with the lines between its markers ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` written anew.

    Raises:
        ValueError: the page does not have this pair of markers once.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if not text.count(begin) == text.count(end) == 1 or text.index(end) < text.index(begin):
        raise ValueError(f"the page has {min(text.count(begin), text.count(end))} pairs of markers for {name}: it needs one, {begin} before {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{block}\n\n{end}{rest.split(end)[1]}"
