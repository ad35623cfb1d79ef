"""The report's page: what it says of the training."""

import json
from pathlib import Path

from snowmelt.recipes import report


def write_log(run: Path, *restored: float) -> None:
    lines = []
    for i, psnr in enumerate(restored, 1):
        line = {"step": 100 * i, "images": 6400 * i, "wall_s": 9.0 * i}
        found = {"loss": 0.01, "bands": [0.01] * 4, "degraded_psnr_db": 14.0, "restored_psnr_db": psnr}
        lines += [{**line, "loss": 0.01, "lr": 0.5}, {**line, **{f"validation_{name}": value for name, value in found.items()}}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_page_says_whether_it_learns(tmp_path: Path) -> None:
    write_log(tmp_path, 11.5, 11.2)
    section = "".join(report._trained(tmp_path, tmp_path))
    assert "Is it learning?</h3>" in section
    assert "Not learning: restored 11.20 dB, degraded 14.00 dB of PSNR, after 12,800 images" in section
    assert "Loss by severity: 0-0.25: 0.01" in section
    (tmp_path / "metrics.jsonl").unlink()
    assert "Is it learning?" not in "".join(report._trained(tmp_path, tmp_path))
