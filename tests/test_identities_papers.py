r"""Every identity of the unified rule, held against the papers' own formulas in float64; where each one is tested.

=========  ==========================================================================================  =============================================
id         statement                                                                                   test
=========  ==========================================================================================  =============================================
I1         TACoS with the noise solved anew = DDIM                                                     identities: tacos_with_the_noise_solved_anew
I2         TACoS with the noise kept = the paper's fixed noise, K = 1                                  identities: tacos_with_the_noise_kept
I3         DDPM's posterior on any respaced subsequence, mean and variance                             here; identities: ancestral_is_ddpm, refresh
I4, I4b    additive D: TACoS returns x0 whatever R says; (1-t) x + t y does not                        identities: tacos_forgives, does_not_forgive
I5         linear D: the recursion of the residual, and the telescope of the errors                    identities: residual, each_call_of_tacos
I6, I6b    a perfect R: the truth; a constant R: no dependence on the grid                             identities: perfect_restorer, constant_wrong
I7         InDI = flow = TACoS with y solved = I2SB's OT-ODE with constant beta; InDI's steps compose  here; identities: straight_lines
I8         nested projections: the measurement comes back; TACoS = Algorithm 1 made consistent         here (binary masks); identities: pixelate
I9         an answer that explains x_t: Algorithms 1 and 2 agree                                       here; identities: algorithms_1_and_2_agree
I10        momentum: Soft Diffusion's and Dirac's formulas; a constant sigma makes it TACoS            here
I12        EDM's Euler step on exploding noise                                                         identities: exploding_schedule
I14        blurring diffusion per frequency; ResShift; I2SB                                            here
I15, I17   x0, eps, v and their losses                                                                 here; losses: conversions
I18        the divergence of a step = half the difference of the ratios                                identities: divergence_of_a_ddpm_step
I19        DPM-Solver++ of order 1 = DDIM                                                              here
I20        a DDNM projection in a DDIM walk                                                            identities: projected_restorer
I21        consistency: gap 0 is the restoration loss; multistep sampling = Algorithm 1, fresh noise   here
I22        Gaussian data: walks are affine, the law of their ends is known, orders 1, 2, 2             here; identities: order; oracle benchmark
I23        a mixture on the digits: statistical thresholds                                             oracle benchmark
=========  ==========================================================================================  =============================================

"identities" is test_identities.py, "losses" test_losses.py, "oracle benchmark" test_oracle_benchmark.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Compose, Degradation, GaussianBlur, GaussianNoise, LinearDegradation, chain
from snowmelt.degradations.spectral import backward, forward
from snowmelt.losses import distance, restoration_loss
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build
from snowmelt.samplers import Ancestral, Heun, Momentum, Naive, Sampler, TACoS
from snowmelt.schedules import Betas, Linear, Schedule
from snowmelt.testing import wiener
from snowmelt.testing.gaussians import gaussians
from snowmelt.types import EMPTY, Draw, Generators, State, expand

DOUBLE = torch.float64
SHAPE = (2, 6, 8)


def pixels(n: int = 3, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return normal(torch.empty(n, *shape, dtype=DOUBLE), generator(seed, "pixels"))


def nonlinear(shape: tuple[int, ...] = SHAPE) -> Callable[[Tensor, Tensor], Tensor]:
    """Any restorer: tanh of a fixed linear map of all pixels and of t."""
    d = math.prod(shape)
    weight = torch.randn(d, d + 1, dtype=DOUBLE, generator=generator(0, "weight")) / math.sqrt(d)
    return lambda x, t: torch.tanh(torch.cat([x.flatten(1), 3 * t[:, None].to(x)], 1) @ weight.mT).reshape(x.shape)


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype)


def walk(sampler: Sampler, degradation: Degradation, restorer: Callable[..., Tensor], x: Tensor, z: Draw = EMPTY, seed: int = 0) -> Tensor:
    return sampler.sample(Model(degradation, restorer), State(x, 1.0, z), generator(seed, "walk"))


def close(seen: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance)


def grid(n: int) -> list[tuple[float, float]]:
    return [(1 - i / n, 1 - (i + 1) / n) for i in range(n)]


# --- I3: DDPM, from its betas ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "s"), [(50, 49), (50, 40), (33, 2), (7, 1), (1, 0)])
def test_a_posterior_of_a_respaced_chain_is_that_of_its_own_betas(t: int, s: int) -> None:
    bars = torch.cat([torch.ones(1, dtype=DOUBLE), torch.cumprod(1 - torch.linspace(1e-4, 0.02, 50, dtype=DOUBLE), 0)])
    beta = 1 - bars[t] / bars[s]  # of the step from s to t at once
    x_t, x0 = pixels(seed=1), pixels(seed=2)
    mean = bars[s].sqrt() * beta / (1 - bars[t]) * x0 + (1 - beta).sqrt() * (1 - bars[s]) / (1 - bars[t]) * x_t
    small = (1 - bars[s]) / (1 - bars[t]) * beta
    d = GaussianNoise(Betas(50))
    found = chain.posterior(d, x_t, x0, at(t / 50, x0), at(s / 50, x0))
    close(found.mean, mean)
    close(found.small.flatten(), small.expand(3))
    close(found.large.flatten(), beta.expand(3))
    eps = normal(x_t, generator(3, "walk"))
    for variance, expected in (("small", small), ("large", beta if s else small)):
        moved, _ = Ancestral(variance=variance).move(d, x_t, x0, at(t / 50, x0), at(s / 50, x0), EMPTY, generator(3, "walk"))
        close(moved, mean + expected.sqrt() * eps)


# --- I7: straight lines between a picture and its degraded partner -----------------------------------------------


def test_a_step_of_indi_is_two_shorter_ones_and_i2sbs_without_noise() -> None:
    """I2SB's OT-ODE: the posterior's mean with sigma_t^2 = beta t; InDI: x_s = (s / t) x_t + (1 - s / t) x0."""
    d, x, x0 = GaussianNoise(Linear()), pixels(seed=1), pixels(seed=2)
    ddim = Ancestral(eta=0.0)
    for t, u, s in [(1.0, 0.6, 0.1), (0.8, 0.79, 0.0), (0.3, 0.2, 0.1)]:
        one, _ = ddim.move(d, x, x0, at(t, x), at(s, x), EMPTY, None)
        half, _ = ddim.move(d, x, x0, at(t, x), at(u, x), EMPTY, None)
        two, _ = ddim.move(d, half, x0, at(u, x), at(s, x), EMPTY, None)
        close(one, s / t * x + (1 - s / t) * x0)
        close(two, one)
        beta = 0.37
        forward_t, forward_s = beta * t, beta * s
        between = forward_t - forward_s
        close(one, between / (between + forward_s) * x0 + forward_s / (between + forward_s) * x)


def test_tacos_with_the_partner_solved_is_the_flow() -> None:
    d, x, restorer = GaussianNoise(Linear()), pixels(seed=1), nonlinear()
    expected = x
    for t, s in grid(9):
        x0 = restorer(expected, at(t, x))
        y = (expected - (1 - t) * x0) / t
        expected = expected - ((1 - t) * x0 + t * y) + ((1 - s) * x0 + s * y)
    close(walk(Ancestral(9, eta=0.0), d, restorer, x), expected)


# --- I8, I9: projections, and answers that explain what is seen ----------------------------------------------------


@dataclass(frozen=True)
class Wipe(LinearDegradation):
    """A binary mask that loses pixels one after the other, in an order that is drawn: nested projections."""

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"order": normal(like, generator).abs()}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x * (z["order"] >= t)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 4, 11])
def test_known_pixels_come_back_whatever_the_restorer_says(order: int, steps: int) -> None:
    d, x = Wipe(), pixels()
    z = d.draw(x, generator(0, "z"))
    measured = d(x, at(1.0, x), z)
    assert 0.2 < (measured == 0).double().mean() < 0.9
    out = walk(TACoS(steps, order=order), d, nonlinear(), measured, z)
    close(d(out, at(1.0, x), z), measured)
    assert (d(walk(Naive(steps), d, nonlinear(), measured, z), at(1.0, x), z) - measured).abs().max() > 0.1


def test_tacos_on_binary_masks_is_algorithm_1_with_the_answer_made_consistent() -> None:
    d, x, restorer = Wipe(), pixels(), nonlinear()
    z = d.draw(x, generator(0, "z"))
    expected = start = d(x, at(1.0, x), z)
    for t, s in grid(6):
        answer = restorer(expected, at(t, x))
        expected = d(answer + expected - d(answer, at(t, x), z), at(s, x), z)  # A^+ = A for a projection
    close(walk(TACoS(6), d, restorer, start, z), expected)


@pytest.mark.parametrize("text", ["gaussian-blur", "recursive-blur:steps=5", "mask", "pixelate", "decolour:steps=4", "grey", "noise", "mask+noise"])
def test_an_answer_that_explains_what_is_seen_is_all_that_matters(text: str) -> None:
    d, answer = build(text), pixels(shape=(3, 6, 8))
    z, t, s = d.draw(answer, generator(0, "z")), at(0.8, answer), at(0.2, answer)
    x = d(answer, t, z)
    close(TACoS().move(d, x, answer, t, s, z, None)[0], Naive().move(d, x, answer, t, s, z, None)[0])


# --- I10: momentum ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growing(Schedule):
    """alpha = 1, sigma = least + (most - least) t for t > 0."""

    least: float = 0.2
    most: float = 2.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), torch.where(t > 0, self.least + (self.most - self.least) * t, 0)


BLUR = GaussianBlur(3.0)


def test_momentum_is_the_step_of_soft_diffusion_and_of_dirac() -> None:
    """x_s = x_t + (C_s - C_t) x0 - (sigma_s^2 - sigma_t^2) score + sqrt(sigma_t^2 - sigma_s^2) eps, score = (C_t x0 - x_t) / sigma_t^2."""
    d, x, x0 = Compose((BLUR, GaussianNoise(Growing()))), pixels(seed=1), pixels(seed=2)
    t, s = at(0.7, x), at(0.4, x)
    sigma_t, sigma_s = 0.2 + 1.8 * 0.7, 0.2 + 1.8 * 0.4
    score = (BLUR(x0, t) - x) / sigma_t**2
    eps = normal(x, generator(3, "walk"))
    soft = x + BLUR(x0, s) - BLUR(x0, t) - (sigma_s**2 - sigma_t**2) * score + math.sqrt(sigma_t**2 - sigma_s**2) * eps
    close(Momentum().move(d, x, x0, t, s, EMPTY, generator(3, "walk"))[0], soft)
    gain = sigma_s**2 / sigma_t**2
    rule = BLUR(x0, s) + gain * (x - BLUR(x0, t)) + sigma_s * math.sqrt(1 - gain) * eps
    close(Momentum(closed=True).move(d, x, x0, t, s, EMPTY, generator(3, "walk"))[0], rule)


def test_momentum_with_a_constant_sigma_is_tacos() -> None:
    d, x, restorer = Compose((BLUR, GaussianNoise(Growing(0.3, 0.3)))), pixels(seed=1), nonlinear()
    momentum = list(Momentum(8).trajectory(Model(d, restorer), State(x, 1.0), generator(0, "walk")))
    tacos = list(TACoS(8).trajectory(Model(BLUR, restorer), State(x, 1.0)))
    for a, b in zip(momentum[:-1], tacos[:-1], strict=True):  # at s = 0 momentum returns the estimate
        close(a.x, b.x)
    close(momentum[-1].x, momentum[-1].x0)


# --- I14: chains given a partner, and chains per frequency ---------------------------------------------------------


@dataclass(frozen=True)
class Bridge(Degradation):
    """(1 - w_t) x0 + w_t y + sigma_t noise, with the partner y known; a subclass says w and sigma."""

    @property
    def noise(self) -> tuple[str, ...]:
        return ("noise",)

    @property
    def given(self) -> tuple[str, ...]:
        return ("y",)

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"y": normal(like, generator), "noise": normal(like, generator)}

    def weight(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        w = self.weight(t)
        return (1 - w) * x + w * z["y"] + self.sigma(t) * z["noise"]

    def recover(self, x_t: Tensor, x0: Tensor, t: Tensor, z: Draw) -> Draw:
        w, sigma = (expand(v, x_t) for v in (self.weight(t), self.sigma(t)))
        left = x_t - (1 - w) * x0 - w * z["y"]
        return {**z, "noise": torch.where(sigma > 0, left / torch.where(sigma > 0, sigma, 1), 0)}


@dataclass(frozen=True)
class Shifted(Bridge):
    """ResShift: w = eta_t, sigma = kappa sqrt(eta_t), with sqrt(eta) a geometric ladder."""

    kappa: float = 2.0

    def weight(self, t: Tensor) -> Tensor:
        return torch.where(t > 0, (0.04 * (0.99 / 0.04) ** t) ** 2, 0)

    def sigma(self, t: Tensor) -> Tensor:
        return self.kappa * self.weight(t).sqrt()


@dataclass(frozen=True)
class Schroedinger(Bridge):
    """I2SB: w = s^2 / (s^2 + r^2), sigma = s r / sqrt(s^2 + r^2), with s^2, r^2 the integrals of beta from 0 and from 1."""

    def ahead(self, t: Tensor) -> Tensor:
        return t**2 * (3 - 2 * t)  # beta = 6 t (1 - t): symmetric, shrinking at both ends

    def weight(self, t: Tensor) -> Tensor:
        return self.ahead(t)  # s^2 + r^2 = 1

    def sigma(self, t: Tensor) -> Tensor:
        return (self.ahead(t) * (1 - self.ahead(t))).clamp(min=0).sqrt()


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.7), (0.7, 0.65), (0.3, 0.1)])
def test_momentum_that_closes_is_the_posterior_of_resshift(t: float, s: float) -> None:
    """N(eta_s / eta_t x_t + (eta_t - eta_s) / eta_t x0, kappa^2 eta_s (eta_t - eta_s) / eta_t): Yue et al. 2023, eq. 7."""
    d, x, x0 = Shifted(), pixels(seed=1), pixels(seed=2)
    z = d.draw(x, generator(0, "z"))
    eta_t, eta_s = (float(d.weight(torch.tensor(v, dtype=DOUBLE))) for v in (t, s))
    eps = normal(x, generator(3, "walk"))
    expected = eta_s / eta_t * x + (eta_t - eta_s) / eta_t * x0 + d.kappa * math.sqrt(eta_s * (eta_t - eta_s) / eta_t) * eps
    seen, after = Momentum(closed=True).move(d, x, x0, at(t, x), at(s, x), z, generator(3, "walk"))
    close(seen, expected)
    assert torch.equal(after["y"], z["y"])


@pytest.mark.parametrize(("t", "s"), [(0.9, 0.7), (0.7, 0.65), (0.3, 0.1)])
def test_the_posterior_of_i2sb_is_the_rule_with_the_forward_variances(t: float, s: float) -> None:
    """K = s_s^2 / s_t^2 and tau^2 = s_s^2 (1 - K) with the forward variances s^2, not with sigma, and the marginal closes. Liu et al. 2023, eq. 4."""
    d, x, x0 = Schroedinger(), pixels(seed=1), pixels(seed=2)
    z = d.draw(x, generator(0, "z"))
    ahead_t, ahead_s = (float(d.ahead(torch.tensor(v, dtype=DOUBLE))) for v in (t, s))
    between = ahead_t - ahead_s
    expected = between / (between + ahead_s) * x0 + ahead_s / (between + ahead_s) * x
    gain, new = ahead_s / ahead_t, ahead_s * between / (between + ahead_s)
    rule = chain.mean(d, x0, at(s, x), z) + gain * (x - chain.mean(d, x0, at(t, x), z))
    close(rule, expected)
    sigma_t, sigma_s = (float(d.sigma(torch.tensor(v, dtype=DOUBLE))) for v in (t, s))
    assert new == pytest.approx(ahead_s * (1 - gain), abs=1e-12)
    assert gain**2 * sigma_t**2 + new == pytest.approx(sigma_s**2, abs=1e-12)
    assert gain != pytest.approx(sigma_s**2 / sigma_t**2, abs=1e-2)


@pytest.mark.parametrize("text", ["gaussian-blur:sigma_px=3", "gaussian-blur:sigma_px=3,padding=circular"])
@pytest.mark.parametrize(("t", "s"), [(0.95, 0.6), (0.5, 0.45), (0.1, 0.02)])
def test_ancestral_behind_a_blur_is_the_denoising_of_blurring_diffusion(text: str, t: float, s: float) -> None:
    """The product of two Gaussians, frequency by frequency: Hoogeboom and Salimans 2022, eq. 21 to 24."""
    blur, x, x0 = build(text), pixels(seed=1), pixels(seed=2)
    d, basis = Compose((blur, GaussianNoise(Betas(1000)))), blur.basis
    (a_t, s_t), (a_s, s_s) = (d.parts[1].schedule(torch.tensor(v, dtype=DOUBLE)) for v in (t, s))
    alpha_t, alpha_s = a_t * blur.gain(SHAPE, at(t, x), EMPTY), a_s * blur.gain(SHAPE, at(s, x), EMPTY)
    ratio = alpha_t / alpha_s
    step = s_t**2 - ratio**2 * s_s**2
    variance = 1 / (1 / s_s**2 + ratio**2 / step)
    u_t, u_0 = forward(x, basis), forward(x0, basis)
    u_eps = forward(normal(x, generator(3, "walk")), basis)
    expected = variance * (ratio / step * u_t + alpha_s / s_s**2 * u_0) + variance.sqrt() * u_eps
    seen, _ = Ancestral().move(d, x, x0, at(t, x), at(s, x), EMPTY, generator(3, "walk"))
    close(seen, backward(expected, basis, SHAPE[-1]))


# --- I15, I17, I19 ---------------------------------------------------------------------------------------------


def test_x0_eps_and_v_are_one_another() -> None:
    d, x, x0 = build("noise"), pixels(seed=1), pixels(seed=2)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    alpha, sigma = (expand(v, x) for v in d.schedule(t))
    eps = d.recover(x, x0, t, EMPTY)["endpoint"]
    v = alpha * eps - sigma * x0
    close((x - sigma * eps) / alpha, x0)
    close(alpha * x - sigma * v, x0)
    close(sigma * x + alpha * v, eps)
    close(d(x0, t, {"endpoint": eps}), x)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "betas:steps=60"])
def test_ddim_is_dpm_solver_of_order_1(schedule: str) -> None:
    """x_s = sigma_s / sigma_t x_t - alpha_s (exp(-h) - 1) x0 with h the step of log(alpha / sigma): Lu et al. 2022, eq. 8 with k = 1."""
    d, restorer, x = GaussianNoise(build(schedule, "schedule")), nonlinear(), pixels(seed=1)
    expected, start = x, 0.98  # log(alpha / sigma) is not finite at 1 and 0
    for u, v in grid(8)[:-1]:
        (a_t, s_t), (a_s, s_s) = (d.schedule(torch.tensor(start * w, dtype=DOUBLE)) for w in (u, v))
        h = (a_s / s_s).log() - (a_t / s_t).log()
        expected = s_s / s_t * expected - a_s * torch.expm1(-h) * restorer(expected, at(start * u, x))
    states = list(Ancestral(8, eta=0.0).trajectory(Model(d, restorer), State(x, start)))
    close(states[-2].x, expected)


# --- I21: consistency ------------------------------------------------------------------------------------------


def test_consistency_at_gap_0_is_the_restoration_loss_bit_for_bit() -> None:
    """The target of gap g is R(x_s, s) with s = g t from the same draw; at s = 0 that is x0, for every R that is the identity there."""
    d, x0, net = GaussianNoise(Linear()), pixels(), nonlinear()
    z = d.draw(x0, generator(0, "z"))

    def restorer(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(expand(t, x) > 0, x + expand(t, x) * net(x, t), x)

    model, t = Model(d, restorer), torch.tensor([0.2, 0.6, 1.0], dtype=DOUBLE)
    for gap, equal in ((0.0, True), (0.5, False)):
        target = model.estimate(model.degrade(x0, gap * t, z), gap * t, z).detach()
        loss = distance(model.estimate(model.degrade(x0, t, z), t, z), target, "l2")
        assert torch.equal(loss, restoration_loss(model, x0, t, z)) is equal


def test_multistep_consistency_sampling_is_algorithm_1_with_fresh_noise() -> None:
    """x = f(x) + sigma_s eps: Song et al. 2023, Algorithm 1."""
    d, restorer, x = GaussianNoise(Growing()), nonlinear(), pixels(seed=1)
    expected, source = x, generator(3, "walk")
    for t, s in grid(5):
        expected = restorer(expected, at(t, x)) + (0.2 + 1.8 * s if s > 0 else 0) * normal(x, source)
    close(walk(Naive(5, fresh=True), d, restorer, x, seed=3), expected)


# --- I22: Gaussian data ----------------------------------------------------------------------------------------

LAW = gaussians(pixels(1, (1, 2, 3), 5), torch.diag(torch.linspace(0.3, 1.5, 6, dtype=DOUBLE))[None] + 0.2)


def affine(step: Callable[[Tensor], Tensor], n: int) -> tuple[Tensor, Tensor]:
    """The matrix and offset of an affine map of rows."""
    probes = torch.cat([torch.eye(n, dtype=DOUBLE), torch.zeros(1, n, dtype=DOUBLE)])
    seen = step(probes)
    return (seen[:-1] - seen[-1]).mT, seen[-1]


def gap(sampler: Sampler, d: Degradation, floor: float) -> tuple[float, float]:
    """How far mean and covariance of a walk's ends are from those of the data (and the floor), from its affine map and the law at t = 1."""
    mean, covariance = LAW.means[0].flatten(), LAW.covariances[0]
    model = Model(d, wiener(d, LAW.means[0], covariance, noise_floor=floor), noise_floor=floor)
    silent = {"endpoint": torch.zeros(7, *LAW.shape, dtype=DOUBLE)} if d.noise else EMPTY
    m, c = affine(lambda x: sampler.sample(model, State(x.reshape(-1, *LAW.shape), 1.0, silent)).flatten(1), 6)
    a, b = affine(lambda x: d(x.reshape(-1, *LAW.shape), torch.ones(len(x), dtype=DOUBLE), silent).flatten(1), 6)
    white = float(d.sigma(torch.ones(1, dtype=DOUBLE))) ** 2 + floor**2
    end_mean = m @ (a @ mean + b) + c
    end = m @ (a @ covariance @ a.mT + white * torch.eye(6, dtype=DOUBLE)) @ m.mT
    expected = covariance + floor**2 * torch.eye(6, dtype=DOUBLE)
    return float((end_mean - mean).abs().max()), float((end - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("text", "floor", "sampler"),
    [
        ("gaussian-blur:sigma_px=2", 0.2, TACoS),
        ("gaussian-blur:sigma_px=2", 0.2, lambda n: TACoS(n, order=2)),
        ("gaussian-blur:sigma_px=2", 0.2, Heun),
        ("noise", 0.0, lambda n: Ancestral(n, eta=0.0)),
        ("noise:schedule=linear", 0.0, lambda n: Ancestral(n, eta=0.0, order=2)),
    ],
)
def test_the_law_of_the_ends_goes_to_the_datas(text: str, floor: float, sampler: Callable[[int], Sampler]) -> None:
    gaps = [gap(sampler(n), build(text), floor) for n in (10, 40, 160)]
    assert max(mean for mean, _ in gaps) < 1e-10, "the mean is exact at every number of calls"
    assert gaps[2][1] < gaps[1][1] / 3 < gaps[0][1] / 9
    assert gaps[2][1] < 0.03


def test_algorithm_1_does_not_go_there() -> None:
    gaps = [gap(Naive(n), build("gaussian-blur:sigma_px=2"), 0.2)[1] for n in (10, 40, 160)]
    assert min(gaps) > 0.2
    assert gaps[2] > gaps[0], "and more steps make it worse"


def test_the_map_of_a_walk_is_the_product_of_its_steps() -> None:
    """x_s - mu_s = (1 + (A_s - A_t) G_t) (x_t - mu_t), with G_t the Wiener gain and mu the mean of x_t."""
    d, floor, n = build("gaussian-blur:sigma_px=2"), 0.2, 7
    oracle = wiener(d, LAW.means[0], LAW.covariances[0], noise_floor=floor)
    eye = torch.eye(6, dtype=DOUBLE)

    def matrix(t: float) -> Tensor:
        return affine(lambda x: d(x.reshape(-1, *LAW.shape), at(t, x)).flatten(1), 6)[0]

    product = eye
    for t, s in grid(n):
        a, c = matrix(t), LAW.covariances[0]
        wiener_gain = c @ a.mT @ torch.linalg.inv(a @ c @ a.mT + floor**2 * eye)
        product = (eye + (matrix(s) - a) @ wiener_gain) @ product
    seen, _ = affine(lambda x: walk(TACoS(n), d, oracle, x.reshape(-1, *LAW.shape)).flatten(1), 6)
    close(seen, product)
