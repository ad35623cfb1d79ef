"""Bits per dimension: analytic values, the SNR form of a step, the decoder, and what has none."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from snowmelt.data.dataset import Dataset
from snowmelt.data.labels import Labels
from snowmelt.data.stores import Held
from snowmelt.degradations import Degradation, GaussianNoise, chain
from snowmelt.degradations.likelihood import between, divergence, log_density, log_level, summed
from snowmelt.degradations.spectral import backward, forward
from snowmelt.evaluation.bits import WRITTEN, Bits
from snowmelt.evaluation.bound import bound, squares
from snowmelt.files import BadFile
from snowmelt.model import Model
from snowmelt.priors import Constant
from snowmelt.priors import Normal as Noise
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restorers import ByGradient, ClassifierFree, Conditions, Informed
from snowmelt.schedules import VE, Betas, Schedule
from snowmelt.testing import mixture
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity

DOUBLE = torch.float64
ENTROPY = math.log2(2 * math.pi * math.e) / 2  # of N(0, 1), in bits
VP = "noise:schedule=betas(steps=50,beta_min=0.001,beta_max=0.3)"
CHAINS = [VP, "noise:schedule=betas(steps=20,kind=cosine)", "noise:schedule=ve(sigma_max=5)", "noise", "noise:schedule=linear"]
WARM = ["gaussian-blur:sigma_px=2+noise", "gaussian-blur:sigma_px=2,padding=circular+noise"]


def data_of(x: Tensor) -> Dataset:
    """Values (n, c, h, w) as they are, as a data set."""
    pixels = np.ascontiguousarray(x.permute(0, 2, 3, 1).float().numpy())
    return Dataset(Held(pixels), "test", tuple(x.shape[1:]), [str(i) for i in range(len(x))], [])


def levels(n: int, shape: tuple[int, ...] = (1, 4, 4), seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, *shape), generator=generator(seed, "levels")).double() / 127.5 - 1


def normals(n: int, shape: tuple[int, ...] = (1, 4, 4)) -> Tensor:
    return torch.randn(n, *shape, generator=generator(0, "normals"), dtype=DOUBLE)


def exact(degradation: Degradation) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x0 | x_t] for x0 ~ N(0, I)."""

    def restorer(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in degradation.schedule(t))
        return alpha * x / (alpha**2 + sigma**2)

    return restorer


class Spread(Informed):
    """A restorer with a spread of its own, a function of t."""

    def __init__(self, restorer: Callable[[Tensor, Tensor], Tensor], spread: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.restorer, self.spread = restorer, spread

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch]:
        return self.restorer(x_t, t), self.spread(t).reshape(-1, 1, 1, 1).expand_as(x_t)


def analytic(degradation: Degradation, t: int, scale: float = 1.0) -> float:
    """Bits per dimension of N(0, 1) under the exact restorer with the small variance and a density as decoder, by arithmetic alone."""
    alpha, sigma = (v.tolist() for v in degradation.schedule(torch.arange(t + 1, dtype=DOUBLE) / t))
    error = [s**2 / (a**2 + s**2) for a, s in zip(alpha, sigma, strict=True)]  # E |x0 - E[x0 | x_t]|^2
    nats = ((alpha[t] ** 2 + sigma[t] ** 2) / scale**2 - 1 - 2 * math.log(sigma[t] / scale)) / 2
    for i in range(2, t + 1):
        nats += (alpha[i - 1] ** 2 / sigma[i - 1] ** 2 - alpha[i] ** 2 / sigma[i] ** 2) * error[i] / 2
    beta = sigma[2] ** 2 - (alpha[2] / alpha[1]) ** 2 * sigma[1] ** 2  # of the second step, whose posterior lends the decoder its variance
    variance = beta * sigma[1] ** 2 / sigma[2] ** 2
    nats += (math.log(2 * math.pi * variance) + error[1] / variance) / 2
    return nats / math.log(2)


@dataclass(frozen=True)
class Signs(GaussianNoise):
    """Noise that is 1 or -1 by turns. What is a square of noise and data has its exact mean over these four pixels and :data:`CORNERS`."""

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        return {"endpoint": torch.tensor([1.0, -1.0, 1.0, -1.0]).to(like).expand_as(like)}


