"""A suggestion: the severities of a walk through an operator, spaced by equal loss on given pictures.

The operator's loss is measured on a fine grid (or at its knots, where it is a table) and inverted. Pictures with more values than a dense
covariance bears are cut to their middle.
"""

from dataclasses import dataclass

import numpy as np

from snowmelt.degradations import Degradation
from snowmelt.restorers.information import closed_form, errors, middle, on_distinct_knots, spaced, variance
from snowmelt.types import Batch

_GRID = 48
_VALUES = {True: 1024, False: 300}  # of a picture: with a formula, by regression


@dataclass(frozen=True)
class Suggestion:
    """Severities and what they were read from.

    Attributes:
        times: falling, from where the walk starts; each the severity of one call.
        losses: the mean square error of the best linear estimate at each of them.
        severities: the grid on which the loss was measured, rising from 0.
        curve: the mean square error there.
        variance: of the pictures: the error of knowing nothing.
        exact: whether the errors have a formula.
        knots: T where `times` lie on knots i/T.
        shape: of the pictures looked at.
        whole: of the pictures given.
    """

    times: tuple[float, ...]
    losses: tuple[float, ...]
    severities: tuple[float, ...]
    curve: tuple[float, ...]
    variance: float
    exact: bool
    knots: int | None
    shape: tuple[int, ...]
    whole: tuple[int, ...]

    @property
    def cut(self) -> bool:
        """Whether only the middle of the pictures was looked at."""
        return self.shape != self.whole


def suggest(degradation: Degradation, x0: Batch, steps: int, *, start: float = 1.0) -> Suggestion:
    """Severities for a walk of so many calls, each step restoring an equal part of the mean square error.

    Args:
        degradation: D.
        x0: clean pictures (b, c, h, w), at least 8.
        steps: calls of the restorer; fewer come out where a table has fewer knots.
        start: the severity where the walk begins.

    Raises:
        ValueError: too few pictures, a choice of several degradations, or nothing is lost at `start`.
    """
    exact, knots = closed_form(degradation), None if degradation.recovers else degradation.knots
    x = middle(x0, _VALUES[exact])
    if knots is not None and abs(start * knots - round(start * knots)) < 1e-6:
        first = round(start * knots)
        chosen = sorted({round(v) for v in np.linspace(0, first, min(first, _GRID) + 1)})
        grid = tuple(i / knots for i in chosen)
    else:
        grid, knots = tuple(start * (i / _GRID) for i in range(_GRID + 1)), None
    curve = tuple(float(v) for v in errors(degradation, x, grid).mean(1))
    times = spaced(grid, curve, steps)
    if knots is not None:
        times = on_distinct_knots(times, knots)
    losses = tuple(float(v) for v in np.interp(times, grid, curve))
    return Suggestion(tuple(times), losses, grid, curve, variance(x), exact, knots, tuple(x.shape[1:]), tuple(x0.shape[1:]))
