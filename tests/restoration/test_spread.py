"""Spread: against closed forms where there are any, and how well maps predict errors."""

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Mixture
from snowmelt.model import Model
from snowmelt.randomness import generator, generators, normal
from snowmelt.registry import build
from snowmelt.restoration import rank_correlation, sparsification, spread
from snowmelt.restoration.spread import _on_knots
from snowmelt.restorers.severity import for_degradation
from snowmelt.testing import perfect

DOUBLE = torch.float64


def pixels(n: int = 2, h: int = 12, w: int = 16, seed: int = 0) -> Tensor:
    return torch.empty(n, 3, h, w, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


# --- walks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.3, 0.7])
def test_walks_with_renewed_noise_spread_as_the_posterior_of_a_gaussian(t):
    """x0 ~ N(0, v) and x_t = alpha x0 + sigma n: the posterior is N(c x_t, v sigma^2 / (alpha^2 v + sigma^2)), c = alpha v / (...)."""
    d, v = build("noise"), 0.3

    def wiener(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (c[:, None, None, None] for c in d.schedule(t))
        return alpha * v / (alpha**2 * v + sigma**2) * x_t

    x0 = v**0.5 * normal(pixels(1), generator(0, "x0"))
    model = Model(d, wiener)
    y = model.corrupt(x0, t, generator(0, "noise")).x
    found = spread(model, y, severity=t, samples=64, sampler="ancestral:steps=60", generator=generator(1, "walks"))
    alpha, sigma = (float(c) for c in d.schedule(torch.tensor(t, dtype=DOUBLE)))
    total = alpha**2 * v + sigma**2
    expected = (v * sigma**2 / total) ** 0.5
    assert found.method == "walks"
    assert found.std.shape == (1, 1, 12, 16)
    assert float(found.std.square().mean().sqrt()) == pytest.approx(expected, rel=0.05)
    assert float((found.mean - alpha * v / total * y).square().mean().sqrt()) == pytest.approx(expected / 8, rel=0.15)
    torch.testing.assert_close(found.std, found.samples.var(0).mean(1, keepdim=True).sqrt())


def test_the_default_walk_renews_its_noise_where_that_can_be_solved_for():
    model = Model(build("gaussian-blur:sigma_px=1+noise:schedule=ve(sigma_max=.2)"), lambda x, t: x.tanh())
    assert spread(model, pixels(), severity=1.0, samples=2, generator=generator(0, "s")).method == "walks"
    for sampler in (None, "ancestral:steps=3,eta=0"):
        assert spread(model, pixels(), severity=1.0, samples=2, sampler=sampler, generator=generator(0, "s")).method == "bootstrap"


# --- the bootstrap ---------------------------------------------------------------------------------------------


def test_the_bootstrap_of_a_linear_restorer_is_its_bias_and_its_noise():
    """R(x) = c x under x + sigma n: x_k - x_hat = (c - 1) x_hat + c sigma n, of mean square (c - 1)^2 x_hat^2 + c^2 sigma^2."""
    d, c = build("noise:schedule=ve(sigma_max=.2)"), 0.8
    x = pixels(1)
    found = spread(Model(d, lambda x, t: c * x), x, severity=0.5, samples=400, sampler=None, generator=generator(0, "s"))
    assert found.method == "bootstrap"
    assert torch.equal(found.mean, c * x)
    expected = ((c - 1) ** 2 * (c * x) ** 2 + (c * 0.1) ** 2).mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(found.std, expected, rtol=0.15, atol=0)
    assert float(found.std.mean()) == pytest.approx(float(expected.mean()), rel=0.01)


@pytest.mark.parametrize(("text", "name"), [("morph", "endpoint"), ("gaussian-blur:sigma_px=1+morph", "1.endpoint")])
def test_nothing_stands_in_for_an_endpoint_that_nobody_knows(text, name):
    model, x = Model(build(text), lambda x, t: 0.9 * x, noise_floor=0.05), pixels()
    with pytest.raises(ValueError, match=f"while its {name} is unknown: give it in z"):
        spread(model, x, severity=0.5, samples=2, sampler=None, generator=generator(0, "s"))
    given = {name: pixels(seed=1), **{k: v for k, v in model.degradation.draw(x, generator(0, "z")).items() if k != name}}
    assert spread(model, x, severity=0.5, samples=2, sampler=None, z=given, generator=generator(0, "s")).method == "bootstrap"


def test_severities_move_to_knots_where_nothing_is_solved_for():
    s = torch.tensor([0.3, 0.8])
    assert _on_knots(s, build("recursive-blur:steps=4")).tolist() == [0.25, 0.75]
    for text in ("noise:schedule=betas(steps=4)", "morph:schedule=betas(steps=4)"):
        assert build(text).knots == 4
        assert _on_knots(s, build(text)) is s


def test_a_spread_is_a_function_of_its_generators_and_of_each_sample_alone():
    model = Model(build("poisson-noise"), lambda x, t: 0.9 * x)
    x, before = pixels(3), torch.get_rng_state()

    def run(rows: slice, numbers: range) -> Tensor:
        return spread(model, x[rows], severity=1.0, samples=3, generator=generators(0, "s", numbers)).std

    whole = run(slice(None), range(3))
    assert torch.equal(whole, run(slice(None), range(3)))
    torch.testing.assert_close(run(slice(2, 3), range(2, 3)), whole[2:], rtol=0, atol=1e-12)
    assert torch.equal(before, torch.get_rng_state())


def test_a_mixture_is_damaged_again_as_it_was_said_to_be():
    d = build("mixture:parts=(grey,noise(schedule=ve),holes)")
    assert isinstance(d, Mixture)
    seen: list[Tensor] = []
    x = pixels()
    given = {"0.severity": x.new_zeros(2), "1.severity": x.new_tensor([0.0, 0.5])}
    found = spread(Model(d, lambda x, t: seen.append(x) or x), x, z=given, samples=4, generator=generator(0, "s"))
    assert len(seen) == 5
    assert torch.equal(found.mean, x)
    assert all(torch.equal(again[0], x[0]) for again in seen[1:])  # nor are there holes of which nobody knows
    assert float(found.std[1].square().mean().sqrt()) == pytest.approx(0.2, rel=0.05)  # half of .4
    mask = torch.ones(2, 1, 12, 16, dtype=DOUBLE)
    mask[..., 3:6, 3:9] = 0
    spread(Model(d, lambda x, t: seen.append(x) or x), x, z={**given, "2.mask": mask}, samples=2)
    assert torch.equal(seen[-1][0] == 0, (mask == 0)[0].expand(3, -1, -1))


def test_a_mixtures_estimator_says_what_it_was():
    d = build("mixture:parts=(jpeg,noise(schedule=ve),pixelate(levels=1))")
    estimator = for_degradation(d, (3, 16, 16)).eval()
    x = pixels(2, 16, 16).float()
    found = spread(Model(d, lambda x, t: x, estimator=estimator), x, samples=2, generator=generator(0, "s"))
    assert found.method == "bootstrap"
    assert torch.isfinite(found.std).all()


def test_what_cannot_be_told_is_refused_with_the_way_out():
    x = pixels()
    with pytest.raises(ValueError, match=r"samples = 1 lies outside \[2, inf\)"):
        spread(Model(build("noise"), perfect(x)), x, severity=1.0, samples=1)
    with pytest.raises(ValueError, match=r"gaussian-blur.* once its draw is known, so that every restoration would be the same: .* noise floor"):
        spread(Model(build("gaussian-blur"), perfect(x)), x, severity=1.0)
    with pytest.raises(ValueError, match=r"mixture.*has to be known: fit an estimator .* or give the severities in z"):
        spread(Model(build("mixture:parts=(grey,noise)"), perfect(x)), x)
    assert spread(Model(build("gaussian-blur"), lambda x, t: x, noise_floor=0.02), x, severity=1.0, samples=2).std.min() > 0


# --- how well a map predicts errors -----------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans():
    stats = pytest.importorskip("scipy.stats")
    a = (4 * pixels(3)).round()  # with ties
    b = a + pixels(3, seed=1).round()
    seen = rank_correlation(a, b)
    for i in range(3):
        assert float(seen[i]) == pytest.approx(float(stats.spearmanr(a[i].flatten(), b[i].flatten()).statistic), abs=1e-12)
    torch.testing.assert_close(rank_correlation(a, a.exp()), torch.ones(3, dtype=DOUBLE))
    torch.testing.assert_close(rank_correlation(a, -a), -torch.ones(3, dtype=DOUBLE))
    assert (rank_correlation(torch.ones_like(a), a) == 0).all()


def test_sparsification_is_0_for_the_truth_1_for_chance_and_more_for_the_contrary():
    error = pixels(3, 64, 64).abs()
    assert sparsification(error.square(), error).abs().max() < 1e-12
    assert (sparsification(-error, error) > 1.5).all()
    torch.testing.assert_close(sparsification(pixels(3, 64, 64, seed=1), error), torch.ones(3, dtype=DOUBLE), rtol=0, atol=0.06)
    assert (sparsification(error, torch.ones_like(error)) == 0).all()


def smoothed(x: Tensor, t: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


@pytest.mark.parametrize(("mode", "seen"), [("bilinear", True), ("nearest", False)])
def test_a_map_finds_where_noise_gets_through_and_not_what_was_averaged_away(mode, seen):
    """Photon noise is stronger in the lights, and the map says so. A restorer that smoothes is wrong at hard edges, and the map does
    not say so: the second time they are no longer there."""
    x0 = 0.5 * pixels(2, 6, 6) - 0.2
    x0 = torch.nn.functional.interpolate(x0.mean(1, keepdim=True).expand(-1, 3, -1, -1) * 1.7, size=(48, 48), mode=mode)
    model = Model(build("poisson-noise:peak=30"), smoothed)
    y = model.corrupt(x0, 1.0, generator(0, "noise")).x
    found = spread(model, y, severity=1.0, samples=16, generator=generator(1, "s"))
    error = (found.mean - x0).square().mean(1, keepdim=True).sqrt()
    ratio = float(found.std.square().mean().sqrt() / error.square().mean().sqrt())
    assert bool((rank_correlation(found.std, error) > 0.35).all()) == seen
    assert bool((sparsification(found.std, error) < 0.6).all()) == seen
    assert (0.9 < ratio < 1.2) == seen
    assert 0.5 < ratio < 1.2
