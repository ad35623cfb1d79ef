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


@register("holes")
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
        ends, width = drawn[..., :4], drawn[..., 4:]
        size = like.new_tensor([h, w, h, w])
        # Pixels, then the nearest point of each stroke's middle line to them: (b, strokes, h, w, 2).
        start, end = (ends * size).reshape(len(like), self.strokes, 2, 2)[:, :, None, None].unbind(-2)
        pixels = torch.stack(torch.meshgrid(torch.arange(h).to(like), torch.arange(w).to(like), indexing="ij"), dim=-1) + 0.5
        along = end - start
        share = ((pixels - start) * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True).clamp(min=1e-6)
        distance = (pixels - start - share.clamp(0, 1) * along).square().sum(-1).sqrt()
        hidden = distance < (width[..., None] * self.width_px / 2).clamp(min=0.75)
        return {"mask": (~hidden.any(1, keepdim=True)).to(like)}

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """1 - t (1 - mask): (b, 1, h, w)."""
        return 1 - t[:, None, None, None] * (1 - z["mask"].to(t))

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """All is known; nothing has to be drawn to say so."""
        return t.new_ones(len(t), 1, *shape[-2:])
