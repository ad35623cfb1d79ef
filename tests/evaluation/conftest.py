"""Digits of 16 px, and features that need no training."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.dataset import Dataset
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.metrics.features import Features

DIGITS = DataOptions(path="bundled:digits", size=16, validation=0.1, test=0.2)


class Blocks(Features):
    """The means of 4 x 4 blocks; a picture's class is a hash of nothing: how bright it is, in ten steps."""

    name = "blocks"
    classes = tuple(str(i) for i in range(10))
    dims = 16

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return functional.adaptive_avg_pool2d(x.clamp(-1, 1), 4).mean(1).flatten(1)

    def labels(self, x: Tensor) -> Tensor:
        return ((x.clamp(-1, 1).mean((1, 2, 3)) + 1) * 15).long().clamp(0, 9)


@pytest.fixture(scope="session")
def splits() -> dict[str, Dataset]:
    return {name: open_data(DIGITS, name) for name in ("test", "validation", "train")}


@pytest.fixture
def blocks() -> Blocks:
    return Blocks()


@pytest.fixture
def cubes() -> Callable[[int, int], Tensor]:
    """n pictures of noise around a grey, by seed."""

    def make(n: int, seed: int) -> Tensor:
        return torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 0.3

    return make
