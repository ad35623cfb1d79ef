r"""Samplers: how to walk from t = 1 to t = 0 with a restorer, one family for hot and cold.

Every sampler repeats one move: let the restorer estimate the clean sample, :math:`\hat x_0 = R(x_t, t)`,
then go to a smaller severity s. They differ in what they keep of x_t:

===========  ====================================================================  =====================
Naive        :math:`x_s = D(\hat x_0, s, z)`                                       Algorithm 1
TACoS        :math:`x_s = x_t - D(\hat x_0, t, z) + D(\hat x_0, s, z)`             Algorithm 2
Ancestral    solve z from :math:`(x_t, \hat x_0)`, renew a part of it, then        DDPM (eta = 1),
             :math:`x_s = D(\hat x_0, s, z')`                                      DDIM (eta = 0)
Heun         the move of TACoS, or of DDIM where z can be solved, with the mean    EDM
             of the estimates at both ends
===========  ====================================================================  =====================

TACoS forgives: for a linear D its output is :math:`x_0 + \sum_i (D_{t_{i-1}} - D_{t_i}) e_i`, where
:math:`e_i` is the restorer's error at t_i, so each call's error passes only in the band which that step
restores; Naive returns :math:`x_0 + e_1`, the last call's error whole. ``order = 2`` extrapolates the estimate from the
previous one,

.. math:: \hat x_0 \leftarrow \hat x_0 + \tfrac r2 (\hat x_0 - \hat x_0^{prev}),
          \qquad r = \min\left(1, \frac{t - s}{t_{prev} - t}\right),

at no extra call; where a walk follows an ordinary differential equation that makes it second order.

A walk's severities are uniform between 1 and 0 unless ``times`` names them: ``tacos:times=(1,0.6,0.2)`` is a walk of three calls.
``snowmelt suggest-schedule`` proposes such a list (:mod:`snowmelt.restorers.information`).

A sampler is a frozen value and holds no network: a recipe can name it.

Source: Bansal et al. 2022 (arXiv 2208.09392), Algorithms 1 and 2; Ho et al. 2020 (arXiv 2006.11239); Song et al. 2020
(arXiv 2010.02502); Karras et al. 2022 (arXiv 2206.00364), Algorithm 1; Lu et al. 2022 (arXiv 2211.01095) for multistep order 2.
"""

import abc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias, final

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.registry import Part, Range, SpecError, label, register
from snowmelt.types import Draw, Generators, State, severity

