"""Oracles: restorers that know, ignore or guess the truth, or miss it by a known error."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from snowmelt.randomness import generator, normal
from snowmelt.types import Batch


def perfect(x0: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns the truth."""
    return lambda x_t, t: x0


def constant(answer: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns `answer`, right or wrong."""
    return lambda x_t, t: answer.expand_as(x_t)


def random(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that returns fresh noise at every call."""
    source = generator(seed, "random-restorer")
    return lambda x_t, t: normal(x_t, source)


def astray(x0: Batch, size: float, how: Literal["smooth", "random"] = "smooth", seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer whose error is known: the truth and an error of root mean square `size`.

    Args:
        x0: the truth, (b, c, h, w).
        size: of the error, on the range of the data.
        how: "smooth" is one bias for all calls, half a wave across and down the picture; "random" is fresh noise at every call.
        seed: of the noise.
    """
    source = generator(seed, "astray")
    if how == "random":
        return lambda x_t, t: x0 + size * normal(x0, source)
    h, w = x0.shape[-2:]
    rows, columns = (torch.cos(math.pi * (torch.arange(n).to(x0) + 0.5) / n) for n in (h, w))
    bias = 1 + rows[:, None] + columns[None, :]
    error = size * bias / bias.square().mean().sqrt()
    return lambda x_t, t: x0 + error
