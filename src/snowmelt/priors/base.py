r"""The contract of a prior, and the broken symmetry that all but pure noise share.

A cold degradation ends in little: one colour, a few block means. A restorer is a function, so whatever variety new samples are to
have, x at t = 1 must bring along. A law fitted to a few numbers brings only those ("perfect symmetry", in the paper's words: every
pixel of a blurred-out picture is the same). White noise of a small standard deviation on top breaks the symmetry,

.. math:: x_1 = \bar x_1 + \varepsilon\, n, \qquad n \sim N(0, I),

which costs nothing and halved the paper's FID at epsilon = .002. It is one field, `noise`, of every prior that is not noise already.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 5.2 and table 5 (CelebA: 97.00 perfect, 49.45 broken).
"""

import abc
import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self, final

import torch
from torch import Tensor

from snowmelt.randomness import normal
from snowmelt.registry import Part, Range, label
from snowmelt.types import Batch, Generators, State


class Prior(Part, kind="prior"):
    """The law of x at t = 1, together with the draw that belongs to it."""

    @abc.abstractmethod
    def fit(self, batches: Iterable[Batch | State]) -> Self:
        """This prior, fitted to batches (b, *d) at t = 1, or to states where the draw that made them matters.

        Raises:
            ValueError: no law of this kind describes them.
        """

    @abc.abstractmethod
    def sample(self, n: int, generator: Generators = None) -> State:
        """n starting points on the CPU: x (n, *d) at t = 1, with their draw.

        Raises:
            ValueError: the prior was never fitted.
        """

    def start(self, n: int, generator: Generators = None) -> State:
        """Like :meth:`sample`, before the symmetry is broken."""
        return self.sample(n, generator)

    def broken(self, state: State, generator: Generators = None) -> State:
        """A state from :meth:`start` with the symmetry broken; by default as it is."""
        return state

    def with_noise(self, noise: float) -> Self:
        """This prior with another broken symmetry.

        Raises:
            ValueError: it has none.
        """
        raise ValueError(f"the prior {label(type(self))} has no symmetry that noise = {noise:g} could break: leave it out")

    def between(self, a: State, b: State, share: Tensor) -> State:
        """States on the way from `a` to `b`, each of one sample (1, *d), at the shares (k,) in [0, 1] of it: by default a straight line.

        What of the draw is no floating-point number is that of the nearer end.
        """
        x = _mixed(a.x, b.x, share)
        return State(x, a.t, {name: _mixed(value, b.z[name], share) for name, value in a.z.items()})

    def gives(self, drawn: frozenset[str]) -> frozenset[str]:
        """Which of the entries of a degradation's draw, `drawn`, its states hold; by default all."""
        return drawn

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of a shape that this prior cannot describe.

        Raises:
            ValueError: it cannot, with the bound.
        """

    def require_learned(self, shape: tuple[int, ...]) -> None:
        """Refuse numbers that were not learned from samples of this shape: a file may hold any.

        Raises:
            ValueError: they were not; by default there are none.
        """

    def tensors(self) -> Mapping[str, Tensor]:
        """What was learned, by name; nothing by default."""
        return {}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """This prior with what was learned put back."""
        return self


@dataclass(frozen=True)
class Learned(Prior):
    """A prior with a symmetry to break and numbers of its own.

    Attributes:
        learned: what :meth:`fit` found; no part of the spec, and not compared.
    """

    noise: Annotated[float, Range(0, 1), "white noise on every pixel of x_1, standard deviation on [-1, 1]; 0 leaves the symmetry perfect"] = 0.002
    learned: Mapping[str, Tensor] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @final
    def sample(self, n: int, generator: Generators = None) -> State:
        """:meth:`start`, its symmetry broken."""
        return self.broken(self.start(n, generator), generator)

    @abc.abstractmethod
    def start(self, n: int, generator: Generators = None) -> State:
        """N samples of the law itself."""

    @final
    def broken(self, state: State, generator: Generators = None) -> State:
        """The state with white noise on x, and on nothing else. It is drawn at noise = 0, too: what is drawn after it stays the same."""
        return state._replace(x=state.x + self.noise * normal(state.x, generator))

    def with_noise(self, noise: float) -> Self:
        """This prior with white noise of that standard deviation; what was learned stays."""
        return dataclasses.replace(self, noise=noise).with_tensors(self.learned)

    def tensors(self) -> Mapping[str, Tensor]:
        """What was learned."""
        return dict(self.learned)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """This prior with what was learned put back."""
        out = copy.copy(self)
        object.__setattr__(out, "learned", dict(tensors))
        return out

    def require_learned(self, shape: tuple[int, ...]) -> None:
        """Refuse what is no finite number, or of other sizes than :meth:`sizes` says."""
        due = self.sizes(shape)
        for name, value in self.learned.items():
            if tuple(value.shape) != due.get(name, tuple(value.shape)) or value.is_complex() or not bool(value.isfinite().all()):
                raise ValueError(f"the prior {label(type(self))} learned no such {name!r} of shape {tuple(value.shape)} from samples {shape}")

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """The sizes of what is learned from samples of a shape, by name, as far as they are known."""
        return {}

    def _known(self, name: str) -> Tensor:
        """One of the learned numbers.

        Raises:
            ValueError: there are none yet, or they are those of another prior.
        """
        if not self.learned:
            raise ValueError(f"the prior {label(type(self))} was never fitted: call fit with samples at t = 1")
        if name not in self.learned:
            raise ValueError(f"the prior {label(type(self))} lacks {name!r} among what it learned ({', '.join(sorted(self.learned))})")
        return self.learned[name]


def as_state(item: Batch | State) -> State:
    """A batch at t = 1 as a state; a state as it is."""
    return item if isinstance(item, State) else State(item, 1.0)


def _mixed(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    share = share.reshape(-1, *(1,) * (a.ndim - 1)).to(a.device)
    return torch.lerp(a, b, share.to(a)) if a.is_floating_point() else torch.where(share < 0.5, a, b)
