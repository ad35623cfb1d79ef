"""Schedules: their contract, DDPM's tables, and what lies between the knots."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snowmelt.degradations import GaussianNoise, Morph
from snowmelt.registry import SpecError, build, names
from snowmelt.schedules import Betas, Constant, Cosine, Geometric, Karras, Linear, Schedule, between_knots, knot, require_monotone
from snowmelt.testing import check_schedule

DOUBLE = torch.float64
EVERY = [
    *names("schedule"),
    "betas:steps=1",
    "betas:steps=7,beta_min=0.2,beta_max=0.9",
    "betas:beta_min=0,beta_max=1,steps=20",
    "betas:kind=cosine",
    "betas:kind=cosine,steps=10",
    "geometric:steps=10,sigma_max=1",
    "geometric:steps=2",
    "karras:rho=1",
    "constant:sigma=0",
]


@pytest.mark.parametrize("text", EVERY)
def test_contract(text):
    check_schedule(build(text, "schedule"))


@settings(max_examples=40)
@given(st.integers(1, 300), st.floats(0, 0.99), st.floats(0, 1), st.sampled_from(["linear", "cosine"]))
def test_any_table_of_betas_keeps_the_contract_and_the_variance(steps, low, more, curve):
    schedule = Betas(steps, low, low + more * (1 - low), curve)
    check_schedule(schedule)
    t = torch.linspace(0, 1, 97, dtype=DOUBLE)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-14)


def test_formulas():
    t = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=DOUBLE)
    for seen, expected in [
        (Linear()(t), ([1.0, 0.8, 0.5, 0.0], [0.0, 0.2, 0.5, 1.0])),
        (Cosine()(t), ([1.0, math.cos(math.pi / 10), math.sqrt(0.5), 0.0], [0.0, math.sin(math.pi / 10), math.sqrt(0.5), 1.0])),
    ]:
        torch.testing.assert_close(torch.stack(seen), torch.tensor(expected, dtype=DOUBLE), rtol=0, atol=1e-15)
    assert Cosine()(t)[0][-1] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("text", EVERY)
def test_shape_and_dtype_are_those_of_t(text, dtype):
    for shape in ((5,), (5, 1, 1, 1), (0,)):
        for value in build(text, "schedule")(torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))):
            assert value.shape == shape
            assert value.dtype == dtype


@pytest.mark.parametrize("text", [s for s in EVERY if s.startswith("betas")])
def test_a_severity_without_axes_is_a_severity(text):
    schedule = build(text, "schedule")
    for value, one in zip(schedule(torch.tensor(0.3, dtype=DOUBLE)), schedule(torch.tensor([0.3], dtype=DOUBLE)), strict=True):
        assert value.shape == ()
        assert value == one[0]


def test_linear_betas_are_ddpms_at_every_knot():
    bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=DOUBLE), 0)
    alpha, sigma = Betas()(torch.arange(1, 1001, dtype=DOUBLE) / 1000)
    torch.testing.assert_close(alpha, bar.sqrt(), rtol=0, atol=1e-15)
    torch.testing.assert_close(sigma, (1 - bar).sqrt(), rtol=0, atol=1e-15)
    assert bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_linear_betas_are_those_of_diffusers():
    from diffusers import DDPMScheduler

    other = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(Betas().alpha_bar()[1:].float(), other.alphas_cumprod, rtol=1e-4, atol=0)  # theirs is made in float32
    torch.testing.assert_close(Betas().betas().float(), other.betas, rtol=1e-6, atol=0)


@pytest.mark.parametrize("steps", [10, 200, 1000])
def test_cosine_betas_are_those_of_nichol_and_dhariwal(steps):
    from diffusers import DDPMScheduler

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    seen = Betas(steps, kind="cosine").betas()
    expected = [min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]
    torch.testing.assert_close(seen, torch.tensor(expected, dtype=DOUBLE), rtol=1e-9, atol=1e-13)
    other = DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(seen.float(), other.betas, rtol=1e-5, atol=1e-9)
    assert seen[-1] == 0.999


def test_the_papers_cosine_ends_as_the_paper_says():
    bar = Betas(200, kind="cosine").alpha_bar()
    assert bar[1] == pytest.approx(0.99975, abs=1e-5)
    assert bar[-1] == pytest.approx(6e-8, rel=0.05)


@pytest.mark.parametrize("steps", [1, 3, 7, 50, 999, 1000, 10_000])
def test_float32_severities_meet_the_knots_exactly(steps):
    i = torch.arange(steps + 1)
    table = Betas(steps).alpha_bar()
    for t in (i / steps, (i.double() / steps).float(), 1 - (steps - i) / steps):
        assert t.dtype == torch.float32
        assert torch.equal(between_knots(table, t), table)


def test_alpha_bar_is_linear_between_knots_and_alpha_is_not():
    schedule, bar = Betas(4, 0.1, 0.5), Betas(4, 0.1, 0.5).alpha_bar()
    alpha, _ = schedule(torch.tensor([0.25 + 0.25 * 0.3], dtype=DOUBLE))
    assert float(alpha) == pytest.approx(float((0.7 * bar[1] + 0.3 * bar[2]).sqrt()), abs=1e-15)
    assert abs(float(alpha) - float(0.7 * bar[1].sqrt() + 0.3 * bar[2].sqrt())) > 1e-3


def test_knots():
    assert (Linear().knots, Cosine().knots, Betas(37).knots) == (None, None, 37)
    below, on = knot(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=DOUBLE), 5)
    assert below.tolist() == [0, 0, 2, 4, 4]
    assert on.tolist() == pytest.approx([0, 0.5, 0.5, 0.5, 1])


def test_between_knots_interpolates_matrices():
    table = torch.arange(24, dtype=DOUBLE).reshape(3, 2, 4)
    seen = between_knots(table, torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=DOUBLE))
    assert seen.shape == (2, 2, 2, 4)
    assert torch.equal(seen[0, 1], (table[0] + table[1]) / 2)
    assert torch.equal(seen[1, 1], table[2])


# --- exploding schedules -------------------------------------------------------------------------------------------


def test_the_ladder_of_ncsn_is_at_the_knots():
    sigma = Geometric(0.01, 1, 10)(torch.arange(11, dtype=DOUBLE) / 10)[1]
    torch.testing.assert_close(sigma[1:], torch.logspace(-2, 0, 10, dtype=DOUBLE), rtol=1e-12, atol=0)
    assert sigma[0] == 0
    assert float(Geometric(0.01, 1, 10)(torch.tensor(0.05, dtype=DOUBLE))[1]) == pytest.approx(0.005)
    assert float(Geometric(0.01, 1, 10)(torch.tensor(0.15, dtype=DOUBLE))[1]) == pytest.approx(0.01 * 10 ** (1 / 9))


@pytest.mark.parametrize("n", [2, 5, 18])
def test_the_noises_of_edm(n):
    """Karras et al. (2022), eq. 5: sigma_i for i = 0 ... N - 1, t = 1 - i / (N - 1) here."""
    expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
    t = 1 - torch.arange(n, dtype=DOUBLE) / (n - 1)
    t[-1] = 1e-12  # at 0 itself there is no noise
    torch.testing.assert_close(Karras()(t)[1], torch.tensor(expected, dtype=DOUBLE), rtol=1e-7, atol=0)
    assert Karras()(torch.zeros(1))[1] == 0


def test_the_constant_noise():
    alpha, sigma = Constant(0.02)(torch.tensor([0, 1e-9, 0.5, 1], dtype=DOUBLE))
    assert sigma.tolist() == [0, 0.02, 0.02, 0.02]
    assert alpha.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("text", ["geometric:sigma_min=2,sigma_max=1", "karras:sigma_min=2,sigma_max=1"])
def test_a_ladder_that_falls(text):
    with pytest.raises(SpecError, match="sigma_min = 2 is above its sigma_max = 1: exchange them"):
        build(text, "schedule")


# --- from a ratio back to a severity -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
def test_the_severity_at_a_ratio_is_where_that_ratio_is(text):
    schedule = build(text, "schedule")
    t = torch.linspace(0.05, 0.95, 19, dtype=DOUBLE)
    alpha, sigma = schedule(t)
    found = schedule.severity_at(sigma / alpha)
    assert found.shape == t.shape
    assert found.dtype == t.dtype
    assert (found <= t + 1e-8).all()  # the least of them, where the ratio stands still
    alpha_found, sigma_found = schedule(found)
    torch.testing.assert_close(sigma_found / alpha_found, sigma / alpha, rtol=1e-8, atol=1e-12)
    ends = schedule.severity_at(torch.tensor([0.0, 1e12], dtype=DOUBLE))
    assert ends[0] == 0
    assert ends[1] == pytest.approx(1, abs=1e-9)
    assert schedule.severity_at(torch.ones(2, 3)).dtype == torch.float32
    assert schedule.severity_at(torch.ones(2, 3)).shape == (2, 3)


def test_the_severity_at_a_ratio_is_exact_where_it_has_a_formula():
    ratio = torch.tensor([0.001, 0.5, 1.0, 7.0], dtype=DOUBLE)
    torch.testing.assert_close(Linear().severity_at(ratio), ratio / (1 + ratio), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(Cosine().severity_at(ratio), torch.atan(ratio) / (math.pi / 2), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "text", ["linear", "ve", "ve:sigma_max=80", "ve:sigma_max=0", "karras", "karras:sigma_min=2,sigma_max=2"]
)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_closed_forms_are_what_bisection_finds(text, dtype):
    schedule = build(text, "schedule")
    ratio = torch.tensor([0, 1e-30, 1e-9, 1e-4, 0.002, 0.0021, 0.1, 0.4, 1, 2, 7, 80, 81, 1e30, math.inf], dtype=dtype).reshape(3, 5)
    seen, expected = schedule.severity_at(ratio), Schedule.severity_at(schedule, ratio)
    assert (seen.dtype, seen.shape) == (dtype, (3, 5))
    one = torch.finfo(dtype).eps
    torch.testing.assert_close(seen, expected, rtol=2 * one, atol=5 * one if text == "karras" else 2**-53)  # a bisection ends within 2^-54
    assert torch.equal(seen == 0, ratio == 0), "where there is noise the severity is not 0"
    assert seen.flatten()[-1] == 1
    assert Schedule.severity_at(schedule, ratio).dtype == dtype


# --- what is no schedule -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mine(Schedule):
    """A user's own."""

    sigma: Callable[[Tensor], Tensor]
    alpha: Callable[[Tensor], Tensor] = torch.ones_like

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.alpha(t), self.sigma(t)

    def __post_init__(self) -> None:
        """Functions are no fields of a part."""


