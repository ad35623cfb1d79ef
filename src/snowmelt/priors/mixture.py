r"""A mixture of Gaussians over the means of x_1 on a coarse grid.

Cut x at t = 1 into grid x grid cells a channel; their means are D = c grid^2 numbers, and of those the law

.. math:: p(m) = \sum_{j=1}^k w_j\, N(m;\, \mu_j, \Sigma_j)

is fitted with full covariances. A grid of 1 is the paper's prior for a blur that ends in the mean of each channel (one component:
a single Gaussian in three dimensions); 2 is its prior for pictures of 2 x 2 pixels; 8 describes blurs that end early.

A drawn m is brought back to full size by one matrix along rows and one along columns, :math:`x_1 = U_h\, m\, U_w^\top`, which have
the drawn means as their cell means *exactly*: nearest repeats each mean (pixelated pictures), bilinear and cosine (the lowest
cosines, blurred ones) are corrected by the inverse of what averaging does to them. ``auto`` takes the one that rebuilds the samples best.

scikit-learn fits (EM from k-means, a fixed seed); samples are drawn here, from generators keyed by the sample.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 5.2 and appendix; Dempster, Laird, Rubin 1977 for EM.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.priors.base import Learned, as_state
from snowmelt.randomness import normal, uniform
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Generators, State

_WAYS = ("nearest", "bilinear", "cosine")
_ROUNDS = 500


@register("gaussian-mixture", papers=("bansal2022", "dempster1977"))
@dataclass(frozen=True)
class GaussianMixture(Learned):
    """Gaussians over the means of x_1 on a coarse grid, fitted to training samples: gaussian-mixture:components=4,grid=2."""

    components: Annotated[int, Range(1, 1000), "Gaussians; 1 is the paper's"] = 1
    grid: Annotated[int, Range(1, 64), "cells a side, in each channel: 1, 2, 8"] = 1
    regularisation: Annotated[float, Range(1e-12, 1), "variance added to every mean"] = 1e-4
    upsample: Annotated[
        Literal["auto", "nearest", "bilinear", "cosine"], "from the grid to full size: nearest for blocks, bilinear or cosine for blur"
    ] = "auto"

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse what is no picture, or smaller than the grid."""
        if len(shape) != 3:
            raise ValueError(f"the prior gaussian-mixture describes pictures (c, h, w), not samples of shape {shape}: take from-data")
        if self.grid > min(shape[1:]):
            h, w = shape[1:]
            raise ValueError(f"gaussian-mixture.grid = {self.grid} is larger than the pictures of {w} x {h} px: give at most {min(h, w)}")

    def fit(self, batches: Iterable[Batch | State]) -> Self:
        """The mixture of greatest likelihood, and the way back to full size.

        Raises:
            ValueError: fewer samples than components, or a grid larger than a sample.
        """
        rows: list[Tensor] = []
        seen: _Rebuilding | None = None
        for item in batches:
            x = as_state(item).x.detach().cpu().double()
            if seen is None:
                self.require(tuple(x.shape[1:]))
                seen = _Rebuilding(tuple(x.shape[1:]), self.grid, _WAYS if self.upsample == "auto" else (self.upsample,))
            rows.append(seen.means(x))
        if seen is None or len(data := torch.cat(rows)) < max(self.components, 2):
            found = sum(map(len, rows))
            asked = f"gaussian-mixture.components = {self.components}"
            raise ValueError(f"{asked} cannot be fitted to {found} samples: give fewer components, or more samples")
        return self.with_tensors({**self._fitted(data), **seen.best()})

    def _fitted(self, data: Tensor) -> dict[str, Tensor]:
        """Weights (k,), means (k, D) and lower triangular roots of the covariances (k, D, D)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Fit

        law: Any = Fit(self.components, covariance_type="full", reg_covar=self.regularisation, max_iter=_ROUNDS, random_state=0)
        with warnings.catch_warnings():  # a likelihood that still creeps upwards, or fewer different samples than components: a law all the same
            warnings.simplefilter("ignore", ConvergenceWarning)
            law.fit(data.numpy())
        weights, means, covariances = (torch.from_numpy(a).double() for a in (law.weights_, law.means_, law.covariances_))
        return {"weights": weights, "means": means, "roots": torch.linalg.cholesky(covariances)}

    def sizes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Of all that is learned."""
        (c, h, w), k, grid = shape, self.components, self.grid
        law = {"weights": (k,), "means": (k, c * grid**2), "roots": (k, c * grid**2, c * grid**2)}
        return {**law, "rows": (h, grid), "columns": (w, grid), "explained": ()}

    def start(self, n: int, generator: Generators = None) -> State:
        """A component, then its Gaussian, then full size; in float64, given in float32."""
        weights, means, roots, rows, columns = (self._known(name) for name in ("weights", "means", "roots", "rows", "columns"))
        like = torch.empty(n, dtype=torch.float64)
        u, noise = uniform(like, generator, (1,)), normal(like, generator, (means.shape[1],))
        which = torch.searchsorted(weights.cumsum(0), u[:, 0], right=True).clamp(max=len(weights) - 1)
        coarse = means[which] + (roots[which] @ noise[:, :, None])[:, :, 0]
        x = rows @ coarse.reshape(n, -1, self.grid, self.grid) @ columns.mT
        return State(x.float(), 1.0)

    def gives(self, drawn: frozenset[str]) -> frozenset[str]:
        """Nothing: its samples come from no draw."""
        return frozenset()

    @property
    def explained(self) -> float:
        """The share of the variance of x_1 that the means on the grid hold, in [0, 1]; the rest no sample of this prior has."""
        return float(self._known("explained"))


