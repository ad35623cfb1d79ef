"""The report's page: what it says and shows of the training."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from snowmelt.pictures import save
from snowmelt.recipes import report, sections


def write_log(run: Path, *restored: float) -> None:
    lines = []
    for i, psnr in enumerate(restored, 1):
        line = {"step": 100 * i, "images": 6400 * i, "wall_s": 9.0 * i}
        found = {"loss": 0.01, "bands": [0.01] * 4, "degraded_psnr_db": 14.0, "restored_psnr_db": psnr}
        lines += [{**line, "loss": 0.01, "lr": 0.5}, {**line, **{f"validation_{name}": value for name, value in found.items()}}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_page_says_whether_it_learns(tmp_path: Path) -> None:
    write_log(tmp_path, 11.5, 11.2)
    section = "".join(sections.trained(tmp_path))
    assert "Is it learning?</h3>" in section
    assert "Not learning: restored 11.20 dB, degraded 14.00 dB of PSNR over all severities, after 12,800 images" in section
    assert "Loss by severity: 0-0.25: 0.01" in section
    (tmp_path / "metrics.jsonl").unlink()
    assert "Is it learning?" not in "".join(sections.trained(tmp_path))


def test_a_copy_that_pip_has_made_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "__file__", str(tmp_path / "lib" / "site-packages" / "snowmelt" / "recipes" / "report.py"))
    assert report.environment()["commit"] == "none (installed package)"


def test_sample_grids_are_moved_through_in_order(tmp_path: Path) -> None:
    assert sections.grown(tmp_path) == []
    for i in range(1, 31):
        save(tmp_path / "samples" / f"{i * 1000:09d}.png", Image.new("RGB", (40, 30), (i, 0, 0)))
    (tmp_path / "samples" / "000031000.png").write_bytes(b"half written")
    heading, scrubber = sections.grown(tmp_path)
    labels = re.findall(r'alt="([^"]+)"', scrubber)
    assert len(labels) == 23, "24 are chosen evenly, and the damaged last one is left out"
    assert labels[0] == "after 1,000 images"
    assert labels == sorted(labels, key=lambda label: int(re.sub(r"\D", "", label)))
    assert "Over the training" in heading
    assert "<figure data-scrubber" in scrubber


def test_a_sheet_that_is_too_wide_hides_no_other(tmp_path: Path) -> None:
    save(tmp_path / "samples" / "000001000.png", Image.new("RGB", (40, 30)))
    save(tmp_path / "samples" / "000002000.png", Image.new("RGB", (17_000, 10)))
    _, scrubber = sections.grown(tmp_path)
    assert re.findall(r'alt="([^"]+)" width="(\d+)"', scrubber) == [("after 1,000 images", "40"), ("after 2,000 images", "8500")]


def test_a_stored_picture_is_opened_as_it_is(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.new("RGB", (3, 2), (1, 2, 3)))
    found = sections.opened(tmp_path / "a.png", tmp_path)
    assert found is not None
    assert (found.size, found.getpixel((2, 1))) == ((3, 2), (1, 2, 3))
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    grey = sections.opened(tmp_path / "grey.png", tmp_path)
    assert grey is not None
    assert grey.getpixel((0, 0)) == (7, 7, 7)
    assert sections.opened(tmp_path / "none.png", tmp_path) is None
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "grid.png").symlink_to(tmp_path / "a.png")
    assert sections.opened(tmp_path / "run" / "grid.png", tmp_path / "run") is None, "a link that leads out of the run"


def test_an_evaluation_without_a_verdict_is_shown() -> None:
    assert "no verdict" in "".join(sections.told([]))