CORNERS = torch.tensor([1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 1, 4)


@pytest.mark.parametrize("schedule", [Betas(1000), Betas(50, 0.001, 0.3), Betas(1000, kind="cosine"), VE(30.0)])
@pytest.mark.parametrize("t", [2, 7, 50])
def test_normal_data_cost_what_arithmetic_says(schedule: Schedule, t: int) -> None:
    degradation = Signs(schedule)
    scale = 30.0 if isinstance(schedule, VE) else 1.0
    model = Model(degradation, exact(degradation), Noise((1, 1, 4), scale=scale))
    found = bound(model, data_of(CORNERS), [0], steps=t, levels=None, clip=False)
    expected = analytic(degradation, t, scale)
    assert found["small"].total == pytest.approx(expected, abs=1e-9)
    assert found["small"].total > ENTROPY + 1e-3  # a bound
    if scale == 1:  # where all of x_t are N(0, 1), beta is the variance of the true way back: a code that wastes nothing, at any T
        assert found["large"].total == pytest.approx(ENTROPY, abs=1e-9)
    else:
        assert found["large"].total > ENTROPY + 1e-3


def test_normal_data_by_chance() -> None:
    degradation, shape = build("noise:schedule=betas(steps=1000)"), (1, 64, 64)
    x = normals(1500, shape)
    x = x / x.square().mean().sqrt()  # what the data themselves scatter is no part of the question
    found = bound(Model(degradation, exact(degradation), Noise(shape)), data_of(x), range(1500), steps=3, levels=None, clip=False)
    assert found["small"].total == pytest.approx(analytic(degradation, 3), abs=1e-3)
    assert found["large"].total == pytest.approx(ENTROPY, abs=1e-3)
    low, high = found["large"].interval or (0, 0)
    assert low < ENTROPY < high < low + 0.02


@pytest.mark.parametrize("spec", [*CHAINS, *WARM])
def test_a_step_costs_half_the_snr_it_gains(spec: str) -> None:
    degradation, x, guess = build(spec), levels(3), levels(1, seed=1)
    found = bound(Model(degradation, lambda x_t, t: guess.expand_as(x_t), Noise((1, 4, 4))), data_of(x), range(3), steps=10)["small"]
    wrong = squares(x - guess, degradation)
    for i in range(2, 11):
        snr = [snr_of(degradation, j / 10) for j in (i - 1, i)]
        nats = summed((snr[0] - snr[1]) * wrong / 2, degradation.basis, (1, 4, 4)).mean() / 16
        assert found.per_step[i - 2] == pytest.approx(float(nats) / math.log(2), rel=1e-10, abs=1e-12), i
    assert found.steps == pytest.approx(math.fsum(found.per_step), rel=1e-12)


def snr_of(degradation: Degradation, t: float) -> Tensor:
    """From what the operator says of itself, not from the chain."""
    at = torch.full((1,), t, dtype=DOUBLE)
    z = degradation.draw(torch.zeros(1, 1, 4, 4, dtype=DOUBLE), generator(0, "snr"))
    return degradation.gain((1, 4, 4), at, z).square() / degradation.sigma(at).square().reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("spec", ["noise", *WARM])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_step_is_the_divergence_of_two_full_gaussians(spec: str, variance: str) -> None:
    """Covariances written out in pixels, and the formula of torch.distributions."""
    degradation, x, guess = build(spec), levels(1), levels(1, seed=1)
    z = degradation.draw(x, generator(0, "z"))
    t, s = (torch.full((1,), v, dtype=DOUBLE) for v in (0.6, 0.5))
    x_t = degradation(x, t, z)
    true, told = (chain.posterior(degradation, x_t, value, t, s, z) for value in (x, guess))
    found = summed(divergence(squares(true.mean - told.mean, degradation), true.small, getattr(told, variance)), degradation.basis, (1, 4, 4))

    def gaussian(mean: Tensor, of: Tensor) -> MultivariateNormal:
        cells = torch.eye(16, dtype=DOUBLE).reshape(16, 1, 4, 4)
        basis = "pixel" if degradation.basis == "any" else degradation.basis
        covariance = backward(forward(cells, basis) * of, basis, 4).reshape(16, 16)
        return MultivariateNormal(mean.flatten(), (covariance + covariance.mT) / 2)

    expected = kl_divergence(gaussian(true.mean, true.small), gaussian(told.mean, getattr(told, variance)))
    assert float(found) == pytest.approx(float(expected), rel=1e-8)


def test_divergence_of_scalars_and_of_points() -> None:
    a, b, v, w = torch.randn(4, 50, generator=generator(0, "kl"), dtype=DOUBLE)
    v, w = v.exp(), w.exp()
    expected = kl_divergence(Normal(a, v.sqrt()), Normal(b, w.sqrt()))
    torch.testing.assert_close(divergence((a - b).square(), v, w), expected, rtol=1e-10, atol=1e-12)
    zero, one = torch.zeros(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    assert divergence(zero, zero, zero).item() == 0
    assert divergence(one, zero, zero).item() == math.inf
    assert divergence(zero, one, zero).item() == math.inf


@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.123, 0.999, 1.7])
@pytest.mark.parametrize("deviation", [1e-4, 0.003, 0.1, 4.0])
def test_the_levels_share_all_of_the_mass(mean: float, deviation: float) -> None:
    every = torch.linspace(-1, 1, 256, dtype=DOUBLE)
    logs = log_level(every, torch.tensor(mean, dtype=DOUBLE), torch.tensor(deviation**2, dtype=DOUBLE))
    assert torch.isfinite(logs).all()
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_levels_far_from_the_mean() -> None:
    """In the tails the mass is that of the near edge of the bin, which erfc knows; on the other side the same, mirrored."""
    deviation, mean = torch.tensor(0.03, dtype=DOUBLE), torch.tensor(-0.4, dtype=DOUBLE)
    for k in (170, 200):
        x = torch.tensor(k / 127.5 - 1, dtype=DOUBLE)
        near, far = ((float(x) + edge / 255 - float(mean)) / 0.03 / math.sqrt(2) for edge in (-1, 1))
        expected = math.log((math.erfc(near) - math.erfc(far)) / 2)
        found = log_level(x, mean, deviation**2)
        assert float(found) == pytest.approx(expected, rel=1e-10)
        assert float(log_level(-x, -mean, deviation**2)) == pytest.approx(expected, rel=1e-10)
    edge = torch.special.log_ndtr(-(torch.tensor(254 / 255, dtype=DOUBLE) - mean) / deviation)  # beyond what erfc can hold
    assert float(edge) < -900
    assert float(log_level(torch.ones((), dtype=DOUBLE), mean, deviation**2)) == pytest.approx(float(edge), rel=1e-10)


