r"""Intervals: how much a number would move with other pictures from the same source, by the bootstrap.

The N pictures are drawn anew N at a time with replacement, B times over; the interval goes from the 2.5 % to the 97.5 % quantile
of the B numbers. All methods see the same draws, keyed by the seed, so their intervals can be compared. It says nothing of other
training seeds.

Source: Efron, "Bootstrap methods: another look at the jackknife" (1979), percentile method.
"""

import math

import torch
from torch import Tensor

from snowmelt.metrics import Distortion
from snowmelt.randomness import generator

RESAMPLES = 1000
_CHUNK = 50

Interval = tuple[float, float]


def resampled_means(values: Tensor, seed: int, resamples: int = RESAMPLES) -> Tensor:
    """The means over `resamples` bootstrap samples of the rows of `values` (n, m): (resamples, m), float64."""
    n, g = len(values), generator(seed, "bootstrap")
    values, means = values.double().cpu(), []
    for first in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - first)
        picked = torch.randint(n, (rows, n), generator=g)
        counts = torch.zeros(rows, n, dtype=torch.float64).scatter_add_(1, picked, torch.ones(rows, n, dtype=torch.float64))
        means.append(counts @ values / n)
    return torch.cat(means)


def interval(numbers: Tensor) -> Interval:
    """The central 95 % of bootstrap numbers (b,)."""
    low, high = torch.quantile(numbers.double(), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def of_mean(values: Tensor, seed: int) -> Interval | None:
    """The interval of the mean of `values` (n,); None from a single one."""
    return interval(resampled_means(values[:, None], seed)[:, 0]) if len(values) > 1 else None


def of_root_mean(squares: Tensor, seed: int) -> Interval | None:
    """The interval of the root of the mean of `squares` (n,); None from a single one."""
    return interval(resampled_means(squares[:, None], seed)[:, 0].sqrt()) if len(squares) > 1 else None


def of_distortion(scores: Distortion, seed: int) -> dict[str, Interval | None]:
    """The intervals of RMSE, PSNR and SSIM; None from a single picture, and for an SSIM that a picture is too small for."""
    if len(scores) < 2:
        return dict.fromkeys(("rmse", "psnr", "ssim"))
    values = torch.tensor(scores.values, dtype=torch.float64)
    ssim = [math.nan if s is None else s for s in scores.ssim]
    columns = [torch.tensor(scores.mse, dtype=torch.float64) * values, values, torch.tensor(scores.psnr), torch.tensor(ssim)]
    errors, weights, psnr, similar = resampled_means(torch.stack([c.double() for c in columns], 1), seed).unbind(1)
    return {
        "rmse": interval((errors / weights).sqrt()),
        "psnr": interval(psnr),
        "ssim": None if None in scores.ssim else interval(similar),
    }


def of_median(values: Tensor, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The interval of the median of `values` (n,)."""
    picked = torch.randint(len(values), (resamples, len(values)), generator=generator(seed, "bootstrap"))
    return interval(values.double().cpu()[picked].median(1).values)
