r"""The variational bound: how many bits a value of a picture costs under a chain of Gaussian steps, at most.

A chain on the grid :math:`t_i = i/T` turns a picture into noise, and the model runs it backwards. Read as a code, it costs three things:

.. math:: L = \underbrace{\mathrm{KL}\big(q(x_1|x_0)\,\|\,p(x_1)\big)}_{L_T}
   + \sum_{i=2}^{T} \underbrace{\mathrm{KL}\big(q(x_{t_{i-1}}|x_{t_i},x_0)\,\|\,p(x_{t_{i-1}}|x_{t_i})\big)}_{L_{i-1}}
   \underbrace{- \log p(x_0|x_{1/T})}_{L_0},

the prior, the steps and the decoder, here in bits per dimension: divided by log 2 and by the number of values in a picture. It is no less than
the mean of :math:`-\log_2 p(x_0)/d`. The mean of :math:`p(x_s|x_t)` is that of :math:`q(x_s|x_t,\hat x_0)`. Its variance is

* *small*: q's own. A step then costs :math:`\tfrac12 (\mathrm{SNR}_s - \mathrm{SNR}_t) \lVert x_0 - \hat x_0\rVert^2` nats, coefficient by
  coefficient where the operator is diagonal in a basis: a blur that ends in noise has a bound as well;
* *large*: that of the step forwards, :math:`\beta_t`;
* *learned*: between the two, where the model learned it. It belongs to pixels, and is left out where the chain is diagonal in another basis.

All of them are taken from the same calls of the restorer. For a path without a chain of noise there is no such number, and none is made up.

The decoder's mean is the last estimate. Its variance would be 0 for *small*, and is that of the step before, as in DDPM's code; for *large* it is
the first :math:`\beta`, as in the paper's eq. 13, where that code takes the small one's. In a basis it is the mean over the coefficients.

The noise of every picture at every step is keyed by (seed, picture, step), so no number depends on the batch. Memory does not grow with T.

Source: Sohl-Dickstein et al. 2015 (arXiv 1503.03585), eq. 9 to 14; Ho et al. 2020 (arXiv 2006.11239), eq. 5 and 13; Nichol and Dhariwal 2021 (arXiv
2102.09672), section 3.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation, chain
from snowmelt.degradations.likelihood import LEVELS, between, divergence, log_density, log_level, summed
from snowmelt.degradations.likelihood import steps as steps_of
from snowmelt.degradations.spectral import forward
from snowmelt.evaluation import intervals
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.randomness import generators
from snowmelt.registry import label
from snowmelt.types import Batch, Draw, Severity, severity

_OFF_LEVEL = 1e-3 / 127.5
_PIXELS = ("any", "pixel")  # bases in which a coefficient is a value of the picture


@dataclass(frozen=True)
class Bound:
    """A bound on the bits per dimension of some pictures, and what it consists of.

    Attributes:
        variance: of the model's steps: small, large or learned.
        prior: L_T.
        steps: the sum of L_1 ... L_{T-1}.
        decoder: L_0.
        total: the three together.
        interval: of the total, 95 % over pictures; None from a single one.
        per_step: L_1 ... L_{T-1}, the mean over pictures: number i - 1 is the step from (i + 1)/T to i/T.
        images: how many pictures.
        rounded: the largest distance of a value to its level of 8 bits, before it was moved there; 0 where all were on theirs.
    """

    variance: str
    prior: float
    steps: float
    decoder: float
    total: float
    interval: tuple[float, float] | None
    per_step: tuple[float, ...]
    images: int
    rounded: float = 0.0

    @property
    def grid(self) -> int:
        """T."""
        return len(self.per_step) + 1

    def bands(self, n: int = 10) -> list[tuple[float, float, float]]:
        """The steps in `n` bands of equal width at most: (t from, t to, bits per dimension of the steps that start in it)."""
        t, n = self.grid, min(n, max(1, len(self.per_step)))
        edges = [1 + round(k * (t - 1) / n) for k in range(n + 1)]
        return [(low / t, high / t, math.fsum(self.per_step[low - 1 : high - 1])) for low, high in pairwise(edges)]


def require(model: Model) -> None:
    """Refuse a model that has no bits per dimension.

    Raises:
        TypeError: its path is no chain of Gaussian noise, or its prior has no density.
        ValueError: it adds a noise floor, or rounds what the restorer sees: neither is part of the chain.
    """
    try:
        chain.require(model.degradation)
    except TypeError as error:
        raise TypeError(f"bits per dimension need every step to be a Gaussian that covers the whole space: {error}") from None
    if model.noise_floor > 0:
        raise ValueError(f"model.noise_floor = {model.noise_floor:g} is no part of the chain whose bits per dimension are asked for: train with 0")
    if model.input == "8bit":
        raise ValueError("model.input = 8bit rounds what the restorer sees, and no chain of Gaussians does: bits per dimension need input = float")
    if not isinstance(model.prior, Normal):
        found = "no prior" if model.prior is None else f"the prior {label(type(model.prior))}"
        raise TypeError(f"bits per dimension need a Gaussian density of x at t = 1, and this model has {found}: train with model.prior = normal")


def grid_of(model: Model, steps: int | None = None) -> int:
    """T: what is asked for, else the knots of the schedule, else 1000.

    Raises:
        ValueError: no steps are asked for.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"a chain of {steps} steps ends where it begins: give at least 1")
    return steps or steps_of(model.degradation)