def test_between_is_the_line_of_logarithms() -> None:
    small, large = torch.tensor([0.01, 0.0], dtype=DOUBLE), torch.tensor([1.0, 0.0], dtype=DOUBLE)
    assert between(small, large, torch.tensor(0.5)).tolist() == pytest.approx([0.1, 0.0])
    for spread, expected in ((0.0, small), (1.0, large)):
        torch.testing.assert_close(between(small, large, torch.tensor(spread)), expected)


def test_a_density_is_a_density() -> None:
    x, v = normals(5), torch.tensor(0.3, dtype=DOUBLE)
    torch.testing.assert_close(log_density(x, x / 2, v), Normal(x / 2, v.sqrt()).log_prob(x))


@pytest.mark.parametrize("spec", [*CHAINS, WARM[0]])
def test_a_perfect_restorer_pays_for_prior_and_decoder_only(spec: str) -> None:
    x = levels(4)
    model = Model(build(spec), lambda x_t, t: x[: len(x_t)], Noise((1, 4, 4)))
    found = bound(model, data_of(x), range(4), steps=12)
    assert found["small"].per_step == pytest.approx([0] * 11, abs=1e-9)
    assert found["small"].total == pytest.approx(found["small"].prior + found["small"].decoder, abs=1e-9)
    assert found["large"].steps > 0  # beta is not the posterior's variance


@pytest.mark.parametrize(("spread", "same"), [(0.0, "small"), (1.0, "large")])
def test_a_learned_variance_at_its_ends(spread: float, same: str) -> None:
    degradation = build(VP)
    model = Model(degradation, Spread(exact(degradation), lambda t: torch.full_like(t, spread)), Noise((1, 4, 4)))
    found = bound(model, data_of(levels(5)), range(5))
    assert found["learned"].grid == 50
    assert found["learned"].per_step == pytest.approx(found[same].per_step, rel=1e-10, abs=1e-14)
    assert found["learned"].decoder == pytest.approx(found[same].decoder, rel=1e-12)
    assert found["learned"].total == pytest.approx(found[same].total, rel=1e-12)
    assert found["small"].total != found["large"].total


def test_a_learned_variance_beside_a_basis_is_left_out() -> None:
    model = Model(build(WARM[0]), Spread(lambda x, t: x, torch.zeros_like), Noise((1, 4, 4)))
    assert sorted(bound(model, data_of(levels(2)), range(2), steps=3)) == ["large", "small"]


def test_numbers_depend_on_pictures_not_on_batches() -> None:
    degradation = build(VP)
    model, data = Model(degradation, exact(degradation), Noise((1, 4, 4))), data_of(levels(7))
    ticks: list[int] = []
    whole, parts = bound(model, data, range(7), tick=ticks.append), bound(model, data, range(7), batch=3)
    assert sum(ticks) == 7 * 50
    for name, one in whole.items():
        assert one.total == pytest.approx(parts[name].total, rel=1e-12)
        assert one.per_step == pytest.approx(parts[name].per_step, rel=1e-12)
    alone, other = bound(model, data, [3])["small"], bound(model, data, [3], seed=1)["small"]
    assert alone.interval is None
    assert alone.total != other.total
    assert bound(model, data, range(7), steps=10)["small"].grid == 10  # respaced


