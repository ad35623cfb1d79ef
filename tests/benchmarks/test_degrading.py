"""The section on what degradations cost: its rows say what they should, and it covers every operator."""

from pathlib import Path

import pytest

from snowmelt.degradations.ways import LARGEST_PX
from snowmelt.registry import build, names, schema, spec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def degrading(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return script("benchmarks/degrading.py")


def test_every_operator_is_timed_and_every_choice_has_a_row(degrading):
    text = " ".join(spec(build(one)) for one in degrading.OPERATORS)
    of_pictures = {name for name in names("degradation") if any(f.required for f in schema(name)) or build(name).takes is None}
    assert {name for name in of_pictures if name not in text} <= {"compose"}
    assert any("+" in one for one in degrading.OPERATORS)  # that is compose
    assert set(degrading.WAYS) == set(LARGEST_PX["cpu"])
    assert set(degrading.BATCHES) == {32, 64, 128, 256}


def test_the_quick_run_gives_rows_of_shares_and_of_both_ways(degrading):
    before = {device: dict(row) for device, row in LARGEST_PX.items()}
    rows = degrading.measure(runs=1, quick=True)
    assert before == LARGEST_PX  # forcing a way leaves nothing behind
    shares, both = rows[:2], rows[2:]
    for row in shares:
        assert next(iter(row)) == "what"
        assert 0 < row["low"] <= row["ratio"] <= row["high"] < 1
        assert 0 < row["of a sampling step"] < 1
        assert row["draw"] > 0
    assert [row["taken"] for row in both] == ["matrices"]


def test_the_largest_size_is_the_one_up_to_which_matrices_always_win(degrading):
    def rows(*ratios: float) -> list[dict[str, object]]:
        return [{"what": "matrices against the formula: blocks (pixelate)", "px": 32 * 2**i, "ratio": r} for i, r in enumerate(ratios)]

    assert degrading.largest(rows(2.0, 1.5, 0.5, 3.0), "blocks") == 64
    assert degrading.largest(rows(0.9, 2.0), "blocks") == 0
    assert degrading.largest(rows(2.0, 1.0), "blocks") == 64