Post: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sampler(Part, kind="sampler"):
    """A walk from severity 1 to 0. Subclasses say how to :meth:`move`; the loop is here and nowhere else.

    Attributes:
        steps: the number of calls of the restorer.
        order: 2 extrapolates the estimate from the previous one.
        snap: for a degradation that is a table, move the grid to its nearest knots, where its restorer was trained.
        times: the severities at which a move begins, as fractions of where the walk starts: falling from 1, all above 0. They settle
            `steps`. Empty: uniform.
    """

    steps: Annotated[int, Range(1, 100_000)] = 50
    order: Literal[1, 2] = 1
    snap: bool = False
    times: Annotated[tuple[float, ...], Range(0, 1), "severities of the walk, falling from 1; none for uniform ones"] = ()

    def __post_init__(self) -> None:
        """Check the fields, and that `times` is a walk.

        Raises:
            SpecError: `times` does not fall from 1, reaches 0, or is not as long as `steps` says.
        """
        super().__post_init__()
        if not self.times:
            return
        name = label(type(self))
        if self.times[0] != 1:
            raise SpecError(f"{name}.times begins with {self.times[0]:g}, not with 1: times are fractions of the severity where a walk starts")
        if any(s >= t for t, s in pairwise(self.times)) or self.times[-1] <= 0:
            raise SpecError(f"{name}.times = ({', '.join(f'{t:g}' for t in self.times)}) must fall from each to the next and stay above 0, its end")
        calls = self._calls(len(self.times))
        if self.steps not in (calls, Sampler.steps):  # the default says nothing
            raise SpecError(f"{name}.steps = {self.steps}, but its times are a walk of {calls} calls: leave out one of the two")
        object.__setattr__(self, "steps", calls)

    @property
    def corrector(self) -> bool:
        """Whether each move is repeated with the mean of the estimates at its two ends."""
        return False

    @property
    def random(self) -> bool:
        """Whether its walks draw, so that two of them from one state end apart."""
        return False

    @abc.abstractmethod
    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """From x at severities t (b,) to x at s (b,) < t, given the estimate x0: the new x and its draw. Calls no network."""

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """The entries of the draw without which this sampler cannot move."""
        return frozenset(entries(degradation))

    def grid(self) -> list[float]:
        """The severities of the walk, from 1 to 0, as fractions of where it starts: `times`, or uniform."""
        if self.times:
            return [*self.times, 0.0]
        moves = self._moves()
        return [1 - i / moves for i in range(moves)] + [0.0]

    def _calls(self, moves: int) -> int:
        """The calls of the restorer in a walk of so many moves."""
        return moves

    def _moves(self) -> int:
        """The moves of a walk of `steps` calls."""
        return self.steps

    @final
    @torch.no_grad()
    def trajectory(
        self, model: Model, state: State, generator: Generators = None, *, cond: Tensor | None = None, post: Post | None = None
    ) -> Iterator[State]:
        """The states of the walk: `state` itself, then one after every move. Memory does not grow with steps.

        Args:
            model: degradation and restorer.
            state: where to start: x at severity t, with the draw it came from.
            generator: one, or one per sample, for samplers that draw.
            cond: what the restorer is conditioned on, handed through.
            post: what is done to every estimate before the walk uses it, and to x at the end: data consistency.

        Raises:
            ValueError: the state lacks a part of the draw that this sampler reads.
            TypeError: the sampler needs noise that the degradation does not have.
        """
        degradation, (x, start, z, _) = model.degradation, state
        self._check(degradation, z, x)
        yield state
        grid, previous = self.grid(), None
        if self.snap:
            grid = on_knots(grid, start, degradation.knots)
        for i, (t_i, s_i) in enumerate(pairwise(grid)):
            t, s = severity(start * t_i, x), severity(start * s_i, x)
            estimate = model.estimate(x, t, z, cond)
            x0 = estimate
            if self.order == 2 and previous is not None:
                x0 = x0 + min(1.0, (t_i - s_i) / (grid[i - 1] - t_i)) / 2 * (x0 - previous)
            if post is not None:
                x0 = post(x0)
            if self.corrector and s_i > 0:
                ahead, z_ahead = self.move(degradation, x, x0, t, s, z, generator)
                other = model.estimate(ahead, s, z_ahead, cond)
                x0 = (x0 + (other if post is None else post(other))) / 2
            x, z = self.move(degradation, x, x0, t, s, z, generator)
            if post is not None and s_i == 0:
                x = post(x)
            previous = estimate
            yield State(x, start * s_i, z, estimate)

    @final
    def sample(
        self, model: Model, state: State, generator: Generators = None, *, cond: Tensor | None = None, post: Post | None = None
    ) -> Tensor:
        """The end of the trajectory, x at t = 0: (b, *d)."""
        return deque(self.trajectory(model, state, generator, cond=cond, post=post), maxlen=1)[0].x

    def _check(self, degradation: Degradation, z: Draw, x: Tensor) -> None:
        missing = sorted(self.reads(degradation) - z.keys())
        if missing:
            raise ValueError(
                f"{label(type(self))} steps through {label(type(degradation))} with its draw, and {', '.join(missing)} is not known for these "
                "samples: give it in State.z, or use one call of the restorer (snowmelt.restore(..., sampler=None))"
            )


def on_knots(grid: list[float], start: float | Tensor, knots: int | None) -> list[float]:
    """The grid moved to the nearest knots i/T of a table, the only severities its restorer may have seen.

    A grid finer than the table becomes the knots themselves, fewer calls than were asked for. Left alone where the walk
    does not begin on a knot.
    """
    if knots is None or isinstance(start, Tensor) or start == 0 or abs(start * knots - round(start * knots)) > 1e-6:
        return grid
    first = round(start * knots)
    if len(grid) - 1 > first:
        return [i / first for i in range(first, -1, -1)]
    return list(dict.fromkeys(round(t * first) / first for t in grid))  # times of one's own may share a knot


