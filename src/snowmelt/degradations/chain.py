r"""Gaussian chains: degradations whose every step is Gaussian, so that each step has a law and a way back.

Where :math:`x_t = A_t x_0 + \sigma_t z` with standard normal z and A_t diagonal in an orthonormal basis, each coefficient walks by itself.
For s < t and :math:`a = A_t / A_s`, coefficient by coefficient,

.. math:: q(x_t \mid x_s) = N\left(a\, x_s,\ \sigma_t^2 r^2\right), \qquad
          q(x_s \mid x_t, x_0) = N\left(A_s x_0 + a \frac{\sigma_s^2}{\sigma_t^2} (x_t - A_t x_0),\ \sigma_s^2 r^2\right), \qquad
          r^2 = 1 - a^2 \frac{\sigma_s^2}{\sigma_t^2},

and r^2 is the share of the noise at t that is newer than s. For ``noise`` all of it is one number a sample, and this is DDPM. For *warm* paths,
``gaussian-blur+noise``, it differs from frequency to frequency: blurring diffusion, and with a constant sigma inverse heat
dissipation with its own posterior. This is the only place where the formula stands; samplers, likelihoods and targets all call it.

What is 0 stays finite: where A_s = 0 nothing is left that could be carried on, a = 0, and all noise is new; at t = 1 with
alpha = 0 the same; where sigma_t = 0 no noise is there to be renewed. Where sigma_s = 0, as at s = 0, the posterior is the point A_s x0.

Source: Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al. 2020 (arXiv 2006.11239), eq. 2, 4 and 6; Song et al. 2020 (arXiv 2010.02502), eq. 16,
for eta; Hoogeboom and Salimans 2022 (arXiv 2209.05557), section 4, per frequency; Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 15, for
variances in between.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations.base import Degradation
from snowmelt.degradations.spectral import backward, forward
from snowmelt.randomness import normal
from snowmelt.registry import label
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity


class Posterior(NamedTuple):
    """Where x_s lies, given x_t and x0.

    Attributes:
        mean: of x_s, in pixels (b, *d).
        small: its variance, the posterior's own; in the basis of D, broadcastable to the coefficients.
        large: the variance of the step from s to t, DDPM's beta_t: what the variance would be if nothing were known of x0.
    """

    mean: Tensor
    small: Tensor
    large: Tensor


def is_chain(degradation: Degradation) -> bool:
    """Whether every step of it is Gaussian: linear, diagonal in some basis, with one noise that comes last and nothing else hidden."""
    d = degradation
    return d.linear and d.basis is not None and len(d.noise) == 1 and set(d.hidden) <= set(d.noise)


def require(degradation: Degradation) -> None:
    """Refuse what is no Gaussian chain.

    Raises:
        TypeError: it has no noise, more than one, or one that does not come last; or it is diagonal in no basis.
    """
    if is_chain(degradation):
        return
    d, name = degradation, label(type(degradation))
    if not d.noise:
        why = "it has no noise at its end"
    elif len(d.noise) > 1 or set(d.hidden) - set(d.noise):
        why = f"it hides more than one noise that comes last ({', '.join(d.hidden)})"
    else:
        why = "what it does before the noise is not linear and diagonal in one basis"
    raise TypeError(f"{name} is no Gaussian chain, for {why}: take noise, or an operator that is diagonal in a basis with '+noise' appended")


def transition(degradation: Degradation, shape: tuple[int, ...], s: Severity, t: Severity, z: Draw = EMPTY) -> tuple[Tensor, Tensor]:
    """The Markov step q(x_t | x_s) = N(ratio x_s, variance), s < t; of an affine D, of x less what D makes of 0.

    Args:
        degradation: a Gaussian chain.
        shape: of one sample.
        s: where the step begins, (b,).
        t: where it ends, (b,).
        z: the draw, for operators whose gain depends on it.

    Returns:
        ratio and variance, both in the basis of D and broadcastable to (b, *coefficients).

    Raises:
        TypeError: the degradation is no Gaussian chain.
    """
    require(degradation)
    ratio, _, sigma_t, renewed = _step(degradation, shape, s, t, z)
    return ratio, sigma_t**2 * renewed


def advance(degradation: Degradation, x_s: Batch, s: Severity, t: Severity, z: Draw = EMPTY, generator: Generators = None) -> Batch:
    """One draw of the Markov step: x_t (b, *d) from x_s, s < t. The way back of RePaint.

    Raises:
        TypeError: the degradation is no Gaussian chain.
    """
    ratio, variance = transition(degradation, tuple(x_s.shape[1:]), s, t, z)
    eps, zero = normal(x_s, generator), torch.zeros_like(x_s)
    carried = filtered(degradation, x_s - mean(degradation, zero, s, z), ratio) + mean(degradation, zero, t, z)
    return carried + filtered(degradation, eps, variance.sqrt())


def posterior(degradation: Degradation, x_t: Batch, x0: Batch, t: Severity, s: Severity, z: Draw = EMPTY) -> Posterior:
    """The law q(x_s | x_t, x0), s < t: what undoing one step would do if x0 were known.

    Raises:
        TypeError: the degradation is no Gaussian chain.
    """
    require(degradation)
    ratio, sigma_s, sigma_t, renewed = _step(degradation, tuple(x_t.shape[1:]), s, t, z)
    left = x_t - mean(degradation, x0, t, z)
    gain = ratio * _over(sigma_s, sigma_t) ** 2
    return Posterior(mean(degradation, x0, s, z) + filtered(degradation, left, gain), sigma_s**2 * renewed, sigma_t**2 * renewed)


def snr(degradation: Degradation, shape: tuple[int, ...], t: Severity, z: Draw = EMPTY) -> Tensor:
    """The signal-to-noise ratio A_t^2 / sigma_t^2 of every coefficient, in the basis of D; infinite where sigma_t = 0.

    Raises:
        TypeError: the degradation is no Gaussian chain.
    """
    require(degradation)
    gain, sigma = degradation.gain(shape, t, z), _column(degradation.sigma(t), shape)
    ratio: Tensor = (gain / torch.where(sigma == 0, 1, sigma)) ** 2
    return torch.where(sigma == 0, torch.inf, ratio)


def renewed(
    degradation: Degradation,
    z: Draw,
    t: Severity,
    s: Severity,
    eta: float,
    generator: Generators = None,
    spread: float | Tensor = 0.0,
) -> Draw:
    r"""The draw for s < t, its noise partly new: with it D(x0, s, .) is one draw of DDIM(eta), of the posterior at eta = 1.

    .. math:: z' = \sqrt{1 - \rho^2}\, z + \rho \left(\frac{\sigma_t}{\sigma_s}\right)^{v} \varepsilon, \qquad \rho = \eta r.

    Args:
        degradation: a Gaussian chain.
        z: the draw, its noise solved at t.
        t: severities (b,).
        s: severities (b,) below t.
        eta: 0 keeps the noise, 1 renews as much as the chain does.
        generator: of the new noise.
        spread: v, 0 for the posterior's variance, 1 for the transition's, in between by the logarithm; a number or (b, *d). Above 0 the new
            noise is more than the chain has at s.

    Raises:
        TypeError: the degradation is no Gaussian chain.
    """
    require(degradation)
    if eta == 0:
        return z
    (name,) = degradation.noise
    old = z[name]
    ratio, sigma_s, sigma_t, share = _step(degradation, tuple(old.shape[1:]), s, t, z)
    rho = eta * share.sqrt()
    # At eta = 1 the posterior itself, without cancellation: a gain that changes its sign takes the noise along.
    kept = (ratio * _over(sigma_s, sigma_t)).clamp(-1, 1) if eta == 1 else (1 - rho**2).sqrt()
    eps = filtered(degradation, normal(old, generator), rho)
    if isinstance(spread, Tensor) or spread != 0:
        eps = eps * torch.where(sigma_s == 0, 1, _over(sigma_t, sigma_s)) ** spread
    return {**z, name: filtered(degradation, old, kept) + eps}


def mean(degradation: Degradation, x0: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
    """mu_t(x0) = D(x0, t, z) with its noise set to zero: (b, *d). For every degradation that names its noise."""
    return degradation(x0, t, {**z, **{name: torch.zeros_like(x0) for name in degradation.noise}})


def filtered(degradation: Degradation, x: Batch, gain: Tensor) -> Batch:
    """X with its coefficients in the basis of D multiplied by a gain: (b, *d)."""
    basis = degradation.basis
    if basis is None:
        raise TypeError(f"{label(type(degradation))} is diagonal in no basis, so nothing can be multiplied there")
    if basis in ("any", "pixel") or gain.numel() == gain.shape[0]:
        return x * gain
    return backward(forward(x, basis) * gain, basis, x.shape[-1])


def _step(degradation: Degradation, shape: tuple[int, ...], s: Severity, t: Severity, z: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A_t / A_s, sigma_s, sigma_t, and the share r^2 of the noise at t that is newer than s."""
    ratio = _over(degradation.gain(shape, t, z), degradation.gain(shape, s, z))
    sigma_s, sigma_t = (_column(degradation.sigma(v), shape) for v in (s, t))
    carried = (ratio * sigma_s / torch.where(sigma_t == 0, 1, sigma_t)) ** 2
    return ratio, sigma_s, sigma_t, (1 - carried).clamp(min=0)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """A / b, and 0 where b is 0."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))


def _column(sigma: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(b,) as (b, 1, ..., 1)."""
    return sigma.reshape(-1, *(1,) * len(shape))
