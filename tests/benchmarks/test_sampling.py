"""The section on walks and folders: its rows, and that a trajectory's memory does not grow."""

from pathlib import Path

import pytest


@pytest.fixture
def sampling(script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return script("benchmarks/sampling.py")


def test_the_quick_run_gives_a_folder_and_trajectories(sampling) -> None:
    rows = sampling.measure(runs=1, quick=True)
    folder, streamed, kept = rows
    assert {"what", "ratio", "low", "high", "pictures/s", "megapixels/s", "network share"} == folder.keys()
    assert 0 < folder["network share"] <= 1
    assert folder["megapixels/s"] == pytest.approx(folder["pictures/s"] * 32 * 32 / 1e6)
    assert streamed["ratio"] <= 1.01
    assert kept["ratio"] > 1.2
