r"""Motion blur: the camera moved in a straight line while the shutter was open.

.. math:: x_t = \frac{1}{\ell}\int_{-\ell/2}^{\ell/2} x_0(p + a\,(\cos\theta, \sin\theta))\, da, \qquad \ell = t\,\ell_1.

In Fourier space that is a gain :math:`\mathrm{sinc}(\ell\, f \cdot (\cos\theta, \sin\theta))`, a closed form for every length and angle: no
kernel of pixels is ever drawn, and at t = 0 it is the identity exactly. The angle is the draw. Beyond its edges
the picture is mirrored.

Source: Gonzalez and Woods, "Digital image processing", section 5.6 (uniform linear motion).
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation, images
from snowmelt.degradations.spectral import frequencies
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity, expand


@register("motion-blur", papers=("gonzalez2008",))
@dataclass(frozen=True)
class MotionBlur(LinearDegradation):
    """A straight smear in a random direction, `length_px` long at t = 1."""

    length_px: Annotated[float, Range(0, 1000, "px"), "length at t = 1"] = 15.0

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """turn (b, 1): the angle to the horizontal as a part of half a turn, in [0, 1)."""
        return {"turn": uniform(like, generator, (1,))}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """The mirrored surroundings are smeared with the picture, then cut off."""
        smeared = self._filtered(x, self._smear(x, t, z))
        # Fourier and back loses the last bit: where nothing moves, the picture stays itself.
        return torch.where(t > 0, smeared, x)

    def change(self, x: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Batch:
        """By the difference of the gains: one transform and not two."""
        t, s = (expand(v.to(x.dtype), x) for v in (t, s))
        return self._filtered(x, self._smear(x, s, z) - self._smear(x, t, z))

    @property
    def _margin(self) -> int:
        return math.ceil(self.length_px / 2) + 1

    def _smear(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """The gain of every frequency of the widened picture."""
        h, w = (n + 2 * self._margin for n in images(x, "motion-blur"))
        angle = (z["turn"].to(x) * math.pi).reshape(-1, 1, 1, 1)
        rows, columns = _frequencies(h, w, x.dtype, x.device)
        length = self.length_px * t
        return torch.sinc(columns * (length * angle.cos()) + rows * (length * angle.sin()))

    def _filtered(self, x: Tensor, gain: Tensor) -> Tensor:
        """The picture with the frequencies of its widened form multiplied by a gain."""
        h, w = x.shape[-2:]
        m = self._margin
        wide = x.index_select(-1, _mirrored(w, m, x.device)).index_select(-2, _mirrored(h, m, x.device))
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(wide) * gain, s=wide.shape[-2:])
        return filtered[..., m : m + h, m : m + w]

    def in_units(self, t: float) -> dict[str, float]:
        """Length of the smear."""
        return {"length_px": self.length_px * t}


@functools.lru_cache(maxsize=32)
def _mirrored(n: int, margin: int, device: torch.device) -> Tensor:
    """Indices of an axis of n pixels with `margin` mirrored ones on either side, however wide that is."""
    at = torch.arange(-margin, n + margin, device=device) % (2 * n)
    return torch.where(at < n, at, 2 * n - 1 - at)


@functools.lru_cache(maxsize=32)
def _frequencies(h: int, w: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The frequencies of rows (h, 1) and of the columns of a real transform (w // 2 + 1,)."""
    rows, columns = frequencies(h, "fft")[:, None], frequencies(w, "fft", half=True)
    return rows.to(device=device, dtype=dtype), columns.to(device=device, dtype=dtype)
