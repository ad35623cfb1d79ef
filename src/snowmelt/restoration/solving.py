r"""Zero-shot restoration: a model of noise alone restores what any known linear operator left, :math:`y = A x_0 + \sigma_y n`.

The model says what samples look like, the measurement says which one it was. Every method is one change of the estimate
:math:`\hat x_0(x_t) = R(x_t, t)` of a hot path :math:`x_t = \alpha_t x_0 + \sigma_t z`, and the walk is that of any sampler:

=========  ==========================================================================================================
ddnm       :math:`\hat x_0 + A^+ (y - A \hat x_0)`: what was measured stays
diffpir    :math:`\arg\min_x |y - A x|^2 / \sigma_y^2 + \lambda\, \alpha_t^2 / \sigma_t^2\, |x - \hat x_0|^2`
pigdm      :math:`\hat x_0 + \frac{\sigma_t^2}{\alpha_t} J^\top A^\top (r_t^2 A A^\top + \sigma_y^2)^{-1} (y - A \hat x_0)`
dps        :math:`\hat x_0 - \frac{\zeta}{c_{s,t}} \nabla_{x_t} |y - A \hat x_0(x_t)|`
=========  ==========================================================================================================

with :math:`J = \partial \hat x_0 / \partial x_t`.

*pigdm* takes :math:`p(x_0 | x_t) = N(\hat x_0, r_t^2 I)`, with :math:`r_t^2 = v \sigma_t^2 / (\alpha_t^2 v + \sigma_t^2)`, exact for white
Gaussian data of variance v (with v = 1 and alpha = 1 it is the paper's :math:`\sigma^2 / (1 + \sigma^2)`). Then y given x_t is
:math:`N(A \hat x_0, r_t^2 A A^\top + \sigma_y^2)`, and Bayes' rule shifts the estimate by :math:`\sigma_t^2 / \alpha_t` times the gradient of
its logarithm (:class:`~snowmelt.restorers.guidance.ByGradient`) to :math:`E[x_0 | x_t, y]`, for such data exactly. Where alpha is below .05 the
errors of a network's J would be blown up by the division; there :math:`\sigma_t^2 J / \alpha_t` is replaced by what it stands for, the
covariance of x_0 given x_t, supposed to be :math:`r_t^2 I`.

*dps* subtracts :math:`\zeta \nabla |y - A \hat x_0|` from what an ancestral move gives. In a move from t to s the estimate enters with the
weight :math:`c_{s,t} = \alpha_s - K \alpha_t`, K the sampler's gain; a shift of the estimate by 1/c of it makes the same move. zeta is a step
per move, meant for walks of a thousand moves.

Where little is left of the sample, a network's errors come back many times as large. All methods therefore clamp to the range of the data, unless
they are told not to: ddnm, diffpir and dps what the model says, pigdm what comes of it.

*diffpir* with noise = 0 takes :math:`\sigma_y = .0023`, the rounding of 8 bits. *ddnm* takes y at its word; with noise its scaled form is the
step of diffpir, and it is refused.

Source: Wang, Yu and Zhang 2022, DDNM (arXiv 2212.00490), eq. 7; Zhu et al. 2023, DiffPIR (arXiv 2305.08995), eq. 13; Song et al. 2023,
"Pseudoinverse-guided diffusion models for inverse problems" (ICLR), eq. 7 and 8; Chung et al. 2022, DPS (arXiv 2209.14687), algorithm 1.
"""

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from snowmelt import registry
from snowmelt.degradations import Degradation, GaussianNoise
from snowmelt.model import Model
from snowmelt.restoration.consistency import Consistency
from snowmelt.restoration.measurement import Measurement
from snowmelt.restoration.told import device_of, moved, require_known
from snowmelt.restoration.walks import begin
from snowmelt.restorers import Informed, Restorer
from snowmelt.restorers.guidance import ByGradient
from snowmelt.samplers import Ancestral, Sampler
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity, expand

Method: TypeAlias = Literal["ddnm", "diffpir", "pigdm", "dps"]
METHODS: tuple[Method, ...] = get_args(Method)
CALLS = 100
ROUNDING = 2.3e-3  # standard deviation of the rounding to 8 bits, on [-1, 1]
_LEAST_ALPHA = 0.05
_SAME = 1e-6


