"""Gaussian chains against dense linear algebra, sampled moments, and the published steps of blurring diffusion."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation, GaussianNoise, chain
from snowmelt.degradations.spectral import backward, forward, frequencies
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build
from snowmelt.samplers import Ancestral
from snowmelt.types import State

DOUBLE = torch.float64
SHAPE = (3, 4, 6)
SCALAR = [
    "noise",
    "noise:schedule=linear",
    "noise:schedule=betas(steps=40)",
    "noise:schedule=ve",
    "noise:schedule=geometric(steps=9,sigma_max=4)",
    "noise:schedule=karras",
    "noise:schedule=constant",
]
WARM = [
    "gaussian-blur:sigma_px=0.8+noise",
    "gaussian-blur:sigma_px=0.8,padding=circular+noise:schedule=linear",
    "gaussian-blur:sigma_px=1.5,growth=sine,least=0.001+noise",
    "gaussian-blur:sigma_px=0.8+noise:schedule=constant(sigma=0.1)",
    "mask:strength=0.5+noise:schedule=ve",
    "grey+noise",
    "gaussian-blur:sigma_px=0.5+gaussian-blur:sigma_px=0.4+noise",
]
CHAINS = SCALAR + WARM


def pixels(n: int = 2, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.empty(n, *shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype)


def close(seen: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance)


def matrix(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map of one sample."""
    d = math.prod(shape)
    return function(torch.eye(d, dtype=DOUBLE).reshape(d, *shape)).reshape(d, d).mT


def dense(d: Degradation, t: float, z: dict[str, Tensor]) -> Tensor:
    """A_t as a matrix, from nothing but D itself."""
    n = math.prod(SHAPE)
    wide = {k: v[:1].expand(n, *v.shape[1:]) for k, v in z.items() if k not in d.noise} | {k: torch.zeros(n, *SHAPE, dtype=DOUBLE) for k in d.noise}
    return matrix(lambda e: d(e, at(t, e), wide), SHAPE)


@pytest.mark.parametrize("text", CHAINS)
@pytest.mark.parametrize(("s", "t"), [(0.2, 0.7), (0.55, 0.6)])
def test_the_posterior_is_the_product_of_two_gaussians(text, s, t):
    """The precision of q(x_s | x0) and of q(x_t | x_s) as functions of x_s, added up as matrices."""
    d, x0, x_t = build(text), pixels(1), pixels(1, seed=1)
    z = d.draw(x0, generator(2, "z"))
    a_s, a_t, eye = dense(d, s, z), dense(d, t, z), torch.eye(math.prod(SHAPE), dtype=DOUBLE)
    sigma_s, sigma_t = (float(d.sigma(at(v, x0))[0]) for v in (s, t))
    step = a_t @ torch.linalg.inv(a_s)
    noise = sigma_t**2 * eye - sigma_s**2 * step @ step.mT
    flat = "constant" in text  # then nothing is added where A stays, and this matrix is singular
    noise, tolerance = (noise + 1e-12 * eye, 1e-5) if flat else (noise, 1e-9)
    backwards = step.mT @ torch.linalg.inv(noise)
    covariance = torch.linalg.inv(eye / sigma_s**2 + backwards @ step)
    mean = covariance @ (a_s @ x0.flatten() / sigma_s**2 + backwards @ x_t.flatten())
    found = chain.posterior(d, x_t, x0, at(t, x0), at(s, x0), z)
    close(found.mean.flatten(), mean, tolerance)
    wide = {k: v[:1].expand(len(eye), *v.shape[1:]) for k, v in z.items()}
    per_row = chain.posterior(d, *(pixels(len(eye)),) * 2, at(t, eye), at(s, eye), wide)  # type: ignore[arg-type]
    close(matrix(lambda e: chain.filtered(d, e, per_row.small), SHAPE), covariance, tolerance)
    close(matrix(lambda e: chain.filtered(d, e, per_row.large), SHAPE), noise, tolerance)


