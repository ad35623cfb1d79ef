r"""Guidance: a restorer pulled towards what is asked for, by a scale or by a gradient.

Two estimates of one network, with the condition c and without, differ by what the condition says. Classifier-free guidance exaggerates it,

.. math:: \hat x_0 = \hat x_0^{null} + w\,(\hat x_0^c - \hat x_0^{null}):

w = 0 forgets the condition, w = 1 is the conditional model, w > 1 goes beyond it: nearer to what is typical of c, less various. It is the same
guidance whichever of x0, eps or v it is written in: for a given x_t each is an affine function of the others, and the weights w and 1 - w sum to 1.
Guidance hurts at high severities, where it empties the law of what could still become of x_t, and is idle at low ones; an interval of severities
keeps it to where it serves.

A log-likelihood guides a model that knows no conditions. For :math:`x_t = \alpha_t x_0 + \sigma_t z` with normal z, Tweedie's formula
:math:`\alpha_t E[x_0|x_t] = x_t + \sigma_t^2 \nabla \log p(x_t)`, written once for p(x_t | y) and once for p(x_t), gives by Bayes' rule

.. math:: E[x_0 | x_t, y] = E[x_0 | x_t] + \frac{\sigma_t^2}{\alpha_t} \nabla_{x_t} \log p(y | x_t),

exactly. Any other path has no such formula, and is refused.

Source: Ho and Salimans 2022 (arXiv 2207.12598) for the scale; Kynkäänniemi et al. 2024 (arXiv 2404.07724) for the interval; Dhariwal and Nichol
2021 (arXiv 2105.05233), algorithm 1, for the gradient; Efron 2011, "Tweedie's formula and selection bias".
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.degradations.blend import GaussianNoise
from snowmelt.registry import spec
from snowmelt.restorers.conditions import Conditions
from snowmelt.restorers.restorer import Informed, Restorer
from snowmelt.types import EMPTY, Batch, Draw, Severity, expand

LogLikelihood: TypeAlias = Callable[[Tensor, Tensor, Tensor, Draw], Tensor]
ALWAYS = (0.0, 1.0)
CONDITIONS = tuple(Conditions().sizes)
_HAIR = 1e-6  # a severity on the edge of an interval lies in it, whatever float32 makes of it
_LEAST_ALPHA = 1e-4


class ClassifierFree(Informed):
    """x0_null + scale (x0_cond - x0_null) within an interval of severities, the conditional estimate outside it.

    Both come from one call on a batch of twice the size. Where one of them is enough (scale 0 or 1, a severity outside the interval, no condition
    in the draw) it is a plain call, and bit for bit what that gives. A sample whose condition is unknown is not guided.

    Args:
        restorer: R, trained with conditions that were now and then left out (training.drop_condition).
        scale: w, any finite number; 1 changes nothing.
        interval: the severities (low, high), both included, between which it guides.

    Raises:
        ValueError: the restorer knows no conditions or has one held, or a number is out of bounds.
    """

    def __init__(self, restorer: Informed, scale: float, interval: tuple[float, float] = ALWAYS) -> None:
        super().__init__()
        if isinstance(restorer, Restorer) and not restorer.conditions:
            raise ValueError(
                "guidance: this restorer was trained without conditions, so there is nothing to guide it by: train one with "
                "--model.conditions label, or guide by a classifier ('snowmelt train-classifier RUN')"
            )
        if isinstance(restorer, Restorer) and (held := [name for name in CONDITIONS if name in restorer.held]):
            raise ValueError(f"guidance: this restorer has {', '.join(held)} held, so it has no unconditional estimate: give that in the draw z")
        if not math.isfinite(scale):
            raise ValueError(f"guidance.scale = {scale} is not a finite number: 1 is no guidance, 2 a usual one")
        self.restorer, self.scale, self.interval = restorer, float(scale), checked(interval)
        self.conditions = restorer.conditions

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """The guided estimate of x0 (b, *d) from x_t (b, *d) at t (b,), with the conditions in z, and the spread of the conditional one."""
        guided = inside(t, self.interval)
        without = unconditional(z)
        if without is z or self.scale == 1 or not bool(guided.any()):
            return self.restorer.predict(x_t, t, z)
        if self.scale == 0 and bool(guided.all()):
            return self.restorer.predict(x_t, t, without)
        twice = {name: torch.cat([value, without[name]]) for name, value in z.items()}
        x0, spread = self.restorer.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), twice)
        conditional, null = x0.chunk(2)
        scale = expand(torch.where(guided, self.scale, 1.0).to(x0), x0)
        # Where a row is not guided it has to be the conditional estimate bit for bit, which the sum would miss by its rounding.
        out = torch.where(expand(guided, x0), null + scale * (conditional - null), conditional)
        return out, None if spread is None else spread.chunk(2)[0]


class ByGradient(Informed):
    r"""x0_hat + (sigma_t^2 / alpha_t) grad_{x_t} log p(y | x_t): Bayes' rule for a model that knows no conditions.

    Where alpha_t is below 1e-4, as at the end of a schedule that ends in pure noise, x_t says nothing of y: the gradient vanishes, the factor has
    no bound, and there is no shift.

    Args:
        restorer: R.
        degradation: D, Gaussian noise with a schedule.
        log_likelihood: maps (x_t, x0_hat, t, z) to (b,), differentiable in x_t, directly or through x0_hat; a constant added to it does nothing.
            Multiply it by the scale of the guidance.
        interval: the severities (low, high), both included, between which it guides.
        through: whether x0_hat, as the likelihood sees it, depends on x_t. False saves the way back through the network for
            a likelihood that reads x_t alone, such as a classifier's.
        noise_floor: standard deviation of the noise that the model adds to every x_t.
        reads: the conditions of z that the likelihood reads, so that they may be given to a model that knows none.

    Raises:
        TypeError: D is not Gaussian noise.
        ValueError: a number is out of bounds.
    """

    def __init__(
        self,
        restorer: Informed,
        degradation: Degradation,
        log_likelihood: LogLikelihood,
        *,
        interval: tuple[float, float] = ALWAYS,
        through: bool = True,
        noise_floor: float = 0.0,
        reads: Conditions = Conditions(),  # noqa: B008 - frozen, so one shared default is safe
    ) -> None:
        super().__init__()
        if not 0 <= noise_floor < math.inf:
            raise ValueError(f"guidance.noise_floor = {noise_floor:g} lies outside [0, ∞)")
        self.restorer, self.degradation, self.log_likelihood = restorer, gaussian(degradation), log_likelihood
        self.interval, self.through, self.noise_floor = checked(interval), through, noise_floor
        inner = restorer.conditions
        sizes = dataclasses.asdict(reads) if inner is None else {n: size or getattr(inner, n) for n, size in dataclasses.asdict(reads).items()}
        self.conditions = Conditions(**sizes) if reads or inner is not None else None

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """The guided estimate of x0 (b, *d) from x_t (b, *d) at t (b,), and the restorer's own spread; neither has a graph.

        Raises:
            ValueError: the likelihood is no (b,) that depends on x_t.
        """
        guided = inside(t, self.interval)
        if not bool(guided.any()):
            return self.restorer.predict(x_t, t, z)
        with torch.enable_grad():  # walks run without gradients
            x = x_t.detach().clone().requires_grad_()
            with torch.set_grad_enabled(self.through):
                x0, spread = self.restorer.predict(x, t, z)
            with torch.autocast(x.device.type, enabled=False):
                gradient = _gradient(self.log_likelihood(x, x0, t, z), x)
        x0, spread = x0.detach(), None if spread is None else spread.detach()
        return x0 + torch.where(expand(guided, x0), self._factor(t, x0) * gradient, 0).to(x0), spread

    def _factor(self, t: Severity, like: Tensor) -> Tensor:
        """sigma_t^2 / alpha_t, and 0 where alpha_t is as good as 0: (b, 1, ..., 1)."""
        alpha, sigma = (expand(value, like) for value in self.degradation.schedule(t))
        nothing = alpha < _LEAST_ALPHA
        return torch.where(nothing, 0, (sigma.square() + self.noise_floor**2) / torch.where(nothing, 1, alpha))


def conditions_of(restorer: object) -> Conditions | None:
    """What a restorer reads of the conditions in a draw, guidance included: a plain function nothing; None where it does not say."""
    return restorer.conditions if isinstance(restorer, Informed) else Conditions()


def gaussian(degradation: Degradation) -> GaussianNoise:
    """`degradation`, which has to be the one that Tweedie's formula is for.

    Raises:
        TypeError: it is not Gaussian noise.
    """
    if not isinstance(degradation, GaussianNoise):
        raise TypeError(
            f"guidance by a gradient needs x_t = alpha x0 + sigma z with normal z, which {spec(degradation)} is not: "
            "take a model of noise, or one that was trained with conditions"
        )
    return degradation


def unconditional(z: Draw) -> Draw:
    """`z` with all conditions unknown, label -1 and NaN elsewhere; `z` itself if it holds none."""
    held = [name for name in CONDITIONS if name in z]
    if not held:
        return z
    return {**z, **{name: torch.full_like(z[name], -1 if name == "label" else math.nan) for name in held}}


def inside(t: Severity, interval: tuple[float, float]) -> Tensor:
    """Which severities (b,) lie in an interval: (b,) bool."""
    low, high = interval
    return (t >= low - _HAIR) & (t <= high + _HAIR)


def checked(interval: tuple[float, float]) -> tuple[float, float]:
    """An interval of severities.

    Raises:
        ValueError: it is none.
    """
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"guidance.interval = ({low:g}, {high:g}) must rise within [0, 1]: severities between which it guides, such as (0.1, 0.8)")
    return float(low), float(high)


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """The gradient of every row's value (b,) by its own row of x."""
    found = None
    if value.shape == x.shape[:1] and value.requires_grad:
        (found,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    if found is None:
        raise ValueError(f"guidance: a log-likelihood of {tuple(value.shape)} for a batch of {len(x)}: give (b,), differentiable in x_t or x0_hat")
    return found
