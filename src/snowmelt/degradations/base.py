r"""The contract of a degradation: a pure function :math:`x_t = D(x_0, t, z)`.

*x0* is a clean sample, *t* its severity in [0, 1] and *z* one explicit draw of everything random. Severity
0 is the identity; severity 1 is what a prior describes. A degradation holds no tensors, no device and no
state: it is a frozen dataclass, so it can be named in a file, compared, and used as a key.

What one writes is :meth:`Degradation.degrade`, with t already shaped to multiply x; what one calls is the
degradation itself. Everything else is optional and says what the operator knows about itself: in which basis
it is diagonal (preconditioning), which part of the draw is noise that a sampler may solve for, what of the
draw a restorer may be told.

Source: the one function behind Bansal et al. 2022 (arXiv 2208.09392), section 3, with the randomness made explicit.
"""

import abc
from collections.abc import Mapping
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from snowmelt.degradations.inverse import solved
from snowmelt.registry import Part, label, lookup, spec
from snowmelt.schedules import ON_KNOT
from snowmelt.signals import Signal
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity, expand

Basis: TypeAlias = Literal["any", "pixel", "channel", "dct", "fft"]
Inverse: TypeAlias = Literal["exact", "damped", "iterative"]


class Degradation(Part, kind="degradation"):
    """A way to degrade a sample, from t = 0 (untouched) to t = 1. Subclass as a frozen dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Fade(Degradation):
        ...     def degrade(self, x, t, z):
        ...         return (1 - t) * x
        >>> Fade()(torch.ones(2, 1), torch.tensor([0.0, 0.75])).flatten().tolist()
        [1.0, 0.25]
    """

    @property
    def knots(self) -> int | None:
        """T when the operator is a table over t = i/T, linear in between; None when it is a formula."""
        return None

    @property
    def noise(self) -> tuple[str, ...]:
        """The entries of the draw that are standard normal and enter additively."""
        return ()

    @property
    def recovered(self) -> tuple[str, ...]:
        """The entries of the draw that :meth:`recover` solves for: the noise, or whatever else x_t and x0 determine."""
        return self.noise

    @property
    def recovers(self) -> bool:
        """Whether :meth:`recover` can solve for anything."""
        return bool(self.recovered)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The entries of the draw that nobody could know of a stranger's picture; a walk that were handed them would only have to subtract."""
        return self.noise

    @property
    def given(self) -> tuple[str, ...]:
        """The entries of the draw that come from the data item or the user, not from chance."""
        return ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of `given` for which chance is no substitute: what :meth:`draw` puts there is a stand-in, and no training may use it."""
        return ()

    @property
    def tells(self) -> tuple[str, ...]:
        """The entries of the draw that :meth:`context` shows to a restorer."""
        return ()

    @property
    def linear(self) -> bool:
        """Whether D(., t, z) is affine in x for a fixed draw."""
        return False

    @property
    def basis(self) -> Basis | None:
        """The orthonormal basis in which D is diagonal; "any" for a scalar, None when there is none."""
        return None

    @property
    def inverse(self) -> Inverse | None:
        """How :meth:`pinv` undoes D: "exact", so that D(pinv(D x)) = D x; "damped" where gains sink to nothing; "iterative"; None: not at all."""
        return None

    @property
    def takes(self) -> str | None:
        """The signal whose samples it degrades, "sound" or "scan"; None: pictures, and whatever other samples it can work on."""
        return None

    @property
    def local(self) -> bool:
        """Whether it leaves parts of a picture as they are, as a mask does: a window without damage then says nothing of the others."""
        return self.basis == "pixel"

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """One draw of all randomness, every value batch-first. Reads only the shape, dtype and device of `like`."""
        return EMPTY

    @abc.abstractmethod
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """What one writes: x (b, *d) degraded by t (b, 1, ..., 1) in [0, 1]; identity at t = 0."""

    @final
    def __call__(self, x: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """D(x, t, z) for a clean batch x (b, *d) and one severity a sample, t (b,) in [0, 1].

        Raises:
            ValueError: t is not of shape (b,).
        """
        if t.shape != x.shape[:1]:
            raise ValueError(f"{label(type(self))}: t has shape {tuple(t.shape)} for a batch of {len(x)}; give one severity per sample")
        return self.degrade(x, expand(t.to(x.dtype), x), z)

    def change(self, x: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Batch:
        """D(x, s, z) - D(x, t, z), by which a move of TACoS changes a state: where an operator has a short cut, faster than two calls."""
        return self(x, s, z) - self(x, t, z)

    @final
    def given_by(self, item: Mapping[str, Tensor]) -> Draw:
        """The entries of the draw that a data item {"x0": ..., "endpoint": ...} holds; in a composition, by the last part of their names."""
        return {name: item[name.rpartition(".")[2]] for name in self.given if name.rpartition(".")[2] in item}

    def recover(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Draw:
        """The draw z with its noise solved from (x_t, x0, t) and all else kept.

        Raises:
            TypeError: the degradation has no noise to solve for.
        """
        name = label(type(self))
        raise TypeError(f"{name} has no noise that could be recovered from x_t and x0: sample it with TACoS or Naive, or append '+noise'")

    def refresh(self, z: Draw, t: Severity, s: Severity, eta: float, generator: Generators = None) -> Draw:
        """The draw for severity s < t, its noise renewed by the fraction eta of an ancestral step; by default z."""
        return z

    def snapped(self, t: Severity, z: Draw) -> Severity:
        """Severities (b,) moved up to the next knot i/T, where a table is exact; as they are where there are none."""
        return t if self.knots is None else (t * self.knots).ceil() / self.knots

    @final
    def lowered(self, s: Severity, z: Draw, under: Severity) -> Severity:
        """Severities s (b,) moved down to the knot at or below, and below `under` (b,), which s is below; as they are where there are no knots.

        To move down is to move the negatives up. An s that is a knot but for rounding stays there, as :func:`snowmelt.schedules.knot` has it.
        """
        near = s + ON_KNOT
        down = -self.snapped(-near, z)
        return torch.where((down == near) | (down >= under), -self.snapped(-s, z), down)  # equal where there are no knots

    def sigma(self, t: Severity) -> Tensor:
        """The standard deviation of the white noise in x_t, shape (b,)."""
        return torch.zeros_like(t)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """The diagonal of D in its basis, broadcastable to (b, *shape)."""
        raise TypeError(f"{label(type(self))} is diagonal in no basis it knows, so it has no gain")

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """A_t(z)^+ y: the least sample (b, *d) that D turns into y, or nearly so where `inverse` is not "exact"; of an affine D its linear part A.

        Raises:
            TypeError: the degradation knows no inverse.
        """
        raise TypeError(f"{label(type(self))} has no pseudo-inverse, so nothing can be made consistent with what it left: set consistent = False")

    def in_units(self, t: float) -> Mapping[str, float]:
        """Severity t in the operator's own units, for people: {"sigma_px": 3.2}. By default there are none."""
        return {}

    def unknowns(self, t: Severity, z: Draw) -> Mapping[str, Tensor]:
        """The severities, each (b,) in [0, 1], that one would have to guess of a stranger's picture: by default t itself."""
        return {"severity": t}

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor | None:
        """What a restorer may be told of the draw, as channels (b, k, *spatial); None when there is nothing to tell."""
        return None

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor | None:
        """What :meth:`context` shows where there is no damage: (b, k, *spatial); of any draw at severity 0."""
        return self.context(shape, torch.zeros_like(t), self.draw(t.new_zeros(len(t), *shape), torch.Generator()))