@pytest.mark.parametrize("text", CHAINS)
def test_two_steps_are_one(text):
    d, x = build(text), pixels()
    z, (r, s, t) = d.draw(x, generator(0, "z")), (at(v, x) for v in (0.15, 0.4, 0.85))
    (one, v1), (two, v2), (both, v) = (chain.transition(d, SHAPE, *pair, z) for pair in ((r, s), (s, t), (r, t)))
    close(one * two, both, 1e-12)
    close(two**2 * v1 + v2, v, 1e-12)
    from_start = chain.transition(d, SHAPE, at(0, x), t, z)
    close(from_start[0], d.gain(SHAPE, t, z), 0)
    close(from_start[1].expand(2, *from_start[1].shape[1:]), (d.sigma(t) ** 2).reshape(-1, 1, 1, 1).expand_as(from_start[1]), 1e-15)


@pytest.mark.parametrize("text", CHAINS)
def test_a_step_on_keeps_the_marginal(text):
    d, n, shape = build(text), 6000, (3, 2, 3)
    x0 = pixels(1, shape).expand(n, *shape)
    z = {k: (v if k in d.noise else v[:1].expand_as(v)) for k, v in d.draw(x0, generator(0, "z")).items()}
    s, t = at(0.3, x0), at(0.8, x0)
    seen = chain.advance(d, d(x0, s, z), s, t, z, generator(1, "step"))
    mean, sigma = chain.mean(d, x0[:1], t[:1], {k: v[:1] for k, v in z.items()}), float(d.sigma(t)[0])
    close(seen.mean(0), mean[0], 5 * sigma / math.sqrt(n))
    spread = torch.cov((seen - mean).flatten(1).mT)
    close(spread / sigma**2, torch.eye(len(spread), dtype=DOUBLE), 6 / math.sqrt(n / 2))


@dataclass(frozen=True)
class ToGrey(GaussianNoise):
    """An affine chain of a user's own: alpha x + (1 - alpha) grey + sigma z."""

    grey: float = 0.5

    def degrade(self, x: Tensor, t: Tensor, z: dict[str, Tensor]) -> Tensor:
        return super().degrade(x, t, z) + (1 - self.schedule(t)[0]) * self.grey

    def recover(self, x_t: Tensor, x0: Tensor, t: Tensor, z: dict[str, Tensor]) -> dict[str, Tensor]:
        grey = (1 - self.schedule(t)[0]).reshape(-1, 1, 1, 1) * self.grey
        return super().recover(x_t - grey, x0, t, z)


@pytest.mark.parametrize(("s", "t"), [(0.4, 0.8), (0.1, 1.0)])
def test_a_step_on_of_an_affine_chain_carries_what_is_left_of_the_sample_and_adds_the_new_grey(s, t):
    d, x0 = ToGrey(), pixels()
    x_s = d(x0, at(s, x0), d.draw(x0, generator(0, "z")))
    (before, _), (alpha, sigma) = ((float(v) for v in d.schedule(torch.tensor(u, dtype=DOUBLE))) for u in (s, t))
    sigma_s = math.sin(s * math.pi / 2)
    new = math.sqrt(sigma**2 - (alpha / before * sigma_s) ** 2) * normal(x0, generator(1, "step"))
    expected = alpha / before * (x_s - (1 - before) * 0.5) + (1 - alpha) * 0.5 + new
    close(chain.advance(d, x_s, at(s, x0), at(t, x0), {}, generator(1, "step")), expected, 1e-12)


@pytest.mark.parametrize("text", CHAINS)
def test_the_ratio_of_signal_to_noise_falls(text):
    d, x = build(text), pixels(9)
    z = {k: v[:1].expand_as(v) for k, v in d.draw(x, generator(0, "z")).items()}
    found = chain.snr(d, SHAPE, torch.linspace(0, 1, 9, dtype=DOUBLE), z)
    assert (found[0] == torch.inf).all()
    assert found[1:].isfinite().all()
    assert (found[2:] <= found[1:-1] * (1 + 1e-12)).all()
    t = at(0.5, x)
    close(chain.snr(d, SHAPE, t, z), d.gain(SHAPE, t, z) ** 2 / d.sigma(t).reshape(-1, 1, 1, 1) ** 2, 1e-9)


