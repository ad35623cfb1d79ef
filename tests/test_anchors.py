"""Figures of the paper that need no network: the Degraded columns depend on data and operator alone.

They need MNIST: set SNOWMELT_DATA to a folder with mnist/ (the four original idx files).
"""

import os
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.metrics import Distortion
from snowmelt.types import severity


def mnist() -> torch.Tensor:
    folder = Path(os.environ.get("SNOWMELT_DATA", "/nonexistent")) / "mnist"
    if not folder.is_dir():
        pytest.skip("needs MNIST: set SNOWMELT_DATA to a folder that has mnist/ with the original idx files")
    test = open_data(DataOptions(path=str(folder), size=32), "test")
    assert len(test) == 10_000
    return test.batch(range(10_000))["x0"]


@pytest.mark.parametrize(
    ("spec", "rmse"),
    [("recursive-blur:routine=constant,kernel_size=11,kernel_std=7,steps=20", 0.287), ("pixelate:levels=3", 0.231)],
)
def test_the_papers_degraded_columns(spec: str, rmse: float) -> None:
    """Tables 1 and 3 of Bansal et al. 2022: plain bilinear resize from 28 to 32 px, all 10,000 test pictures."""
    x0, scores = mnist(), Distortion()
    for part in x0.split(1000):
        scores.update(snowmelt.build(spec)(part, severity(1.0, part)), part)
    assert scores.compute()["rmse"] == pytest.approx(rmse, abs=6e-4)
