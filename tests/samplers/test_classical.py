"""Heun against what it claims to be, written out by hand: Algorithm 1 of EDM, and Heun's rule along a velocity."""

import itertools

import pytest
import torch
from torch import Tensor

from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.samplers import Heun

DOUBLE = torch.float64
MEAN, VARIANCE = 0.3, 0.25  # of the clean samples


def column(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def pixels() -> Tensor:
    return MEAN + VARIANCE**0.5 * torch.randn(3, 1, 4, 6, dtype=DOUBLE, generator=generator(0, "pixels"))


def model(schedule: str) -> Model:
    """Noise, and the posterior mean of white Gaussian samples under it."""
    d = build(f"noise:schedule={schedule}")

    def restorer(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (column(value) for value in d.schedule(t))
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * MEAN)

    return Model(d, restorer)


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=DOUBLE)


@pytest.mark.parametrize("steps", [1, 5, 13])
def test_where_noise_is_on_top_heun_is_algorithm_1_of_edm(steps):
    """Karras et al. (2022), Algorithm 1: the slope (x - D(x; sigma)) / sigma at both ends, the last step Euler's."""
    one = model("karras")
    start = one.corrupt(pixels(), 1.0, generator(1, "z"))
    x, moves = start.x, (steps + 1) // 2
    for i in range(moves):
        t, s = at(1 - i / moves, x), at(1 - (i + 1) / moves, x)
        sigma, ahead = (column(one.degradation.sigma(v)) for v in (t, s))
        slope = (x - one.estimate(x, t)) / sigma
        euler = x + (ahead - sigma) * slope
        if i == moves - 1:
            assert float(ahead.max()) == 0
            x = euler
        else:
            x = x + (ahead - sigma) * (slope + (euler - one.estimate(euler, s)) / ahead) / 2
    torch.testing.assert_close(Heun(steps).sample(one, start), x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("steps", [1, 5, 13])
def test_along_straight_lines_heun_is_heuns_rule_on_the_velocity(steps):
    """dx/dt = z - x0, which is (x - x0) / t on a straight line."""
    one = model("linear")
    start = one.corrupt(pixels(), 1.0, generator(1, "z"))
    x = start.x
    for t, s in itertools.pairwise(Heun(steps).grid()):
        velocity = (x - one.estimate(x, at(t, x))) / t
        euler = x + (s - t) * velocity
        x = x + (s - t) * (velocity + (euler - one.estimate(euler, at(s, x))) / s) / 2 if s > 0 else euler
    torch.testing.assert_close(Heun(steps).sample(one, start), x, rtol=0, atol=1e-12)


def test_where_nothing_is_solved_for_the_correction_is_a_half():
    t, s = at(0.8, torch.zeros(3)), at(0.2, torch.zeros(3))
    assert Heun().correction(build("grey"), t, s).tolist() == [0.5] * 3
    assert Heun().correction(build("noise:schedule=linear"), t, s).tolist() == pytest.approx([2.0] * 3, rel=1e-15)
