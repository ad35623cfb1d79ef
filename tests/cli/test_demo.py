"""demo: what it writes lies where it was asked for."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from snowmelt.cli import score
from snowmelt.evaluation import Report


@pytest.mark.parametrize(
    ("asked", "quick", "where"),
    [(None, False, "runs/demo"), (None, True, "runs/demo-quick"), ("here", False, "here"), ("here", True, "here")],
)
def test_the_folder_that_was_named_is_taken_as_it_is(asked: str | None, quick: bool, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("snowmelt.recipes.demo.opening", lambda out: seen.append(out) or {})
    monkeypatch.setattr("snowmelt.recipes.demo.demo", lambda out, **_: seen.append(out) or SimpleNamespace(summary=lambda: ""))
    score.demo(quick=quick) if asked is None else score.demo(out=Path(asked), quick=quick)
    assert seen == [Path(where)] * 2


def test_the_page_is_named_right_under_the_verdict_and_its_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"input": "8bit", "images": 9, "ssim": 0.5, "intervals": {"rmse": [0.1, 0.2]}}
    rows = [{**row, "method": "Degraded", "calls": 0, "rmse": 0.3}, {**row, "method": "Direct", "calls": 1, "rmse": 0.1}]
    report = Report([*rows, *({**one, "input": "float"} for one in rows)], {"trained for": "pictures rounded to 8 bits"}, ["One call gains."])
    monkeypatch.setattr("snowmelt.recipes.demo.opening", lambda out: {})
    monkeypatch.setattr("snowmelt.recipes.demo.demo", lambda out, **_: report)
    score.demo(out=Path("here"))
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "open here/report.html: all tables, pictures and curves"
    assert said.index("One call gains.") < said.index("Degraded pictures at t = 1, rounded to 8 bits") < said.index("| Direct | 1 | **0.100** |")
    assert said.count("| Direct |") == 1
