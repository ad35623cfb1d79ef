"""demo: what it writes lies where it was asked for."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from snowmelt.cli import score


@pytest.mark.parametrize(
    ("asked", "quick", "where"),
    [(None, False, "runs/demo"), (None, True, "runs/demo-quick"), ("here", False, "here"), ("here", True, "here")],
)
def test_the_folder_that_was_named_is_taken_as_it_is(asked: str | None, quick: bool, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("snowmelt.recipes.demo.opening", lambda out: seen.append(out) or {})
    monkeypatch.setattr("snowmelt.recipes.demo.demo", lambda out, **_: seen.append(out) or SimpleNamespace(markdown=lambda: ""))
    score.demo(quick=quick) if asked is None else score.demo(out=Path(asked), quick=quick)
    assert seen == [Path(where)] * 2