class LinearDegradation(Degradation):
    """A degradation that is linear in x for a fixed draw: D(x, t, z) = A_t(z) x."""

    @property
    def linear(self) -> bool:
        """True."""
        return True

    @property
    def inverse(self) -> Inverse | None:
        """By its adjoint, unless it knows better."""
        return "iterative"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """A^T (A A^T + epsilon)^-1 y, by conjugate gradients."""
        return solved(y, lambda x: self(x, t, z), lambda u: self.adjoint(u, t, z))

    @final
    def adjoint(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """A_t(z)^T y, by reverse differentiation: <A x, y> = <x, A^T y>."""
        with torch.enable_grad():
            x = torch.zeros_like(y, requires_grad=True)
            (out,) = torch.autograd.grad(self(x, t, z), x, y)
        return out


def images(x: Tensor, name: str) -> tuple[int, int]:
    """The height and width of a batch of images.

    Raises:
        ValueError: x is not (b, c, h, w).
    """
    if x.ndim != 4:
        raise ValueError(f"{name} degrades images of shape (b, c, h, w); got {tuple(x.shape)}")
    return x.shape[-2], x.shape[-1]


def blank(degradation: Degradation) -> Tensor:
    """The least batch that can be drawn for, a pixel or a sample of sound, all 0: where only the names in a draw matter."""
    return torch.zeros(1, 1, 1) if degradation.takes == "sound" else torch.zeros(1, 3, 1, 1)


def require_taken(degradation: Degradation, signal: Signal, source: str, way_out: str) -> None:
    """Refuse samples of another signal than a degradation is made for.

    Args:
        degradation: what is to degrade them.
        signal: what they are.
        source: where they lie, for the message.
        way_out: what to do instead, for the message.

    Raises:
        ValueError: it takes others.
    """
    if degradation.takes in (None, signal.name):
        return
    kind = lookup(degradation.takes, "signal")
    wanted = kind.many if issubclass(kind, Signal) else degradation.takes
    raise ValueError(f"{spec(degradation)} degrades {wanted}, and {source} holds {signal.many}: {way_out}")