def entries(degradation: Degradation) -> Draw:
    """All that a degradation draws, as the draw of a one-pixel sample: only its names matter, so any generator will do, but never the ambient one."""
    return degradation.draw(torch.zeros(1, 3, 1, 1), torch.Generator())


def brought(degradation: Degradation) -> frozenset[str]:
    """The entries of the draw that the start of a walk has to bring along: all but what is solved for on the way."""
    return frozenset(entries(degradation)) - set(degradation.recovered)


@register("naive")
@dataclass(frozen=True)
class Naive(Sampler):
    """Degrade the estimate to s: errors of every call are kept whole. Source: Cold Diffusion, Algorithm 1."""

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """D(x0, s, z)."""
        return degradation(x0, s, z), z


@register("tacos")
@dataclass(frozen=True)
class TACoS(Sampler):
    """Take away what the estimate degraded to t explains, add it degraded to s. Source: Cold Diffusion, Algorithm 2."""

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """x - D(x0, t, z) + D(x0, s, z)."""
        return x - degradation(x0, t, z) + degradation(x0, s, z), z


@register("ancestral")
@dataclass(frozen=True)
class Ancestral(Sampler):
    """Solve the noise, renew the share eta of it, degrade the estimate to s: eta = 1 is DDPM, eta = 0 DDIM.

    Source: Ho et al. 2020, eq. 7 (posterior with the small variance); Song et al. 2020, eq. 12 and 16.
    """

    eta: Annotated[float, Range(0, 1)] = 1.0

    @property
    def random(self) -> bool:
        """Where noise is renewed."""
        return self.eta > 0

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but what is solved for."""
        return super().reads(degradation) - set(degradation.recovered)

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """D(x0, s, z') with z' = refresh(recover(x, x0, t))."""
        z = degradation.refresh(degradation.recover(x, x0, t, z), t, s, self.eta, generator)
        return degradation(x0, s, z), z


@register("heun")
@dataclass(frozen=True)
class Heun(Sampler):
    """Two calls a move: Heun's second-order step. `steps` counts calls, so there are (steps + 1) // 2 moves.

    Source: Karras et al. 2022 (arXiv 2206.00364), Algorithm 1.
    """

    @property
    def corrector(self) -> bool:
        """True."""
        return True

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but what can be solved for."""
        return super().reads(degradation) - set(degradation.recovered)

    def _calls(self, moves: int) -> int:
        """Two a move, but one for the last."""
        return 2 * moves - 1

    def _moves(self) -> int:
        """One for every two calls."""
        return (self.steps + 1) // 2

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """The move of DDIM where the noise can be solved, else that of TACoS."""
        if degradation.recovers:
            z = degradation.recover(x, x0, t, z)
            return degradation(x0, s, z), z
        return x - degradation(x0, t, z) + degradation(x0, s, z), z


def default_sampler(degradation: Degradation, calls: int = 12) -> Sampler:
    """What restore and generate use when nothing is said: order 2 at 12 calls.

    TACoS where the draw is all there is; where there is noise that can be solved for, TACoS with the noise solved
    anew at every step, which is Ancestral with eta = 0 ("estimated noise", table 5 of the paper: 23.11 against 59.91).
    A recursive operator of T knots takes T order-1 steps of TACoS, its own grid. Where the draw hides more than that noise, no walk
    could know it: one call, which is a single step of Naive.
    """
    if set(degradation.hidden) - set(degradation.recovered):
        return Naive(steps=1)
    if degradation.recovers:
        return Ancestral(steps=calls, order=2, eta=0.0, snap=degradation.knots is not None)
    if degradation.knots is not None:
        return TACoS(steps=degradation.knots, snap=True)
    return TACoS(steps=calls, order=2)