@torch.no_grad()
def bound(
    model: Model,
    data: Dataset,
    ids: Sequence[int],
    *,
    steps: int | None = None,
    levels: int | None = LEVELS,
    clip: bool = True,
    seed: int = 0,
    batch: int = 250,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None] = lambda n: None,
) -> dict[str, Bound]:
    """The bound by the variance of the model's steps: "small", "large" and, where the model learned one, "learned".

    Args:
        model: a chain of Gaussian noise, with a normal prior.
        data: the pictures.
        ids: their numbers, which key the noise.
        steps: T; by default the knots of the schedule, or 1000. Fewer make a respaced chain.
        levels: of a value, 256 in a file of 8 bits: pictures off these levels are moved to the nearest. None takes values as
            real numbers and codes their density, which may cost less than 0 bits.
        clip: whether estimates are kept in the range of the data, as samplers may keep them.
        seed: of the noise and of the interval.
        batch: pictures at a time.
        device: where to compute; float64 is used for everything but the network.
        tick: is told of every `n` pictures that went through one step; len(ids) T in all.

    Raises:
        TypeError: the model's path is no Gaussian chain.
        ValueError: no pictures, or a model whose x_t holds more than the chain.
    """
    require(model)
    if not ids:
        raise ValueError("a bound over no pictures says nothing: give at least one")
    t = grid_of(model, steps)
    per_step: dict[str, Tensor] = {}
    parts, off = [], 0.0
    for first in range(0, len(ids), batch):
        part = ids[first : first + batch]
        item = {name: value.to(device) for name, value in data.batch(part).items()}
        x0 = _wide(item["x0"])
        if levels is not None:
            nearest = _on_levels(x0, levels)
            off, x0 = max(off, float((nearest - x0).abs().max())), nearest
        walk = _Walk(model, {**item, "x0": x0}, part, t, levels, clip, seed, device)
        parts.append(walk.costs(tick))
        for name, costs in walk.per_step.items():
            per_step[name] = per_step[name] + costs if name in per_step else costs
    whole = {name: {term: torch.cat([p[name][term] for p in parts]) for term in parts[0][name]} for name in parts[0]}
    off = off if off > _OFF_LEVEL else 0.0
    return {name: _summary(name, terms, (per_step[name] / len(ids)).tolist(), seed, off) for name, terms in whole.items()}


def _summary(name: str, terms: Mapping[str, Tensor], per_step: list[float], seed: int, off: float) -> Bound:
    totals = terms["prior"] + terms["steps"] + terms["decoder"]
    means = {term: float(values.mean()) for term, values in terms.items()}
    sure = intervals.of_mean(totals, seed)
    return Bound(name, means["prior"], means["steps"], means["decoder"], float(totals.mean()), sure, tuple(per_step), len(totals), off)


