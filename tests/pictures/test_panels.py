"""Panels: one colour a name in all of them, names beside the ends of their lines and never over each other, levels where they belong."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from snowmelt.pictures import Level, Panel, panels_svg
from snowmelt.pictures.panels import apart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)  # noqa: S314 - our own markup


def colours(group: ElementTree.Element) -> dict[str, str]:
    """Name to colour, as the labels have it."""
    return {span.text or "": (span.get("class") or "") for span in group.iter(f"{SVG}tspan")}


def test_a_name_has_the_same_colour_in_every_panel() -> None:
    first = Panel("one", {"a": [(1, 2.0), (9, 1.0)], "b": [(1, 3.0)]}, "x", "y")
    second = Panel("two", {"c": [(1, 2.0)], "b": [(1, 3.0), (4, 4.0)]}, "x", "y")
    groups = list(drawn(panels_svg([first, second], title="t")).iter(f"{SVG}g"))
    one, two = (colours(group) for group in groups)
    assert one["b"] == two["b"]
    assert len({one["a"], one["b"], two["c"]}) == 3


def test_points_and_levels_lie_in_the_order_of_their_values() -> None:
    found = drawn(panels_svg([Panel("p", {"a": [(1, 0.5), (10, 0.1)]}, "x", "y", [Level("floor", 0.02)])], title="t"))
    (x1, y1), (x10, y10) = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in found.iter(f"{SVG}circle")]
    level = next(p.get("d", "") for p in found.iter(f"{SVG}path") if p.get("class") == "level")
    at = float(re.findall(r"M\S+ ([\d.]+)H", level)[0])
    assert x1 < x10
    assert y1 < y10 < at, "y grows downwards"
    assert any(text.text == "floor" for text in found.iter(f"{SVG}text"))


def test_values_within_a_factor_of_3_have_a_linear_axis_and_others_a_logarithmic_one() -> None:
    """Of three values whose ratios are equal, the middle one lies in the middle of a logarithmic axis alone."""
    places = {}
    for name, values in {"near": (1.0, 1.5, 2.25), "far": (1.0, 10.0, 100.0)}.items():
        found = drawn(panels_svg([Panel("p", {"a": [(1, v) for v in values]}, "x", "y")], title="t"))
        low, middle, high = (float(c.get("cy", "")) for c in found.iter(f"{SVG}circle"))
        places[name] = (low - middle) / (low - high)
    assert places["far"] == pytest.approx(0.5, abs=0.01)
    assert places["near"] == pytest.approx(0.4, abs=0.01)


def test_names_are_pushed_apart_and_stay_inside() -> None:
    assert apart([50.0, 10.0], 14, 0, 100) == [50.0, 10.0]
    found = apart([95.0, 96.0, 97.0, 20.0], 14, 0, 100)
    assert found[3] == 20.0
    assert found[:3] == sorted(found[:3])
    assert all(b - a >= 14 for a, b in pairwise(found[:3]))
    assert max(found) <= 100
    assert apart([-5.0, -6.0], 14, 0, 100) == [14.0, 0.0]


def test_what_cannot_be_drawn_is_left_out_and_words_are_escaped() -> None:
    panel = Panel("p & q", {"a <b>": [(1, float("nan")), (2, 1.0), (4, 0.0)], "gone": [(1, float("inf"))]}, "x", "y", [Level("none", 0.0)])
    text = panels_svg([panel], title="t")
    assert "nan" not in text
    assert "inf" not in text
    assert ">gone<" not in text
    found = drawn(text)
    assert len(list(found.iter(f"{SVG}circle"))) == 1
    assert {"p & q"} <= {one.text for one in found.iter(f"{SVG}text")}
    assert "no data yet" in panels_svg([Panel("p", {}, "x", "y")], title="t")
    with pytest.raises(ValueError, match="no panels"):
        panels_svg([], title="t")


def test_panels_stand_in_rows() -> None:
    one = Panel("p", {"a": [(1, 1.0)]}, "x", "y")
    places = [re.findall(r"\((\d+) (\d+)\)", g.get("transform", ""))[0] for g in drawn(panels_svg([one] * 3, title="t", columns=2)).iter(f"{SVG}g")]
    assert places[0][1] == places[1][1] != places[2][1]
    assert places[0][0] == places[2][0] != places[1][0]
