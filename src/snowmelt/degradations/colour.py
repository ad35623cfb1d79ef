r"""Loss of colour: every pixel moves towards the mean of its channels.

.. math:: x_t = (1 - l_t)\, x_0 + l_t\, \mathrm{mean}_c(x_0)

``grey`` is continuous, :math:`l_t = t`. ``decolour`` is the paper's: at step i = 1, 2, ..., T a 1 x 1 convolution keeps the fraction f_i of the
colour that is left, so that :math:`l = 1 - f_1 \cdots f_i` at the knot i/T. The mean weights all channels equally, as the paper's
does; it is not a luma.

Source: Bansal et al. 2022 (arXiv 2208.09392), appendix (colourisation).
"""

import abc
import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, Inverse, LinearDegradation
from snowmelt.degradations.inverse import divided
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import Range, label, register
from snowmelt.schedules import between_knots
from snowmelt.types import EMPTY, Batch, Draw, Severity

_KEPT = 0.9  # of the colour, by every step of routine "constant"


class LossOfColour(LinearDegradation):
    """Straight towards the mean of the channels; a subclass says how far. Needs at least two channels."""

    @abc.abstractmethod
    def lost(self, t: Tensor) -> Tensor:
        """The fraction of the colour that is gone at t, in the shape and dtype of `t`: 0 at t = 0."""

    @property
    def basis(self) -> Basis:
        """Channels: grey and its complement."""
        return "channel"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Straight towards the mean of the channels."""
        if x.shape[1] < 2:
            raise ValueError(
                f"{label(type(self))} needs pictures in colour; these have 1 channel: choose another degradation, or load with channels = 3"
            )
        return torch.lerp(x, x.mean(1, keepdim=True), self.lost(t))

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """1 for the grey coefficient, what is left for the others: (b, c, 1, ..., 1)."""
        out = (1 - self.lost(t))[:, None].repeat(1, shape[0])
        out[:, 0] = 1
        return out.reshape(*out.shape, *(1,) * (len(shape) - 1))

    @property
    def inverse(self) -> Inverse:
        """Coefficient by coefficient."""
        return "exact"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Grey as it is, and colour over its gain where more than a twentieth of it is left."""
        return backward(divided(forward(y, self.basis), self.gain(tuple(y.shape[1:]), t.to(y.dtype), z)), self.basis, y.shape[-1])


@register("grey", papers=("bansal2022",))
@dataclass(frozen=True)
class Grey(LossOfColour):
    """Fade to grey: colour is gone at t = 1. Needs at least two channels."""

    def lost(self, t: Tensor) -> Tensor:
        """t."""
        return t


@register("decolour", papers=("bansal2022",))
@dataclass(frozen=True)
class Decolour(LossOfColour):
    """The paper's loss of colour: *linear* loses 1/T of it at every step, *constant* a tenth of what is left, with `total` the last step all."""

    routine: Literal["linear", "constant"] = "linear"
    steps: Annotated[int, Range(1, 10_000), "in how many steps t goes from 0 to 1"] = 20
    total: Annotated[bool, "the last step leaves no colour, as in any case with linear"] = False

    @property
    def knots(self) -> int:
        """`steps`."""
        return self.steps

    def lost(self, t: Tensor) -> Tensor:
        """1 - w at the knots, linear in between."""
        return between_knots(_lost(self, t.device), t).to(t.dtype)

    def weights(self) -> Tensor:
        """w, what is left of the colour at every knot: (steps + 1,), float64."""
        if self.routine == "linear":
            return 1 - torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        out = _KEPT ** torch.arange(self.steps + 1, dtype=torch.float64)
        if self.total:
            out[-1] = 0
        return out


@functools.lru_cache(maxsize=32)
def _lost(operator: Decolour, device: torch.device) -> Tensor:
    """The table on a device; float32 where the device has no float64."""
    return (1 - operator.weights()).to(device, torch.float32 if device.type == "mps" else torch.float64)
