"""What a step is fed: from the numbers of its samples to clean pictures, severities and draws.

Everything is a function of (seed, stream, sample number), so a batch may be made by anybody at any time: ahead in a thread, by another process, or
again after memory ran out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.data import images
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Blend
from snowmelt.model import Model
from snowmelt.randomness import fractions, generators, visits
from snowmelt.restorers import Restorer
from snowmelt.training.options import TrainingOptions
from snowmelt.types import Batch, Draw, Severity


class Fed(NamedTuple):
    """What a batch's loss is computed from, on the device: clean samples (b, *d), severities (b,) and draws."""

    x0: Batch
    t: Severity
    z: Draw

    def split(self, pieces: int) -> list["Fed"]:
        """The same samples in so many batches, as equal as can be; fewer where there are not so many samples."""
        xs, ts = self.x0.tensor_split(pieces), self.t.tensor_split(pieces)
        zs = {name: value.tensor_split(pieces) for name, value in self.z.items()}
        return [Fed(x, ts[i], {name: rows[i] for name, rows in zs.items()}) for i, x in enumerate(xs) if len(x)]


class Feed:
    """What the loss of samples is computed from, a function of their numbers: ``feed(range(0, 64))``.

    Args:
        model: degrades and draws.
        data: the clean training samples.
        options: seed, severities, conditions.
        device: where the network is.
    """

    def __init__(self, model: Model, data: Dataset, options: TrainingOptions, device: torch.device) -> None:
        self.model, self.data, self.options, self.device = model, data, options, device
        self._drawn = bool(model.draw(torch.empty(1, *data.shape), torch.Generator()))
        self._conditions = model.restorer.conditions if isinstance(model.restorer, Restorer) else None

    def __call__(self, numbers: range) -> Fed:
        """The samples with these numbers: made on the CPU and sent, waiting for neither."""
        seed, here = self.options.seed, self.device.type != "cuda"
        item = self.data.numbered(seed, numbers, raw=True)
        like = images.floats(item["x0"]) if here else torch.zeros(item["x0"].shape)  # draws read nothing but its shape
        z = self.model.draw(like, generators(seed, "draw", numbers) if self._drawn else None, item)
        t = self.severities(numbers, z).to(like)
        if self._conditions and self.options.drop_condition:
            z = self._conditions.dropped(z, fractions(seed, "condition", numbers) < self.options.drop_condition, like)
        x0 = moved(like, self.device) if here else images.floats(moved(item["x0"], self.device))
        return Fed(x0, moved(t, self.device), {name: moved(value, self.device) for name, value in z.items()})

    def severities(self, numbers: range, z: Draw) -> Tensor:
        """The severity of each sample number: uniform in (0, 1], or uniform over the knots 1/T, ..., 1, or of the law that the options name."""
        t = 1 - fractions(self.options.seed, "severity", numbers)
        match self.options.severities:
            case "uniform":
                return t
            case "log-normal":
                assert isinstance(self.model.degradation, Blend)  # noqa: S101 - agree() has seen to that
                return self.model.degradation.schedule.severity_at(self._normal(t).exp())
            case "logit-normal":
                return torch.sigmoid(self._normal(t))
        return self.model.degradation.snapped(t, z)

    def ids(self, numbers: range) -> list[str]:
        """What the samples with these numbers are called."""
        return [self.data.ids[i] for i in visits(self.options.seed, "order", numbers, len(self.data))]

    def _normal(self, share: Tensor) -> Tensor:
        """Normal numbers of the options' mean and deviation, at those quantiles."""
        quantiles: Tensor = torch.special.ndtri(share.double().clamp(1e-9, 1 - 1e-9))
        return self.options.severity_mean + self.options.severity_std * quantiles


def moved(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device. A GPU fetches it by itself, from memory that is pinned for it: nobody waits."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
