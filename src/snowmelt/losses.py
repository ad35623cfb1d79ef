r"""What training minimises: the distance of the restorer's estimate from the truth, per sample.

.. math:: \ell_i = w(t_i)\, \rho\!\left(R(x_t, t)_i - x_{0,i}\right) + \text{penalty}_i

Squared error makes the restorer the posterior mean :math:`E[x_0 | x_t]`, which is what Algorithm 2 and every ODE view of
sampling assume; absolute error, the paper's choice, makes it the median. Nothing is averaged over the batch here:
whoever calls sees each sample's loss and its severity.

The weight of a severity does not move that minimum, but says where a network of finite size should be good:

==========  ==================================================  =====================================================================
uniform     1                                                   the paper's restoration loss
output      :math:`1 / c_{out}^2`, frequency by frequency       the error of what the network itself returns: DDPM's simple loss for eps,
                                                                EDM's for edm, that of flow matching for flow
min-output  1 over the mean of :math:`c_{out}^2`, at most 20    Min-SNR-gamma for paths that have no signal-to-noise ratio: for wiener that
                                                                mean is the error of the best linear restorer in the operator's basis
snr         the error of :math:`A_t \hat x_0 / \sigma_t`        for pure noise the signal-to-noise ratio, which is the same simple
                                                                loss whatever is predicted; soft score matching where a blur comes first
min-snr     the same, at most 5                                 Min-SNR-gamma
bound       :math:`\tfrac T2 (SNR_s - SNR_t)`, s = t - 1/T      the variational bound, per value, of a chain of T steps; of the last one,
                                                                s = 0, :math:`\tfrac T2 SNR_t`, what coding the sample itself costs
==========  ==================================================  =====================================================================

(for squared errors; others are weighted by the root). For pure noise and data of variance v, wiener has
:math:`1 / c_{out}^2 = SNR + 1/v`, which rises from 1/v, where nothing is seen of the sample; eps has the SNR itself, residual and x0
have 1. Min-SNR's gamma = 5 is meant for data of variance 1. For v = .3, about that of pictures on [-1, 1], the same share of noise is a
ratio of 5/v, and 5/v + 1/v = 20 is the bound of min-output: no severity counts more than six times as much as pure noise does.

Of a restorer with a learned variance, the step's part of the bound is added, with its mean held and a weight of .001: the *hybrid* loss.

Source: Ho et al. 2020 (arXiv 2006.11239), eq. 12 and 14; Karras et al. 2022 (arXiv 2206.00364), eq. 8; Daras et al. 2022 (arXiv 2209.05442),
eq. 10; Hang et al. 2023 (arXiv 2303.09556); Kingma et al. 2021 (arXiv 2107.00630), eq. 13; Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 16;
Charbonnier et al. 1994 (ICIP) for charbonnier; Song and Dhariwal 2023 (arXiv 2310.14189) for pseudo-huber.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from snowmelt.degradations import Degradation, chain
from snowmelt.degradations.likelihood import between, divergence, log_level, steps
from snowmelt.model import Model
from snowmelt.registry import spec
from snowmelt.restorers import Restorer
from snowmelt.restorers.parameterization import output_error, output_power
from snowmelt.types import Batch, Draw, Severity, expand

Loss: TypeAlias = Literal["l2", "l1", "charbonnier", "pseudo-huber"]
Weight: TypeAlias = Literal["uniform", "output", "min-output", "snr", "min-snr", "bound"]
PAPERS: Mapping[str, tuple[str, ...]] = MappingProxyType(  # keys of snowmelt.references, of what a recipe may ask for
    {
        "loss l1": ("bansal2022",),
        "loss charbonnier": ("charbonnier1994",),
        "loss pseudo-huber": ("song2023improved",),
        "weight output": ("ho2020", "karras2022"),
        "weight min-output": ("hang2023",),
        "weight snr": ("ho2020", "daras2022"),
        "weight min-snr": ("hang2023",),
        "weight bound": ("kingma2021",),
        "variance learned": ("nichol2021",),
        "penalty frequency": ("yamamoto2020",),
        "unfolded training": ("yen2023",),
        "consistency tuning": ("song2023", "geng2024"),
    }
)
_HYBRID = 1e-3
_MIN_SNR = 5.0
_MIN_OUTPUT = 20.0  # (gamma + 1) / v: gamma = 5, and v = .3 for pictures on [-1, 1]
_LEAST = 1e-4  # of sigma and c_out, which vanish at t = 0
_CHARBONNIER = 1e-3
_PSEUDO_HUBER = 0.06
_ANCHOR = 0.05
_WINDOWS = (512, 128, 32)
_SILENT = 1e-5  # of squared magnitudes


def restoration_loss(
    model: Model,
    x0: Batch,
    t: Severity,
    z: Draw,
    *,
    loss: Loss = "l2",
    weight: Weight | Callable[[Severity], Tensor] = "uniform",
    penalty: Callable[[Batch, Batch], Tensor] | None = None,
    cond: Tensor | None = None,
    target: Batch | None = None,
    counted: Callable[[Batch], Tensor] | None = None,
) -> Tensor:
    """The loss of each sample: (b,), never reduced.

    Args:
        model: degrades x0 (noise floor and rounding included) and estimates it back.
        x0: clean samples (b, *d).
        t: severities (b,) in [0, 1].
        z: the draw, from ``model.draw``.
        loss: l2 and l1 are means over the sample; charbonnier is a smooth l1; pseudo-huber acts on the norm of the sample's error.
        weight: of the severity, by name, or a function (b,) -> (b,).
        penalty: (estimate, x0) -> (b,), added after weighting.
        cond: handed to the restorer.
        target: what the estimate should be (b, *d), by default x0 itself.
        counted: x0 -> (b, *d), what the errors of its values are multiplied by: 0 where they do not count; by default 1.

    Raises:
        ValueError: unknown loss.
        TypeError: a weight that reads a signal-to-noise ratio, and a degradation that has none.
    """
    x_t = model.degrade(x0, t, z)
    estimate, spread = model.predict(x_t, t, z, cond)
    aim = x0 if target is None else target
    out = _weighed(model, estimate, aim, t, x_t, z, loss, weight, penalty, None if counted is None else counted(x0))
    if spread is None:
        return out
    return out + _HYBRID * steps(model.degradation) * spread_loss(model.degradation, x_t, x0, estimate.detach(), spread, t, z)


def _weighed(
    model: Model,
    estimate: Batch,
    aim: Batch,
    t: Severity,
    x_t: Batch,
    z: Draw,
    loss: Loss,
    weight: Weight | Callable[[Severity], Tensor],
    penalty: Callable[[Batch, Batch], Tensor] | None,
    counts: Tensor | None,
) -> Tensor:
    """The weighted distance of estimates from what they aim at, errors multiplied by `counts` (b, *d), and the penalty: (b,)."""
    if counts is not None:
        estimate = aim + counts * (estimate - aim)
    if isinstance(weight, str):
        check_weight(model.degradation, weight)
    if weight == "snr":
        d, sigma = model.degradation, model.degradation.sigma(t).clamp(min=_LEAST)
        out = distance(d(estimate, t, z), d(aim, t, z), loss) / _power(sigma**2, loss)
    elif weight == "output":
        error = output_error(_network(model, weight).coefficients(x_t, t, z), estimate - aim, least=_LEAST)
        out = distance(error, torch.zeros_like(error), loss)
    else:
        by = weight(t) if callable(weight) else _power(_weights(model, weight, x_t, t, z), loss)
        out = distance(estimate, aim, loss) * by
    return out if penalty is None else out + penalty(estimate, aim)


def unfolded_loss(
    model: Model,
    x0: Batch,
    t: Severity,
    s: Severity,
    z: Draw,
    *,
    loss: Loss = "l2",
    weight: Weight | Callable[[Severity], Tensor] = "uniform",
    penalty: Callable[[Batch, Batch], Tensor] | None = None,
    counted: Callable[[Batch], Tensor] | None = None,
) -> Tensor:
    r"""Two calls, as a walk makes them: the mean of the losses at t, and at s < t of where a step of the walk leads, with its gradient.

    .. math:: \hat x_0 = R(x_t, t), \qquad \hat x_s = x_t - D(\hat x_0, t, \hat z) + D(\hat x_0, s, \hat z), \qquad
              \ell = \tfrac12\, \rho(\hat x_0 - x_0) + \tfrac12\, \rho(R(\hat x_s, s) - x_0)

    with what of the draw can be solved for solved from the estimate. So R learns from its own errors, which a walk brings back to it.

    Source: after the unfolded training of Yen et al. 2023 (arXiv 2211.02527).
    """
    x_t = model.degrade(x0, t, z)
    estimate = model.estimate(x_t, t, z)
    d = model.degradation
    known = d.recover(x_t, estimate, t, z) if d.recovers else z
    x_s = x_t + d.change(estimate, t, s, known)
    again = model.estimate(x_s, s, z)
    there = None if counted is None else counted(x0)
    first = _weighed(model, estimate, x0, t, x_t, z, loss, weight, penalty, there)
    second = _weighed(model, again, x0, s, x_s, z, loss, weight, penalty, there)
    return (first + second) / 2


def consistency_loss(
    model: Model,
    x0: Batch,
    t: Severity,
    s: Severity,
    z: Draw,
    *,
    loss: Loss = "pseudo-huber",
    weight: Weight | Callable[[Severity], Tensor] = "uniform",
) -> Tensor:
    r"""What tunes a restorer for few calls: :math:`\rho(R(x_t, t) - R(x_s, s)) / (t - s)` for each sample (b,), the second estimate held.

    Both pictures come from the same sample and draw, so no teacher and no walk is needed. Below s = .05 what is held is x0 itself: without such an
    anchor the estimates of a network that is not bound to x_t near t = 0, a residual for instance, agree with each other and with no sample.
    A t - s below 1e-4 counts as that, for float32 has none near t = 0. At s = 0 this is :func:`restoration_loss` over t, bit for bit.

    Args:
        model: what is tuned.
        x0: clean samples (b, *d).
        t: severities (b,) in (0, 1].
        s: severities (b,) in [0, t).
        z: the draw, from ``model.draw``.
        loss: rho.
        weight: beside 1 / (t - s), as in :func:`restoration_loss`.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithm 3; Geng et al. 2024 (arXiv 2406.14548) for s = g t with g growing from a trained model.
    """
    with torch.no_grad():
        earlier = model.estimate(model.degrade(x0, s, z), s, z)
        target = torch.where(expand(s < _ANCHOR, x0), x0, earlier.to(x0))
    return restoration_loss(model, x0, t, z, loss=loss, weight=weight, target=target) / (t - s).clamp(min=_LEAST)


def check_weight(degradation: Degradation, weight: Weight) -> None:
    """Refuse a weight that this degradation has no signal-to-noise ratio for.

    Raises:
        TypeError: it has none, or one for each frequency where one for all is needed.
    """
    if weight in ("snr", "min-snr", "bound"):
        try:
            chain.require(degradation)
        except TypeError as error:
            raise TypeError(f"the weight {weight} is a ratio of signal to noise, and {error}; or take training.weight = uniform") from None
    if weight in ("min-snr", "bound") and degradation.basis != "any":
        raise TypeError(f"the weight {weight} needs one signal-to-noise ratio for all frequencies, which {spec(degradation)} has not: take snr")


def spread_loss(degradation: Degradation, x_t: Batch, x0: Batch, x0_hat: Batch, spread: Batch, t: Severity, z: Draw) -> Tensor:
    """What the step from t to s = t - 1/T adds to the bound, per value in nats (b,), for a learned spread; of the last step, its decoder."""
    step = 1 / steps(degradation)
    t = t.clamp(min=step)  # where severities are continuous, what lies below the chain's last step counts as that step
    s = (t - step).clamp(min=0)
    last = (s < step / 2).reshape(-1, *(1,) * (x_t.ndim - 1))
    true, ours = (chain.posterior(degradation, x_t, known, t, s, z) for known in (x0, x0_hat))
    second = chain.posterior(degradation, x_t, x0_hat, torch.full_like(t, min(2 * step, 1)), torch.full_like(t, step), z)
    first = second.small if step < 1 else true.large  # the posterior's variance at s = 0 is 0: a decoder takes that of the step before
    small, large = (value.to(x_t) for value in (torch.where(last, first, true.small), true.large))
    variance = between(small, large, spread)
    # Each formula is given numbers that suit it where the other one counts: an infinity that is not chosen still spoils gradients.
    cost = divergence((true.mean - ours.mean).square(), torch.where(last, variance.detach(), true.small.to(x_t)), variance)
    coded = -log_level(x0, x0_hat, torch.where(last, variance, 1))
    return torch.where(last, coded, cost).flatten(1).mean(1)


def _weights(model: Model, weight: str, x_t: Batch, t: Severity, z: Draw) -> Tensor:
    """w(t) of squared errors: (b,)."""
    d = model.degradation
    match weight:
        case "uniform":
            return torch.ones_like(t)
        case "min-output":
            power = output_power(_network(model, weight).coefficients(x_t, t, z), tuple(x_t.shape[1:]))
            return power.clamp(min=1 / _MIN_OUTPUT).reciprocal()
        case "min-snr":
            return _ratio(d, x_t, t, z).clamp(max=_MIN_SNR)
        case "bound":
            t = t.clamp(min=1 / steps(d))
            s, now = (t - 1 / steps(d)).clamp(min=0), _ratio(d, x_t, t, z)
            before = torch.where(s < 0.5 / steps(d), 2 * now, _ratio(d, x_t, s.clamp(min=0.5 / steps(d)), z))
            return 0.5 * steps(d) * (before - now)
    raise ValueError(f"unknown weight {weight!r}: choose uniform, output, min-output, snr, min-snr or bound")


def _network(model: Model, weight: str) -> Restorer:
    """The restorer whose parameterization a weight reads.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(model.restorer, Restorer):
        raise TypeError(f"training.weight = {weight} weighs what a network returns, and this restorer is a plain function: take uniform")
    return model.restorer


