"""Annealed Langevin dynamics: against the update written out, its grid, its stationary law."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import SpecError, build
from snowmelt.samplers import Langevin
from snowmelt.types import State

DOUBLE = torch.float64


def pixels(n: int = 2, seed: int = 0) -> Tensor:
    return torch.empty(n, 1, 4, 5, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def guess(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x.flip(-1) + t[:, None, None, None])


def test_on_exploding_noise_it_is_ncsns_algorithm():
    """Song and Ermon (2019), Algorithm 1, with the score of the restorer; the last step returns the estimate."""
    levels, inner, c = [1.0, 0.1, 0.01], 4, 0.3
    d = build("noise:schedule=geometric(sigma_min=0.01,sigma_max=1,steps=3)")
    start = normal(pixels(), generator(0, "start"))
    x, source = start, generator(1, "walk")
    for i, sigma in enumerate(levels):
        t = torch.full((2,), 1 - i / 3, dtype=DOUBLE)
        step = c * sigma**2
        for _ in range(inner):
            answer = guess(x, t)
            score = (answer - x) / sigma**2
            x = x + step / 2 * score + math.sqrt(step) * normal(x, source)
    seen = Langevin(12, inner=4, rate=0.3).sample(Model(d, guess), State(start, 1.0), generator(1, "walk"))
    torch.testing.assert_close(seen, answer, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("steps", "inner", "grid"),
    [(6, 3, [1, 1, 1, 0.5, 0.5, 0.5, 0]), (7, 3, [1, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3, 0]), (2, 5, [1, 1, 0]), (3, 1, [1, 2 / 3, 1 / 3, 0])],
)
def test_every_level_as_often_as_asked_and_never_more_calls_than_steps(steps, inner, grid):
    walk = Langevin(steps, inner=inner)
    assert walk.grid() == pytest.approx(grid)
    assert walk.calls(build("noise")) == steps


def test_levels_of_ones_own():
    walk = build("langevin:inner=2,times=(1,0.3)", "sampler")
    assert walk.steps == 4
    assert walk.grid() == [1, 1, 0.3, 0.3, 0]


def test_on_the_knots_of_a_ladder():
    d, seen = build("noise:schedule=geometric(steps=4)"), []
    walk = Langevin(30, inner=3, snap=True)
    model = Model(d, lambda x, t: seen.append(float(t[0])) or x)
    walk.sample(model, State(pixels(), 1.0), generator(0, "w"))
    assert seen == [t for t in (1, 0.75, 0.5, 0.25) for _ in range(3)]
    assert walk.calls(d) == 12


@pytest.mark.parametrize("text", ["noise:schedule=ve(sigma_max=1)", "noise", "gaussian-blur:sigma_px=1+noise:schedule=linear"])
@pytest.mark.parametrize("c", [0.2, 1.0])
def test_at_one_level_the_noise_settles_near_that_of_the_level(text, c):
    """With the truth known the noise has the variance sigma^2 / (1 - c/4) in the long run, whatever it began with."""
    d, n, t = build(text), 4000, torch.full((4000,), 0.6, dtype=DOUBLE)
    x0 = torch.full((n, 1, 2, 2), 0.3, dtype=DOUBLE)
    z = {d.noise[0]: torch.zeros_like(x0)}
    x, source = 5 * normal(x0, generator(0, "far")), generator(1, "walk")
    for _ in range(80):
        x, _ = Langevin(rate=c).move(d, x, x0, t, t, z, source)
    left = (x - d(x0, t, z)) / d.sigma(t)[:, None, None, None]
    assert float(left.var()) == pytest.approx(1 / (1 - c / 4), rel=0.05)


def test_on_the_way_down_only_the_mean_moves():
    d, x, x0 = build("noise:schedule=linear"), pixels(seed=1), pixels(seed=2)
    t, s = (torch.full((2,), v, dtype=DOUBLE) for v in (0.8, 0.4))
    stays, goes = (Langevin().move(d, x, x0, t, end, {}, generator(0, "w"))[0] for end in (t, s))
    torch.testing.assert_close(goes - stays, 0.6 * x0 - 0.2 * x0, rtol=0, atol=1e-12)


def test_the_draw_stays_true_to_the_picture():
    d = build("noise")
    for state in itertools.islice(Langevin(6, inner=2).trajectory(Model(d, guess), State(pixels(), 1.0), generator(0, "w")), 1, 6):
        torch.testing.assert_close(d(state.x0, torch.full((2,), state.t, dtype=DOUBLE), state.z), state.x, rtol=0, atol=1e-12)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(SpecError, match="langevin.order = 2 extrapolates along a walk, but this one stays at each level: take order = 1"):
        build("langevin:order=2", "sampler")
    for wrong in ("langevin:rate=0", "langevin:rate=2.5", "langevin:inner=0"):
        with pytest.raises(SpecError):
            build(wrong, "sampler")
    with pytest.raises(TypeError, match="langevin scales the noise in x_t, and grey has none at its end"):
        Langevin(3).sample(Model(build("grey"), guess), State(pixels(), 1.0))


def test_levels_and_steps_on_each_are_no_way_round_the_bound_on_calls():
    with pytest.raises(SpecError, match=r"langevin.times are a walk of 100,002 calls, and 100,000 are the most"):
        Langevin(times=(1.0, 0.5), inner=50_001)
