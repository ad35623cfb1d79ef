"""The identities that decide: every sampler and operator against another definition of the same thing, in float64."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Compose, Degradation, GaussianNoise, LinearDegradation, Pixelate
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build, names, schema
from snowmelt.samplers import Ancestral, Heun, Naive, Sampler, TACoS
from snowmelt.schedules import Betas, Linear, Schedule
from snowmelt.testing import constant, perfect, random
from snowmelt.testing.samples import samples
from snowmelt.types import EMPTY, Draw, Generators, State

DOUBLE = torch.float64
SHAPE = (3, 8, 12)

# Every registered degradation at its defaults, and the corners of each.
EVERY = [
    *(name for name in names("degradation") if not any(field.required for field in schema(name))),
    "gaussian-blur:padding=circular",
    "recursive-blur:padding=reflect,kernel_size=5,steps=4",
    "recursive-blur:routine=special-6,kernel_size=5,steps=6",
    "recursive-blur:steps=5,discrete=true",
    "noise:schedule=linear",
    "noise:schedule=betas(steps=30)",
    "mask:centre=middle",
    "gaussian-blur:sigma_px=2+noise",
    "noise+pixelate+mask",
    "grey+mask+noise:schedule=betas(kind=cosine,steps=20)",
]
LINEAR = [s for s in EVERY if build(s).linear]


def pixels(n: int = 3, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.empty(n, *shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def clean(d: Degradation, seed: int = 0) -> Tensor:
    """Pixels, or samples of the signal that it takes."""
    return pixels(seed=seed) if d.takes is None else samples(d, 3 + seed)[seed:]


def nonlinear(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """An arbitrary restorer: tanh of a fixed linear map of all pixels and of t."""
    d = math.prod(shape)
    weight = torch.randn(d, d + 1, dtype=DOUBLE, generator=generator(seed, "weight")) / math.sqrt(d)

    def restorer(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(torch.cat([x.flatten(1), 3 * t[:, None].to(x)], 1) @ weight.mT).reshape(x.shape)

    return restorer


def at(t: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype)


def walk(sampler: Sampler, degradation: Degradation, restorer: Callable[..., Tensor], x: Tensor, z: Draw = EMPTY, seed: int = 0) -> Tensor:
    return sampler.sample(Model(degradation, restorer), State(x, 1.0, z), generator(seed, "walk"))


def close(seen: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance)


# --- hot: DDPM, DDIM, the flow --------------------------------------------------------------------------


def alpha_bars(steps: int) -> Tensor:
    """DDPM's table, written out here so that it is not ours that is compared with ours."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, steps, dtype=DOUBLE), 0)


def scheduler(name: str, steps: int, **options: object):
    """A diffusers scheduler for x0-prediction whose float32 tables are replaced by float64 ones."""
    import diffusers

    kind = getattr(diffusers, name)
    out = kind(num_train_timesteps=steps, beta_schedule="linear", prediction_type="sample", clip_sample=False, **options)
    out.alphas_cumprod = alpha_bars(steps)
    out.betas = torch.linspace(1e-4, 0.02, steps, dtype=DOUBLE)
    out.alphas = 1 - out.betas
    out.one = torch.ones((), dtype=DOUBLE)
    if name == "DDIMScheduler":
        out.final_alpha_cumprod = torch.ones((), dtype=DOUBLE)
    return out


def test_gaussian_noise_on_betas_is_the_marginal_of_ddpm_at_every_knot():
    d, x = GaussianNoise(Betas(1000, 1e-4, 0.02)), pixels(1, (1, 2, 3)).expand(1000, 1, 2, 3)
    z = d.draw(x, generator(1, "z"))
    seen = d(x, torch.arange(1, 1001, dtype=DOUBLE) / 1000, z)
    bar = alpha_bars(1000).reshape(-1, 1, 1, 1)
    close(seen, bar.sqrt() * x + (1 - bar).sqrt() * z["endpoint"], 1e-14)
    close(seen, scheduler("DDPMScheduler", 1000).add_noise(x, z["endpoint"], torch.arange(1000)), 1e-13)
    assert torch.equal(d(x, torch.zeros(1000, dtype=DOUBLE), z), x)


