r"""Distortion: RMSE, PSNR and SSIM between restored and clean pictures, and their intervals.

Pictures live in [-1, 1] and are scored in [0, 1], after clamping: what lies outside cannot be shown or
stored, so it is not held against a restorer. (The code of Cold Diffusion did not clamp: the same network
scores there a little worse, never better.)
With :math:`m_i` the mean squared error of picture i and :math:`n_i` its number of values,

.. math::
    \text{rmse} = \sqrt{\textstyle\sum_i n_i m_i / \sum_i n_i}, \qquad
    \text{psnr} = \frac{1}{b} \sum_i -10 \log_{10} m_i, \qquad
    \text{ssim} = \frac{1}{b} \sum_i \text{ssim}_i .

RMSE is *global*, one root over all values of all pictures, as the paper reports it; PSNR and SSIM are
means of one number per picture, as the literature reports them. Three conventions decide the last digits:

* two equal pictures have infinite PSNR, which would make every mean infinite: PSNR stops at 100 dB;
* SSIM looks through a Gaussian window of 11 x 11 pixels, sigma 1.5 px. A picture with a side under 11 px gets
  the largest odd window that fits, its sigma scaled alike; under 3 px there is no SSIM, and it is None;
* SSIM is averaged over the windows that lie wholly inside the picture, as in the paper that defines it, in the code of Cold Diffusion and
  in scikit-image; torchmetrics also takes windows over the border, which it reflects. On pictures of 32 pixels that decides the first digit.

The three measures are torchmetrics', imported when first used: that import takes seconds.

Sources: Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004);
Bansal et al., "Cold Diffusion" (2022, arXiv 2208.09392), tables 1 to 4.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from snowmelt.metrics.measures import RMSE, Column, Measures
from snowmelt.types import Batch

Interval: TypeAlias = tuple[float, float]

PSNR_CAP_DB = 100.0
WINDOW_PX = 11
SIGMA_PX = 1.5
CHUNK = 32
# The 97.5 % quantile of the standard normal distribution: two sides, 95 % between them.
Z_95 = 1.959963984540054


def rmse(x: Tensor, y: Tensor) -> float:
    """The root of the mean squared difference over all values of all samples, in units of [0, 1].

    >>> rmse(torch.full((4, 3, 8, 8), -1.0), torch.full((4, 3, 8, 8), 1.0))
    1.0

    Args:
        x: restored samples, (b, *d), in [-1, 1]; clamped there.
        y: the clean samples, alike.

    Raises:
        ValueError: the shapes differ or are empty, a value is NaN, or the values are not floating-point numbers.
    """
    from torchmetrics.functional import mean_squared_error

    _check_pair(x, y)
    if not x.numel():
        raise ValueError(f"shape {tuple(x.shape)} holds no value: there is no score")
    return math.sqrt(float(mean_squared_error(_unit(x, "x"), _unit(y, "y"))))


@dataclass
class Distortion:
    """Gathers one error per picture, batch after batch; any number of batches, of any picture sizes.

    >>> scores = Distortion()
    >>> clean = torch.zeros(2, 1, 16, 16)
    >>> scores.update(clean + 0.2, clean)
    >>> {name: round(value, 3) for name, value in scores.compute().items()}
    {'rmse': 0.1, 'psnr': 20.0, 'ssim': 0.984}

    Attributes:
        mse: mean squared error of each picture, in units of [0, 1] squared.
        psnr: peak signal-to-noise ratio of each picture in dB, at most 100.
        ssim: structural similarity of each picture in [-1, 1]; None for a side under 3 px.
        values: how many values (c * h * w) each picture has: its weight in the RMSE.
    """

    mse: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float | None] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of pictures seen."""
        return len(self.mse)

    def update(self, x: Tensor, clean: Tensor) -> None:
        """Add a batch of restored pictures and the clean ones they should be, both (b, c, h, w) in [-1, 1].

        Raises:
            ValueError: the shapes differ, are not (b, c, h, w), or a value is NaN.
        """
        if x.ndim != 4:
            raise ValueError(f"x has shape {tuple(x.shape)}; pictures are (b, c, h, w)")
        _check_pair(x, clean)
        x, clean = _unit(x, "x"), _unit(clean, "clean")
        self.mse += (x - clean).square().mean((1, 2, 3)).tolist()
        self.psnr += _psnr(x, clean)
        self.ssim += _ssim(x, clean)
        self.values += [math.prod(x.shape[1:])] * len(x)

    def parts(self) -> dict[str, Tensor]:
        """The same numbers as tensors (n,), float64, NaN where there is no SSIM."""
        ssim = [math.nan if value is None else value for value in self.ssim]
        found = {"mse": self.mse, "psnr": self.psnr, "ssim": ssim}
        return {name: torch.tensor(column, dtype=torch.float64) for name, column in found.items()} | {"values": torch.tensor(self.values)}

    def compute(self) -> dict[str, float | None]:
        """``rmse`` in [0, 1], ``psnr`` in dB and ``ssim`` over all pictures so far; ssim is None if any picture has none.

        Raises:
            ValueError: no picture has been seen.
        """
        found = {name: mean for name, (mean, _) in self._moments().items()}
        return found | {"rmse": math.sqrt(found["rmse"])} | self._gap()

    def interval(self) -> dict[str, Interval | None]:
        """A 95 % confidence interval (low, high) for each number of :meth:`compute`, None from a single picture.

        It says how much the number would move with other pictures from the same source, by the normal
        approximation: mean +- 1.96 standard errors. RMSE's is that of the MSE, under the root. It says
        nothing of other training seeds.

        Raises:
            ValueError: no picture has been seen.
        """
        found: dict[str, Interval | None] = {}
        for name, (mean, error) in self._moments().items():
            low, high = mean - Z_95 * error, mean + Z_95 * error
            found[name] = (math.sqrt(max(low, 0.0)), math.sqrt(high)) if name == "rmse" else (low, high)
        return (found if len(self) > 1 else dict.fromkeys(found)) | self._gap()

    def _moments(self) -> dict[str, tuple[float, float]]:
        """(mean, standard error) of the MSE, under the name of the RMSE it becomes, the PSNR, and the SSIM."""
        if not len(self):
            raise ValueError("no picture has been scored: call update(x, clean) first")
        ssim = [value for value in self.ssim if value is not None]
        return {
            "rmse": _mean_and_error(self.mse, self.values),
            "psnr": _mean_and_error(self.psnr),
            "ssim": _mean_and_error(ssim or [math.nan]),
        }

    def _gap(self) -> dict[str, None]:
        # A mean over the pictures that happen to be large enough would be a mean over other pictures than the PSNR's.
        return {"ssim": None} if None in self.ssim else {}


