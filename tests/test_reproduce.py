"""The reproductions: the pages say what the kept evaluations say, and nothing else."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snowmelt.evaluation import Report
from snowmelt.recipes.recipe import presets

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "reproductions"


@pytest.fixture(scope="module")
def reproduce(script) -> ModuleType:
    return script("scripts/reproduce.py")


def row(method: str, kind: str, calls: int, **measures: float) -> dict[str, Any]:
    return {"method": method, "kind": kind, "input": "float", "calls": calls, "images": 100, **measures}


def keep(kept: Path, name: str, part: str, rows: list[dict[str, Any]]) -> None:
    place = kept / name / part
    place.mkdir(parents=True)
    facts = {"trained for": "floating point, noise floor 0", "commit": "abc"}
    (place / "evaluation.json").write_text(json.dumps({"rows": rows, "facts": facts, "verdict": ["It gains."]}), encoding="utf-8")


def trained(fd: float, rmse: float, error: float, *, ours: bool) -> list[dict[str, Any]]:
    walk = row("Algorithm 2 (TACoS), order 2" if ours else "Algorithm 2 (TACoS)", "walk", 5 if ours else 20)
    walk |= {"rmse": rmse + 0.01, "FD-mnist-v1": fd, "measurement error": error}
    naive = row("Algorithm 1 (naive)", "walk", 20, rmse=0.5) | {"FD-mnist-v1": 50.0}
    both = [naive] if ours else [naive, row("Algorithm 2 (TACoS)", "walk", 5, rmse=0.3) | {"FD-mnist-v1": 99.0, "measurement error": 1.0}]
    return [row("Degraded", "degraded", 0, rmse=0.3), row("Direct", "direct", 1, rmse=rmse) | {"FD-mnist-v1": 9.0}, walk, *both]


def test_the_pages_are_what_the_evaluations_say(reproduce: ModuleType) -> None:
    pages = reproduce.pages()
    assert {path.name for path in KEPT.glob("*.md")} == pages.keys()
    for name, text in pages.items():
        assert (KEPT / name).read_text(encoding="utf-8") == text, "run python scripts/reproduce.py"


def test_kept_evaluations_name_commit_device_and_seed() -> None:
    kept = list(KEPT.glob("**/evaluation.json"))
    assert kept
    for path in kept:
        report = Report.read(path)
        facts, tested = report.facts, f"test {report.signal.many}"
        assert {"commit", "device", "threads", "torch", "date", tested, "trained on"} <= facts.keys(), path
        assert "seed" in facts[tested], path
        assert not facts["commit"].endswith("+"), path
        assert path.relative_to(KEPT).parts[0] in presets()


def test_rows_that_were_not_run_are_pending(reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "KEPT", tmp_path)
    index = reproduce.pages()["index.md"]
    assert "*Pending.*" in index
    assert all(f"| `{name}` |" in index for name in presets() if name not in reproduce.UNPUBLISHED)


def test_ours_is_compared_with_the_better_of_the_papers_rows(reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "KEPT", tmp_path)
    keep(tmp_path, "bansal2022-mnist-four", "snow", trained(40.0, 0.2, 0.2, ours=False))
    keep(tmp_path, "mnist-four-l1", "snow", trained(10.0, 0.1, 0.4, ours=False))
    assert "Ours against" not in reproduce.pages()["index.md"]  # a third of it is not there yet
    keep(tmp_path, "mnist-four", "snow", trained(6.0, 0.12, 0.1, ours=True))
    index = reproduce.pages()["index.md"]
    said = "(5 calls against 20): the distance of sets is 40% lower; the RMSE of one call is 20% higher; the measurement error is 50% lower."
    assert said in index
    assert "| bansal2022-mnist-four/snow | float | 20 | 0.5 | 0.21 | 50 | 40 |" in index  # Algorithm 1 beside 2, at equal calls


@pytest.mark.parametrize(("weights", "pictures", "images", "stale"), [
    ("w", "100 of 10,000", 100, False),
    ("w", "1,000 of 10,000", 1000, False),
    ("w", "260 of 260", 1000, False),  # all there are
    ("w", "100 of 10,000", 1000, True),
    ("other", "100 of 10,000", 100, True),
    (None, "100 of 10,000", 100, True),
])
def test_an_evaluation_of_other_weights_or_numbers_is_made_anew(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str | None, pictures: str, images: int, stale: bool
) -> None:
    monkeypatch.setattr(reproduce, "weights_of", lambda run: "w")
    facts = {"weights": weights, "test pictures": f"{pictures}, drawn with seed 0"}
    path = tmp_path / "evaluation.json"
    assert reproduce._stale(path, tmp_path, images)
    path.write_text(json.dumps({"rows": [], "facts": facts, "verdict": []}), encoding="utf-8")
    assert reproduce._stale(path, tmp_path, images) is stale