@pytest.mark.parametrize(("steps", "calls"), [(50, 50), (200, 25)])
def test_ancestral_is_ddpm_along_the_whole_chain(steps, calls):
    other = scheduler("DDPMScheduler", steps, variance_type="fixed_small", timestep_spacing="trailing")
    other.set_timesteps(calls)
    restorer, x = nonlinear(), normal(pixels(), generator(2, "start"))
    expected, source = x, generator(3, "walk")
    for t in other.timesteps:
        answer = restorer(expected, at((int(t) + 1) / steps, x))
        expected = other.step(answer, int(t), expected, generator=source).prev_sample
    seen = walk(Ancestral(calls, eta=1.0), GaussianNoise(Betas(steps)), restorer, x, seed=3)
    close(seen, expected, 1e-8)
    assert (seen - x).abs().max() > 0.5


@pytest.mark.parametrize(("steps", "calls"), [(50, 50), (1000, 20)])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ancestral_is_ddim_along_the_whole_chain(steps, calls, eta):
    other = scheduler("DDIMScheduler", steps, timestep_spacing="trailing", set_alpha_to_one=True)
    other.set_timesteps(calls)
    restorer, x = nonlinear(), normal(pixels(), generator(2, "start"))
    expected, source = x, generator(3, "walk")
    for t in other.timesteps:
        answer = restorer(expected, at((int(t) + 1) / steps, x))
        expected = other.step(answer, int(t), expected, eta=eta, generator=source).prev_sample
    close(walk(Ancestral(calls, eta=eta), GaussianNoise(Betas(steps)), restorer, x, seed=3), expected, 1e-8)


def test_diffusers_timesteps_are_our_grid():
    other = scheduler("DDIMScheduler", 1000, timestep_spacing="trailing")
    other.set_timesteps(20)
    assert [(int(t) + 1) / 1000 for t in other.timesteps] == pytest.approx(Ancestral(20).grid()[:-1])


