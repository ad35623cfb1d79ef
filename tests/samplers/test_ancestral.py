"""Ancestral's variances and ways back, and the momentum of Soft Diffusion: their gains, what they draw, what they refuse."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation, chain
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Informed
from snowmelt.samplers import Ancestral, Momentum, Naive, TACoS, measured
from snowmelt.schedules import Cosine, Schedule
from snowmelt.types import EMPTY, Draw, Generators, State, expand

DOUBLE = torch.float64


def pixels(n: int = 3, shape: tuple[int, ...] = (3, 6, 8), seed: int = 0) -> Tensor:
    return torch.empty(n, *shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def guess(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x.flip(-1) + 0.3 * x + t.reshape(-1, *(1,) * (x.ndim - 1)))


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype)


def level(d: Degradation, t: float) -> float:
    return float(d.sigma(torch.tensor([t], dtype=DOUBLE))[0])


WARM = ["noise", "noise:schedule=ve", "gaussian-blur:sigma_px=1+noise:schedule=linear", "mask:strength=0.5+noise:schedule=ve"]


# --- variances -----------------------------------------------------------------------------------------------------


class Spread(Informed):
    """Answers the guess, and a spread of its own."""

    def __init__(self, v: float | Tensor | None) -> None:
        super().__init__()
        self.v = v

    def predict(self, x_t: Tensor, t: Tensor, z: Draw = EMPTY) -> tuple[Tensor, Tensor | None]:
        return guess(x_t, t), None if self.v is None else torch.as_tensor(self.v, dtype=x_t.dtype).expand_as(x_t)


@pytest.mark.parametrize("text", WARM)
def test_a_learned_spread_of_0_is_small_and_of_1_large(text):
    d, x = build(text), pixels()
    start = Model(d, guess).corrupt(x, 1.0, generator(0, "z"))
    for v, variance in [(0.0, "small"), (1.0, "large")]:
        seen = Ancestral(4, variance="learned").sample(Model(d, Spread(v)), start, generator(1, "walk"))
        expected = Ancestral(4, variance=variance).sample(Model(d, guess), start, generator(1, "walk"))
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-12)
    assert (seen - Ancestral(4).sample(Model(d, guess), start, generator(1, "walk"))).abs().max() > 1e-3


@pytest.mark.parametrize("text", WARM)
@pytest.mark.parametrize(("variance", "share"), [("small", 0), ("large", 1)])
def test_a_move_is_a_draw_from_the_posterior(text, variance, share):
    """The mean and the covariance of many moves from one x_t."""
    d, n, shape = build(text), 4000, (1, 2, 4)
    x0, x_t = (pixels(1, shape, seed).expand(n, *shape) for seed in (1, 2))
    z = {k: v[:1].expand_as(v) for k, v in d.draw(x0, generator(0, "z")).items()}
    t, s = at(0.8, x0), at(0.5, x0)
    seen = Ancestral(variance=variance).move(d, x_t, x0, t, s, z, generator(1, "eps"))[0]
    found = chain.posterior(d, x_t, x0, t, s, z)
    size = found[1 + share].max().sqrt()
    torch.testing.assert_close(seen.mean(0), found.mean[0], rtol=0, atol=float(5 * size) / math.sqrt(n))
    eye = torch.eye(8, dtype=DOUBLE).reshape(8, *shape)
    small = {k: v[:8] for k, v in z.items()}
    per_row = chain.posterior(d, eye, eye, t[:8], s[:8], small)[1 + share]
    expected = chain.filtered(d, eye, per_row.expand(8, *per_row.shape[1:])).reshape(8, 8)
    torch.testing.assert_close(torch.cov(seen.flatten(1).mT) / size**2, expected / size**2, rtol=0, atol=0.12)


def test_a_learned_variance_that_nobody_learned():
    model = Model(build("noise"), Spread(None))
    with pytest.raises(ValueError, match="this one has learned none: take variance = small, or train it with a learned variance"):
        Ancestral(3, variance="learned").sample(model, State(pixels(), 1.0))


def test_the_spread_is_there_for_the_move_and_gone_after_it():
    class Looks(Ancestral):
        def move(self, degradation, x, x0, t, s, z, generator):
            assert torch.equal(z["spread"], torch.full_like(x, 0.25))
            return x, z

    states = list(Looks(3).trajectory(Model(build("noise"), Spread(0.25)), State(pixels(), 1.0, {"label": torch.arange(3)})))
    assert all(set(state.z) == {"label"} for state in states)


@pytest.mark.parametrize("walk", [Ancestral(3, variance="large"), Ancestral(3, variance="learned"), Ancestral(3, again=2)], ids=str)
@pytest.mark.parametrize("text", ["jpeg+noise", "noise+noise", "gaussian-blur"])
def test_what_is_no_chain_is_refused_before_the_first_call(walk, text):
    calls: list[Tensor] = []
    model = Model(build(text), lambda x, t: calls.append(t) or x)
    with pytest.raises(TypeError, match="is no Gaussian chain"):
        next(walk.trajectory(model, model.corrupt(pixels(), 1.0, generator(0, "z"))))
    assert not calls


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ancestral:eta=0.5,variance=large", "ancestral.variance = large is that of a DDPM step, but eta = 0.5"),
        ("ancestral:eta=0,variance=learned", "ancestral.variance = learned is that of a DDPM step, but eta = 0"),
        ("ancestral:order=2,again=2", "but again = 2 goes back up: take order = 1"),
        ("ancestral:variance=medium", "ancestral.variance = medium is unknown"),
        ("ancestral:again=0", "ancestral.again = 0 lies outside [1, 1000]"),
        ("ancestral:steps=3,again=2,times=(1,0.5)", None),
        ("ancestral:steps=4,again=2,times=(1,0.5)", "ancestral.steps = 4, but its times are a walk of 3 calls"),
    ],
)
def test_fields_that_do_not_go_together(text, says):
    if says is None:
        assert build(text, "sampler").steps == 3
        return
    with pytest.raises(SpecError) as refused:
        build(text, "sampler")
    assert says in str(refused.value)


def test_the_shortest_spec_is_the_one_it_was():
    from snowmelt.registry import spec

    for text in ("ancestral:steps=12,order=2,eta=0", "ancestral", "naive:steps=1", "tacos:steps=12,order=2", "heun:steps=7"):
        assert spec(build(text, "sampler")) == text


@dataclass(frozen=True)
class Mine(Degradation):
    """Gaussian noise as a user writes it: all that makes it a chain, and nothing of how noise is renewed."""

    schedule: Schedule = Cosine()  # noqa: RUF009 - frozen

    noise = ("eps",)
    linear = True
    basis = "any"

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"eps": normal(like, generator)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        alpha, sigma = self.schedule(t)
        return alpha * x + sigma * z["eps"]

    def sigma(self, t: Tensor) -> Tensor:
        return self.schedule(t)[1]

    def gain(self, shape: tuple[int, ...], t: Tensor, z: Draw) -> Tensor:
        return self.schedule(t)[0].reshape(-1, *(1,) * len(shape))

    def recover(self, x_t: Tensor, x0: Tensor, t: Tensor, z: Draw) -> Draw:
        alpha, sigma = (expand(v, x_t) for v in self.schedule(t))
        return {**z, "eps": (x_t - alpha * x0) / sigma}


@pytest.mark.parametrize("schedule", ["cosine", "ve", "betas(steps=40)"])
@pytest.mark.parametrize("walk", [Ancestral(5), Ancestral(5, eta=0.5), Ancestral(5, variance="large"), Ancestral(7, again=2)], ids=str)
def test_a_chain_of_ones_own_renews_its_noise_as_noise_does(walk, schedule):
    x, mine, known = pixels(), Mine(build(schedule, "schedule")), build(f"noise:schedule={schedule}")
    start = Model(known, guess).corrupt(x, 1.0, generator(0, "z"))
    seen = walk.sample(Model(mine, guess), State(start.x, 1.0, {"eps": start.z["endpoint"]}), generator(1, "walk"))
    torch.testing.assert_close(seen, walk.sample(Model(known, guess), start, generator(1, "walk")), rtol=0, atol=1e-12)
    assert mine.refresh(start.z, at(1, x), at(0.5, x), 1.0) is start.z, "its author wrote nothing of it"


# --- again: the chain back up ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "again", "calls", "grid"),
    [(5, 2, 5, "1 .6667 1 .6667 .3333 .6667 .3333 0"), (1, 4, 1, "1 0"), (6, 3, 4, "1 .5 1 .5 1 .5 0")],
)
def test_a_walk_that_takes_its_steps_again(steps, again, calls, grid):
    walk, seen = Ancestral(steps, again=again), []
    assert walk.grid() == pytest.approx([float(v) for v in grid.split()], abs=1e-4)
    model = Model(build("noise"), lambda x, t: seen.append(float(t[0])) or x)
    states = list(walk.trajectory(model, State(pixels(), 1.0), generator(0, "walk")))
    assert len(seen) == calls == walk.calls(model.degradation)
    assert [s.t for s in states] == walk.grid()
    assert seen == pytest.approx([a for a, b in itertools.pairwise(walk.grid()) if b < a])


def test_once_is_the_plain_walk():
    model = Model(build("gaussian-blur:sigma_px=1+noise"), guess)
    start = model.corrupt(pixels(), 1.0, generator(0, "z"))
    assert torch.equal(*(w.sample(model, start, generator(1, "walk")) for w in (Ancestral(4), Ancestral(4, again=1))))


@pytest.mark.parametrize("text", WARM)
def test_up_is_a_step_of_the_chain_without_a_call(text):
    d, x = build(text), pixels()
    model = Model(d, guess)
    start = model.corrupt(x, 1.0, generator(0, "z"))
    states = list(Ancestral(3, again=2).trajectory(model, start, generator(1, "walk")))  # 1 .5 1 .5 0
    source = generator(1, "walk")
    down, z = Ancestral().move(d, start.x, guess(start.x, at(1, x)), at(1, x), at(0.5, x), start.z, source)
    up = chain.advance(d, down, at(0.5, x), at(1, x), z, source)
    assert torch.allclose(states[1].x, down, atol=1e-6)  # a walk's severities are known to be one number: another order of the same sums
    assert torch.allclose(states[2].x, up, atol=1e-6)
    assert torch.equal(states[2].x0, states[1].x0)


# --- momentum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["noise:schedule=ve", "noise:schedule=karras", "gaussian-blur:sigma_px=1+noise:schedule=geometric(steps=8,sigma_max=2)"]
)
def test_momentum_is_its_rule(text):
    d, x, x0 = build(text), pixels(seed=1), pixels(seed=2)
    t, s = at(0.8, x), at(0.5, x)
    mean_t, mean_s = (chain.mean(d, x0, v) for v in (t, s))
    k = (level(d, 0.5) / level(d, 0.8)) ** 2
    eps = normal(x, generator(0, "eps"))
    for closed, tau in [(False, math.sqrt(level(d, 0.8) ** 2 - level(d, 0.5) ** 2)), (True, level(d, 0.5) * math.sqrt(1 - k))]:
        seen, _ = Momentum(closed=closed).move(d, x, x0, t, s, {}, generator(0, "eps"))
        torch.testing.assert_close(seen, mean_s + k * (x - mean_t) + tau * eps, rtol=0, atol=1e-10)
    assert k**2 * level(d, 0.8) ** 2 + tau**2 == pytest.approx(level(d, 0.5) ** 2)
    paper = k**2 * level(d, 0.8) ** 2 + level(d, 0.8) ** 2 - level(d, 0.5) ** 2 - level(d, 0.5) ** 2
    assert paper == pytest.approx((level(d, 0.8) ** 2 - level(d, 0.5) ** 2) ** 2 / level(d, 0.8) ** 2)


def test_closed_momentum_without_a_fading_picture_is_ddpm():
    model = Model(build("noise:schedule=ve"), guess)
    start = model.corrupt(pixels(), 1.0, generator(0, "z"))
    seen, expected = (w.sample(model, start, generator(1, "walk")) for w in (Momentum(6, closed=True), Ancestral(6)))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("closed", [True, False])
def test_momentum_with_constant_noise_is_tacos(closed):
    model = Model(build("gaussian-blur:sigma_px=2+noise:schedule=constant(sigma=0.1)"), guess)
    start = model.corrupt(pixels(), 1.0, generator(0, "z"))
    for seen, expected in zip(*(w.trajectory(model, start, generator(1, "w")) for w in (Momentum(6, closed=closed), TACoS(6))), strict=True):
        if seen.t > 0:  # at 0 the noise is gone at once: what is left is the estimate
            torch.testing.assert_close(seen.x, expected.x, rtol=0, atol=1e-10)
    torch.testing.assert_close(seen.x, seen.x0, rtol=0, atol=1e-12)


def test_momentum_keeps_the_draw_true_to_the_picture():
    model = Model(build("noise:schedule=ve"), guess)
    for state in itertools.islice(Momentum(4).trajectory(model, State(pixels(), 1.0), generator(1, "w")), 1, 4):
        torch.testing.assert_close(model.degradation(state.x0, at(state.t, state.x), state.z), state.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("grey", "grey has none at its end"),
        ("noise+grey", "compose has none at its end"),
        ("noise+noise", r"compose hides more than one \(0.endpoint, 1.endpoint\)"),
    ],
)
def test_momentum_needs_one_noise(text, why):
    model = Model(build(text), guess)
    with pytest.raises(TypeError, match=f"momentum scales the noise in x_t, and {why}: sample it with TACoS or Naive, or append '\\+noise'"):
        next(Momentum().trajectory(model, model.corrupt(pixels(), 1.0, generator(0, "z"))))


# --- naive, with noise -------------------------------------------------------------------------------------------------


def test_fresh_noise_is_multistep_consistency_sampling():
    d, x = build("noise:schedule=karras"), pixels()
    expected, source = 80 * normal(x, generator(0, "start")), generator(1, "walk")
    start = State(expected, 1.0)
    for t, s in itertools.pairwise([1, 2 / 3, 1 / 3, 0]):
        expected = guess(expected, at(t, x)) + level(d, s) * normal(x, source)
    torch.testing.assert_close(Naive(3, fresh=True).sample(Model(d, guess), start, generator(1, "walk")), expected, rtol=0, atol=1e-10)


def test_noise_after_every_move_but_the_last_is_inverse_heat_dissipation():
    d, x = build("gaussian-blur:sigma_px=3"), pixels()
    expected, source = d(x, at(1, x)), generator(1, "walk")
    start = State(expected, 1.0)
    for t, s in itertools.pairwise([1, 0.75, 0.5, 0.25, 0]):
        expected = d(guess(expected, at(t, x)), at(s, x))
        eps = normal(x, source)
        expected = expected + (0.0125 * eps if s else 0)
    torch.testing.assert_close(Naive(4, noise=0.0125).sample(Model(d, guess), start, generator(1, "walk")), expected, rtol=0, atol=1e-12)


def test_fresh_noise_where_there_is_none():
    with pytest.raises(TypeError, match=r"naive:fresh=true draws the noise anew, and grey has none at its end: leave fresh out, or append '\+noise'"):
        Naive(3, fresh=True).sample(Model(build("grey"), guess), State(pixels(), 1.0))


# --- gains as measured ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", WARM)
@pytest.mark.parametrize("walk", [Ancestral(), Ancestral(eta=0.4), Ancestral(eta=0.0), Momentum(closed=True), Naive(fresh=True)], ids=str)
def test_samplers_that_claim_to_close_the_marginal_do(walk, text):
    """K^2 sigma_t^2 + tau^2 = sigma_s^2, as the moves themselves have it."""
    d = build(text)
    k, tau = measured(walk, d, 0.8, 0.5)
    torch.testing.assert_close(k**2 * level(d, 0.8) ** 2 + tau**2, torch.full_like(tau, level(d, 0.5) ** 2).expand_as(tau), rtol=0, atol=1e-12)