def solve(
    model: Model,
    y: Batch,
    operator: Degradation | str,
    *,
    t: float | Tensor = 1.0,
    z: Draw = EMPTY,
    method: Method = "pigdm",
    noise: float = 0.0,
    sampler: Sampler | str | Literal["default"] = "default",
    strength: float = 1.0,
    variance: float = 1.0,
    clip: bool = True,
    conditions: Draw = EMPTY,
    generator: Generators = None,
) -> Batch:
    """The clean samples behind y, which a linear operator that the model has never seen left: (b, *d).

    Args:
        model: a model of ``noise``, with any schedule and parameterization.
        y: what was measured, (b, *d), of the shape of clean samples and in their range.
        operator: a degradation that is linear for a known draw, or its spec: mask, holes, pixelate, gaussian-blur, grey.
        t: its severity, one number or (b,).
        z: its draw, where it draws anything: {"mask": ...} of holes.
        method: "ddnm", "diffpir", "pigdm" or "dps".
        noise: standard deviation of the noise in y.
        sampler: a sampler or its spec; "default" is that of DDPM at 100 calls.
        strength: multiplies the shift of pigdm, and is lambda of diffpir and zeta of dps; ddnm has none.
        variance: of the data, as pigdm supposes it.
        clip: whether estimates are kept in the model's range, so that no walk can run away; False for data that have none.
        conditions: what the model is told, one row a sample: {"label": ...}.
        generator: one, or one per sample, for the start and for samplers that draw.

    Raises:
        ValueError: the model is not one of noise, the operator is not linear or its draw is unknown, y is not finite, an option lies outside its
            bounds or does not fit the method.
    """
    built: Degradation = registry.build(operator)
    require_known(model, y, conditions)
    device = device_of(model, y)
    y, t, conditions = y.to(device), t.to(device) if isinstance(t, Tensor) else t, moved(conditions, device)
    measured = Measurement(built, y, t, moved(z, device), noise)
    walk = walk_for(sampler)
    restorer = informed_by(model, measured, method, walk, strength=strength, variance=variance, clip=clip)
    guided = dataclasses.replace(model, restorer=restorer)
    drawn = {**model.degradation.draw(y, generator), **conditions}
    one = y.new_ones(len(y))
    known = {name: value for name, value in drawn.items() if name not in model.degradation.hidden}  # what was drawn here stays unknown
    start = begin(model, model.degradation(torch.zeros_like(y), one, drawn), 1.0, known, generator)
    return walk.sample(guided, start, generator)


def walk_for(sampler: Sampler | str) -> Sampler:
    """The sampler meant by `sampler`: "default", a spec, or one at hand."""
    if sampler == "default":
        return Ancestral(steps=CALLS, snap=True)
    built: Sampler = registry.build(sampler, "sampler")
    return built


def informed_by(
    model: Model,
    measured: Measurement,
    method: Method,
    sampler: Sampler,
    *,
    strength: float = 1.0,
    variance: float = 1.0,
    clip: bool = True,
) -> Informed:
    """The model's restorer, informed of a measurement in the way of a method: what :func:`solve` walks with.

    With `clip`, what the model says is clamped to its range before it is informed, so that what was measured stays as it is; of pigdm, whose shift
    is what runs away where a network's J is wrong, the informed estimate is.

    Raises:
        ValueError: as :func:`solve`.
    """
    _check(model, measured, method, sampler, strength, variance)
    plain = Plain(model)
    kept: Informed = Clipped(plain, model.range) if clip else plain
    match method:
        case "ddnm":
            return Consistent(kept, measured)
        case "diffpir":
            return Nearest(kept, measured, lambda t: strength * max(measured.noise, ROUNDING) ** 2 / _relative(model, t))
        case "pigdm":
            informed = PiGDM(plain, model, measured, strength, variance)
            return Clipped(informed, model.range) if clip else informed
        case "dps":
            weight = Weights(model, sampler)
            return ByGradient(kept, model.degradation, DPS(model, measured, weight, strength), noise_floor=model.noise_floor)


