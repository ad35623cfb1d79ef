r"""Holes: pixels that are gone, at places one knows.

.. math:: x_t = (1 - t\,(1 - m)) \odot x_0, \qquad m \in \{0, 1\},

with m = 1 where the picture is known. At t = 1 a hole is exactly mid-grey, 0, and says nothing. The mask is the draw: a user
gives it as a picture; for training, strokes are drawn, as scratches, hairs and pen marks are: straight pieces of random place,
length and width. A restorer is told the mask.

Source: the masks of free-form strokes follow Yu et al. 2019 (arXiv 1806.03589), with straight pieces only.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import LinearDegradation, images
from snowmelt.degradations.pixelwise import Pixelwise
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Draw, Generators, Severity

_AT_ONCE = 1 << 20  # pixels of all strokes that are drawn together


@register("holes", papers=("yu2019",))
@dataclass(frozen=True)
class Holes(Pixelwise, LinearDegradation):
    """Known pixels stay, the others turn grey; the mask is drawn as strokes, or given."""

    strokes: Annotated[int, Range(1, 1000), "strokes of a drawn mask"] = 4
    width_px: Annotated[float, Range(0.1, 1000, "px"), "greatest width of a stroke"] = 8.0

    @property
    def knots(self) -> int:
        """1: a pixel is there or not; what lies between is for walks."""
        return 1

    @property
    def given(self) -> tuple[str, ...]:
        """The mask, where the picture is the user's."""
        return ("mask",)

    @property
    def tells(self) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """mask (b, 1, h, w): 1 where the picture is known, 0 under a stroke."""
        h, w = images(like, "holes")
        drawn = uniform(like, generator, (self.strokes, 5))
        hidden = torch.zeros(len(like), 1, h, w, dtype=torch.bool, device=like.device)
        together = max(_AT_ONCE // max(hidden.numel(), 1), 1)  # each stroke is as large as the picture, and there may be a thousand
        for some in torch.split(drawn, together, 1):
            hidden |= self._covered(some, like, h, w).any(1, keepdim=True)
        return {"mask": (~hidden).to(like)}

    def _covered(self, drawn: Tensor, like: Batch, h: int, w: int) -> Tensor:
        """Which pixels each of the strokes `drawn` (b, n, 5) covers: (b, n, h, w)."""
        ends, width = drawn[..., :4], drawn[..., 4:]
        # The nearest point of each stroke's middle line to every pixel, rows and columns apart: (b, n, h or 1, w or 1) until they meet.
        row, column, to_row, to_column = (
            (ends[..., i] * n).to(like)[..., None, None] for i, n in enumerate((h, w, h, w))
        )
        down, across = to_row - row, to_column - column
        rows = torch.arange(h).to(like)[:, None] + 0.5 - row
        columns = torch.arange(w).to(like) + 0.5 - column
        share = (rows * down + columns * across).div_((down.square() + across.square()).clamp(min=1e-6)).clamp_(0, 1)
        distance = (rows - share * down).square_() + (columns - share.mul_(across)).square_()
        return distance.sqrt_() < (width[..., None] * self.width_px / 2).clamp(min=0.75)

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """1 - t (1 - mask): (b, 1, h, w)."""
        return 1 - t[:, None, None, None] * (1 - z["mask"].to(t))

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """All is known; nothing has to be drawn to say so."""
        return t.new_ones(len(t), 1, *shape[-2:])
