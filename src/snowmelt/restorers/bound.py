"""A restorer with a part of what it is told held fixed: a class label, the kind of damage."""

from collections.abc import Mapping

from torch import Tensor, nn

from snowmelt.restorers.restorer import Restorer
from snowmelt.types import EMPTY, Batch, Draw, Severity


class Bound(nn.Module):
    """R(x_t, t, z) with entries of z held: every sample gets the same.

    Args:
        restorer: what is called.
        held: entries of the draw of one sample, without the batch's axis.
    """

    def __init__(self, restorer: Restorer, held: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.restorer, self.held = restorer, dict(held)

    def forward(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """The estimate of the clean sample (b, *d), with the held entries laid over z."""
        held = {name: value.to(x_t.device).expand(len(x_t), *value.shape) for name, value in self.held.items()}
        return self.restorer(x_t, t, {**z, **held})  # type: ignore[no-any-return]
