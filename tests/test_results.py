"""The published results: the page says what the kept evaluations say, and nothing else."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_evaluations_say(script) -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == script("scripts/results.py").page(), "run python scripts/results.py"


def test_kept_evaluations_name_commit_device_and_seed() -> None:
    kept = list((ROOT / "docs" / "results").glob("*/evaluation.json"))
    assert kept
    for path in kept:
        facts = json.loads(path.read_text(encoding="utf-8"))["facts"]
        assert {"commit", "device", "threads", "torch", "date", "test pictures", "trained on"} <= facts.keys(), path
        assert "seed" in facts["test pictures"], path