class Plain(Informed):
    """A model's restorer, whatever it is, as one that is handed the draw."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net = model.restorer if isinstance(model.restorer, nn.Module) else None  # known to torch, so that it moves along
        self.model = model

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """What the model predicts."""
        return self.model.predict(x_t, t, z)


class Clipped(Informed):
    """A restorer whose estimates are clamped to the range (low, high) of the data."""

    def __init__(self, restorer: Informed, within: tuple[float, float]) -> None:
        super().__init__()
        self.restorer, self.within = restorer, within

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """What the restorer predicts, clamped."""
        x0, spread = self.restorer.predict(x_t, t, z)
        return x0.clamp(*self.within), spread


class Consistent(Informed):
    """DDNM: every estimate is replaced by the nearest that explains y, by the operator's pseudo-inverse."""

    def __init__(self, restorer: Informed, measured: Measurement) -> None:
        super().__init__()
        self.restorer, self.measured = restorer, measured

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """x0_hat + A^+ (y - A x0_hat), as :class:`~snowmelt.restoration.consistency.Consistency` does it where the operator has an inverse."""
        x0, spread = self.restorer.predict(x_t, t, z)
        m = self.measured
        if m.operator.inverse is not None:
            return Consistency(m.operator, m.y.to(x0), m.t, m.z)(x0), spread
        return x0 + m.back(m.left(x0)), spread


class Nearest(Informed):
    """DiffPIR: every estimate is replaced by the minimum of |y - A x|^2 + rho_t |x - x0_hat|^2.

    Args:
        restorer: R.
        measured: y and A.
        rho: maps t (b,) to rho_t (b,), above 0.
    """

    def __init__(self, restorer: Informed, measured: Measurement, rho: Callable[[Severity], Tensor]) -> None:
        super().__init__()
        self.restorer, self.measured, self.rho = restorer, measured, rho

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """x0_hat + A^T (A A^T + rho)^-1 (y - A x0_hat)."""
        x0, spread = self.restorer.predict(x_t, t, z)
        return x0 + self.measured.back(self.measured.left(x0), expand(self.rho(t), x0)), spread


