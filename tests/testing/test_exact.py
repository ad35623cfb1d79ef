"""Oracles of known laws: the posterior mean in closed form against quadrature, sampling, the Wiener filter and Tweedie's formula."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.data import bundled
from snowmelt.degradations import Degradation, GaussianNoise
from snowmelt.degradations.spectral import backward, forward
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build
from snowmelt.restorers import LinearRestorer
from snowmelt.restorers.guidance import ByGradient, ClassifierFree
from snowmelt.samplers import TACoS
from snowmelt.schedules import Linear
from snowmelt.testing import digits_mixture, empirical, mixture, wiener
from snowmelt.testing.exact import affine
from snowmelt.testing.gaussians import gaussians
from snowmelt.types import EMPTY, State

DOUBLE = torch.float64
SHAPE = (1, 4, 5)
N = math.prod(SHAPE)


def at(t: float, b: int) -> Tensor:
    return torch.full((b,), t, dtype=DOUBLE)


def pixels(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return normal(torch.empty(n, *shape, dtype=DOUBLE), generator(seed, "pixels"))


def covariances(k: int, n: int = N, seed: int = 0) -> Tensor:
    root = torch.randn(k, n, n, dtype=DOUBLE, generator=generator(seed, "root")) / math.sqrt(n)
    return root @ root.mT + 0.1 * torch.eye(n, dtype=DOUBLE)


def close(seen: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance)


# --- one Gaussian --------------------------------------------------------------------------------------------

SPECS = ["gaussian-blur:sigma_px=2", "noise", "gaussian-blur:sigma_px=1+noise:schedule=linear", "mask:width=0.3", "pixelate:levels=2", "noise+mask"]


@pytest.mark.parametrize("text", [s for s in SPECS if s != "noise+mask"])
def test_of_one_gaussian_it_is_the_linear_restorer(text: str) -> None:
    d, x = build(text), pixels(400)
    other = LinearRestorer(d, [x], 0.1)
    oracle = wiener(d, other.mean.reshape(SHAPE), other.covariance, noise_floor=0.1)
    z = d.draw(x[:4], generator(0, "z"))
    for t in (0.3, 1.0):
        x_t = d(x[:4], at(t, 4), z) + 0.1 * pixels(4, seed=1)
        close(oracle(x_t, at(t, 4), z), other(x_t, at(t, 4), z))


@pytest.mark.parametrize("text", ["gaussian-blur:sigma_px=2", "gaussian-blur:sigma_px=2,padding=circular", "noise", "mask:centre=middle"])
def test_a_spectrum_is_a_covariance_that_is_diagonal_in_the_operators_basis(text: str) -> None:
    d, mean = build(text), pixels(1)[0]
    z = d.draw(pixels(3), generator(0, "z"))
    spectrum = torch.rand((1, 4, 3) if d.basis == "fft" else SHAPE, dtype=DOUBLE, generator=generator(0, "v")) + 0.1
    if d.basis == "fft":  # its first column holds each frequency and its mirror image
        spectrum[:, 3] = spectrum[:, 1]
    by_spectrum = wiener(d, mean, spectrum=spectrum, noise_floor=0.05)
    basis = "dct" if d.basis == "any" else d.basis
    columns = backward(forward(torch.eye(N, dtype=DOUBLE).reshape(-1, *SHAPE), basis) * spectrum, basis, SHAPE[-1]).flatten(1)
    by_matrix = wiener(d, mean, (columns + columns.mT) / 2, noise_floor=0.05)
    t = torch.tensor([0.2, 0.6, 1.0], dtype=DOUBLE)
    close(by_spectrum(pixels(3, seed=2), t, z), by_matrix(pixels(3, seed=2), t, z), 1e-9)


@pytest.mark.parametrize("text", SPECS)
def test_the_matrix_is_the_operator(text: str) -> None:
    d, x = build(text), pixels(3)
    z = d.draw(x, generator(0, "z"))
    for i, t in enumerate((0.0, 0.4, 1.0)):
        known = {name: value[i : i + 1] for name, value in z.items() if name not in d.noise}
        a, b, s = affine(d, SHAPE, t, known)
        silent = {name: value[i : i + 1] for name, value in z.items()} | {name: torch.zeros_like(x[:1]) for name in d.noise}
        close(x[i].flatten() @ a.mT + b, d(x[i : i + 1], at(t, 1), silent).flatten(), 1e-12)
        if d.noise:
            close(s, float(d.sigma(at(t, 1))) ** 2 * torch.eye(N, dtype=DOUBLE), 1e-12)
        else:
            assert not s.any()


# --- a mixture -------------------------------------------------------------------------------------------------


def test_in_one_dimension_it_is_the_integral() -> None:
    means, variances, weights = torch.tensor([[-1.0], [0.4], [2.0]]), torch.tensor([[0.05], [0.3], [0.02]]), torch.tensor([0.2, 0.5, 0.3])
    d = GaussianNoise(Linear())
    oracle = mixture(d, means, variances, weights, torch.tensor([1, 0, 1]), noise_floor=0.1)
    x0 = torch.linspace(-12, 12, 240_001, dtype=DOUBLE)
    prior = (weights * torch.distributions.Normal(means[:, 0], variances[:, 0].sqrt()).log_prob(x0[:, None]).exp()).double()
    for t, seen in [(0.3, 0.5), (0.7, -0.3), (0.95, 1.5)]:
        alpha, variance = 1 - t, t**2 + 0.01
        likelihood = torch.exp(-((seen - alpha * x0) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        joint, x_t = prior * likelihood[:, None], torch.tensor([[seen]], dtype=DOUBLE)
        total = joint.sum()
        close(oracle(x_t, at(t, 1)).squeeze(), (joint.sum(1) * x0).sum() / total, 1e-6)
        close(oracle.components(x_t, at(t, 1))[0], joint.sum(0) / total, 1e-6)
        close(oracle.classes(x_t, at(t, 1))[0].exp(), torch.stack([joint[:, 1].sum(), joint[:, [0, 2]].sum()]) / total, 1e-6)
        close(oracle.log_density(x_t, at(t, 1)).exp()[0], total * 24 / 240_000, 1e-6)
        of_one = joint[:, [0, 2]]
        close(oracle(x_t, at(t, 1), {"label": torch.tensor([1])}).squeeze(), (of_one.sum(1) * x0).sum() / of_one.sum(), 1e-6)
        close(oracle.log_density(x_t, at(t, 1), {"label": torch.tensor([1])}).exp()[0], of_one.sum() / 0.5 * 24 / 240_000, 1e-6)


@pytest.mark.parametrize("text", SPECS)
def test_a_batch_is_its_rows_each_at_its_own_severity_and_draw(text: str) -> None:
    d, x = build(text), pixels(5)
    z, t = {**d.draw(x, generator(0, "z")), "label": torch.tensor([0, -1, 1, 1, -1])}, torch.tensor([0.2, 0.9, 0.2, 0.5, 0.9], dtype=DOUBLE)
    if "noise+mask" in text:
        with pytest.raises(TypeError, match=r"hides 0\.endpoint"):
            mixture(d, pixels(2))
        return
    oracle = mixture(d, pixels(3, seed=5), covariances(3), labels=torch.tensor([0, 1, 1]), noise_floor=0.1)
    whole = oracle(x, t, z)
    rows = [oracle(x[i : i + 1], t[i : i + 1], {name: value[i : i + 1] for name, value in z.items()}) for i in range(5)]
    close(whole, torch.cat(rows))
    assert not torch.allclose(whole, oracle(x, t, {name: value for name, value in z.items() if name != "label"}))


def test_the_noise_of_a_draw_is_never_read() -> None:
    d, x = build("noise"), pixels(2)
    oracle = mixture(d, pixels(3, seed=5), 0.2)
    z = d.draw(x, generator(0, "z"))
    assert torch.equal(oracle(x, at(0.5, 2), z), oracle(x, at(0.5, 2), EMPTY))


def test_the_error_is_what_the_law_says_and_no_other_restorer_is_better() -> None:
    """Means of estimates over p(x0 | x_t): the error is orthogonal to every function of x_t."""
    law, d = gaussians(pixels(3, seed=5), covariances(3)), build("gaussian-blur:sigma_px=2")
    x, _ = law.sample(40_000, generator(0, "data"))
    model = Model(d, mixture(d, *law, noise_floor=0.2), noise_floor=0.2)
    start = model.corrupt(x, 0.6, generator(0, "z"))
    error = (model.estimate(start.x, at(0.6, len(x)), start.z) - x).flatten(1)
    against = torch.tanh(start.x.flatten(1))
    moments = error.mT @ against / len(x)
    assert moments.abs().max() < 5 * float(error.std()) / math.sqrt(len(x))
    assert error.mean(0).abs().max() < 5 * float(error.std()) / math.sqrt(len(x))


def test_its_gradient_is_the_score_that_tweedies_formula_asks_for() -> None:
    d, x = GaussianNoise(Linear()), pixels(4)
    oracle, t = mixture(d, pixels(3, seed=5), covariances(3)), torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=DOUBLE)
    seen = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(oracle.log_density(seen, t).sum(), seen)
    alpha, sigma = ((v.reshape(-1, 1, 1, 1)) for v in d.schedule(t))
    close(alpha * oracle(x, t), x + sigma**2 * score)


def test_guidance_by_its_classes_is_its_conditional_mean() -> None:
    """E[x0 | x_t, y] = E[x0 | x_t] + sigma^2 / alpha grad log p(y | x_t), and scale 1 of classifier-free guidance."""
    d, x = GaussianNoise(Linear()), pixels(4)
    oracle = mixture(d, pixels(3, seed=5), covariances(3), labels=torch.tensor([0, 1, 1]))
    t, z = torch.tensor([0.2, 0.4, 0.7, 0.9], dtype=DOUBLE), {"label": torch.tensor([0, 1, 1, 0])}
    seen = x.clone().requires_grad_()
    chosen = oracle.classes(seen, t)[torch.arange(4), z["label"]]
    (gradient,) = torch.autograd.grad(chosen.sum(), seen)
    alpha, sigma = ((v.reshape(-1, 1, 1, 1)) for v in d.schedule(t))
    close(oracle(x, t) + sigma**2 / alpha * gradient, oracle(x, t, z))
    close(ClassifierFree(oracle, 1.0)(x, t, z), oracle(x, t, z))
    close(ClassifierFree(oracle, 0.0)(x, t, z), oracle(x, t))
    guided = ByGradient(oracle, d, lambda x_t, x0, t, _: oracle.classes(x_t, t)[torch.arange(4), z["label"]])
    close(guided(x, t), oracle(x, t, z))


def test_a_mixture_of_few_wide_gaussians_far_away_does_not_underflow() -> None:
    oracle = mixture(build("noise"), torch.stack([torch.full(SHAPE, -50.0), torch.full(SHAPE, 50.0)]), 1e-9)
    out = oracle(torch.full((1, *SHAPE), 49.0), torch.tensor([1e-3]))
    assert out.dtype == torch.float32
    close(out.double(), torch.full_like(out, 50.0).double(), 0.2)


# --- points ----------------------------------------------------------------------------------------------------


def test_points_are_gaussians_without_extent() -> None:
    d, points = build("noise"), pixels(6)
    t = torch.tensor([0.3, 0.8], dtype=DOUBLE)
    close(empirical(d, points)(pixels(2, seed=3), t), mixture(d, points, 0.0)(pixels(2, seed=3), t))


def test_points_in_the_plane_and_no_noise() -> None:
    d, points = build("noise"), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    oracle = empirical(d, points)
    out = oracle(torch.tensor([[0.9, 0.2]]), torch.zeros(1))
    assert out.tolist() == [[1.0, 0.0]], "the nearest where there is no noise"
    close(oracle(torch.tensor([[0.9, 0.2]]), torch.ones(1)).double(), points.mean(0, keepdim=True).double(), 1e-6)


def test_points_under_a_degradation_that_is_not_linear() -> None:
    d, points = build("jpeg"), bundled_digits(5)
    oracle = empirical(d, points, noise_floor=0.01)
    close(oracle(d(points[:3], at(0.4, 3)), at(0.4, 3)), points[:3], 1e-6)


def bundled_digits(n: int) -> Tensor:
    return torch.from_numpy(bundled.digits()[:n]).double().permute(0, 3, 1, 2) / 127.5 - 1


# --- the digits ------------------------------------------------------------------------------------------------


def test_the_mixture_of_the_digits_is_the_digits() -> None:
    law, x = digits_mixture(), bundled_digits(1797)
    assert law.shape == (1, 8, 8)
    assert set(law.labels.tolist()) == set(range(10))
    close(law.weights.sum(), torch.tensor(1.0, dtype=DOUBLE))
    # EM keeps the mean of the data and, but for what was added to the diagonal, their covariance
    mean = (law.weights[:, None] * law.means.flatten(1)).sum(0)
    close(mean, x.flatten(1).mean(0), 1e-3)
    left = law.means.flatten(1) - mean
    covariance = (law.weights[:, None, None] * (law.covariances + left[:, :, None] * left[:, None, :])).sum(0)
    close(covariance, torch.cov(x.flatten(1).mT, correction=0) + 1e-3 * torch.eye(64, dtype=DOUBLE), 5e-3)
    truth = torch.from_numpy(bundled.digit_labels().numbers)
    d = build("noise")
    found = mixture(d, *law).classes(x, at(0.0, len(x))).argmax(1)
    assert (found == truth).double().mean() > 0.85


def test_samples_have_the_law_they_are_drawn_from() -> None:
    law = gaussians(pixels(2, seed=5), covariances(2), torch.tensor([1.0, 3.0]), torch.tensor([4, 7]))
    x, labels = law.sample(20_000, generator(0, "data"))
    assert (labels == 7).double().mean() == pytest.approx(0.75, abs=0.02)
    of_one = x[labels == 7].flatten(1)
    close(of_one.mean(0), law.means[1].flatten(), 0.05)
    close(torch.cov(of_one.mT), law.covariances[1], 0.1)
    assert set(law.sample(50, generator(0, "data"), label=4)[1].tolist()) == {4}
    with pytest.raises(ValueError, match=r"label = 5 is that of no component: give one of \[4, 7\]"):
        law.sample(3, label=5)


# --- what is refused -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Square(Degradation):
    """Not linear."""

    def degrade(self, x: Tensor, t: Tensor, z: object) -> Tensor:
        return x + t * x**2


def test_what_has_no_closed_form_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"Square is not linear in x0.*snowmelt\.testing\.empirical"):
        mixture(Square(), pixels(2))
    with pytest.raises(TypeError, match="poisson-noise is not linear"):
        mixture(build("poisson-noise"), pixels(2))
    with pytest.raises(TypeError, match="poisson-noise hides photons"):
        empirical(build("poisson-noise"), pixels(2))
    with pytest.raises(TypeError, match="snow hides direction, flakes"):
        empirical(build("snow"), pixels(2))
    with pytest.raises(TypeError, match="pixelate is diagonal in no basis"):
        wiener(build("pixelate"), pixels(1)[0], spectrum=torch.ones(SHAPE))


def test_what_the_oracle_has_to_know_is_asked_for() -> None:
    oracle = mixture(build("mask"), pixels(2), noise_floor=0.1)
    with pytest.raises(ValueError, match="has to know centre of the draw: give it in z"):
        oracle(pixels(2), at(0.5, 2))
    with pytest.raises(ValueError, match="label 7 is that of no component"):
        mixture(build("noise"), pixels(2))(pixels(1), at(0.5, 1), {"label": torch.tensor([7])})
    with pytest.raises(ValueError, match=r"samples of shape \(1, 4, 5\); got a batch of shape \(2, 1, 3, 3\)"):
        oracle(pixels(2, (1, 3, 3)), at(0.5, 2))


def test_a_walk_that_leaves_no_density_asks_for_a_noise_floor() -> None:
    d = build("pixelate:levels=2")
    with pytest.raises(ValueError, match="give the oracle, and the model, a noise_floor > 0"):
        mixture(d, pixels(2))(pixels(1), at(1.0, 1))
    oracle = wiener(build("mask:centre=middle,width=1"), pixels(1)[0], spectrum=torch.ones(SHAPE))
    with pytest.raises(ValueError, match="noise_floor > 0"):
        oracle(pixels(1), at(1.0, 1), {"centre": torch.full((1, 2), 0.5)})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"covariances": torch.ones(2, 3)}, r"mixture\.covariances has shape \(2, 3\)"),
        ({"weights": torch.ones(3)}, r"mixture\.weights has shape \(3,\)"),
        ({"weights": torch.tensor([1.0, 0.0])}, "0 is not positive"),
        ({"labels": torch.tensor([-1, 0])}, "-1 means unknown"),
    ],
)
def test_a_mixture_that_is_none(given: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mixture(build("noise"), pixels(2), **given)


def test_other_arguments_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="either the covariance of the data or its spectrum"):
        wiener(build("noise"), pixels(1)[0])
    with pytest.raises(ValueError, match="no points"):
        empirical(build("noise"), pixels(0))
    with pytest.raises(ValueError, match="samples of 4096 values"):
        mixture(build("noise"), torch.zeros(1, 1, 64, 64))


def test_an_oracle_in_a_model_walks() -> None:
    law, d = gaussians(pixels(2, seed=5), covariances(2)), build("mask:width=0.3")
    x, _ = law.sample(3, generator(0, "data"))
    model = Model(d, mixture(d, *law, noise_floor=0.01), noise_floor=0.01)
    start = model.corrupt(x, 1.0, generator(0, "z"))
    out = TACoS(8, order=2).sample(model, start)
    known = d.gain(SHAPE, at(1.0, 3), start.z) > 0.9
    close(out[known], x[known], 0.1)
    assert TACoS(2).sample(model, State(start.x.float(), 1.0, start.z)).dtype == torch.float32