class Pictures(Measures):
    """RMSE, PSNR and SSIM of pictures (b, c, h, w), clamped to [-1, 1] and scored in [0, 1]: those of :class:`Distortion`, as parts."""

    columns: ClassVar[tuple[Column, ...]] = (
        RMSE,
        Column("psnr", "PSNR", "dB", "high", 2),
        Column("ssim", "SSIM", "", "high", 3, whole=True),
    )
    main: ClassVar[str] = "psnr"
    scale: ClassVar[float] = 0.5

    def each(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        """See :meth:`Measures.each`."""
        scores = Distortion()
        scores.update(x, clean)
        return scores.parts()

    def common(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        """See :meth:`Measures.common`."""
        _check_pair(x, clean)
        squares = (_unit(x, "x") - _unit(clean, "clean")).square().mean((1, 2, 3)).cpu()
        return {"mse": squares, "values": torch.full((len(x),), math.prod(x.shape[1:]), dtype=torch.int64)}


def _mean_and_error(values: list[float], weights: list[int] | None = None) -> tuple[float, float]:
    """The weighted mean and its standard error (that of a ratio of two means, to first order)."""
    n = len(values)
    x = torch.tensor(values, dtype=torch.float64)
    w = torch.ones(n, dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
    w = w / w.sum()
    mean = float((w * x).sum())
    return mean, math.sqrt(float((w * (x - mean)).square().sum()) * n / max(n - 1, 1))


def _check_pair(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {tuple(x.shape)} and {tuple(y.shape)}; a score compares sample by sample")


def _unit(x: Tensor, name: str) -> Tensor:
    """[-1, 1] to [0, 1], clamped, in float64 and free of the graph."""
    if not x.is_floating_point():
        raise ValueError(f"{name} has dtype {x.dtype}; scores take floating-point numbers in [-1, 1] (snowmelt.data.images converts)")
    if bool(x.isnan().any()):
        raise ValueError(f"{name} holds NaN in {int(x.isnan().flatten(1).any(1).sum())} of {len(x)} samples: there is no score")
    return (x.detach().double() / 2 + 0.5).clamp(0, 1)


def _psnr(x: Tensor, clean: Tensor) -> list[float]:
    """One PSNR in dB per picture of (b, c, h, w) in [0, 1]."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    decibels = peak_signal_noise_ratio(x, clean, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return [float(value) for value in decibels.clamp(max=PSNR_CAP_DB)]


def _ssim(x: Tensor, clean: Tensor) -> list[float | None]:
    """One SSIM per picture of (b, c, h, w) in [0, 1]; None where no window of 3 px fits."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    side = min(*x.shape[2:], WINDOW_PX)
    window = side - 1 + side % 2
    if window < 3 or not len(x):
        return [None] * len(x)
    # torchmetrics sizes a Gaussian window by its sigma, 2 int(3.5 sigma + .5) + 1: this one gives back `window`.
    sigma = SIGMA_PX * window / WINDOW_PX
    found: list[float | None] = []
    # float32 in small pieces is 80 times faster than float64 at once, and within 1e-4 of it even on flat pictures.
    for p, q in zip(torch.split(x.float(), CHUNK), torch.split(clean.float(), CHUNK), strict=True):
        _, whole = structural_similarity_index_measure(p, q, sigma=sigma, kernel_size=window, data_range=1.0, return_full_image=True)
        rim = window // 2
        found += torch.as_tensor(whole)[..., rim : x.shape[2] - rim, rim : x.shape[3] - rim].mean((1, 2, 3)).tolist()
    return found
