r"""Motion blur: the camera moved in a straight line while the shutter was open.

.. math:: x_t = \frac{1}{\ell}\int_{-\ell/2}^{\ell/2} x_0(p + a\,(\cos\theta, \sin\theta))\, da, \qquad \ell = t\,\ell_1.

In Fourier space that is a gain :math:`\mathrm{sinc}(\ell\, f \cdot (\cos\theta, \sin\theta))`, a closed form for every length and angle: no
kernel of pixels is ever drawn, and at t = 0 it is the identity exactly. The angle is the draw. Beyond its edges
the picture is mirrored.

Source: Gonzalez and Woods, "Digital image processing", section 5.6 (uniform linear motion).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation, images
from snowmelt.degradations.spectral import frequencies
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Draw, Generators


@register("motion-blur")
@dataclass(frozen=True)
class MotionBlur(LinearDegradation):
    """A straight smear in a random direction, `length_px` long at t = 1."""

    length_px: Annotated[float, Range(0, 1000, "px"), "length at t = 1"] = 15.0

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """turn (b, 1): the angle to the horizontal as a part of half a turn, in [0, 1)."""
        return {"turn": uniform(like, generator, (1,))}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """The mirrored surroundings are smeared with the picture, then cut off."""
        h, w = images(x, "motion-blur")
        margin = math.ceil(self.length_px / 2) + 1
        wide = x[..., _mirrored(h, margin, x), :][..., _mirrored(w, margin, x)]
        angle = (z["turn"].to(x) * math.pi).reshape(-1, 1, 1, 1)
        rows = torch.fft.fftfreq(wide.shape[-2], dtype=x.dtype, device=x.device)[:, None]
        columns = frequencies(wide.shape[-1], "fft", half=True).to(x)
        gain = torch.sinc(self.length_px * t * (columns * angle.cos() + rows * angle.sin()))
        smeared = torch.fft.irfft2(torch.fft.rfft2(wide) * gain, s=wide.shape[-2:])
        # Fourier and back loses the last bit: where nothing moves, the picture stays itself.
        return torch.where(t > 0, smeared[..., margin : margin + h, margin : margin + w], x)

    def in_units(self, t: float) -> dict[str, float]:
        """Length of the smear."""
        return {"length_px": self.length_px * t}


def _mirrored(n: int, margin: int, like: Tensor) -> Tensor:
    """Indices of an axis of n pixels with `margin` mirrored ones on either side, however wide that is."""
    at = torch.arange(-margin, n + margin, device=like.device) % (2 * n)
    return torch.where(at < n, at, 2 * n - 1 - at)
