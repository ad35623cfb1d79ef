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
the picture. The DCT is two products with a cached n x n matrix: for the sizes of a training picture that is
faster than an FFT of the mirrored extension, and it runs on every device.
"""

import functools
import math

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis


def forward(x: Tensor, basis: Basis) -> Tensor:
    """The coefficients of x (b, c, h, w); complex (b, c, h, w // 2 + 1) for "fft", else of the same shape."""
    match basis:
        case "channel":
            return (dct_matrix(x.shape[1], x.dtype, x.device) @ x.flatten(2)).reshape(x.shape)
        case "dct" | "any":
            return dct_matrix(x.shape[-2], x.dtype, x.device) @ x @ dct_matrix(x.shape[-1], x.dtype, x.device).mT
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
            return dct_matrix(y.shape[-2], y.dtype, y.device).mT @ y @ dct_matrix(y.shape[-1], y.dtype, y.device)
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
