"""The kept figures on reading severities: the page says what the file says, and the file says where it comes from."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from snowmelt import registry

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def severity(script) -> ModuleType:
    return script("benchmarks/severity.py")


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    path = ROOT / "benchmarks" / "results" / "severity.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"operators": {}}
    return found


def test_the_page_is_what_the_figures_say(severity: ModuleType, kept: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "severity.md").read_text(encoding="utf-8")
    assert page == severity.filled(page, kept), "run python benchmarks/severity.py --page"
    for entry in kept["operators"].values():
        assert all(f"{row['rmse']:.3f}" in page for row in entry.get("whole", {}).get("rows", []))


def test_every_shipped_degradation_is_measured_or_left_out_with_a_reason(severity: ModuleType, kept: dict[str, Any]) -> None:
    if not kept["operators"]:
        pytest.skip("no figures are kept yet: python benchmarks/severity.py --data DIR")
    assert severity.degradations().keys() <= kept["operators"].keys()
    others = set(registry.names("degradation")) - severity.degradations().keys()
    assert all(registry.build(name).takes for name in others), "what degrades pictures is measured on them"
    for entry in kept["operators"].values():
        assert entry.get("skipped") or {"commit", "date", "threads", "torch", "processor"} <= entry["environment"].keys()


def test_scores_of_known_answers(severity: ModuleType) -> None:
    truth = torch.tensor([0.0, 0.0, 0.5, 1.0])
    present = torch.tensor([0.1, 0.6, 0.5, 1.0])
    found = severity.row(torch.tensor([0.0, 0.1, 0.25, 1.0]), torch.full((4,), 0.15), present, truth)
    assert found["rmse"] == pytest.approx(((0.01 + 0.0625) / 4) ** 0.5)
    assert (found["within_1_std"], found["within_2_std"]) == (0.75, 1.0)
    assert found["presence_auc"] == 0.75
    assert found["rmse_if_present"] == pytest.approx(0)
    assert severity.area(torch.ones(2), torch.tensor([True, True])) is None
