"""Suggested schedules: the table of docs/own.md says what the kept measurement says."""

import json
import math
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_of_the_page_is_the_measurement(script) -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "schedule.json").read_text(encoding="utf-8"))["rows"]
    page = (ROOT / "docs" / "own.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([^`]+)` \| (\d.*?) \|$", page, flags=re.M))
    assert table.keys() == {row["degradation"] for row in kept}
    benchmark = script("benchmarks/schedule.py")
    for spec, figures in table.items():
        rows = [row for row in kept if row["degradation"] == spec]
        ratios = [benchmark.ratios(rows, "mean square", figure) for figure in ("law", "path")]
        means = [math.exp(sum(map(math.log, values)) / len(values)) for values in ratios]
        assert figures == " | ".join(f"{value:.2f}" for value in (*means, *map(max, ratios))), spec
