"""Schedules: their contract, DDPM's tables, and what lies between the knots."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.registry import build, names
from snowmelt.schedules import Betas, Cosine, Linear, between_knots, knot
from snowmelt.testing import check_schedule

DOUBLE = torch.float64
EVERY = [
    *names("schedule"),
    "betas:steps=1",
    "betas:steps=7,beta_min=0.2,beta_max=0.9",
    "betas:beta_min=0,beta_max=1,steps=20",
    "betas:kind=cosine",
    "betas:kind=cosine,steps=10",
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