def _ratio(d: Degradation, x_t: Batch, t: Severity, z: Draw) -> Tensor:
    """The signal-to-noise ratio (b,) of a degradation that is noise alone."""
    return chain.snr(d, tuple(x_t.shape[1:]), t, z).flatten(1).mean(1).clamp(max=_LEAST**-2)


def _power(weight: Tensor, loss: Loss) -> Tensor:
    """A weight of squared errors as one of `loss`: the root for those that grow as the error does."""
    return weight if loss == "l2" else weight.sqrt()


def distance(estimate: Batch, x0: Batch, loss: Loss) -> Tensor:
    """rho(estimate - x0) for each sample: (b,), in float32 or wider."""
    error = (estimate - x0).float().flatten(1) if x0.dtype.itemsize < 4 else (estimate - x0).flatten(1)
    match loss:
        case "l2":
            return error.square().mean(1)
        case "l1":
            return error.abs().mean(1)
        case "charbonnier":
            return (error.square() + _CHARBONNIER**2).sqrt().mean(1)
        case "pseudo-huber":
            return (error.square().mean(1) + _PSEUDO_HUBER**2).sqrt() - _PSEUDO_HUBER
    raise ValueError(f"unknown loss {loss!r}: choose l2, l1, charbonnier or pseudo-huber")