SCHEDULES = ["linear", "cosine", "betas:steps=60", "betas:steps=40,kind=cosine"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tacos_with_the_noise_solved_anew_is_ddim(schedule):
    d, restorer, x = GaussianNoise(build(schedule, "schedule")), nonlinear(), normal(pixels(), generator(2, "start"))
    expected, n = x, 20
    for i in range(n):
        t, s = at(1 - i / n, x), at(1 - (i + 1) / n, x)
        x0 = restorer(expected, t)
        z = d.recover(expected, x0, t, EMPTY)
        expected = expected - d(x0, t, z) + d(x0, s, z)
    close(walk(Ancestral(n, eta=0.0), d, restorer, x), expected, 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tacos_with_the_noise_kept_is_the_papers_fixed_noise(schedule):
    schedule, restorer, x = build(schedule, "schedule"), nonlinear(), normal(pixels(), generator(2, "start"))
    expected, n = x, 20
    for i in range(n):
        (a_t, s_t), (a_s, s_s) = (schedule(torch.tensor([v], dtype=DOUBLE)) for v in (1 - i / n, 1 - (i + 1) / n))
        x0 = restorer(expected, at(1 - i / n, x))
        expected = expected - (a_t * x0 + s_t * x) + (a_s * x0 + s_s * x)
    close(walk(TACoS(n), GaussianNoise(schedule), restorer, x, {"endpoint": x}), expected, 1e-12)


@pytest.mark.parametrize("step", ["InDI", "rectified flow"])
def test_ancestral_on_straight_lines_is_indi_and_the_euler_step_of_the_flow(step):
    restorer, x = nonlinear(), normal(pixels(), generator(2, "start"))
    expected, n = x, 16
    for i in range(n):
        t, s = 1 - i / n, 1 - (i + 1) / n
        x0 = restorer(expected, at(t, x))
        if step == "InDI":
            expected = (1 - s / t) * x0 + s / t * expected
        else:
            velocity = (expected - x0) / t  # of dx/dt = E[z - x0 | x_t]
            expected = expected + (s - t) * velocity
    close(walk(Ancestral(n, eta=0.0), GaussianNoise(Linear()), restorer, x), expected, 1e-10)


@dataclass(frozen=True)
class Exploding(Schedule):
    """alpha = 1, sigma = 5 t^2: the variance-exploding family of Karras et al."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), 5 * t**2


def test_ancestral_on_an_exploding_schedule_is_the_euler_step_of_edm():
    restorer, x = nonlinear(), 5 * normal(pixels(), generator(2, "start"))
    expected, n = x, 16
    for i in range(n):
        t, s = 1 - i / n, 1 - (i + 1) / n
        slope = (expected - restorer(expected, at(t, x))) / (5 * t**2)
        expected = expected + (5 * s**2 - 5 * t**2) * slope
    close(walk(Ancestral(n, eta=0.0), GaussianNoise(Exploding()), restorer, x), expected, 1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize(("s", "t"), [(0.1, 0.2), (0.55, 0.9), (0.95, 1.0)])
def test_refresh_is_the_ancestral_gain_and_keeps_the_marginal(schedule, eta, s, t):
    """K^2 sigma_t^2 + tau^2 = sigma_s^2, K and tau being those of DDIM(eta)."""
    d = GaussianNoise(build(schedule, "schedule"))
    x = torch.ones(1, 1, 1, 4, dtype=DOUBLE)
    (a_t, s_t), (a_s, s_s) = (d.schedule(torch.tensor([v], dtype=DOUBLE)) for v in (t, s))
    eps = normal(x, generator(5, "fresh"))
    kept = d.refresh({"endpoint": x}, at(t, x), at(s, x), eta, generator(5, "fresh"))["endpoint"]
    share = (d.refresh({"endpoint": 0 * x}, at(t, x), at(s, x), eta, generator(5, "fresh"))["endpoint"] / eps).mean()
    k, tau = (kept - share * eps).mean() * s_s / s_t, share * s_s
    expected = eta * s_s * (1 - (a_t / a_s * s_s / s_t) ** 2).sqrt()
    close(tau, expected, 1e-12)
    close(k**2 * s_t**2 + tau**2, s_s**2, 1e-12)
    if eta == 1:
        close(k, a_t / a_s * s_s**2 / s_t**2, 1e-12)


def test_the_divergence_of_a_ddpm_step_is_half_the_difference_of_the_ratios():
    """KL = 1/2 (SNR_s - SNR_t) |x0 - x0_hat|^2, for the fixed small variance."""
    d, x, x0, wrong = GaussianNoise(Betas(50)), pixels(1, seed=1), pixels(1, seed=2), pixels(1, seed=3)
    t, s = at(0.6, x), at(0.58, x)
    means = [Ancestral().move(d, x, answer, t, s, EMPTY, generator(0, "same"))[0] for answer in (x0, wrong)]
    tau = d.refresh({"endpoint": 0 * x}, t, s, 1.0, generator(0, "same"))["endpoint"] / normal(x, generator(0, "same")) * d.schedule(s)[1]
    ratio = [(a / b) ** 2 for a, b in (d.schedule(s), d.schedule(t))]
    close(((means[0] - means[1]) ** 2 / (2 * tau**2)).sum(), (0.5 * (ratio[0] - ratio[1]) * (x0 - wrong).square().sum())[0], 1e-10)


# --- cold: what Algorithm 2 forgives, and what it does not ------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"), [(k, s) for k in (Naive, TACoS, Ancestral, Heun) for s in EVERY if k is not Ancestral or build(s).recovers]
)
@pytest.mark.parametrize("order", [1, 2])
def test_a_perfect_restorer_gives_the_truth(kind, order, text):
    d = build(text)
    x = clean(d)
    for steps in (1, 2, 7):
        model = Model(d, perfect(x))
        start = model.corrupt(x, 1.0, generator(0, "z"))
        close(kind(steps=steps, order=order).sample(model, start, generator(1, "walk")), x, 1e-9)


@dataclass(frozen=True)
class Additive(Degradation):
    """x + (t + t^2) e with e from the draw: the increment knows nothing of x."""

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"e": normal(like, generator)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x + (t + t**2) * z["e"]


@dataclass(frozen=True)
class Towards(Degradation):
    """(1 - t) x + t y: linear in t, yet the increment knows x."""

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"y": normal(like, generator)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x + t * z["y"]


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_tacos_forgives_everything_where_the_increment_does_not_depend_on_x(steps):
    d, x = Additive(), pixels()
    z = d.draw(x, generator(0, "z"))
    start = d(x, at(1.0, x), z)
    close(walk(TACoS(steps), d, random(), start, z), x, 1e-12)
    close(walk(TACoS(steps, order=2), d, random(), start, z), x, 1e-12)
    assert (walk(Naive(steps), d, random(), start, z) - x).abs().max() > 0.1


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_tacos_does_not_forgive_everything_where_it_does(steps):
    d, x = Towards(), pixels()
    z = d.draw(x, generator(0, "z"))
    assert (walk(TACoS(steps), d, random(), d(x, at(1.0, x), z), z) - x).abs().max() > 0.1


def mistaken(x0: Tensor, errors: list[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer whose i-th call answers x0 + errors[i]."""
    calls = iter(errors)
    return lambda x, t: x0 + next(calls)


@pytest.mark.parametrize("text", LINEAR)
def test_each_call_of_tacos_errs_only_in_the_band_it_restores(text):
    d, n = build(text), 6
    x = clean(d)
    errors = [normal(x, generator(i, "error")) for i in range(n)]
    z = d.draw(x, generator(0, "z"))
    start = d(x, at(1.0, x), z)
    grid = [1 - i / n for i in range(n + 1)]
    nothing = torch.zeros_like(x)
    expected = x.clone()
    for e, t, s in zip(errors, grid[:-1], grid[1:], strict=True):
        expected += (d(e, at(s, x), z) - d(nothing, at(s, x), z)) - (d(e, at(t, x), z) - d(nothing, at(t, x), z))
    close(walk(TACoS(n), d, mistaken(x, errors), start, z), expected, 1e-10)
    close(walk(Naive(n), d, mistaken(x, errors), start, z), x + errors[-1], 1e-10)


@pytest.mark.parametrize("text", LINEAR)
def test_a_constant_wrong_answer_is_corrected_by_what_the_start_shows(text):
    d = build(text)
    x, answer = clean(d), clean(d, seed=7)
    z = d.draw(x, generator(0, "z"))
    start = d(x, at(1.0, x), z)
    expected = answer + d(x, at(1.0, x), z) - d(answer, at(1.0, x), z)
    for steps in (1, 2, 5, 33):
        close(walk(TACoS(steps), d, constant(answer), start, z), expected, 1e-10)


@pytest.mark.parametrize("text", [s for s in LINEAR if not build(s).noise])
def test_the_residual_follows_its_recursion(text):
    """r_t = x_t - A_t x0 and e_t = x0_hat - x0: r_s = r_t + (A_s - A_t) e_t for TACoS, r_s = A_s e_t for Naive."""
    d = build(text)
    x0, x = clean(d), clean(d, seed=4)
    z, t, s = d.draw(x0, generator(0, "z")), at(0.7, x0), at(0.3, x0)
    answer = nonlinear(tuple(x.shape[1:]))(x, t)

    def a(u: Tensor, t: Tensor) -> Tensor:
        return d(u, t, z) - d(torch.zeros_like(u), t, z)

    r, e = x - d(x0, t, z), answer - x0
    close(TACoS().move(d, x, answer, t, s, z, None)[0] - d(x0, s, z), r + a(e, s) - a(e, t), 1e-12)
    close(Naive().move(d, x, answer, t, s, z, None)[0] - d(x0, s, z), a(e, s), 1e-12)


# --- nested projections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 13, 9)])
def test_pixelate_entered_at_a_knot_reproduces_the_measurement_whatever_the_restorer_says(shape, level, order):
    d, x = Pixelate(levels=3), pixels(2, shape)
    t = at(level / 3, x)
    measured = d(x, t)
    for restorer in (nonlinear(shape), random()):
        out = TACoS(level, order=order).sample(Model(d, restorer), State(measured, level / 3))
        close(d(out, t), measured, 1e-10)
        assert (out - x).abs().max() > 0.1
    assert (d(Naive(level).sample(Model(d, random()), State(measured, level / 3)), t) - measured).abs().max() > 0.1


def test_the_measurement_is_reproduced_in_float32_too():
    d, x = Pixelate(levels=3), pixels(2, (3, 32, 32)).float()
    measured = d(x, at(1.0, x))
    assert (d(TACoS(3).sample(Model(d, random()), State(measured, 1.0)), at(1.0, x)) - measured).abs().max() < 1e-5


def test_tacos_on_a_pyramid_is_algorithm_1_with_the_answer_made_consistent():
    d, x, restorer = Pixelate(levels=3), pixels(2), nonlinear()
    expected = d(x, at(1.0, x))
    for level in (3, 2, 1):
        t, s = at(level / 3, x), at((level - 1) / 3, x)
        answer = restorer(expected, t)
        expected = d(answer + expected - d(answer, t), s)
    close(walk(TACoS(3), d, restorer, d(x, at(1.0, x))), expected, 1e-10)


def test_algorithms_1_and_2_agree_when_the_answer_explains_what_is_seen():
    d, x, restorer = Pixelate(levels=3), pixels(2), nonlinear()

    def consistent(x_t: Tensor, t: Tensor) -> Tensor:
        answer = restorer(x_t, t)
        return answer + x_t - d(answer, t)

    start = d(x, at(1.0, x))
    one, two = walk(Naive(3), d, consistent, start), walk(TACoS(3), d, consistent, start)
    close(one, two, 1e-10)
    assert (one - walk(Naive(3), d, restorer, start)).abs().max() > 0.1


def test_a_projected_restorer_in_a_ddim_walk_reproduces_the_measurement():
    """Null-space projection (DDNM): x0_hat + A^+ (y - A x0_hat)."""
    a, x, restorer = Pixelate(levels=2), pixels(2), nonlinear()
    y = a(x, at(1.0, x))

    def projected(x_t: Tensor, t: Tensor) -> Tensor:
        answer = restorer(x_t, t)
        return answer + y - a(answer, at(1.0, x))

    out = walk(Ancestral(10, eta=0.5), GaussianNoise(), projected, normal(x, generator(0, "start")))
    close(a(out, at(1.0, x)), y, 1e-10)


# --- compositions ----------------------------------------------------------------------------------------


def test_a_composition_is_its_parts_one_after_the_other():
    d, x = build("gaussian-blur:sigma_px=2+mask+noise"), pixels()
    t, z = torch.tensor([0.1, 0.5, 1.0], dtype=DOUBLE), d.draw(x, generator(0, "z"))
    blur, mask, noise = d.parts
    expected = noise(mask(blur(x, t), t, {"centre": z["1.centre"]}), t, {"endpoint": z["2.endpoint"]})
    assert torch.equal(d(x, t, z), expected)
    assert Compose((Compose((blur, mask)), noise)) == d == Compose((blur, Compose((mask, noise))))


def test_ddim_on_a_composition_solves_the_noise_behind_the_blur():
    d, restorer, x = build("gaussian-blur:sigma_px=2+noise:schedule=linear"), nonlinear(), normal(pixels(), generator(2, "start"))
    blur, expected, n = d.parts[0], x, 8
    for i in range(n):
        t, s = 1 - i / n, 1 - (i + 1) / n
        x0 = restorer(expected, at(t, x))
        z = (expected - (1 - t) * blur(x0, at(t, x))) / t
        expected = (1 - s) * blur(x0, at(s, x)) + s * z
    close(walk(Ancestral(n, eta=0.0), d, restorer, x), expected, 1e-10)


# --- the order of a sampler, on a Gaussian where all is known ------------------------------------------------

V, FLOOR = 1.7, 0.1


@dataclass(frozen=True)
class Dim(LinearDegradation):
    """x_t = exp(-2.5 t^2) x0."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return torch.exp(-2.5 * t**2) * x


def spread(sampler: Sampler, degradation: Degradation, alpha_sigma: Callable[[Tensor], tuple[Tensor, Tensor]]) -> float:
    """The relative error of the standard deviation that a walk with the posterior mean of N(0, V) ends with."""

    def posterior(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in alpha_sigma(t))
        return alpha * V / (alpha**2 * V + sigma**2) * x

    ends = torch.tensor([1.0, 0.0], dtype=DOUBLE)
    alpha, sigma = alpha_sigma(ends)
    first, last = (alpha**2 * V + sigma**2).sqrt()
    start = first.reshape(1, 1, 1, 1)
    out = sampler.sample(Model(degradation, posterior), State(start, 1.0, {"endpoint": start}))
    return float((out.squeeze() / last - 1).abs())


def order(errors: list[float], calls: list[int]) -> float:
    return math.log(errors[0] / errors[1]) / math.log(calls[1] / calls[0])


def constant_floor(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.exp(-2.5 * t**2), torch.full_like(t, FLOOR)


@pytest.mark.parametrize(
    ("sampler", "low", "high"),
    [(lambda n: TACoS(n), 0.95, 1.05), (lambda n: Heun(n - 1), 1.9, 2.1), (lambda n: TACoS(n, order=2), 1.9, 2.1)],
    ids=["TACoS", "Heun", "order 2"],
)
def test_order_with_a_constant_noise_floor(sampler, low, high):
    errors = [spread(sampler(n), Dim(), constant_floor) for n in (64, 256)]
    assert low <= order(errors, [64, 256]) <= high


def test_errors_with_a_constant_noise_floor_are_the_known_ones():
    for n, one, two in [(8, 5.9e-2, 1.6e-2), (16, 3.0e-2, 3.6e-3), (32, 1.5e-2, 8.3e-4), (64, 7.6e-3, 2.0e-4)]:
        assert spread(TACoS(n), Dim(), constant_floor) == pytest.approx(one, rel=0.03)
        assert spread(TACoS(n, order=2), Dim(), constant_floor) == pytest.approx(two, rel=0.03)


@pytest.mark.parametrize(("second", "low", "high"), [(False, 0.9, 1.1), (True, 1.9, 2.1)])
def test_order_on_the_rectified_flow(second, low, high):
    errors = [spread(Ancestral(n, eta=0.0, order=1 + second), GaussianNoise(Linear()), Linear()) for n in (128, 512)]
    assert low <= order(errors, [128, 512]) <= high


def test_order_2_has_at_most_a_third_of_the_error_on_a_variance_preserving_walk():
    d = build("noise")
    one, two = (spread(Ancestral(16, eta=0.0, order=k), d, d.schedule) for k in (1, 2))
    assert two <= one / 3


def test_order_2_is_the_extrapolation_by_half_the_ratio_of_the_steps():
    restorer, d, x = nonlinear(), Towards(), pixels()
    z = d.draw(x, generator(0, "z"))
    expected = start = d(x, at(1.0, x), z)
    previous, n = None, 5
    for t, s in itertools.pairwise([1 - i / n for i in range(n + 1)]):
        answer = restorer(expected, at(t, x))
        x0 = answer if previous is None else 1.5 * answer - 0.5 * previous
        expected, previous = expected - d(x0, at(t, x), z) + d(x0, at(s, x), z), answer
    close(walk(TACoS(n, order=2), d, restorer, start, z), expected, 1e-12)