class _Rebuilding:
    """How well each way back to full size rebuilds the samples from their means."""

    def __init__(self, shape: tuple[int, ...], grid: int, ways: tuple[str, ...]) -> None:
        _, h, w = shape
        self.averages = cells(h, grid), cells(w, grid)
        self.ways = {way: (upsampling(way, h, grid), upsampling(way, w, grid)) for way in ways}
        self.off = dict.fromkeys(ways, 0.0)
        self.sum, self.squares, self.count = torch.zeros(shape, dtype=torch.float64), 0.0, 0

    def means(self, x: Tensor) -> Tensor:
        """The means of x (b, c, h, w) on the grid, (b, D); the errors are noted."""
        coarse = self.averages[0] @ x @ self.averages[1].mT
        for way, (rows, columns) in self.ways.items():
            self.off[way] += float((rows @ coarse @ columns.mT - x).square().sum())
        self.sum += x.sum(0)
        self.squares += float(x.square().sum())
        self.count += len(x)
        return coarse.flatten(1)

    def best(self) -> Mapping[str, Tensor]:
        """The matrices (h, grid) and (w, grid) of the best way, the first of equals, and the share of the variance it leaves."""
        way = min(self.ways, key=lambda name: round(math.sqrt(self.off[name] / self.sum.numel() / self.count), 6))
        variance = self.squares - float(self.sum.square().sum()) / self.count
        explained = 1 - self.off[way] / variance if variance > 1e-12 * self.squares else 1.0
        rows, columns = self.ways[way]
        return {"rows": rows, "columns": columns, "explained": torch.tensor(max(explained, 0.0), dtype=torch.float64)}


def cells(n: int, grid: int) -> Tensor:
    """The means of n pixels over `grid` cells as equal as they can be: (grid, n), float64, each row with sum 1."""
    inside = torch.arange(n)[None, :] * grid // n == torch.arange(grid)[:, None]
    return inside.double() / inside.sum(1, keepdim=True)


def upsampling(way: str, n: int, grid: int) -> Tensor:
    """From the means of the cells to n pixels that have these means: (n, grid), float64, ``cells @ upsampling = I``."""
    average = cells(n, grid)
    match way:
        case "nearest":
            shapes = (average.mT > 0).double()
        case "bilinear":
            shapes = functional.interpolate(torch.eye(grid, dtype=torch.float64)[None], size=n, mode="linear", align_corners=False)[0].mT
        case _:
            pixels, waves = torch.arange(n, dtype=torch.float64), torch.arange(grid, dtype=torch.float64)
            shapes = torch.cos(math.pi / n * (pixels[:, None] + 0.5) * waves[None, :])
    out: Tensor = torch.linalg.solve(average @ shapes, shapes, left=False)
    return out
