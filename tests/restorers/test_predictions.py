"""What the network of a hot model predicts: each prediction against its own definition, and each converted into each."""

import itertools

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import chain
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Restorer, UNet
from snowmelt.restorers.parameterization import Coefficients, converted, linear_estimate, scale_output

DOUBLE = torch.float64
SMALL = UNet(widths=(8,), blocks=1)


def pixels(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=generator(0, "pixels"))


def column(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def hub(c: Coefficients, x_t: Tensor, f: Tensor) -> Tensor:
    """The estimate when the network answers f."""
    return linear_estimate(c, x_t)[0] + scale_output(c, f)


def coefficients(name: str, d: object, x_t: Tensor, t: Tensor, floor: float = 0.0) -> Coefficients:
    part = build(name, "parameterization")
    part.check(d)
    return part.coefficients(d, None, x_t, t, {}, floor)


# --- against the definitions -----------------------------------------------------------------------------


def test_a_velocity_is_the_endpoint_minus_the_sample() -> None:
    d, x0, t = build("noise:schedule=linear"), pixels(5, 1, 4, 6), torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=DOUBLE)
    z = d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z)
    c = coefficients("flow", d, x_t, t)
    torch.testing.assert_close(hub(c, x_t, z["endpoint"] - x0), x0, rtol=0, atol=1e-13)
    # It is what x_t moves by: the derivative of the path.
    later = d(x0, (t + 1e-6).clamp(max=1), z)
    torch.testing.assert_close((later - x_t)[:4] / 1e-6, (z["endpoint"] - x0)[:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "name", "steps"),
    [
        ("betas", "mu", 1000),
        ("betas(steps=20,beta_max=0.4)", "mu", 20),
        ("betas(kind=cosine)", "mu:steps=50", 50),
        ("linear", "mu", 1000),
        ("cosine", "mu:steps=10", 10),
        ("geometric(sigma_min=0.02,sigma_max=20,steps=80)", "mu", 80),
        ("karras", "mu:steps=30", 30),
    ],
)
def test_mu_is_the_mean_of_the_step_of_the_chain(schedule: str, name: str, steps: int) -> None:
    d, x0 = build(f"noise:schedule={schedule}"), pixels(6, 1, 4, 6)
    t = torch.tensor([1, 2, steps // 3, steps // 2, steps - 1, steps], dtype=DOUBLE) / steps
    z = d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z)
    mean = chain.posterior(d, x_t, x0, t, t - 1 / steps, z).mean
    c = coefficients(name, d, x_t, t)
    torch.testing.assert_close(hub(c, x_t, mean), x0, rtol=0, atol=1e-8)
    torch.testing.assert_close(mean[0], x0[0], rtol=0, atol=1e-12)  # the last step ends at the sample itself
    assert (hub(c, x_t, mean + 1) - x0).abs().amin((1, 2, 3)).min() > 1e-2, "f matters"
    single = coefficients(name, d, x_t.float(), t.float())
    assert single.out.dtype == torch.float32
    torch.testing.assert_close(single.out.double(), c.out, rtol=1e-4, atol=0)


@pytest.mark.parametrize("schedule", ["karras", "ve:sigma_max=80", "betas", "cosine", "linear", "geometric"])
def test_edm_is_table_1_of_karras_et_al(schedule: str) -> None:
    """Their x is x_t / alpha and their sigma is sigma / alpha: c_skip, c_out and c_in of table 1, brought to x_t by alpha."""
    d, x0, data = build({"name": "noise", "schedule": build(schedule, "schedule")}), pixels(4, 1, 4, 6), 0.7
    t = torch.tensor([0.05, 0.3, 0.7, 0.99], dtype=DOUBLE)
    alpha, sigma = d.schedule(t)
    x_t, f, s = d(x0, t, d.draw(x0, generator(0, "z"))), pixels(4, 1, 4, 6).flip(0), column(sigma / alpha)
    skip, out, into = data**2 / (s**2 + data**2), s * data / (data**2 + s**2).sqrt(), 1 / (data**2 + s**2).sqrt()
    theirs = x_t / column(alpha)
    c = coefficients(f"edm:sigma_data={data}", d, x_t, t)
    torch.testing.assert_close(hub(c, x_t, f), skip * theirs + out * f, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(linear_estimate(c, x_t)[1], into * theirs, rtol=1e-12, atol=1e-12)


def test_edm_gives_input_and_target_unit_variance_and_is_wiener_for_white_data() -> None:
    d, data, n = build("noise"), 0.6, 4000
    x0 = data * torch.randn(n, 1, 4, 4, dtype=DOUBLE, generator=generator(1, "white"))
    for at in (0.1, 0.5, 0.9):
        t = torch.full((n,), at, dtype=DOUBLE)
        x_t = d(x0, t, d.draw(x0, generator(2, "z")))
        c = coefficients(f"edm:sigma_data={data}", d, x_t, t)
        linear, inner = linear_estimate(c, x_t)
        assert float(inner.std()) == pytest.approx(1, abs=0.02)
        assert float(((x0 - linear) / c.out).std()) == pytest.approx(1, abs=0.02)


def test_edm_counts_the_noise_floor() -> None:
    d, t, like = build("noise"), torch.tensor([0.0, 0.4], dtype=DOUBLE), pixels(2, 1, 4, 4)
    with_floor, without = coefficients("edm", d, like, t, 0.3), coefficients("edm", d, like, t)
    assert float(without.out[0]) == 0
    assert float(without.skip[0]) == 1
    assert float(with_floor.out[0]) == pytest.approx(0.5 * 0.3 / (0.25 + 0.09) ** 0.5)
    assert float(with_floor.skip[0]) == pytest.approx(0.25 / 0.34)


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("flow", "noise", r"^flow is the velocity along a straight line, which 'noise' is not: take noise:schedule=linear, or v$"),
        ("flow", "gaussian-blur", "^flow needs x_t = alpha x0"),
        ("mu", "gaussian-blur+noise", r"^mu needs x_t = alpha x0 \+ sigma z, which 'gaussian-blur\+noise' is not"),
        ("mu:steps=1", "noise:schedule=linear", None),  # one step, which ends at the sample
        ("mu:steps=100000", "noise:schedule=linear", r"^mu divides by alpha, which is 1e-05 a step before t = 1 for 'noise:schedule=linear'"),
        ("mu", "noise:schedule=constant", r"^mu says nothing of x0 where a step adds no noise, as that to t = 0.002 of 'noise:schedule=constant'"),
        ("mu", "noise:schedule=karras(sigma_min=2,sigma_max=2)", "^mu says nothing of x0"),
        ("edm", "mask", "^edm needs x_t = alpha x0"),
        ("edm:sigma_data=0", "noise", r"edm.sigma_data = 0 lies outside \[0.001, 1000\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(name: str, text: str, said: str | None) -> None:
    if said is None:
        Restorer(build(text), SMALL, (1, 8, 8), parameterization=build(name, "parameterization"))
        return
    with pytest.raises(SpecError, match=said):
        Restorer(build(text), SMALL, (1, 8, 8), parameterization=build(name, "parameterization"))


@pytest.mark.parametrize("schedule", ["betas", "betas(kind=cosine)", "cosine", "linear", "karras", "geometric", "ve(sigma_max=80)"])
@pytest.mark.parametrize("name", ["x0", "eps", "v", "flow", "mu", "edm", "wiener"])
def test_whatever_is_not_refused_is_finite_everywhere(name: str, schedule: str) -> None:
    d, part = build(f"noise:schedule={schedule}"), build(name, "parameterization")
    try:
        restorer = Restorer(d, SMALL, (1, 8, 8), parameterization=part)
    except SpecError:
        assert name in ("eps", "v", "flow", "mu")
        return
    t = torch.cat([torch.linspace(0, 1, 1001), torch.tensor([1e-7, 1e-4, 1 - 1e-6])])
    c = restorer.coefficients(torch.zeros(len(t), 1, 8, 8), t)
    assert all(bool(value.isfinite().all()) for value in (c.skip, c.out, c.in_))


# --- conversions (METHODS I15) ---------------------------------------------------------------------------

FITTING = {
    "betas": ("x0", "residual", "eps", "v", "mu", "edm:sigma_data=0.7", "wiener"),
    "betas(kind=cosine)": ("x0", "residual", "v", "mu", "edm", "wiener"),
    "linear": ("x0", "residual", "flow", "mu", "edm", "wiener"),
    "karras": ("x0", "residual", "eps", "mu:steps=40", "edm", "wiener"),
}
PAIRS = [(schedule, *pair) for schedule, names in FITTING.items() for pair in itertools.permutations(names, 2)]


def restorer_of(name: str, schedule: str) -> Restorer:
    d = build(f"noise:schedule={schedule}")
    found = Restorer(d, SMALL, (1, 4, 6), parameterization=build(name, "parameterization"))
    return found.fit([pixels(40, 1, 4, 6) * 0.5 + 0.1]).double()


@pytest.mark.parametrize(("schedule", "source", "target"), PAIRS)
def test_every_prediction_converts_into_every_other_and_back(schedule: str, source: str, target: str) -> None:
    one, two = restorer_of(source, schedule), restorer_of(target, schedule)
    x0, t = pixels(4, 1, 4, 6), torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=DOUBLE)
    z = one.degradation.draw(x0, generator(0, "z"))
    x_t, f = one.degradation(x0, t, z), pixels(4, 1, 4, 6).flip(0)
    a, b = (r.coefficients(x_t, t, z) for r in (one, two))
    g = converted(f, a, b, x_t)
    means = hub(a, x_t, f)
    torch.testing.assert_close(hub(b, x_t, g), means, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(converted(g, b, a, x_t), f, rtol=1e-7, atol=1e-7)


def test_a_prediction_that_says_nothing_is_not_converted_to() -> None:
    one, two = restorer_of("x0", "betas"), restorer_of("eps", "betas")
    x_t, t = pixels(2, 1, 4, 6), torch.tensor([0.0, 0.5], dtype=DOUBLE)
    with pytest.raises(ValueError, match="says nothing of the sample at one of these severities"):
        converted(x_t, one.coefficients(x_t, t), two.coefficients(x_t, t), x_t)
    converted(x_t, two.coefficients(x_t, t), one.coefficients(x_t, t), x_t)
