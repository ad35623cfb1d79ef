"""restore and generate: what a user calls with a finished model."""

import pytest
import torch

import snowmelt
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.randomness import generators
from snowmelt.samplers import Ancestral, Naive, TACoS, default_sampler
from snowmelt.testing import perfect


def pictures(n: int = 3) -> torch.Tensor:
    return torch.empty(n, 3, 10, 14).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sampler", ["default", None, "tacos:steps=3", Naive(steps=4)])
def test_a_perfect_restorer_gives_back_the_truth(sampler: object) -> None:
    x0 = pictures()
    model = Model(snowmelt.build("gaussian-blur:sigma_px=2"), perfect(x0))
    for t in (1.0, 0.4, torch.tensor([0.1, 0.5, 1.0])):
        x_t = model.corrupt(x0, t).x
        out = snowmelt.restore(model, x_t, severity=t, sampler=sampler)
        torch.testing.assert_close(out, x0, atol=2e-5, rtol=0)


def test_it_walks_from_the_given_severity() -> None:
    seen: list[float] = []

    def restorer(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(float(t[0]))
        return x_t

    snowmelt.restore(Model(snowmelt.build("grey"), restorer), pictures(), severity=0.5, sampler="tacos:steps=2")
    assert seen == [0.5, 0.25]


@pytest.mark.parametrize("severity", [-0.1, 1.5, float("nan"), torch.tensor([0.5, 2.0, 0.1])])
def test_a_severity_out_of_range_is_refused(severity: object) -> None:
    with pytest.raises(ValueError, match=r"severity = .* lies outside \[0, 1\]"):
        snowmelt.restore(Model(snowmelt.build("grey"), lambda x, t: x), pictures(), severity=severity)


def test_values_that_are_not_finite_are_refused() -> None:
    x = pictures()
    x[1, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        snowmelt.restore(Model(snowmelt.build("grey"), lambda x, t: x), x, severity=1.0)


def test_an_unknown_draw_means_one_call_and_refuses_walks_by_name() -> None:
    x0, calls = pictures(), []

    def blind(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x0

    model = Model(snowmelt.build("mask"), blind)
    assert torch.equal(snowmelt.restore(model, x0, severity=1.0), x0)
    assert len(calls) == 1
    with pytest.raises(ValueError, match=r"tacos steps through mask with its draw, and centre is not known"):
        snowmelt.restore(model, x0, severity=1.0, sampler="tacos")
    state = model.corrupt(x0)
    out = snowmelt.restore(model, state.x, severity=1.0, z=state.z, sampler="tacos:steps=3")
    torch.testing.assert_close(out, x0, atol=1e-5, rtol=0)


def test_noise_that_can_be_solved_for_need_not_be_known() -> None:
    x0 = pictures()
    model = Model(snowmelt.build("gaussian-blur:sigma_px=1+noise"), perfect(x0))
    torch.testing.assert_close(snowmelt.restore(model, model.corrupt(x0).x, severity=1.0), x0, atol=1e-4, rtol=0)


def test_the_noise_floor_is_added_once_from_the_generator_and_never_when_it_is_zero() -> None:
    x, seen = pictures(), []

    def restorer(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(x_t)
        return x_t

    model = Model(snowmelt.build("grey"), restorer, noise_floor=0.1)
    for _ in range(2):
        snowmelt.restore(model, x, severity=1.0, sampler=None, generator=generators(0, "floor", range(3)))
    assert torch.equal(seen[0], seen[1])
    assert 0.08 < float((seen[0] - x).std()) < 0.12
    snowmelt.restore(Model(snowmelt.build("grey"), restorer), x, severity=1.0, sampler=None)
    assert torch.equal(seen[2], x)


def test_eight_bit_models_round_what_they_degrade() -> None:
    model = Model(snowmelt.build("gaussian-blur"), lambda x, t: x, input="8bit")
    levels = (model.corrupt(pictures()).x + 1) * 127.5
    assert float((levels - levels.round()).abs().max()) < 1e-4


def test_generate_walks_from_the_prior() -> None:
    truth = pictures(4)
    model = Model(snowmelt.build("noise"), perfect(truth), Normal(shape=(3, 10, 14)))
    out = snowmelt.generate(model, 4, generator=generators(0, "sample", range(4)))
    torch.testing.assert_close(out, truth, atol=1e-5, rtol=0)


def test_generate_depends_on_each_samples_own_generator_only() -> None:
    model = Model(snowmelt.build("noise"), lambda x, t: x.tanh(), Normal(shape=(1, 6, 6)))
    four = snowmelt.generate(model, 4, sampler="ancestral:steps=5", generator=generators(0, "sample", range(4)))
    last = snowmelt.generate(model, 1, sampler="ancestral:steps=5", generator=generators(0, "sample", [3]))
    torch.testing.assert_close(four[3:], last)
    assert not torch.allclose(four[0], four[1])


def test_a_model_without_a_prior_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"a model of grey has no prior .*restore with it"):
        snowmelt.generate(Model(snowmelt.build("grey"), lambda x, t: x), 1)


def test_the_defaults() -> None:
    assert default_sampler(snowmelt.build("gaussian-blur")) == TACoS(steps=12, order=2)
    assert default_sampler(snowmelt.build("recursive-blur:steps=20")) == TACoS(steps=20, snap=True)
    assert default_sampler(snowmelt.build("noise")) == Ancestral(steps=12, order=2, eta=0.0)


def test_importing_snowmelt_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, snowmelt; dir(snowmelt); assert 'torch' not in sys.modules; snowmelt.build; print(snowmelt.testing.__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "snowmelt.testing"


def test_no_module_hides_a_function_of_the_package() -> None:
    """A module named as a lazily loaded function would take its place in the package once anybody imports it."""
    import pkgutil

    modules = {module.name for module in pkgutil.iter_modules(snowmelt.__path__)}
    assert not modules & set(snowmelt.__all__)


def test_pixels_that_are_whole_numbers_are_refused_with_the_way_out() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"x has dtype torch\.uint8; .*from_uint8"):
        snowmelt.restore(Model(snowmelt.build("grey"), lambda x, t: x), x, severity=1.0)
