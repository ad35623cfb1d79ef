"""What to measure on: patches of the photographs that come with scikit-image, in colour where the operator takes colour; else recordings or scans."""

import functools

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data import bundled
from snowmelt.data.images import from_uint8
from snowmelt.degradations import Degradation
from snowmelt.randomness import generator, permutation
from snowmelt.testing.samples import shape_for, to_measure_on
from snowmelt.types import Batch

SIDE_PX = 16
_FILES = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")
_STRIDE_PX, _SHRUNK = 5, 2
_CHANNELS: dict[str | None, tuple[int, ...]] = {"sound": (1, 2), "scan": (3,)}


@functools.lru_cache(maxsize=4)
def patches(channels: int, number: int) -> Tensor:
    """Patches of 16 x 16 px of small photographs: (number, channels, 16, 16), float64 in [-1, 1], in a random order."""
    found = []
    for file in _FILES:
        x = functional.avg_pool2d(from_uint8(bundled.photo(file)[None]), _SHRUNK)
        tiles = x.unfold(2, SIDE_PX, _STRIDE_PX).unfold(3, SIDE_PX, _STRIDE_PX)
        found.append(tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
    every = torch.cat(found).double()
    every = every[permutation(0, "patches", 0, len(every))[:number]]
    return every if channels == 3 else every.mean(1, keepdim=True)


def accepted(degradation: Degradation) -> int | None:
    """The channels of the samples that it takes: of pictures 3 if it takes colour, else 1, of sound 1, else 2; None if neither keeps its shape."""
    for channels in _CHANNELS.get(degradation.takes, (3, 1)):
        size = (SIDE_PX, SIDE_PX) if degradation.takes is None else shape_for(degradation)[1:]
        x = torch.zeros(2, channels, *size, dtype=torch.float64)
        try:
            if degradation(x, x.new_tensor([0.3, 1.0]), degradation.draw(x, generator(0, "accepted"))).shape == x.shape:
                return channels
        except Exception:  # noqa: BLE001, S112 - whatever it raises, it does not take such pictures
            continue
    return None


def natural(degradation: Degradation, channels: int, number: int) -> Tensor:
    """Samples to measure it on: patches of photographs, or recordings or scans with laws as simple, (number, channels, *d), float64."""
    return patches(channels, number) if degradation.takes is None else to_measure_on(degradation, number, channels)


def suits(degradation: Degradation, x: Batch) -> Batch:
    """The pictures as the operator takes them: in colour, or grey where it refuses colour."""
    return x.mean(1, keepdim=True) if accepted(degradation) == 1 and x.shape[1] == 3 else x
