"""What is made small: the loss of every sample, or, when a trained restorer is tuned for few calls, how far its estimates differ along a path."""

import torch
from torch import Tensor

from snowmelt.losses import consistency_loss, restoration_loss
from snowmelt.model import Model
from snowmelt.training.feed import Fed, Feed
from snowmelt.training.options import TrainingOptions
from snowmelt.training.waiting import Waiting, timed
from snowmelt.types import Draw


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
            return consistency_loss(self.model, x0, t, self._earlier(gap, t, z), z, loss=o.loss, weight=o.weight)
        return restoration_loss(self.model, x0, t, z, loss=o.loss, weight=o.weight)

    @torch.no_grad()
    def unsound(self, feed: Feed, numbers: range, step: int) -> list[str]:
        """What the samples with these numbers are called whose own loss, or whose values, are not finite."""
        fed = feed(numbers)
        sound = self(fed, step).isfinite() & fed.x0.flatten(1).isfinite().all(1)
        return [name for name, well in zip(feed.ids(numbers), sound.tolist(), strict=True) if not well]

    def _earlier(self, gap: float, t: Tensor, z: Draw) -> Tensor:
        """Severities gap t, as they are or moved down to the next knot; always below t."""
        return self.model.degradation.lowered(gap * t, z, under=t) if self.options.severities in ("auto", "knots") else gap * t
