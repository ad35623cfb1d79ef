"""Langevin dynamics on two far Gaussians in the plane, with the exact score: levels of noise find how much each of them weighs, one level does not.

Source: Song and Ermon 2019 (arXiv 1907.05600), section 3.2 and figure 3.
"""

import torch
from torch import Tensor

from snowmelt.degradations import GaussianNoise
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.samplers import Langevin
from snowmelt.schedules import Geometric
from snowmelt.types import State, severity

DOUBLE = torch.float64
N, LEVELS, INNER = 2000, 12, 30
MEANS = torch.tensor([[5.0, 5.0], [-5.0, -5.0]], dtype=DOUBLE)
WEIGHTS = torch.tensor([0.8, 0.2], dtype=DOUBLE)
NOISE = GaussianNoise(Geometric(sigma_min=0.3, sigma_max=20, steps=LEVELS))
VARIANCE = 0.25


def posterior_mean(x: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x0 + sigma eps], by Bayes."""
    noise = NOISE.sigma(t)[:, None] ** 2
    away = x[:, None] - MEANS
    shares = (WEIGHTS.log() - away.square().sum(2) / (2 * (VARIANCE + noise))).softmax(1)
    return x - (shares[:, :, None] * away).sum(1) * noise / (VARIANCE + noise)


MODEL = Model(NOISE, posterior_mean)


def start(t: float) -> State:
    """Wide noise, which is where the ladder begins, said to be of severity t."""
    x = 20 * torch.randn(N, 2, generator=generator(0, "start"), dtype=DOUBLE)
    return State(x, t, {"endpoint": x / 20})


def share(x: Tensor) -> float:
    """How much of it lies nearer to the heavy Gaussian."""
    return float((x.sum(1) > 0).double().mean())


def test_levels_of_noise_find_the_weights() -> None:
    x = Langevin(steps=INNER * LEVELS, inner=INNER, rate=0.5).sample(MODEL, start(1.0), generator(1, "walk"))
    assert abs(share(x) - 0.8) < 0.03
    torch.testing.assert_close(x[x.sum(1) > 0].mean(0), MEANS[0], atol=0.1, rtol=0)


def test_one_level_does_not() -> None:
    """As many steps at the least noise: every sample finds the Gaussian on whose side it began, and settles there."""
    began = start(1 / LEVELS)
    x = Langevin(steps=INNER * LEVELS, inner=INNER * LEVELS, rate=0.5).sample(MODEL, began, generator(1, "walk"))
    assert abs(share(x) - share(began.x)) < 0.03
    assert share(x) < 0.6
    torch.testing.assert_close(x[x.sum(1) > 0].mean(0), MEANS[0], atol=0.1, rtol=0)  # it did settle


def test_its_step_follows_the_score() -> None:
    """x + c sigma^2 / 2 score + sqrt(c) sigma eps, by the model's own score."""
    (x, _, z, _), t = start(1.0), severity(0.5, torch.empty(N, 2, dtype=DOUBLE))
    sigma = float(NOISE.sigma(t)[0])
    moved, _ = Langevin(rate=0.3).move(NOISE, x, MODEL.estimate(x, t, z), t, t, z, generator(2, "eps"))
    eps = torch.randn(N, 2, generator=generator(2, "eps"), dtype=DOUBLE)
    torch.testing.assert_close(moved, x + 0.15 * sigma**2 * MODEL.score(x, t, z) + 0.3**0.5 * sigma * eps, rtol=1e-10, atol=1e-10)
