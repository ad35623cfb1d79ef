"""docs/reliability.md: its tables are those of the kept results, and every promise has a test that measures it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLED = re.compile(r"""(?<![.\w])figure\(\s*f?["']([^"']+)["']""")


@pytest.fixture(scope="module")
def reliability(script):
    return script("scripts/reliability.py")


@pytest.fixture(scope="module")
def kept(reliability) -> dict:
    return json.loads(reliability.RESULTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def called() -> dict[str, str]:
    """Every id that a test hands to figure(), and the file of the test."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {promise: path.name for path in files if path != Path(__file__) for promise in CALLED.findall(path.read_text(encoding="utf-8"))}


def test_the_page_says_what_was_measured(reliability, kept) -> None:
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == reliability.filled(page, reliability.parts(kept)), "run: python scripts/reliability.py"


def test_every_promise_of_the_page_is_measured_by_a_test(reliability, called) -> None:
    assert not reliability.known() - called.keys()


def test_every_figure_of_a_test_stands_on_the_page(reliability, called) -> None:
    odd = {promise: where for promise, where in called.items() if promise not in reliability.known()}
    assert not odd, "add them to PROMISES in scripts/reliability.py"


def test_what_is_kept_is_of_promises_that_are_made_and_of_tests_that_exist(reliability, kept) -> None:
    for run in ("ci", "soak"):
        for promise, found in kept.get(run, {}).get("figures", {}).items():
            assert promise in reliability.known()
            assert found["outcome"] == "passed", f"{run}: {promise}"
            path, _, name = found["test"].partition("::")
            assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), found["test"]


def test_a_figure_a_failure_and_nothing_are_told_apart(reliability) -> None:
    assert reliability._said(None) == "pending"
    assert reliability._said({"figure": "25 kills", "outcome": "passed"}) == "25 kills"
    assert reliability._said({"figure": "25 kills", "outcome": "failed"}) == "**failed**: 25 kills"


def test_a_page_without_a_place_for_a_table_is_refused(reliability) -> None:
    with pytest.raises(ValueError, match="lacks the markers <!-- begin zoo -->"):
        reliability.filled("", {"zoo": ""})


def test_figures_of_a_promise_that_no_table_has_are_refused(reliability, tmp_path: Path) -> None:
    (tmp_path / "ci.json").write_text('{"miracles": {"figure": "3", "outcome": "passed", "test": "x"}}')
    with pytest.raises(ValueError, match="holds miracles: add the promise"):
        reliability.measured(tmp_path / "ci.json")
