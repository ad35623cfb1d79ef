r"""Loss of colour: every pixel moves towards the mean of its channels.

.. math:: x_t = (1 - t)\, x_0 + t\, \mathrm{mean}_c(x_0)

The mean weights all channels equally, as the paper's does; it is not a luma.

Source: Bansal et al. 2022 (arXiv 2208.09392), appendix (colourisation).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, Inverse, LinearDegradation
from snowmelt.degradations.inverse import divided
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import register
from snowmelt.types import EMPTY, Batch, Draw, Severity


@register("grey")
@dataclass(frozen=True)
class Grey(LinearDegradation):
    """Fade to grey: colour is gone at t = 1. Needs at least two channels."""

    @property
    def basis(self) -> Basis:
        """Channels: grey and its complement."""
        return "channel"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Straight towards the mean of the channels."""
        if x.shape[1] < 2:
            raise ValueError("grey needs pictures in colour; these have 1 channel: choose another degradation, or load with channels = 3")
        return torch.lerp(x, x.mean(1, keepdim=True), t)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """1 for the grey coefficient, 1 - t for the others: (b, c, 1, ..., 1)."""
        out = (1 - t)[:, None].repeat(1, shape[0])
        out[:, 0] = 1
        return out.reshape(*out.shape, *(1,) * (len(shape) - 1))

    @property
    def inverse(self) -> Inverse:
        """Coefficient by coefficient."""
        return "exact"

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Grey as it is, and colour over 1 - t where more than a twentieth of it is left."""
        return backward(divided(forward(y, self.basis), self.gain(tuple(y.shape[1:]), t.to(y.dtype), z)), self.basis, y.shape[-1])
