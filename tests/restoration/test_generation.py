"""Walks that begin at a prior: what is added once, what agrees with the degradation, what depends on a seed."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.model import Model
from snowmelt.priors import Constant, FromData, GaussianMixture, Normal
from snowmelt.randomness import generators
from snowmelt.restoration import beginning, generated
from snowmelt.training.prior import require
from snowmelt.types import State


def pictures(n: int = 40, side: int = 16) -> Tensor:
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(x, size=side, mode="bilinear")


def soft(x_t: Tensor, t: Tensor) -> Tensor:
    return x_t.tanh()


def model(degradation: str, prior: str, restorer: Callable[..., Tensor] = soft, **options: float) -> Model:
    D = snowmelt.build(degradation)
    x = pictures()
    z = D.draw(x, generators(0, "draw", range(len(x))))
    states: Iterator[State] = iter([State(D(x, torch.ones(len(x)), z), 1.0, z)])
    return Model(D, restorer, snowmelt.build(prior, "prior").fit(states), **options)


@pytest.mark.parametrize(
    ("degradation", "prior"),
    [
        ("pixelate:levels=2", "gaussian-mixture:grid=4"),
        ("pixelate:levels=2", "gaussian-mixture:grid=8,regularisation=0.01"),
        ("pixelate:levels=3", "gaussian-mixture:grid=3,upsample=cosine"),
        ("recursive-blur:steps=3,discrete=true", "gaussian-mixture:grid=4,regularisation=0.01"),
        ("grey", "gaussian-mixture:grid=2,regularisation=0.01"),
        ("fade-mask:routine=incremental,reverse=true,towards=colour,steps=20", "constant"),
    ],
)
def test_where_the_degradation_projects_the_start_is_in_its_range(degradation: str, prior: str) -> None:
    made = model(degradation, prior)
    start = beginning(made, 5, generators(0, "sample", range(5)), noise=0.0)
    again = made.degradation(start.x, torch.ones(5), start.z)
    torch.testing.assert_close(again, start.x, atol=1e-5, rtol=0)
    assert float(start.x.std(0).mean()) > 0.02, "and there are different ones"


def test_a_blur_is_no_projection_and_changes_nothing() -> None:
    made = model("gaussian-blur:sigma_px=2", "gaussian-mixture:grid=4")
    assert made.prior is not None
    start = beginning(made, 3, generators(0, "sample", range(3)), noise=0.0)
    assert torch.equal(start.x, made.prior.with_noise(0.0).sample(3, generators(0, "sample", range(3))).x)


@pytest.mark.parametrize("prior", ["gaussian-mixture", "from-data"])
def test_perfect_and_broken_symmetry_come_from_one_model(prior: str) -> None:
    made = model("recursive-blur:steps=3,discrete=true", prior)
    x = {noise: beginning(made, 64, generators(0, "x", range(64)), noise=noise).x for noise in (0.0, 0.05, None)}
    flat = x[0.0].mean((2, 3), keepdim=True)
    assert float((x[0.0] - flat).abs().max()) < 1e-6
    assert float((x[0.05] - x[0.0]).std()) == pytest.approx(0.05, rel=0.03)
    assert float((x[None] - x[0.0]).std()) == pytest.approx(0.002, rel=0.03)


@pytest.mark.parametrize("prior", ["gaussian-mixture", "from-data"])
def test_the_noise_floor_is_added_once(prior: str) -> None:
    bare, made = model("grey", prior), model("grey", prior, noise_floor=0.1)
    starts = [beginning(one, 200, generators(0, "x", range(200)), noise=0.0) for one in (bare, made)]
    assert float((starts[1].x - starts[0].x).std()) == pytest.approx(0.1, rel=0.03)
    torch.testing.assert_close(starts[1].x - 0.1 * starts[1].z["floor"], starts[0].x)


def test_an_endpoint_that_is_solved_for_need_not_come_from_the_prior() -> None:
    made = model("morph:schedule=linear", "gaussian-mixture:grid=4")
    assert made.prior is not None
    require(made.prior, made.degradation, (3, 16, 16))  # what may be fitted can be walked from
    start = beginning(made, 3, generators(0, "sample", range(3)), noise=0.0)
    assert torch.equal(start.x, made.prior.with_noise(0.0).sample(3, generators(0, "sample", range(3))).x)
    assert bool(snowmelt.generate(made, 2, seed=0).isfinite().all())


def test_pure_noise_gets_its_floor_too() -> None:
    made = Model(snowmelt.build("noise"), soft, Normal(shape=(1, 8, 8)), noise_floor=0.1)
    start = beginning(made, 3, generators(0, "x", range(3)))
    torch.testing.assert_close(start.x, start.z["endpoint"] + 0.1 * start.z["floor"])


@pytest.mark.parametrize("prior", ["gaussian-mixture:components=2,grid=2", "from-data"])
def test_sample_i_is_the_same_whatever_the_number_and_the_batch(prior: str) -> None:
    made = model("gaussian-blur:sigma_px=2", prior, noise_floor=0.02)
    whole = snowmelt.generate(made, 7, seed=5, sampler="tacos:steps=3")
    for batch in (2, 3, 64):
        parts = torch.cat(list(generated(made, 7, seed=5, sampler="tacos:steps=3", batch=batch)))
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(snowmelt.generate(made, 2, seed=5, sampler="tacos:steps=3"), whole[:2], atol=1e-6, rtol=0)
    assert not torch.allclose(snowmelt.generate(made, 7, seed=6, sampler="tacos:steps=3"), whole)
    torch.testing.assert_close(snowmelt.generate(made, 7, generator=generators(5, "sample", range(7)), sampler="tacos:steps=3", batch=3), whole)


def test_ten_thousand_samples_need_the_memory_of_a_batch() -> None:
    sizes: list[int] = []

    def restorer(x_t: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x_t))
        return x_t

    batches = generated(model("grey", "gaussian-mixture", restorer), 10_000, sampler=None)
    assert len(next(batches)) == 64
    assert sizes == [64], "the next batch is made when it is asked for"


def test_a_walk_reads_the_draw_of_its_prior() -> None:
    truth = pictures(4)
    made = model("fade-mask:routine=incremental,reverse=true,towards=colour,steps=20", "constant", lambda x_t, t: truth)
    assert isinstance(made.prior, Constant)
    assert made.prior.sample(2).z["colour"].shape == (2, 3)
    out = snowmelt.generate(made, 4, seed=0, noise=0.0)
    torch.testing.assert_close(out, truth, atol=1e-5, rtol=0)
    kept = model("mask", "from-data", lambda x_t, t: truth)
    assert isinstance(kept.prior, FromData)
    start = beginning(kept, 4, generators(0, "sample", range(4)), noise=0.0)
    assert {"centre"} == start.z.keys()
    torch.testing.assert_close(snowmelt.generate(kept, 1, seed=0, sampler=None), truth)


def test_between_two_draws_the_ends_are_the_samples() -> None:
    for degradation, prior in (("gaussian-blur:sigma_px=2", "gaussian-mixture:grid=2"), ("noise", "normal")):
        made = model(degradation, prior)
        noise = None if prior == "normal" else 0.0
        way = snowmelt.interpolate(made, 5, seed=3, sampler="tacos:steps=2", noise=noise)
        ends = snowmelt.generate(made, 2, seed=3, sampler="tacos:steps=2", noise=noise)
        torch.testing.assert_close(way[[0, 4]], ends, atol=2e-5, rtol=0)
        assert all(float((a - b).abs().max()) > 1e-3 for a, b in itertools.pairwise(way))


def test_along_the_way_only_the_priors_draw_changes() -> None:
    made = model("grey", "gaussian-mixture", lambda x_t, t: x_t, noise_floor=0.05)
    way = snowmelt.interpolate(made, 4, seed=1, sampler=None, noise=0.1)
    rough = way - way.mean((2, 3), keepdim=True)
    torch.testing.assert_close(rough, rough[:1].expand_as(rough), atol=1e-5, rtol=0, msg="one noise for the whole way")
    assert float(rough.std()) > 0.1
    torch.testing.assert_close(way[:1], snowmelt.generate(made, 1, seed=1, sampler=None, noise=0.1))


def test_a_model_without_a_prior_names_the_ways_out() -> None:
    made = Model(snowmelt.build("grey"), soft)
    for ask in (lambda: snowmelt.generate(made, 1), lambda: snowmelt.interpolate(made), lambda: next(generated(made, 1))):
        with pytest.raises(ValueError, match=r"a model of grey has no prior to generate from: fit one with .*--prior"):
            ask()


def test_a_prior_without_the_draw_is_refused_by_name() -> None:
    made = Model(snowmelt.build("mask"), soft, GaussianMixture().fit([pictures()]))
    with pytest.raises(ValueError, match=r"the prior gaussian-mixture does not fit mask: it lacks centre, .*take from-data"):
        snowmelt.generate(made, 1)


def test_a_walk_is_handed_no_draw_that_its_degradation_does_not_have() -> None:
    prior = FromData().fit([State(pictures(), 1.0, {"strange": torch.zeros(40)})])
    assert beginning(Model(snowmelt.build("grey"), soft, prior), 2).z == {}


def test_requests_that_contradict_themselves_are_refused() -> None:
    made = model("grey", "gaussian-mixture")
    with pytest.raises(ValueError, match="give generator or seed, not both"):
        snowmelt.generate(made, 2, seed=0, generator=torch.Generator())
    with pytest.raises(ValueError, match="3 generators were given for 2 samples"):
        snowmelt.generate(made, 2, generator=generators(0, "x", range(3)))
    with pytest.raises(ValueError, match="n = 0 samples"):
        snowmelt.generate(made, 0)
    with pytest.raises(ValueError, match="steps = 1: an interpolation has at least its two ends"):
        snowmelt.interpolate(made, 1)
    noisy = Model(snowmelt.build("noise"), soft, Normal(shape=(1, 4, 4)))
    with pytest.raises(ValueError, match="normal has no symmetry"):
        snowmelt.generate(noisy, 1, noise=0.1)
