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

import functools
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


@register("jpeg", papers=("itu1992",))
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
        # Red and blue beside each other; what they and luma lose, and not their sums, so that at t = 0 every bit of x comes back.
        weights, ranges = _colours(x.dtype, x.device)
        luma = torch.addcmul(weights[1] * x[:, 1:2] + weights[0] * x[:, :1], weights[2], x[:, 2:])
        colour = (x[:, ::2] - luma) / ranges
        lost = _enlarged(_rounded(_halved(colour), scale, _CHROMA), colour) - colour
        lost = lost * ((scale / _COLOUR_FADES_IN).clamp(max=1) * ranges)
        change = _rounded(luma, scale, _LUMA, zero=_MIDDLE) - luma
        green = (lost[:, :1] * weights[0] + lost[:, 1:] * weights[2]) / weights[1]
        return x + torch.cat([lost[:, :1] + change, change - green, lost[:, 1:] + change], dim=1)

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
    blocks = whole.reshape(b, c, rows, _BLOCK, columns, _BLOCK).transpose(3, 4).reshape(b, -1, _BLOCK**2)
    cosines, steps, first = _numbers(table, x.dtype, x.device)
    y = functional.linear(blocks, cosines * 127.5, first * (-zero * _BLOCK))  # in levels of an 8-bit file
    step = (scale.reshape(-1, 1, 1) * steps).clamp(max=255)
    step = torch.where(step >= 1, step.round(), step)
    there = step > 0
    step = torch.where(there, step, 1)
    lost = ((y / step).round() * step - y) * there.all(-1, keepdim=True)
    error = (lost @ (cosines / 127.5)).reshape(b, c, rows, columns, _BLOCK, _BLOCK)
    return x + error.transpose(3, 4).reshape(whole.shape)[..., :h, :w]


@functools.lru_cache(maxsize=32)
def _numbers(table: tuple[tuple[int, ...], ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The transform of a block as one matrix (64, 64), a row a frequency; a table as (64,); and 1 at the frequency of the mean, (64,)."""
    cosines = dct_matrix(_BLOCK, torch.float64, torch.device("cpu"))
    steps = torch.tensor(table, dtype=torch.float64).flatten()
    first = (torch.arange(_BLOCK**2) == 0).double()
    both, steps, first = (part.to(device=device, dtype=dtype) for part in (torch.kron(cosines, cosines), steps, first))
    return both, steps, first


@functools.lru_cache(maxsize=8)
def _colours(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What red, green and blue weigh in luma, (3,); the ranges of red and blue less luma, (2, 1, 1)."""
    weights, ranges = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64), torch.tensor([1.402, 1.772], dtype=torch.float64)
    return weights.to(device=device, dtype=dtype), ranges[:, None, None].to(device=device, dtype=dtype)


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 px, the last row and column repeated where a side is odd."""
    h, w = x.shape[-2:]
    return functional.avg_pool2d(functional.pad(x, (0, w % 2, 0, h % 2), mode="replicate"), 2)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Twice the size, by the triangle filter of libjpeg's decoder, cut to the size of `like`."""
    big = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return big[..., : like.shape[-2], : like.shape[-1]]
