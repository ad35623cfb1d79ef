r"""Resampling: smaller at every step, and shown at the old size.

.. math:: x_{t_i} = U_i\, S_i\, x_{t_{i-1}},

with :math:`S_i` to the size of step i = 1, 2, ... and :math:`U_i` back by the nearest pixel. Routine *factor*, the paper's super-resolution,
divides the size by `factor` once more at every step; *incremental* makes the picture i - 1 px smaller, so that its first step does nothing.
Sizes that the factor does not divide are rounded down, to no less than one pixel.

The first step of *factor* is `mode`, bicubic in the paper's code, without smoothing against aliases: for a factor of 2 the four taps
(-3, 19, 19, -3)/32 along each axis. From then on the picture consists of equal blocks, and it is their means that count: the later steps are areas.
For a factor of 2 that divides the size at every step, the code's bicubic steps on blocks are the same means, and so are bilinear ones; elsewhere
bicubic steps would pick single blocks. Every step is linear and acts on rows and columns alike, so the knots are a table of matrices.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.3, as its code does it; ``pixelate`` is the clean form.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.base import images
from snowmelt.degradations.blur import convolutions, gaussian_taps
from snowmelt.degradations.pyramid import between_levels
from snowmelt.degradations.separable import SeparableTable
from snowmelt.degradations.ways import by_matrix
from snowmelt.registry import Range, register
from snowmelt.schedules import knot
from snowmelt.types import Draw

_TAPS, _WIDTH_PX = 3, 0.5  # the blur of "factor-with-blur"


@register("resample", papers=("bansal2022",))
@dataclass(frozen=True)
class Resample(SeparableTable):
    """The paper's super-resolution: smaller by a factor at every step, the first time bicubic.

    Routine *factor-with-blur* blurs by three taps of a Gaussian of half a pixel, edges reflected, before a step makes the picture
    small and after it is large again; its steps are `mode` all along, as are those of *incremental*, which reads no `factor`.
    """

    factor: Annotated[int, Range(2, 64), "the size is divided by this once more at every step"] = 2
    steps: Annotated[int, Range(1, 1000), "in how many steps t goes from 0 to 1"] = 3
    mode: Literal["bicubic", "bilinear", "area"] = "bicubic"
    routine: Literal["factor", "factor-with-blur", "incremental"] = "factor"

    @property
    def knots(self) -> int:
        """`steps`."""
        return self.steps

    def sizes(self, n: int) -> list[int]:
        """How many of n pixels are left in the middle of every step."""
        return [max(1, n - i if self.routine == "incremental" else n // self.factor ** (i + 1)) for i in range(self.steps)]

    def matrices(self, n: int) -> Tensor:
        """Cumulative products of the steps' n x n matrices."""
        out = [torch.eye(n, dtype=torch.float64)]
        (blur,) = convolutions(gaussian_taps(_TAPS, torch.tensor([_WIDTH_PX], dtype=torch.float64)), n, reflect=True)
        for i, size in enumerate(self.sizes(n)):
            before = blur @ out[-1] if self.routine == "factor-with-blur" else out[-1]
            after = self._resized(before[None, None], (size, n), i)[0, 0]
            out.append(blur @ after if self.routine == "factor-with-blur" else after)
        return torch.stack(out)

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Two small matrix products; for large pictures every knot in turn, the cost of which grows with n^2 and not with n^3.

        With a blur, or where there are more knots than that saves, large pictures take the matrices, too. Where the factor divides the size
        at every step, the knots are a pyramid, whose later levels are as small as they look.
        """
        h, w = images(x, "resample")
        if self.routine == "factor" and not (h % self.factor**self.steps or w % self.factor**self.steps or by_matrix("blocks", max(h, w), x)):
            return between_levels(self._pyramid(x), t, self.factor)
        if by_matrix("uneven", max(h, w), x) or max(h, w) <= 4 * self.steps or self.routine == "factor-with-blur":
            return super().degrade(x, t, z)
        below, on = (v.reshape(-1, 1, 1, 1) for v in knot(t.reshape(-1), self.steps))
        state, out = x, torch.where(below == 0, x, 0)
        low = out
        for i, size in enumerate(zip(self.sizes(h), self.sizes(w), strict=True)):
            state = self._resized(state, size, i)
            low = torch.where(below == i + 1, state, low)
            out = torch.where(below == i, torch.lerp(low, state, on.to(x.dtype)), out)
        return out

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """The picture, and what the middle of every step leaves of it, where the factor divides its size."""
        out = [x]
        for i, size in enumerate(zip(self.sizes(x.shape[-2]), self.sizes(x.shape[-1]), strict=True)):
            mode = "area" if i else self.mode
            out.append(functional.interpolate(out[-1], size=size, mode=mode, align_corners=None if mode == "area" else False))
        return out

    def _resized(self, x: Tensor, size: tuple[int, int], i: int) -> Tensor:
        """Step i: to `size` and back."""
        mode = self.mode if i == 0 or self.routine != "factor" else "area"
        small = functional.interpolate(x, size=size, mode=mode, align_corners=None if mode == "area" else False)
        return functional.interpolate(small, size=x.shape[-2:], mode="nearest-exact")