class _Walk:
    """One batch through all steps; `per_step` holds the sums over its pictures, (T - 1,) for each variance."""

    def __init__(
        self,
        model: Model,
        item: Mapping[str, Tensor],
        ids: Sequence[int],
        t: int,
        levels: int | None,
        clip: bool,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.model, self.item, self.ids, self.t = model, item, ids, t
        self.levels, self.clip, self.seed, self.device = levels, clip, seed, torch.device(device)
        self.x0, self.shape = item["x0"], tuple(item["x0"].shape[1:])
        self.bits = 1 / (math.log(2) * math.prod(self.shape))
        self.noise = model.degradation.noise
        self.per_step: dict[str, Tensor] = {}

    def costs(self, tick: Callable[[int], None]) -> dict[str, dict[str, Tensor]]:
        """The three terms of every picture, in bits per dimension, by variance: each (b,) on the CPU."""
        prior, out = self._prior(), {}
        for name, value in self._decoder().items():
            self.per_step[name] = torch.zeros(self.t - 1, dtype=torch.float64)
            out[name] = {"prior": prior, "steps": torch.zeros_like(prior), "decoder": value}
        tick(len(self.ids))
        for i in range(2, self.t + 1):
            for name, value in self._step(i).items():
                out[name]["steps"] += value
                self.per_step[name][i - 2] = value.sum()
            tick(len(self.ids))
        return out

    def _at(self, i: int) -> Severity:
        return severity(i / self.t, self.x0)

    def _estimate(self, i: int) -> tuple[Batch, Draw, Batch, Tensor | None]:
        """x_t at t = i/T, its draw, and what the restorer makes of it."""
        z = self.model.draw(self.x0, generators(self.seed, f"bound-{i}", self.ids), self.item)
        x_t = self.model.degradation(self.x0, self._at(i), z)
        narrow = self.device.type == "mps"  # which has no float64
        known = {n: v.float().to(self.device) if narrow and v.is_floating_point() else v.to(self.device) for n, v in z.items() if n not in self.noise}
        seen, t = (value.float().to(self.device) if narrow else value for value in (x_t, self._at(i)))
        x0_hat, spread = self.model.predict(seen, t, known)
        x0_hat = x0_hat.clamp(*self.model.range) if self.clip else x0_hat
        return x_t, z, x0_hat.to(x_t), None if spread is None else spread.to(x_t)

    def _variances(self, small: Tensor, large: Tensor, spread: Tensor | None) -> dict[str, Tensor]:
        known = {"small": small, "large": large}
        learned = spread is not None and self.model.degradation.basis in _PIXELS
        return {**known, "learned": between(small, large, spread)} if learned and spread is not None else known

    def _step(self, i: int) -> dict[str, Tensor]:
        """L_{i-1}: (b,) by variance."""
        degradation, (x_t, z, x0_hat, spread) = self.model.degradation, self._estimate(i)
        true, told = (chain.posterior(degradation, x_t, x, self._at(i), self._at(i - 1), z) for x in (self.x0, x0_hat))
        gap = squares(true.mean - told.mean, degradation)
        out = {}
        for name, variance in self._variances(true.small, true.large, spread).items():
            out[name] = self._over(divergence(gap, true.small, variance))
        return out

    def _decoder(self) -> dict[str, Tensor]:
        """L_0: (b,) by variance."""
        degradation, (x_t, z, x0_hat, spread) = self.model.degradation, self._estimate(1)
        first = chain.posterior(degradation, x_t, x0_hat, self._at(1), self._at(0), z)
        small = first.large if self.t == 1 else chain.posterior(degradation, x_t, x0_hat, self._at(2), self._at(1), z).small
        small, large = (_in_pixels(value, degradation, self.x0) for value in (small, first.large))
        out = {}
        for name, variance in self._variances(small, large, spread).items():
            cost = log_density(self.x0, x0_hat, variance) if self.levels is None else log_level(self.x0, x0_hat, variance, self.levels)
            out[name] = -cost.flatten(1).sum(1).cpu() * self.bits
        return out

    def _prior(self) -> Tensor:
        """L_T: (b,)."""
        degradation, one = self.model.degradation, self._at(self.t)
        assert isinstance(self.model.prior, Normal)  # noqa: S101 - require() has seen to it
        z = self.model.draw(self.x0, generators(self.seed, f"bound-{self.t}", self.ids), self.item)
        mean = chain.mean(degradation, self.x0, one, z)
        variance = degradation.sigma(one).square().reshape(-1, *(1,) * len(self.shape))
        scale = torch.full_like(variance, self.model.prior.scale**2)
        return divergence(mean.square(), variance, scale).flatten(1).sum(1).cpu() * self.bits

    def _over(self, values: Tensor) -> Tensor:
        return summed(values, self.model.degradation.basis, self.shape).cpu() * self.bits


def squares(x: Batch, degradation: Degradation) -> Tensor:
    """|x|^2 of every coefficient of x in the basis in which the degradation is diagonal; of every value where any basis will do."""
    basis = degradation.basis
    return x.square() if basis is None or basis in _PIXELS else forward(x, basis).abs().square()


def _in_pixels(variance: Tensor, degradation: Degradation, like: Batch) -> Tensor:
    """A variance of coefficients as one of pixels, broadcastable to x: their mean over each sample, where they are not pixels."""
    if degradation.basis in _PIXELS:
        return variance
    shape = tuple(like.shape[1:])
    mean = summed(variance.expand(len(like), *variance.shape[1:]), degradation.basis, shape) / math.prod(shape)
    return mean.reshape(-1, *(1,) * len(shape))


def _wide(x: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


def _on_levels(x: Tensor, levels: int) -> Tensor:
    top = (levels - 1) / 2
    return ((x.clamp(-1, 1) + 1) * top).round() / top - 1
