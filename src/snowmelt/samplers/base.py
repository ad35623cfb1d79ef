"""What every walk has in common: its severities, and the one loop that there is.

A walk goes down the severities of its :meth:`Sampler.grid`. A pair of equal severities is a move that stays (Langevin dynamics), a pair that
rises is no move at all but a step of the degradation's own chain, taken without asking the restorer (RePaint).

Source: as for :mod:`snowmelt.samplers`; Lugmayr et al. 2022 (arXiv 2201.09865) for steps back.
"""

import abc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias, final

import torch
from torch import Tensor

from snowmelt.degradations import Degradation, chain
from snowmelt.degradations.base import blank
from snowmelt.model import Model
from snowmelt.references import When
from snowmelt.registry import Part, Range, SpecError, label
from snowmelt.samplers.rule import Rule
from snowmelt.types import Draw, Generators, State, expand, severity

Post: TypeAlias = Callable[[Tensor], Tensor]
SPREAD = "spread"
_MOST_CALLS = 100_000
MULTISTEP = When("lu2022", lambda walk: walk.order == 2)  # whose order 2 is an estimate extrapolated from the last one


@dataclass(frozen=True)
class Sampler(Part, kind="sampler"):
    """A walk from severity 1 to 0. Subclasses say how to :meth:`move`; the loop is here and nowhere else.

    Subclasses may also say what they are (:attr:`rule`), what they cannot walk (:meth:`require`) and how they go through their levels.

    Attributes:
        steps: the number of calls of the restorer.
        order: 2 extrapolates the estimate from the previous one.
        snap: for a degradation that is a table, move the grid to its nearest knots, where its restorer was trained.
        times: the severities at which a move begins, as fractions of where the walk starts: falling from 1, all above 0. They settle
            `steps`. Empty: uniform.
        clip: clamp every estimate to the range of the model's data, as DDPM's own sampler does: where little is left of the sample, errors of a
            predicted noise come back many times as large.
    """

    steps: Annotated[int, Range(1, _MOST_CALLS)] = 50
    order: Literal[1, 2] = 1
    snap: bool = False
    times: Annotated[tuple[float, ...], Range(0, 1), "severities of the walk, falling from 1; none for uniform ones"] = ()
    clip: bool = False

    def __post_init__(self) -> None:
        """Check the fields, and that `times` is a walk.

        Raises:
            SpecError: `times` does not fall from 1, reaches 0, is not as long as `steps` says, or makes a walk of more calls than `steps` may be.
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
        if calls > _MOST_CALLS:
            raise SpecError(f"{name}.times are a walk of {calls:,} calls, and {_MOST_CALLS:,} are the most: give fewer")
        object.__setattr__(self, "steps", calls)

    @property
    def corrector(self) -> bool:
        """Whether each move is made again, corrected by the estimate at its end."""
        return False

    def correction(self, degradation: Degradation, t: Tensor, s: Tensor) -> Tensor:
        """Of a sampler with a corrector, how much of the difference of the second estimate is added to the first: (b,), by default a half."""
        return torch.full_like(t, 0.5)

    @property
    def random(self) -> bool:
        """Whether its walks draw, so that two of them from one state end apart."""
        return False

    @abc.abstractmethod
    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """From x at severities t (b,) to x at s (b,) < t, given the estimate x0: the new x and its draw. Calls no network.

        Where the model learned how much to draw, the draw holds it as "spread" (b, *d), about 0 to 1, for this one move.
        """

    @property
    def rule(self) -> Rule | None:
        """What it does, in words and symbols, for ``snowmelt explain``; None: its docstring has to do."""
        return None

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """The entries of the draw without which this sampler cannot move."""
        return frozenset(entries(degradation))

    def require(self, degradation: Degradation) -> None:
        """Refuse a degradation that it cannot walk, before the first call; by default there is none.

        Raises:
            TypeError: it cannot, with the way out.
        """

    @final
    def levels(self) -> list[float]:
        """The severities it goes down, from 1 to 0, each once, as fractions of where it starts: `times`, or uniform."""
        if self.times:
            return [*self.times, 0.0]
        moves = self._moves()
        return [1 - i / moves for i in range(moves)] + [0.0]

    def grid(self) -> list[float]:
        """The severities of the walk one after the other: the levels, and what a sampler makes of them by staying or going back."""
        return self._through(self.levels())

    @final
    def walk(self, degradation: Degradation, start: float | Tensor = 1.0) -> list[float]:
        """The grid as it is walked from `start`: on the knots of a table, if it snaps."""
        grid = self.grid()
        if not self.snap:
            return grid
        if all(s < t for t, s in pairwise(grid)):
            return on_knots(grid, start, degradation.knots)
        return self._through(on_knots(self.levels(), start, degradation.knots))

    @final
    def calls(self, degradation: Degradation, start: float | Tensor = 1.0) -> int:
        """How often a walk from `start` calls the restorer: fewer than `steps` where a table has fewer knots."""
        ends = [s for t, s in pairwise(self.walk(degradation, start)) if s <= t]
        return len(ends) + (sum(s > 0 for s in ends) if self.corrector else 0)

    def _through(self, levels: list[float]) -> list[float]:
        """The walk over these levels."""
        return levels

    def _calls(self, moves: int) -> int:
        """The calls of the restorer in a walk of so many levels above 0: two each with a corrector, but one for the last."""
        return 2 * moves - 1 if self.corrector else moves

    def _moves(self) -> int:
        """The levels above 0 in a walk of `steps` calls."""
        return (self.steps + 1) // 2 if self.corrector else self.steps

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
            ValueError: the state lacks a part of the draw that this sampler reads, or the model is tuned for fewer calls.
            TypeError: the sampler needs noise that the degradation does not have.
        """
        degradation, (x, start, z, _) = model.degradation, state
        self._check(degradation, z)
        self.require_short(model, start)
        yield state
        grid, previous = self.walk(degradation, start), None
        for i, (t_i, s_i) in enumerate(pairwise(grid)):
            t, s = severity(start * t_i, x), severity(start * s_i, x)
            if s_i > t_i:
                x = chain.advance(degradation, x, t, s, z, generator)
                yield State(x, start * s_i, z, previous)
                continue
            estimate, spread = model.predict(x, t, z, cond)
            x0 = estimate
            if self.order == 2 and previous is not None and grid[i - 1] > t_i:
                x0 = x0 + min(1.0, (t_i - s_i) / (grid[i - 1] - t_i)) / 2 * (x0 - previous)
            x0 = self._settled(x0, model, post)
            if self.corrector and s_i > 0:
                ahead, z_ahead = self.move(degradation, x, x0, t, s, z, generator)
                other = self._settled(model.estimate(ahead, s, z_ahead, cond), model, post)
                x0 = x0 + expand(self.correction(degradation, t, s), x0) * (other - x0)
            x, z = self.move(degradation, x, x0, t, s, z if spread is None else {**z, SPREAD: spread}, generator)
            if spread is not None:
                z = {name: value for name, value in z.items() if name != SPREAD}
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

    def _settled(self, x0: Tensor, model: Model, post: Post | None) -> Tensor:
        """An estimate as the walk uses it: clipped if it is to be, then what `post` makes of it."""
        x0 = x0.clamp(*model.range) if self.clip else x0
        return x0 if post is None else post(x0)

    @final
    def require_short(self, model: Model, start: float | Tensor = 1.0) -> None:
        """Refuse to walk far with a restorer that is tuned for few calls: it returns no mean, so its walk follows no equation.

        Raises:
            ValueError: the walk has more calls than the model is good for, or order 2.
        """
        most = model.most_calls
        if most is None:
            return
        calls, name = self.calls(model.degradation, start), label(type(self))
        told = f"this model is tuned, {model.estimates}, for walks of at most {most} call{'s' if most > 1 else ''} of order 1"
        way_out = "leave the walk to the model, or take the one it was tuned from"
        if calls > most:
            raise ValueError(f"{name} of {calls} calls: {told}: {way_out}")
        if self.order == 2 or (self.corrector and calls > 1):
            raise ValueError(f"{name} is of order 2 here, and {told}: {way_out}")

    def _check(self, degradation: Degradation, z: Draw) -> None:
        self.require(degradation)
        missing = sorted(self.reads(degradation) - z.keys())
        if missing:
            raise ValueError(
                f"{label(type(self))} steps through {label(type(degradation))} with its draw, and {', '.join(missing)} is not known for these "
                "samples: give it in State.z, or use one call of the restorer (--faithful, in Python snowmelt.restore(..., sampler=None))"
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
    """All that a degradation draws, as the draw of the least sample: only its names matter, so any generator will do, but never the ambient one."""
    return degradation.draw(blank(degradation), torch.Generator())


def brought(degradation: Degradation) -> frozenset[str]:
    """The entries of the draw that the start of a walk has to bring along: all but what is solved for on the way."""
    return frozenset(entries(degradation)) - set(degradation.recovered)
