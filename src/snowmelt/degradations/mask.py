r"""Masks: a part of the picture fades to mid-grey, from a random place outwards.

.. math:: x_t = m_t \odot x_0, \qquad m_t = \max\left(0, \frac{(1 - G)^{\kappa t} - c}{1 - c}\right), \qquad
          G = (1 - \epsilon) \exp\left(-\frac{d^2}{2 (w\,n)^2}\right),

with d the distance to the centre in pixels, n the shorter side, w the width and kappa the strength. The masks of the paper
are products of factors 1 - G with growing widths; a power is their continuous form: the identity at t = 0, a hole that deepens
and widens as t grows. Below c = 1/128 it is a hole indeed, exactly 0. Without that, the hole would only look
empty: floating point keeps the picture at a millionth of its strength, and even an 8-bit file would keep its *sign*, because
mid-grey lies between two levels. A restorer learns to read that sign, and walks go astray where it misleads; at the rim, where
the mask is small but not 0, only a noise floor hides it. The centre is the draw: it stays where it is along
a trajectory, and a restorer may be told of it.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.2, whose exact knots are ``fade-mask``.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation
from snowmelt.degradations.pixelwise import Pixelwise
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Draw, Generators, Severity

_DEEPEST = 1e-3  # 1 - G at the centre, which keeps a power of it differentiable
_EMPTY = 1 / 128  # what is left below this is nothing


@register("mask", papers=("bansal2022",))
@dataclass(frozen=True)
class Mask(Pixelwise, LinearDegradation):
    """A soft hole that deepens and widens, at a random place or in the middle."""

    width: Annotated[float, Range(0.001, 2), "width of the Gaussian, in units of the shorter side"] = 0.15
    strength: Annotated[float, Range(0, 1000), "power of the mask at t = 1"] = 8.0
    centre: Literal["random", "middle"] = "random"

    @property
    def tells(self) -> tuple[str, ...]:
        """Where the hole is."""
        return ("centre",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """centre (b, 2): row and column of the hole, in units of the height and the width."""
        if self.centre == "middle":
            return {"centre": like.new_full((len(like), 2), 0.5)}
        return {"centre": uniform(like, generator, (2,))}

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """The mask m_t in [0, 1]: (b, 1, h, w)."""
        h, w = shape[-2:]
        centre = z["centre"].to(t)
        rows = torch.arange(h, dtype=t.dtype, device=t.device) + 0.5 - centre[:, :1] * h
        columns = torch.arange(w, dtype=t.dtype, device=t.device) + 0.5 - centre[:, 1:] * w
        scale = -0.5 / (self.width * min(h, w)) ** 2
        hole = torch.exp(scale * rows**2)[:, None, :, None] * torch.exp(scale * columns**2)[:, None, None, :]
        left = (1 - (1 - _DEEPEST) * hole) ** (self.strength * t)[:, None, None, None]
        return ((left - _EMPTY) / (1 - _EMPTY)).clamp(min=0)