@pytest.mark.parametrize("kind", [GaussianNoise, Morph])
def test_a_schedule_under_which_samples_get_better_is_refused_where_it_is_used(kind):
    wave = Mine(lambda t: t + 0.2 * torch.sin(4 * math.pi * t))
    name = {GaussianNoise: "noise", Morph: "morph"}[kind]
    with pytest.raises(SpecError) as refused:
        kind(schedule=wave)
    said = str(refused.value)
    assert said.startswith(f"{name}.schedule is not monotone: its signal-to-noise ratio alpha/sigma rises from ")
    assert said.endswith("let alpha fall and sigma rise")
    before, s, after, t = (float(word.rstrip(",")) for word in said.replace("=", " ").split() if word.rstrip(",").replace(".", "").isdigit())
    assert t - s == pytest.approx(0.001, abs=1e-4)
    assert after > before
    assert after == pytest.approx(float(1 / wave.sigma(torch.tensor(t, dtype=DOUBLE))), rel=0.01)


def test_a_dip_between_two_knots_of_the_look_is_found_at_the_knots():
    """A table that is only wrong on its own knots: 4096 of them, none of which is one of the 1001 severities."""

    @dataclass(frozen=True)
    class Table(Schedule):
        @property
        def knots(self) -> int:
            return 4096

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            on = (t * 4096 - 1001).abs() < 1e-6
            return torch.ones_like(t), torch.where(on, 2.0, t)

    with pytest.raises(SpecError, match="t = 0.2444"):
        GaussianNoise(Table())


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (Mine(lambda t: t / (t - 0.5)), "must be finite and at least 0"),
        (Mine(lambda t: -t), "sigma = -0.001 at t = 0.001: both must be finite and at least 0"),
        (Mine(torch.zeros_like, lambda t: 1 - t), "alpha = 0 and sigma = 0 at t = 1: both must be finite and at least 0, and not both 0"),
        (Mine(lambda t: t, lambda t: 1 + t**2 + 9 * (t > 0.7)), "alpha/sigma rises from"),
    ],
)
def test_values_that_are_no_schedule(schedule, says):
    with pytest.raises(SpecError, match="noise.schedule ") as refused:
        GaussianNoise(schedule)
    assert says in str(refused.value)


@dataclass(frozen=True)
class Listed(Linear):
    """A user's own, with a field that cannot be compared by its hash."""

    weights: list[float]

    def __post_init__(self) -> None:
        """Lists are no fields of a part."""


@pytest.mark.parametrize(("kind", "name"), [(GaussianNoise, "noise"), (Morph, "morph")])
def test_a_schedule_that_cannot_be_compared_is_named(kind, name):
    with pytest.raises(SpecError, match=rf"^{name}\.schedule = Listed cannot be compared \(unhash.*\): make its fields numbers, text or tuples$"):
        kind(schedule=Listed([1.0, 2.0]))


@pytest.mark.parametrize("text", EVERY)
def test_every_schedule_there_is_passes(text):
    require_monotone(build(text, "schedule"))
