r"""Orthonormal transforms in which operators are diagonal.

========  =========================================================  ===========================
basis     transform                                                  diagonal there
========  =========================================================  ===========================
pixel     none                                                       masks
channel   DCT-II along the channels: grey first, then colour         loss of colour
dct       2-D DCT-II, the basis of half-sample symmetric extension   blur with reflecting edges
fft       2-D real FFT, the basis of periodic extension              circular blur
========  =========================================================  ===========================

All are orthonormal, so white noise stays white and variances of coefficients do not depend on the size of
the picture. The DCT of an axis is a product with a cached n x n matrix for the sizes of a training picture
(:mod:`snowmelt.degradations.ways`), where that is as fast as anything, and beyond an FFT of the n samples in another order, even ones first,
then the odd ones backwards: O(n log n), and no matrix to keep.

Source: Makhoul 1980, "A fast cosine transform in one and two dimensions", IEEE Trans. ASSP 28(1), for the reordering.
"""

import functools
import math
from typing import Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis
from snowmelt.degradations.ways import by_matrix


def forward(x: Tensor, basis: Basis) -> Tensor:
    """The coefficients of x (b, c, h, w); complex (b, c, h, w // 2 + 1) for "fft", else of the same shape."""
    match basis:
        case "channel":
            return (dct_matrix(x.shape[1], x.dtype, x.device) @ x.flatten(2)).reshape(x.shape)
        case "dct" | "any":
            return _dct(_dct(x, -2), -1)
        case "fft":
            spectrum: Tensor = torch.fft.rfft2(x, norm="ortho")
            return spectrum
        case "pixel":
            return x


def backward(y: Tensor, basis: Basis, width: int) -> Tensor:
    """The samples with coefficients y; `width` is the number of columns, which a real FFT leaves open by one."""
    match basis:
        case "channel":
            return (dct_matrix(y.shape[1], y.dtype, y.device).mT @ y.flatten(2)).reshape(y.shape)
        case "dct" | "any":
            return _inverse_dct(_inverse_dct(y, -2), -1)
        case "fft":
            samples: Tensor = torch.fft.irfft2(y, s=(y.shape[-2], width), norm="ortho")
            return samples
        case "pixel":
            return y


def frequencies(n: int, basis: Basis, *, half: bool = False) -> Tensor:
    """The frequency of each coefficient along an axis of n pixels, in cycles per pixel: float64.

    From 0 to almost 1/2 for "dct"; signed, in FFT order, for "fft", of which `half` takes the non-negative part.
    """
    if basis == "fft":
        signed: Tensor = torch.fft.fftfreq(n, dtype=torch.float64)
        return signed[: n // 2 + 1].abs() if half else signed
    return torch.arange(n, dtype=torch.float64) / (2 * n)


@functools.lru_cache(maxsize=64)
def dct_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II of n samples: (n, n), rows are frequencies."""
    k = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(math.pi / n * k[:, None] * (k[None, :] + 0.5)) * math.sqrt(2 / n)
    rows[0] = 1 / math.sqrt(n)
    return rows.to(device=device, dtype=dtype)


def _dct(x: Tensor, dim: Literal[-2, -1]) -> Tensor:
    """The orthonormal DCT-II along an axis."""
    n = x.shape[dim]
    if _by_matrix(n, x):
        matrix = dct_matrix(n, x.dtype, x.device)
        return matrix @ x if dim == -2 else x @ matrix.mT
    if dim == -2:
        return _dct(x.mT, -1).mT
    y = torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)) * _turns(n, x.dtype, x.device)[0]
    return torch.cat([y.real, -y.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _inverse_dct(y: Tensor, dim: Literal[-2, -1]) -> Tensor:
    """The samples whose DCT-II along an axis is y."""
    n = y.shape[dim]
    if _by_matrix(n, y):
        matrix = dct_matrix(n, y.dtype, y.device)
        return matrix.mT @ y if dim == -2 else y @ matrix
    if dim == -2:
        return _inverse_dct(y.mT, -1).mT
    half = n // 2 + 1
    mirrored = torch.cat([torch.zeros_like(y[..., :1]), -y[..., n - half + 1 :].flip(-1)], dim=-1)  # the coefficients at n - k
    x = torch.fft.irfft(torch.complex(y[..., :half].contiguous(), mirrored) * _turns(n, y.dtype, y.device)[1], n)
    even, odd = x[..., : (n + 1) // 2], x[..., (n + 1) // 2 :].flip(-1)
    both = torch.stack([even[..., : n // 2], odd], dim=-1).flatten(-2)
    return torch.cat([both, even[..., n // 2 :]], dim=-1) if n % 2 else both


def _by_matrix(n: int, like: Tensor) -> bool:
    """Whether an axis goes through its matrix: short ones, half precisions, which have no FFT everywhere, and traced graphs of real numbers."""
    real_only: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return real_only or by_matrix("cosine", n, like) or like.dtype not in (torch.float32, torch.float64)


@functools.lru_cache(maxsize=16)
def _turns(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What turns the FFT of the reordered samples into the DCT and scales it, exp(-i pi k / 2n) sqrt(2 / n); and its reciprocal. k = 0 ... n // 2."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    size = torch.full_like(k, math.sqrt(2 / n))
    size[0] = 1 / math.sqrt(n)
    turns, wide = torch.polar(size, -math.pi / (2 * n) * k), torch.complex128 if dtype == torch.float64 else torch.complex64
    return turns.to(device, wide), turns.reciprocal().to(device, wide)
