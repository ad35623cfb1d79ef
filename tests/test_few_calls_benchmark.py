"""Few calls, the benchmark and its page: rows, tables, what is claimed of them, and that the page is what was measured."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "few-calls.json"


@pytest.fixture(scope="module")
def bench(script) -> Iterator[ModuleType]:
    """The script, whose neighbours it imports by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield script("benchmarks/few_calls.py")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def page(script) -> ModuleType:
    return script("scripts/calls_page.py")


def nets(bench: ModuleType, distance: Any) -> list[dict[str, Any]]:
    return [
        {"path": "blur", "gap": gap, "walk": name, "calls": n, "distance": distance(gap, name, n)}
        for gap in bench.GAPS
        for name, n, _ in bench.net_walks("blur")
    ]


def as_expected(gap: float, walk: str, calls: int) -> float:
    """A walk of n calls is best at a gap of 1 - 1 / (8 n)."""
    return 0.3 if gap == 0 else 0.02 + abs(8 * (1 - gap) - 1 / calls) / 10 + abs(gap - (1 - 1 / (8 * calls)))


# --- the network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["blur", "flow"])
def test_a_stage_trains_and_its_average_is_what_walks(bench, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BATCH", 8)
    monkeypatch.setattr(bench, "POOL", 64)
    training = bench.Training(path)
    weights = sum(p.numel() for p in training.restorer.parameters())
    assert 3.5e5 < weights < 4.5e5
    before = [p.detach().clone() for p in training.average.parameters()]
    model = training.stage(0.0, 2)
    assert model.restorer is training.average
    assert any(not torch.equal(a, b) for a, b in zip(before, training.average.parameters(), strict=True))
    raw = [p.detach().clone() for p in training.restorer.parameters()]
    training.stage(0.75, 2)
    assert any(not torch.equal(a, b) for a, b in zip(raw, training.restorer.parameters(), strict=True))


def test_every_walk_of_every_gap_is_a_row(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 8, "POOL": 64, "WALKS": 16, "GAPS": (0.0, 0.94)}.items():
        monkeypatch.setattr(bench, name, value)
    rows = list(bench.tuned("flow", 1, 1))
    assert len(rows) == 2 * (4 + 3 + 3)
    assert all(row["distance"] > 0 for row in rows)
    assert bench.found(rows, "flow", 0.94, "order 1", 2) == next(
        row["distance"] for row in rows if (row["gap"], row["walk"], row["calls"]) == (0.94, "order 1", 2)
    )


# --- what is said of it ----------------------------------------------------------------------------------------


def test_claims_are_said_to_hold_and_not_to_hold(bench) -> None:
    good = bench.claims(nets(bench, lambda gap, walk, n: 0.3 / n if gap == 0 else 0.01 + abs(n - round(32 * (1 - gap))) / 100))
    assert len(good) == 5
    assert all("yes" in said for said in good), good
    bad = bench.claims(nets(bench, lambda gap, walk, n: 0.5 - gap / 100 if gap and n < 8 else 0.1))
    assert ["NO" in said for said in bad][:4] == [True, True, True, True], bad


def test_the_table_marks_what_does_not_agree_with_what_was_measured_before(bench) -> None:
    rows = nets(bench, lambda gap, walk, n: bench._earlier(walk, gap, n) or 1.0)
    assert "**" not in bench.tuned_table(rows, "blur")
    rows[0]["distance"] *= 1.3
    assert bench.tuned_table(rows, "blur").count("**") == 2
    assert bench._earlier("order 2", 0.94, 8) == 0.471
    assert bench._earlier("Algorithm 1, noise", 0.0, 2) == 0.237
    assert bench._earlier("order 2", 0.94, 4) is None
    assert bench._earlier("order 1", 0.5, 1) is None


def test_kept_rows_and_new_ones_stand_in_one_table(bench) -> None:
    kept = json.loads(bench.KEPT.read_text())["samples"]
    new = [{"path": "blur", "sampler": name, "calls": 2, "distance": 0.123} for name in ("TACoS", "order 2")]
    rows = bench.with_kept(new, kept)
    assert len(rows) == len(kept) + 2
    assert [row["calls"] for row in rows if (row["path"], row["sampler"]) == ("blur", "TACoS")] == [2, 5, 8, 12, 50]
    assert all(row["calls"] % 2 for row in rows if row["sampler"] == "Heun")
    table = bench.exact_table(rows, 0.025)
    assert "| blur | TACoS |  | 0.123 |" in table
    assert "0.025 apart" in table
    drawn = bench.figure(rows, nets(bench, as_expected), 0.025)
    for words in ("blur: the exact restorer", "warm: the exact restorer", "tuned, g = 0.94", "two fresh sets", "untuned, order 2"):
        assert words in drawn, words


# --- the page --------------------------------------------------------------------------------------------------


def test_the_page_is_what_was_measured(page, bench) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, page.parts()) == text, "run scripts/calls_page.py"


def test_what_is_not_measured_is_pending_and_a_part_needs_its_markers(page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "TOY", tmp_path / "none.json")
    monkeypatch.setattr(page, "KEPT", tmp_path)
    found = page.parts()
    assert found["exact"] == found["tuned"] == page.PENDING
    assert found["pictures"].count(page.PENDING) == len(page.EXPECTED)
    assert page.filled("<!-- begin a -->\nold\n<!-- end a -->", {"a": "new"}) == "<!-- begin a -->\n\nnew\n\n<!-- end a -->"
    with pytest.raises(ValueError, match="0 pairs of markers for a"):
        page.filled("nothing", {"a": "new"})


def test_a_kept_curve_is_shown_with_its_verdict(page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "KEPT", tmp_path)
    base = {"of": "restored", "images": 9, "weights": "w", "commit": "c", "intervals": {}, "rmse": 0.1}
    rows = [{**base, "walk": walk, "calls": n, "FD-x": fd} for walk, n, fd in (("order 2", 12, 3.0), ("Algorithm 2", 50, 1.0), ("Heun", 3, 7.5))]
    page.Curve(rows, {}, {"title": "t", "weights": "w"}).write(tmp_path / "mnist-blur")
    text = page.parts()["pictures"]
    assert "NOT within 2%: FD-x 3 against 1 (+200.0%)" in text
    assert "reproductions/mnist-blur/calls.svg" in text
    assert "7.5" not in text, "the whole table is in curve.md"
    assert text.count(page.PENDING) == len(page.EXPECTED) - 1


def test_the_kept_figures(bench) -> None:
    if not KEPT.is_file():
        pytest.skip("benchmarks/results/few-calls.json is not there: run benchmarks/few_calls.py")
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    assert "+" not in found["commit"]
    assert found["claims"] == bench.claims(found["tuned"])
    drawn = (ROOT / "docs" / "images" / "few-calls.svg").read_text(encoding="utf-8")
    assert drawn == bench.figure(found["exact"], found["tuned"], found["floor"]) + "\n"
    kept = json.loads(bench.KEPT.read_text(encoding="utf-8"))["samples"]
    assert all(row in found["exact"] for row in bench.with_kept([], kept)), "oracle.json was measured anew: run benchmarks/few_calls.py"
    assert bench.with_kept([], found["exact"]) == found["exact"]  # by path, sampler and calls
