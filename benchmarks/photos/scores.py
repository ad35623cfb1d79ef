"""PSNR and SSIM of one picture, and the interval of a mean over pictures.

Both are those of :mod:`snowmelt.metrics.distortion`: in colour over all three channels, values clipped and not rounded, PSNR at most 100 dB,
SSIM through a Gaussian window of 11 px and sigma 1.5 px, data range 1, averaged over the whole picture and the channels. For super-resolution
also on luma alone, as that literature does: Y of BT.601 in 16 to 235, two pixels shaved off every side.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from snowmelt.metrics.distortion import Distortion

SETTINGS = {
    "psnr": "dB, RGB, values clipped to [0, 1] and not rounded, at most 100",
    "ssim": "RGB, torchmetrics, Gaussian window 11 px, sigma 1.5 px, data range 1, whole picture, mean of channels",
    "y_psnr, y_ssim": "the same on the luma of BT.601 (16 to 235 of 255), 2 px shaved off each side; x2 only",
    "interval": "95 %, bootstrap of the mean over pictures, 2000 resamplings, seed 0",
}
_SHAVED_PX = 2
_RESAMPLINGS = 2000


def score(x: Tensor, clean: Tensor, *, luma: bool) -> dict[str, float]:
    """psnr and ssim, with `luma` also y_psnr and y_ssim, of one picture (3, h, w) in [-1, 1]."""
    found = dict(zip(("psnr", "ssim"), _pair(x, clean), strict=True))
    if luma:
        inner = slice(_SHAVED_PX, -_SHAVED_PX)
        y, y_clean = (y_of(v)[:, inner, inner] for v in (x, clean))
        found |= dict(zip(("y_psnr", "y_ssim"), _pair(y, y_clean), strict=True))
    return found


def y_of(x: Tensor) -> Tensor:
    """The luma of BT.601, 16 to 235 of 255, of a picture (3, h, w) in [-1, 1]: (1, h, w) in [-1, 1].

    >>> [round(float((y_of(torch.full((3, 1, 1), v)) + 1) * 127.5), 3) for v in (-1.0, 1.0)]
    [16.0, 235.0]
    """
    unit = (x.clamp(-1, 1) + 1) / 2
    levels = 16 + (unit * unit.new_tensor([65.481, 128.553, 24.966])[:, None, None]).sum(0, keepdim=True)
    return levels / 127.5 - 1


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over pictures; a single picture says nothing of others: the mean twice."""
    x = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(x), size=(_RESAMPLINGS, len(x)))
    low, high = np.quantile(x[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def _pair(x: Tensor, clean: Tensor) -> tuple[float, float]:
    scores = Distortion()
    scores.update(x[None], clean[None])
    ssim = scores.ssim[0]
    if ssim is None:
        raise ValueError(f"a picture of {tuple(x.shape)} is too small for SSIM: give pictures of at least 11 px a side")
    return scores.psnr[0], ssim