def test_values_off_the_levels_are_moved_to_them_and_it_is_said() -> None:
    degradation, x = build(VP), levels(4)
    model = Model(degradation, exact(degradation), Noise((1, 4, 4)))
    on, off = (bound(model, data_of(values), range(4))["small"] for values in (x, (x + 0.002).clamp(-1, 1)))
    assert (on.rounded, off.total) == (0, pytest.approx(on.total, rel=1e-6))
    assert off.rounded == pytest.approx(0.002, rel=1e-3)


def test_clipping_keeps_estimates_in_range() -> None:
    degradation, x = build(VP), levels(3)
    model = Model(degradation, lambda x_t, t: 5 * x_t, Noise((1, 4, 4)))
    free, kept = (bound(model, data_of(x), range(3), clip=clip)["small"].total for clip in (False, True))
    assert kept < free


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (Model(build("gaussian-blur"), lambda x, t: x, Noise((1, 4, 4))), TypeError, "gaussian-blur is no Gaussian chain"),
        (Model(build("snow+noise"), lambda x, t: x, Noise((1, 4, 4))), TypeError, "is no Gaussian chain"),
        (Model(build("noise"), lambda x, t: x, Noise((1, 4, 4)), noise_floor=0.1), ValueError, "noise_floor = 0.1"),
        (Model(build("noise"), lambda x, t: x, Noise((1, 4, 4)), input="8bit"), ValueError, "input = 8bit"),
        (Model(build("noise"), lambda x, t: x), TypeError, "no prior"),
        (Model(build("noise"), lambda x, t: x, Constant()), TypeError, "the prior constant"),
    ],
)
def test_what_has_no_bits_per_dimension_is_refused_by_name(model: Model, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        bound(model, data_of(levels(1)), [0], steps=2)


class Blind(Informed):
    """An oracle that is told nothing."""

    conditions = Conditions()

    def __init__(self, oracle: Informed) -> None:
        super().__init__()
        self.oracle = oracle

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        return self.oracle.predict(x_t, t)


def test_a_guided_model_is_told_the_labels_of_the_pictures() -> None:
    """Two Gaussians, one a class: at scale 1, or with the exact classifier, guidance costs what the conditional model does."""
    degradation = build(VP)
    means = torch.tensor([-0.5, 0.5], dtype=DOUBLE)[:, None, None, None].expand(2, 1, 2, 2)
    oracle = mixture(degradation, means, 0.05)
    x0, labels = oracle.law.sample(40, generator(0, "mixture"))
    data = data_of(x0)
    told = Dataset(data._store, "test", data.shape, data.ids, [], labels=Labels(labels.numpy(), ("low", "high")))

    def bits(restorer: Informed, given: Dataset = told) -> float:
        return bound(Model(degradation, restorer, Noise((1, 2, 2))), given, range(40), levels=None, clip=False)["small"].total

    def likelihood(x_t: Tensor, x0_hat: Tensor, t: Tensor, z: Draw) -> Tensor:
        return oracle.classes(x_t, t)[torch.arange(len(x_t)), z["label"]]

    conditional, blind = bits(oracle), bits(oracle, data)
    assert conditional < blind - 0.05
    assert bits(Blind(oracle)) == blind
    assert bits(ClassifierFree(oracle, 1)) == conditional
    assert bits(ClassifierFree(oracle, 0)) == blind
    guided = ByGradient(Blind(oracle), degradation, likelihood, through=False, reads=Conditions(classes=2))
    assert bits(guided) == pytest.approx(conditional, rel=1e-9)


def test_nothing_asked_for_is_refused() -> None:
    model = Model(build("noise"), lambda x, t: x, Noise((1, 4, 4)))
    with pytest.raises(ValueError, match="0 steps"):
        bound(model, data_of(levels(1)), [0], steps=0)
    with pytest.raises(ValueError, match="no pictures"):
        bound(model, data_of(levels(1)), [])


def test_the_report_is_kept_whole(tmp_path: Path) -> None:
    degradation = build(VP)
    found = bound(Model(degradation, exact(degradation), Noise((1, 4, 4))), data_of(levels(5)), range(5))
    bits = Bits(found, {"seed": 0})
    bits.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITTEN)
    assert Bits.read(tmp_path / "bound.json") == bits
    text = (tmp_path / "bound.md").read_text()
    assert f"{bits.best.total:.4f}" in text
    assert math.fsum(cost for *_, cost in found["small"].bands(10)) == pytest.approx(found["small"].steps, rel=1e-12)
    assert found["small"].bands(10)[0][0] == 1 / 50
    for damaged in ("[]", '{"bounds": {"small": {}}, "facts": {}}', json.dumps({"facts": {}})):
        (tmp_path / "bound.json").write_text(damaged)
        with pytest.raises(BadFile, match="--bits-per-dim"):
            Bits.read(tmp_path / "bound.json")
