"""The published results: the page says what the kept evaluations say, and nothing else."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("results_script", ROOT / "scripts" / "results.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_is_what_the_evaluations_say() -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == script().page(), "run python scripts/results.py"


def test_kept_evaluations_name_commit_device_and_seed() -> None:
    kept = list((ROOT / "docs" / "results").glob("*/evaluation.json"))
    assert kept
    for path in kept:
        facts = json.loads(path.read_text(encoding="utf-8"))["facts"]
        assert {"commit", "device", "threads", "torch", "date", "test pictures", "trained on"} <= facts.keys(), path
        assert "seed" in facts["test pictures"], path
