r"""JPEG: the part of the format that loses something, for every severity and without a codec.

A picture becomes luma and two colour differences, the colour is averaged over 2 x 2 px, and every block of 8 x 8
values is rounded in its cosine transform:

.. math:: x_t = C^{-1}\, q\, \mathrm{round}(C\,x_0 / q), \qquad q = \mathrm{round}(t\, s\, Q),

with Q the tables of Annex K and s the scale that libjpeg derives from a quality. So severity is proportional to the width of the
rounding, and every t is the quality of some file: :meth:`Jpeg.in_units` says which. Below steps of one level, where a file
would stop, the rounding goes on towards the identity, and up to quality 90 the averaging of
colour is faded in. What follows the transform in a file, the entropy code, loses nothing and is not here.

Source: ITU-T T.81 (1992), Annexes A and K; JFIF 1.02 for the colours; the quality scale is that of the Independent JPEG Group.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.base import Degradation, images
from snowmelt.degradations.spectral import dct_matrix
from snowmelt.registry import Range, register
from snowmelt.types import Draw

_BLOCK = 8
_COLOUR_FADES_IN = 0.2  # the scale of quality 90
_MIDDLE = 0.5  # luma is rounded about level 128, which lies half a level above the middle of [-1, 1]
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@register("jpeg")
@dataclass(frozen=True)
class Jpeg(Degradation):
    """JPEG compression with 4:2:0 colour, down to `quality` at t = 1. Pictures of 1 or 3 channels."""

    quality: Annotated[float, Range(1, 99), "quality of the file at t = 1"] = 10.0

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Luma and colour, each rounded with its own table."""
        images(x, "jpeg")
        if x.shape[1] not in (1, 3):
            raise ValueError(f"jpeg degrades pictures of 1 or 3 channels; these have {x.shape[1]}")
        scale = t * _scale(self.quality)
        if x.shape[1] == 1:
            return _rounded(x, scale, _LUMA, zero=_MIDDLE)
        luma = (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        blue, red = (x[:, 2:] - luma) / 1.772, (x[:, :1] - luma) / 1.402
        colour = torch.cat([blue, red], dim=1)
        coarse = _enlarged(_rounded(_halved(colour), scale, _CHROMA), colour)
        colour = torch.lerp(colour, coarse, (scale / _COLOUR_FADES_IN).clamp(max=1))
        blue, red = (1.772 * colour[:, :1]), (1.402 * colour[:, 1:])
        # From the change of luma and colours, not their sum: at t = 0 every bit of x comes back.
        change = _rounded(luma, scale, _LUMA, zero=_MIDDLE) - luma
        r, b = red - (x[:, :1] - luma) + change, blue - (x[:, 2:] - luma) + change
        g = change - ((r - change) * 0.299 + (b - change) * 0.114) / 0.587
        return x + torch.cat([r, g, b], dim=1)

    def in_units(self, t: float) -> dict[str, float]:
        """The quality of the file: 100 at t = 0."""
        scale = t * _scale(self.quality)
        return {"quality": 50 / scale if scale >= 1 else 100 - 50 * scale}


def _scale(quality: float) -> float:
    """The factor on the tables of Annex K that libjpeg uses for a quality."""
    return 50 / quality if quality < 50 else 2 - quality / 50


def _rounded(x: Tensor, scale: Tensor, table: tuple[tuple[int, ...], ...], *, zero: float = 0.0) -> Tensor:
    """The 8 x 8 blocks of x (b, c, h, w), in [-1, 1], rounded in their cosine transform; `zero` is the level where the rounding counts from."""
    b, c, h, w = x.shape
    whole = functional.pad(x, (0, -w % _BLOCK, 0, -h % _BLOCK), mode="replicate") if h % _BLOCK or w % _BLOCK else x
    rows, columns = whole.shape[-2] // _BLOCK, whole.shape[-1] // _BLOCK
    blocks = whole.reshape(b, c, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    cosines = dct_matrix(_BLOCK, x.dtype, x.device)
    y = cosines @ (blocks * 127.5 - zero) @ cosines.mT  # in levels of an 8-bit file
    step = (scale[..., None, None] * x.new_tensor(table)).clamp(max=255)
    step = torch.where(step >= 1, step.round(), step)
    lost = torch.where(step > 0, (y / torch.where(step > 0, step, 1)).round() * step - y, 0)
    error = (cosines.mT @ lost @ cosines) / 127.5
    return x + error.transpose(3, 4).reshape(whole.shape)[..., :h, :w]


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 px, the last row and column repeated where a side is odd."""
    h, w = x.shape[-2:]
    return functional.avg_pool2d(functional.pad(x, (0, w % 2, 0, h % 2), mode="replicate"), 2)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Twice the size, by the triangle filter of libjpeg's decoder, cut to the size of `like`."""
    big = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return big[..., : like.shape[-2], : like.shape[-1]]
