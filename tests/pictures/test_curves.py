"""Curves: well-formed, to scale, with ticks a person would choose."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from snowmelt.pictures import curve_svg
from snowmelt.pictures.curves import Axis

SVG = "{http://www.w3.org/2000/svg}"


def draw(series: dict[str, list[tuple[float, float]]], **options: bool) -> ElementTree.Element:
    return ElementTree.fromstring(curve_svg(series, title="a < b & c", x_label="x", y_label="y", **options))


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def lines(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [path for path in svg.iter(f"{SVG}path") if path.get("class", "").startswith("line") and "L" in path.get("d", "")]


def test_text_is_escaped_and_the_legend_is_complete() -> None:
    svg = draw({"<script>": [(0, 1), (1, 2)], "TACoS": [(0, 2), (1, 1)]})
    assert "a < b & c" in texts(svg)
    assert {"<script>", "TACoS"} <= set(texts(svg))
    assert not list(svg.iter(f"{SVG}script"))


def test_points_are_to_scale() -> None:
    (line,) = lines(draw({"one": [(0, 0), (5, 5), (10, 10)]}))
    points = [tuple(map(float, pair.split())) for pair in line.get("d", "")[1:].split("L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert y2 < y0, "y points up"


def test_what_cannot_be_drawn_is_left_out() -> None:
    svg = draw({"a": [(0, 1), (1, math.nan), (2, 0), (3, 10)], "b": [(0, -1)]}, log_y=True)
    (line,) = lines(svg)
    assert line.get("d", "").count("L") == 1


def test_nothing_to_draw_says_so() -> None:
    assert "no data yet" in texts(draw({}))


@pytest.mark.parametrize(
    ("values", "log", "expected"),
    [
        ([0.0, 50.0], False, ["0", "10", "20", "30", "40", "50"]),
        ([0.039, 0.3], False, ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"]),
        ([-1.0, 1.0], False, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ([2.0, 2.0], False, ["1.0", "1.5", "2.0", "2.5", "3.0"]),
        ([0.0, 0.0], False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-2.0, -2.0], False, ["-3.0", "-2.5", "-2.0", "-1.5", "-1.0"]),
        ([0.0, 60_000.0], False, ["0", "10,000", "20,000", "30,000", "40,000", "50,000", "60,000"]),
        ([0.0, 4e6], False, ["0", "1e6", "2e6", "3e6", "4e6"]),
        ([0.011, 0.3], True, ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]),
        ([1e-6, 1.0], True, ["1e-6", "1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]),
        ([1.0, 1.0], True, ["1", "2"]),
        ([0.01001, 0.01602], False, ["0.010", "0.012", "0.014", "0.016"]),
    ],
)
def test_ticks(values: list[float], log: bool, expected: list[str]) -> None:
    axis = Axis.over(values, 0, 100, log=log)
    assert [text for _, text in axis.ticks()] == expected
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert all(0 <= axis.px(value) <= 100 for value, _ in axis.ticks())


def test_a_seventh_series_is_dashed() -> None:
    found = lines(draw({str(i): [(0, i), (1, i)] for i in range(7)}))
    assert [line.get("stroke-dasharray") is None for line in found] == [True] * 6 + [False]