class PiGDM(Informed):
    """Bayes' rule for samples that scatter with variance r_t^2 around their estimate; see the module."""

    def __init__(self, restorer: Informed, model: Model, measured: Measurement, strength: float, variance: float) -> None:
        super().__init__()
        self.restorer, self.model, self.measured, self.strength, self.variance = restorer, model, measured, strength, variance
        self.near = ByGradient(restorer, model.degradation, self.log_likelihood, noise_floor=model.noise_floor)

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """E[x0 | x_t, y], by the gradient where alpha_t is at least .05, else by the covariance that it stands for."""
        far = _gain(self.model, t) < _LEAST_ALPHA
        if not bool(far.any()):
            return self.near.predict(x_t, t, z)
        x0, spread = self.restorer.predict(x_t, t, z)
        isotropic = x0 + self.strength * self.step(x0, t)
        if bool(far.all()):
            return isotropic, spread
        return torch.where(expand(far, x0), isotropic, self.near.predict(x_t, t, z)[0]), spread

    def log_likelihood(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Tensor:
        """What has the gradient of log N(y; A x0_hat, r^2 A A^T + noise^2) in x0_hat, times the strength: (b,)."""
        with torch.no_grad():
            slope = self.step(x0, t) / expand(self.spread(t), x0)
        return self.strength * (slope * x0).flatten(1).sum(1)

    def step(self, x0: Batch, t: Severity) -> Batch:
        """r^2 A^T (r^2 A A^T + noise^2)^-1 (y - A x0_hat): (b, *d)."""
        noise = self.measured.noise
        rho: float | Tensor = expand(noise**2 / self.spread(t), x0) if noise > 0 else 0.0
        return self.measured.back(self.measured.left(x0), rho)

    def spread(self, t: Severity) -> Tensor:
        """r_t^2, the variance of x0 given x_t: (b,)."""
        relative = _relative(self.model, t)
        return self.variance * relative / (self.variance + relative)


class Weights:
    """c_{s,t} = alpha_s - K alpha_t of the moves of an ancestral walk from t = 1: the weight with which the estimate enters x_s.

    Raises:
        ValueError: another sampler, of which dps says nothing.
    """

    def __init__(self, model: Model, sampler: Sampler) -> None:
        if not isinstance(sampler, Ancestral) or sampler.order != 1:
            name = registry.spec(sampler)
            raise ValueError(f"dps is a change of an ancestral move of order 1, which {name} does not make: take ancestral, or method pigdm")
        self.model, self.eta = model, sampler.eta
        self.moves = [(t, s) for t, s in pairwise(sampler.walk(model.degradation)) if t > s]

    def __call__(self, t: Severity) -> Tensor:
        """The weight for the move that begins at t: (b,).

        Raises:
            ValueError: none does.
        """
        return t.new_tensor([self.of(self.following(float(value)), float(value)) for value in t])

    def following(self, t: float) -> float:
        """The severity at which the move that begins at t ends."""
        begin, end = min(self.moves, key=lambda move: abs(move[0] - t))
        if abs(begin - t) > _SAME:
            raise ValueError(f"dps was made for a walk from t = 1 on the severities of its sampler, to which {t:g} does not belong")
        return end

    def of(self, s: float, t: float) -> float:
        """alpha_s - K alpha_t, with K^2 sigma_t^2 + tau^2 = sigma_s^2 and tau the noise that the move renews."""
        at = torch.tensor([s, t], dtype=torch.float64)
        (alpha_s, alpha_t), (sigma_s, sigma_t) = _gain(self.model, at).tolist(), self.model.degradation.sigma(at).tolist()
        if sigma_t == 0:
            return float(alpha_s)
        renewed = self.eta**2 * max(0.0, 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2)
        return float(alpha_s - sigma_s / sigma_t * math.sqrt(1 - renewed) * alpha_t)


@dataclasses.dataclass(frozen=True, eq=False)
class DPS:
    """A log-likelihood whose shift by Bayes' rule is that of DPS: - zeta alpha_t / (sigma_t^2 c) |y - A x0_hat|, (b,)."""

    model: Model
    measured: Measurement
    weight: Weights
    zeta: float

    def __call__(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Tensor:
        """Differentiable in x_t through x0_hat."""
        pull = self.zeta * _gain(self.model, t) / (_noise(self.model, t) * self.weight(t))
        distance: Tensor = self.measured.left(x0).flatten(1).norm(dim=1)
        return -pull.to(x0) * distance


def _gain(model: Model, t: Severity) -> Tensor:
    """alpha_t: (b,)."""
    return model.degradation.gain((), t, EMPTY)


def _noise(model: Model, t: Severity) -> Tensor:
    """The variance of the noise in x_t, never quite 0: (b,)."""
    variance = model.degradation.sigma(t).square() + model.noise_floor**2
    return variance.clamp(min=torch.finfo(t.dtype).tiny)


def _relative(model: Model, t: Severity) -> Tensor:
    """The variance of the noise in x_t / alpha_t, large but finite where alpha is 0: (b,)."""
    alpha = _gain(model, t).clamp(min=torch.finfo(t.dtype).eps)
    return _noise(model, t) / alpha.square()


def check_model(model: Model) -> None:
    """Refuse a model that can be informed of no measurement.

    Raises:
        ValueError: it is not one of noise, or rounds what it sees.
    """
    name = registry.spec(model.degradation)
    if not isinstance(model.degradation, GaussianNoise):
        raise ValueError(
            f"a model of {name} undoes that and nothing else: zero-shot restoration takes a model of noise ('snowmelt train --degradation noise')"
        )
    if model.input == "8bit":
        raise ValueError("this model rounds all it sees to 8 bits, through which no measurement could inform it: train with model.input = float")


def _check(model: Model, measured: Measurement, method: str, sampler: Sampler, strength: float, variance: float) -> None:
    """Refuse, with a ValueError, what no method can do."""
    check_model(model)
    if method not in METHODS:
        raise ValueError(f"method = {method!r} is unknown{registry.nearest(method, METHODS)}; known: {', '.join(METHODS)}")
    if method == "ddnm" and measured.noise > 0:
        raise ValueError(f"ddnm takes y at its word, and would keep its noise of {measured.noise:g} whole: take diffpir, pigdm or dps")
    for what, value in (("strength", strength), ("variance", variance)):
        if not 0 < value < math.inf:
            raise ValueError(f"{what} = {value:g} lies outside (0, ∞)")
    if isinstance(model.restorer, Restorer) and (measured.y.ndim != 4 or measured.y.shape[1] != model.restorer.shape[0]):
        raise ValueError(f"y has shape {tuple(measured.y.shape)}; this model was trained on samples (c, h, w) with c = {model.restorer.shape[0]}")