# --- where something is 0 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["noise", "noise:schedule=linear", "gaussian-blur:sigma_px=40+noise", "noise:schedule=betas(kind=cosine,steps=10)"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_pure_noise_at_the_start_is_renewed_whole(text, dtype):
    d, x = build(text), pixels().to(dtype)
    one, s = at(1, x), at(0.5, x)
    ratio, variance = chain.transition(d, SHAPE, s, one)
    found = chain.posterior(d, x, 0.3 * x, one, s)
    assert ratio.abs().max() < 1e-2
    close(variance.sqrt(), d.sigma(one).reshape(-1, 1, 1, 1).expand_as(variance), 1e-4)
    close(found.mean, chain.mean(d, 0.3 * x, s), 1e-2)
    assert found.small.isfinite().all()


@pytest.mark.parametrize("text", CHAINS)
def test_at_severity_0_the_posterior_is_the_estimate(text):
    d, x = build(text), pixels()
    found = chain.posterior(d, x, 0.3 * x, at(0.4, x), at(0, x), d.draw(x, generator(0, "z")))
    close(found.mean, 0.3 * x, 1e-12)
    assert (found.small == 0).all()


def test_without_any_noise_nothing_is_divided_by_it():
    d, x = build("gaussian-blur+noise:schedule=ve(sigma_max=0)"), pixels()
    found = chain.posterior(d, d(x, at(0.9, x), d.draw(x, generator(0, "z"))), x, at(0.9, x), at(0.3, x))
    close(found.mean, chain.mean(d, x, at(0.3, x)), 1e-12)
    assert (found.small == 0).all()
    assert (chain.snr(d, SHAPE, at(0.5, x)) == torch.inf).all()


def test_a_hole_carries_nothing_on():
    d, x = build("mask:centre=middle,strength=1000+noise:schedule=ve"), pixels(shape=(1, 8, 8))
    z, s, t = d.draw(x, generator(0, "z")), at(0.5, x), at(0.9, x)
    gain, (ratio, variance) = d.gain((1, 8, 8), s, z), chain.transition(d, (1, 8, 8), s, t, z)
    assert (gain == 0).any()
    assert (ratio[gain == 0] == 0).all()
    close(variance[gain == 0], torch.full_like(variance[gain == 0], 0.36**2), 1e-15)
    assert variance.isfinite().all()


def test_a_gain_that_changes_its_sign_takes_the_noise_along():
    """Truncated kernels have negative gains: there the posterior's own gain is negative, and no square root gives it."""
    d = build("recursive-blur:steps=2,kernel_size=3,kernel_std=9+noise:schedule=ve")
    x0, x_t, t, s = pixels(), pixels(seed=1), at(1, pixels()), at(0.5, pixels())
    assert (chain.transition(d, SHAPE, s, t)[0] < 0).any()
    model = Model(d, lambda x, t: x0)
    moved = [Ancestral().move(model.degradation, x, x0, t, s, {}, generator(0, "same"))[0] for x in (x_t, torch.zeros_like(x_t))]
    found = [chain.posterior(d, x, x0, t, s).mean for x in (x_t, torch.zeros_like(x_t))]
    close(moved[0] - moved[1], found[0] - found[1], 1e-12)


# --- what is none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gaussian-blur", "gaussian-blur is no Gaussian chain, for it has no noise at its end"),
        ("noise+pixelate", "it has no noise at its end"),
        ("morph", "it has no noise at its end"),
        ("noise+noise", r"it hides more than one noise that comes last \(0.endpoint, 1.endpoint\)"),
        ("jpeg+noise", "what it does before the noise is not linear and diagonal in one basis"),
        ("mask+gaussian-blur+noise", "what it does before the noise is not linear and diagonal in one basis"),
    ],
)
def test_what_is_no_chain_is_told_so(text, why):
    d, x = build(text), pixels()
    z, t, s = d.draw(x, generator(0, "z")), at(0.8, x), at(0.3, x)
    for ask in (
        lambda: chain.require(d),
        lambda: chain.transition(d, SHAPE, s, t, z),
        lambda: chain.advance(d, x, s, t, z),
        lambda: chain.posterior(d, x, x, t, s, z),
        lambda: chain.snr(d, SHAPE, t, z),
    ):
        with pytest.raises(TypeError, match=f"{why}: take noise, or an operator that is diagonal in a basis with '\\+noise' appended"):
            ask()


