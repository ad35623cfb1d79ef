"""Priors: where a walk begins when there is nothing to restore, the law of x at t = 1.

A prior is a frozen part; what it learns from data is fitted once, by :meth:`Prior.fit`, which returns the
fitted prior. Its numbers travel as named tensors in the model's safetensors file.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from snowmelt.randomness import normal
from snowmelt.registry import Part, register
from snowmelt.types import Batch, Generators, State


class Prior(Part, kind="prior"):
    """The law of x at t = 1, together with the draw that belongs to it."""

    @abc.abstractmethod
    def fit(self, batches: Iterable[Batch]) -> Self:
        """This prior, fitted to batches (b, *d) at t = 1."""

    @abc.abstractmethod
    def sample(self, n: int, generator: Generators = None) -> State:
        """n starting points on the CPU: x (n, *d) at t = 1, with their draw.

        Raises:
            ValueError: the prior was never fitted.
        """

    def tensors(self) -> Mapping[str, Tensor]:
        """What was learned, by name; nothing by default."""
        return {}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """This prior with what was learned put back."""
        return self


@register("normal")
@dataclass(frozen=True)
class Normal(Prior):
    """Standard normal noise, which is also the draw's "endpoint": the prior of hot diffusion."""

    shape: tuple[int, ...] = ()

    def fit(self, batches: Iterable[Batch]) -> Self:
        """Takes over the shape of a sample; there is nothing else to learn."""
        return dataclasses.replace(self, shape=tuple(next(iter(batches)).shape[1:]))

    def sample(self, n: int, generator: Generators = None) -> State:
        """x = z["endpoint"] ~ N(0, I)."""
        if not self.shape:
            raise ValueError("the normal prior does not know the shape of a sample: call fit first, or give Normal(shape=(c, h, w))")
        x = normal(torch.empty(n, *self.shape), generator)
        return State(x, 1.0, {"endpoint": x})
