"""What is made small: the loss of every sample, or, when a trained restorer is tuned for few calls, how far its estimates differ along a path."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snowmelt.losses import PENALTIES, consistency_loss, restoration_loss, unfolded_loss
from snowmelt.model import Model
from snowmelt.sensor import in_metres, measured
from snowmelt.signals import Scan, Signal
from snowmelt.training.feed import Fed, Feed
from snowmelt.training.options import TrainingOptions
from snowmelt.training.waiting import Waiting, timed
from snowmelt.types import Batch, Draw

_SPREAD = 618.0339887498949


def counting(o: TrainingOptions, signal: Signal) -> Callable[[Batch], Tensor] | None:
    """What errors are multiplied by, given the clean samples; None where every one counts as it is."""
    if o.counted == "all" or not isinstance(signal, Scan):
        return None
    return measured if o.counted == "returns" else functools.partial(in_metres, farthest_m=signal.farthest_m)


class Objective:
    """The loss of samples at an optimiser step: ``objective(fed, step)`` is (b,).

    Args:
        model: with the weights that are trained.
        options: loss, weight, gap.
        waiting: counts the time of degrading, in which the network waits.
    """

    def __init__(self, model: Model, options: TrainingOptions, waiting: Waiting) -> None:
        self.model, self.options = timed(model, waiting), options

    def __call__(self, fed: Fed, step: int) -> Tensor:
        """The loss of every sample."""
        o, (x0, t, z) = self.options, fed
        if gap := o.gap_at(step):
            return consistency_loss(self.model, x0, t, self._on_knots(gap * t, t, z), z, loss=o.loss, weight=o.weight)
        penalty = None if o.penalty == "none" else self._penalty
        how: dict[str, Any] = {"loss": o.loss, "weight": o.weight, "penalty": penalty, "counted": counting(o, self.model.signal)}
        if o.unfold:
            return unfolded_loss(self.model, x0, t, self._between(t, z), z, **how)
        return restoration_loss(self.model, x0, t, z, **how)

    def _penalty(self, estimate: Batch, x0: Batch) -> Tensor:
        """What is added to the loss of every sample: (b,)."""
        return self.options.penalty_weight * PENALTIES[self.options.penalty](estimate, x0)

    @torch.no_grad()
    def unsound(self, feed: Feed, numbers: range, step: int) -> list[str]:
        """What the samples with these numbers are called whose own loss, or whose values, are not finite."""
        fed = feed(numbers)
        sound = self(fed, step).isfinite() & fed.x0.flatten(1).isfinite().all(1)
        return [name for name, well in zip(feed.ids(numbers), sound.tolist(), strict=True) if not well]

    def _between(self, t: Tensor, z: Draw) -> Tensor:
        """Severities below t: a part of t that is spread evenly, and as good as drawn, for digits of t far behind the point say which."""
        return self._on_knots(t * (t * _SPREAD % 1), t, z)

    def _on_knots(self, s: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Severities s, as they are or moved down to the next knot; always below t."""
        return self.model.degradation.lowered(s, z, under=t) if self.options.severities in ("auto", "knots") else s
