r"""Intervals: how much a number would move with other pictures from the same source, by the bootstrap.

The N pictures are drawn anew N at a time with replacement, B times over; the interval goes from the 2.5 % to the 97.5 % quantile
of the B numbers. All methods see the same draws, keyed by the seed, so their intervals can be compared. It says nothing of other
training seeds.

Source: Efron, "Bootstrap methods: another look at the jackknife" (1979), percentile method.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from snowmelt.metrics import Column, Distortion, Gathered
from snowmelt.metrics.distortion import Pictures
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
    gathered = Gathered(Pictures())
    gathered.extend(scores.parts())
    return of_gathered(gathered, seed)


def of_gathered(scores: Gathered, seed: int) -> dict[str, Interval | None]:
    """The interval of every column; None from a single sample, and where a column that must be whole is not."""
    columns = scores.columns()
    if len(scores) < 2:
        return dict.fromkeys(one.name for one in columns)
    found: dict[str, Interval | None] = {}
    for one, numbers in zip(columns, resampled(scores, columns, seed), strict=True):
        found[one.name] = None if bool(numbers.isnan().all()) else interval(numbers[numbers.isfinite()])
    return found


def resampled(scores: Gathered, columns: Sequence[Column], seed: int) -> list[Tensor]:
    """The numbers of each column over bootstrap samples: (resamples,) each. All methods see the same draws, so that their numbers are paired."""
    values, plain = list[Tensor](), list[bool]()
    for one in columns:
        numbers, weights = scores.of(one)
        plain.append(bool((weights == 1).all()))
        # Plain numbers were always held in single precision here: so the intervals of reports stay what they were, to the last digit.
        values += [numbers.float().double()] if plain[-1] else [numbers * weights, weights]
    means, out = list(resampled_means(torch.stack(values, 1), seed).unbind(1)), []
    for one, alike in zip(columns, plain, strict=True):
        mean = means.pop(0) if alike else means.pop(0) / means.pop(0)
        out.append(mean.sqrt() if one.root else mean)
    return out


def of_difference(own: Gathered, other: Gathered, column: Column, seed: int) -> tuple[float, Interval | None] | None:
    """By how much one method's number is better than another's on the same samples, and the interval of that; None where one of them has none.

    Paired: both are drawn anew together, so that what is hard for both adds nothing to the width.
    """
    a, b = own.compute().get(column.name), other.compute().get(column.name)
    if a is None or b is None:
        return None
    sign = 1 if column.better == "high" else -1
    if len(own) < 2:
        return sign * (a - b), None
    first, second = (resampled(one, [column], seed)[0] for one in (own, other))
    apart = sign * (first - second)
    return sign * (a - b), interval(apart[apart.isfinite()])


def of_median(values: Tensor, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The interval of the median of `values` (n,)."""
    picked = torch.randint(len(values), (resamples, len(values)), generator=generator(seed, "bootstrap"))
    return interval(values.double().cpu()[picked].median(1).values)
