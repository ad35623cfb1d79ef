"""Where every method starts: a clean picture, degraded, with what one may know of the draw.

What nobody could know of a stranger's picture (`Degradation.hidden`: noise, the flakes of a snowfall) stays behind: a walk that
were handed it would only have to subtract. What belongs to the data item (`Degradation.given`: the other picture of a pair) comes
from the data where they have it, and from the draw where they have not.
"""

from collections.abc import Sequence

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.model import Model
from snowmelt.randomness import generators
from snowmelt.types import Batch, Draw, State, severity


def drawn(model: Model, data: Dataset, ids: Sequence[int], *, seed: int) -> tuple[Batch, Draw]:
    """Clean pictures (b, c, h, w) and their whole draw, keyed by the pictures' numbers: the same in any batch."""
    batch = data.batch(ids)
    x0 = batch["x0"]
    return x0, model.draw(x0, generators(seed, "evaluation-draw", ids), batch)


def known(model: Model, z: Draw) -> Draw:
    """What of a draw a restorer and a walk may be given."""
    return {name: value for name, value in z.items() if name not in model.degradation.hidden}


def start(
    model: Model, data: Dataset, ids: Sequence[int], *, seed: int, device: torch.device | str, handed: bool = False
) -> tuple[Batch, State]:
    """Clean pictures and the state at t = 1 that restoring them starts from.

    Args:
        model: degrades.
        data: the pictures.
        ids: their numbers.
        seed: of the draws.
        device: where both go.
        handed: leave in the state what nobody could know.
    """
    x0, z = drawn(model, data, ids, seed=seed)
    x = model.degrade(x0, severity(1.0, x0), z)
    kept = z if handed else known(model, z)
    return x0.to(device), State(x.to(device), 1.0, {name: value.to(device) for name, value in kept.items()})