def gradient_penalty(estimate: Batch, x0: Batch) -> Tensor:
    """The mean absolute difference of neighbouring errors, along every axis of the sample but its channels: (b,). Edges in the right places."""
    error = estimate - x0
    along = [error.diff(dim=dim).abs().flatten(1).mean(1) for dim in range(2, error.ndim)]
    return torch.stack(along).mean(0)


def frequency_penalty(estimate: Batch, x0: Batch) -> Tensor:
    """How far log-magnitudes of short-time spectra along the last axis are apart, on windows of 512, 128 and 32 values: (b,).

    A posterior mean is smooth where it does not know: of a band that was lost nothing comes back, for its phases are anybody's guess and average to
    nothing. Magnitudes do not average out; this asks for the energy and leaves the phase to the distance beside it.

    Source: Yamamoto et al. 2020 (arXiv 1910.11480), eq. 4 to 6, the multi-resolution spectral loss, without its spectral convergence.
    """
    b, n = len(x0), x0.shape[-1]
    apart = []
    for window in (size for size in _WINDOWS if size <= n):
        shape = torch.hann_window(window, device=x0.device)
        both = torch.cat([estimate, x0]).float().reshape(-1, n)
        spectrum = torch.stft(both, window, window // 4, window=shape, center=False, return_complex=True)
        logs = (spectrum.real.square() + spectrum.imag.square() + _SILENT).log() / 2
        ours, true = logs.reshape(2, b, -1)
        apart.append((ours - true).abs().mean(1))
    if not apart:
        raise ValueError(f"training.penalty = frequency looks at windows of {min(_WINDOWS)} values and more; these have {n}: leave it out")
    return torch.stack(apart).mean(0)


def squares_penalty(estimate: Batch, x0: Batch) -> Tensor:
    """The mean squared error: (b,). Beside an absolute one it asks for something between median and mean: far misses weigh more."""
    return (estimate - x0).square().flatten(1).mean(1)


PENALTIES: dict[str, Callable[[Batch, Batch], Tensor]] = {
    "gradient": gradient_penalty,
    "frequency": frequency_penalty,
    "squares": squares_penalty,
}


def estimates(loss: Loss, gap: float = 0.0, penalty: str = "none") -> str:
    """What a restorer trained with this loss returns: the posterior mean, or a median; tuned with a gap, what it returns at a lower severity.

    With a penalty, it is neither mean nor median.
    """
    if gap:
        return f"consistency({gap:g})"
    if penalty != "none":
        return "penalised"
    return "mean" if loss == "l2" else "median"
