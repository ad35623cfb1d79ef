"""Planes: points where their two measures say, with bars as long as their intervals."""

import re
from xml.etree import ElementTree

from snowmelt.pictures import Mark, plane_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)  # noqa: S314 - our own markup


def test_points_lie_in_the_order_of_their_measures() -> None:
    lines = {"a": [Mark(0.1, 9.0, "4"), Mark(0.2, 3.0, "20")], "b": [Mark(0.15, 6.0, "1")]}
    found = drawn(plane_svg(lines, title="t", x_label="x", y_label="y"))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in found.iter(f"{SVG}circle")]
    (x4, y4), (x20, y20), (x1, y1) = circles
    assert x4 < x1 < x20
    assert y4 < y1 < y20  # y grows downwards on a screen: the smaller distance lies lower
    assert abs((x4 + x20) / 2 - x1) < 0.2
    assert abs((y4 + y20) / 2 - y1) < 0.2


def test_bars_reach_as_far_as_the_intervals() -> None:
    found = plane_svg({"a": [Mark(1.0, 1.0, "4", (0.0, 2.0), (0.5, 2.0))]}, title="t", x_label="x", y_label="y")
    bars = next(p.get("d", "") for p in drawn(found).iter(f"{SVG}path") if p.get("opacity") == ".45")
    low, high = (float(v) for v in re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", bars)[0])
    circle = next(drawn(found).iter(f"{SVG}circle"))
    assert abs((low + high) / 2 - float(circle.get("cx", ""))) < 0.2
    assert high - low > 100
    across, bottom, top = (float(v) for v in re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", bars)[0])
    assert abs(across - float(circle.get("cx", ""))) < 0.2
    assert top < float(circle.get("cy", "")) < bottom


def test_a_floor_is_drawn_and_named_and_words_are_escaped() -> None:
    found = plane_svg({"a <b>": [Mark(1.0, 3.0, "4")]}, title="t & u", x_label="x", y_label="y", level=("real <1>", 1.0))
    words = [text.text for text in drawn(found).iter(f"{SVG}text")]
    assert {"real <1>", "a <b>", "t & u", "4"} <= set(words)
    assert "NaN" not in found


def test_without_points_it_says_so() -> None:
    assert "no data yet" in plane_svg({}, title="t", x_label="x", y_label="y")