# --- warm walks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", CHAINS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_renewed_noise_closes_the_marginal_in_every_coefficient(text, eta):
    """K^2 sigma_t^2 + tau^2 = sigma_s^2: the noise of the draw stays white and standard."""
    d, n, shape = build(text), 6000, (3, 2, 3)
    x = torch.zeros(n, *shape, dtype=DOUBLE)
    z = d.draw(x, generator(0, "z"))
    z = {k: (v if k in d.noise else v[:1].expand_as(v)) for k, v in z.items()}
    (name,) = d.noise
    seen = chain.renewed(d, z, at(0.7, x), at(0.3, x), eta, generator(1, "new"))[name]
    both = torch.cov(torch.cat([seen.flatten(1), z[name].flatten(1)], 1).mT)
    k = both.shape[0] // 2
    close(both[:k, :k], torch.eye(k, dtype=DOUBLE), 6 / math.sqrt(n / 2))
    if eta == 0:
        assert torch.equal(seen, z[name])
    if eta == 1:  # what is kept is the posterior's gain, K = ratio sigma_s^2 / sigma_t^2
        ratio, _ = chain.transition(d, shape, at(0.3, x), at(0.7, x), z)
        kept = matrix(
            lambda e: chain.filtered(d, e, ((ratio * d.sigma(at(0.3, x))[0] / d.sigma(at(0.7, x))[0])[:1]).expand(len(e), *ratio.shape[1:])), shape
        )
        close(both[:k, k:], kept, 6 / math.sqrt(n / 2))


@pytest.mark.parametrize("calls", [3, 12])
def test_ancestral_on_blur_and_noise_is_blurring_diffusion(calls):
    """The step of Hoogeboom and Salimans (2022), written out here in the DCT: a product of two Gaussians for each frequency."""
    d, restorer = build("gaussian-blur:sigma_px=2,growth=sine,least=0.001+noise"), lambda x, t: torch.tanh(x.flip(-1) + t[:, None, None, None])
    x = normal(pixels(), generator(2, "start"))
    squares = frequencies(4, "dct")[:, None] ** 2 + frequencies(6, "dct")[None, :] ** 2

    def levels(t: float) -> tuple[Tensor, float]:
        dissipation = (2 * math.sin(math.pi * t / 2) ** 2) ** 2 / 2
        fading = (1 - 0.001) * torch.exp(-((2 * math.pi) ** 2) * squares * dissipation) + 0.001
        return (math.cos(math.pi * t / 2) if t < 1 else 0.0) * fading, math.sin(math.pi * t / 2) ** 2

    expected, source = x, generator(3, "walk")
    for i in range(calls):
        t, s = 1 - i / calls, 1 - (i + 1) / calls
        (alpha_t, noise_t), (alpha_s, noise_s) = levels(t), levels(s)
        answer = forward(restorer(expected, at(t, x)), "dct")
        step = alpha_t / alpha_s
        added = noise_t - step**2 * noise_s
        left = 1 / (1 / max(noise_s, 1e-30) + step**2 / added)
        mean = left * (step / added * forward(expected, "dct") + alpha_s / max(noise_s, 1e-30) * answer)
        expected = backward(mean + left.sqrt() * forward(normal(x, source), "dct"), "dct", x.shape[-1])
    seen = Ancestral(calls).sample(Model(d, restorer), State(x, 1.0), generator(3, "walk"))
    close(seen, expected, 1e-9)
    other = build("noise")
    assert (Ancestral(calls).sample(Model(other, restorer), State(x, 1.0), generator(3, "walk")) - seen).abs().max() > 1e-3


def test_ancestral_renews_more_noise_where_the_blur_takes_more():
    """Constant noise, inverse heat dissipation: at frequency 0 nothing is new, at the highest almost all of it."""
    d, x = build("gaussian-blur:sigma_px=4+noise:schedule=constant"), torch.zeros(500, 1, 8, 8, dtype=DOUBLE)
    z = {"1.endpoint": torch.ones_like(x)}
    z = d.refresh(z, at(1, x), at(0.5, x), 1.0, generator(0, "new"))
    spread = forward(z["1.endpoint"], "dct").std(0)[0]
    assert spread[0, 0] < 1e-6
    assert spread[-1, -1] == pytest.approx(1, abs=0.15)
