"""Weights of severities against the losses of the papers, and the loss of a learned variance against distributions of torch."""

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import chain
from snowmelt.degradations.likelihood import log_level
from snowmelt.degradations.spectral import backward, forward
from snowmelt.losses import check_weight, restoration_loss, spread_loss, steps
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Informed, Restorer, UNet, Wiener
from snowmelt.restorers.parameterization import linear_estimate, output_power, scale_output
from snowmelt.types import EMPTY, Batch, Draw, Severity

DOUBLE = torch.float64
SHAPE = (1, 8, 8)


def pixels(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, *SHAPE, generator=generator(seed, "pixels"))


def smooth(n: int) -> Tensor:
    """Pictures whose spectrum falls."""
    return (pixels(n, 1).cumsum(-1) / 4).cumsum(-2) / 4


def restorer(text: str, part: str, **options: object) -> Restorer:
    """Random weights everywhere: a fresh network says nothing."""
    made = Restorer(build(text), UNet(widths=(8,), blocks=1), SHAPE, parameterization=build(part, "parameterization"), **options).fit([pixels(40)])
    with torch.no_grad():
        for i, p in enumerate(made.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=generator(i, "weights")))
    return made


def column(value: Tensor) -> Tensor:
    return value[:, None, None, None]


T = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])


def mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


# --- the losses of the papers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("noise:schedule=betas", "eps"),
        ("noise:schedule=betas", "x0"),
        ("noise:schedule=betas", "mu"),
        ("noise", "v"),
        ("noise:schedule=linear", "flow"),
        ("noise:schedule=karras", "edm:sigma_data=0.7"),
    ],
)
@torch.no_grad()
def test_the_weight_output_is_the_plain_error_of_what_the_network_returns(text: str, part: str) -> None:
    """DDPM's simple loss, v's, that of flow matching, EDM's: each written out with its own target."""
    made = restorer(text, part)
    model, x0 = Model(made.degradation, made), pixels()
    z = model.draw(x0, generator(1, "z"))
    x_t, eps = model.degrade(x0, T, z), z["endpoint"]
    alpha, sigma = (column(value) for value in made.degradation.schedule(T))
    data = 0.7
    s = sigma / alpha
    root = (s**2 + data**2).sqrt()
    targets = {
        "eps": lambda: (eps, x_t),
        "x0": lambda: (x0, x_t),
        "mu": lambda: (chain.posterior(made.degradation, x_t.double(), x0.double(), T.double(), T.double() - 1e-3, z).mean.float(), x_t),
        "v": lambda: (alpha * eps - sigma * x0, x_t),
        "flow": lambda: (eps - x0, x_t),
        # Karras et al., eq. 8: F is compared with (y - c_skip (y + n)) / c_out, at their x = x_t / alpha
        "edm": lambda: ((x0 - data**2 / root**2 * x_t / alpha) / (s * data / root), x_t / alpha / root),
    }
    target, seen = targets[part.split(":")[0]]()
    by_hand = mean_square(made.net(seen, T) - target)
    torch.testing.assert_close(restoration_loss(model, x0, T, z, weight="output"), by_hand, rtol=5e-3 if part == "mu" else 1e-3, atol=1e-6)


class Errs(Restorer):
    """Off by what a known error of its network does to the estimate."""

    def aim(self, x0: Tensor, error: Tensor) -> "Errs":
        self.x0, self.error = x0, error
        return self

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        return self.x0 + scale_output(self.coefficients(x_t, t, z), self.error), None


@pytest.mark.parametrize("text", ["gaussian-blur:sigma_px=2+noise", "gaussian-blur:sigma_px=2,padding=circular+noise", "noise"])
@torch.no_grad()
def test_the_weight_output_of_wiener_is_the_networks_own_error_frequency_by_frequency(text: str) -> None:
    """One number a sample would weigh all frequencies as their mean: here c_out differs from one to the next."""
    x0, error = pixels().double(), torch.randn(6, *SHAPE, dtype=DOUBLE, generator=generator(3, "error"))
    made = Errs(build(text), UNet(widths=(8,), blocks=1), SHAPE, parameterization=Wiener()).fit([smooth(200)]).double().aim(x0, error)
    t = T.double()
    model, c = Model(made.degradation, made), made.coefficients(x0, t)
    assert c.basis == ("fft" if "circular" in text else "dct")
    assert float((c.out.amax((1, 2, 3)) / c.out.amin((1, 2, 3)))[3]) > 1.5
    z = model.draw(x0, generator(1, "z"))
    torch.testing.assert_close(restoration_loss(model, x0, t, z, weight="output"), mean_square(error), rtol=1e-9, atol=0)
    torch.testing.assert_close(restoration_loss(model, x0, t, z, weight="output", loss="l1"), error.abs().flatten(1).mean(1), rtol=1e-9, atol=0)


@torch.no_grad()
def test_the_weights_in_numbers() -> None:
    """W(t) against the uniform loss: SNR of eps, 1/sigma^2 of v, EDM's lambda, 1/t^2 of flow, min-SNR."""
    x0 = pixels()

    def ratio(text: str, part: str, weight: str) -> tuple[Tensor, Tensor, Tensor]:
        made = restorer(text, part)
        model = Model(made.degradation, made)
        z = model.draw(x0, generator(1, "z"))
        weighted, plain = (restoration_loss(model, x0, T, z, weight=one) for one in (weight, "uniform"))
        return weighted / plain, *made.degradation.schedule(T)

    found, alpha, sigma = ratio("noise:schedule=betas", "eps", "output")
    torch.testing.assert_close(found, (alpha / sigma) ** 2, rtol=1e-4, atol=0)
    for part in ("eps", "x0", "v"):  # whatever is predicted
        torch.testing.assert_close(ratio("noise:schedule=betas", part, "snr")[0], (alpha / sigma) ** 2, rtol=1e-3, atol=0)
    found, alpha, sigma = ratio("noise", "v", "output")
    torch.testing.assert_close(found, (alpha / sigma) ** 2 + 1, rtol=1e-4, atol=0)
    torch.testing.assert_close(found, 1 / sigma**2, rtol=1e-4, atol=0)
    found, _, sigma = ratio("noise:schedule=karras", "edm:sigma_data=0.7", "output")
    torch.testing.assert_close(found, (sigma**2 + 0.49) / (sigma * 0.7) ** 2, rtol=1e-4, atol=0)
    found, _, _ = ratio("noise:schedule=linear", "flow", "output")
    torch.testing.assert_close(found, 1 / T**2, rtol=1e-4, atol=0)
    found, alpha, sigma = ratio("noise", "x0", "min-snr")
    torch.testing.assert_close(found, ((alpha / sigma) ** 2).clamp(max=5), rtol=1e-4, atol=0)
    assert 0 < int((found == 5).sum()) < 6


def least_weight(made: Restorer, t: Tensor, x0: Tensor | None = None, z: Draw | None = None, loss: str = "l2") -> Tensor:
    """W(t) of min-output: the weighted loss over the uniform one."""
    x0, model = pixels() if x0 is None else x0, Model(made.degradation, made, noise_floor=made.noise_floor)
    z = model.draw(x0, generator(1, "z")) if z is None else z
    weighted, plain = (restoration_loss(model, x0, t, z, weight=one, loss=loss) for one in ("min-output", "uniform"))
    return weighted / plain


@torch.no_grad()
def test_min_output_of_eps_is_min_snr_with_another_bound() -> None:
    """And of v the SNR + 1, of residual and x0 nothing: 1 / c_out^2, never more than 20."""
    made, t = restorer("noise:schedule=betas", "eps"), torch.tensor([0.05, 0.1, 0.13, 0.2, 0.6, 0.95])
    model, x0 = Model(made.degradation, made), pixels()
    z = model.draw(x0, generator(1, "z"))
    both = [restoration_loss(model, x0, t, z, weight=weight) for weight in ("min-output", "min-snr", "uniform")]
    alpha, sigma = made.degradation.schedule(t)
    snr = (alpha / sigma) ** 2
    assert bool(((snr > 5) & (snr < 20)).any())
    assert bool((snr > 20).any())
    torch.testing.assert_close(both[0] / both[2], snr.clamp(max=20), rtol=1e-4, atol=0)
    torch.testing.assert_close((both[0] / both[2]).clamp(max=5), both[1] / both[2], rtol=1e-4, atol=0)
    alpha, sigma = build("noise").schedule(T)
    torch.testing.assert_close(least_weight(restorer("noise", "v"), T), ((alpha / sigma) ** 2 + 1).clamp(max=20), rtol=1e-4, atol=0)
    for part in ("residual", "x0"):
        torch.testing.assert_close(least_weight(restorer("gaussian-blur", part), T), torch.ones(6))


@torch.no_grad()
def test_min_output_of_wiener_under_noise_rises_to_six_times_what_pure_noise_counts() -> None:
    """SNR + 1/v for data of variance v; gamma = 5 of data of variance 1 is (5 + 1)/v, which is 20 at v = .3."""
    made, t = restorer("noise", "wiener"), torch.tensor([0.02, 0.2, 0.4, 0.6, 0.8, 1.0])
    made.statistics.variance.fill_(0.3)
    alpha, sigma = build("noise").schedule(t)
    found = least_weight(made, t)
    torch.testing.assert_close(found, ((alpha / sigma) ** 2 + 1 / 0.3).clamp(max=20), rtol=1e-3, atol=0)
    assert float(found[0] / found[-1]) == pytest.approx(6, rel=1e-3)
    assert 0 < int((found < 19.99).sum()) < 6
    torch.testing.assert_close(least_weight(made, t, loss="l1"), found.sqrt(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("text", ["gaussian-blur:sigma_px=2", "gaussian-blur:sigma_px=2,padding=circular", "mask:width=0.4", "grey"])
@torch.no_grad()
def test_min_output_of_wiener_is_one_over_what_the_linear_restorer_leaves_open(text: str) -> None:
    """For pictures that are Gaussian in the operator's own basis, the mean of c_out^2 is the error of the filter that the restorer begins as."""
    d, n = build(text), 400
    basis, shape = d.basis, (3, 7, 8)
    scale = 0.4 + 1 / (1 + torch.arange(168.0, dtype=DOUBLE).reshape(shape) / 20)  # above the floor; of a channel one for all its pixels
    scale = scale.mean((-2, -1), keepdim=True).expand(shape) if basis == "channel" else scale
    white = torch.randn(n, *shape, dtype=DOUBLE, generator=generator(5, "white"))
    x0 = backward(forward(white, basis) * (scale[..., :5] if basis == "fft" else scale), basis, 8)
    made = Restorer(d, UNet(widths=(8,), blocks=1), shape, noise_floor=0.3).fit([x0]).double()
    model = Model(d, lambda x, t: x, noise_floor=0.3)
    for at in (0.1, 0.5, 1.0):
        t, z = torch.full((n,), at, dtype=DOUBLE), model.draw(x0, generator(7, "z"))
        known = {name: value for name, value in z.items() if name in d.tells}
        c = made.coefficients(x0, t, known)
        error = mean_square(linear_estimate(c, model.degrade(x0, t, z))[0] - x0)
        assert float(error.mean()) == pytest.approx(float(output_power(c, shape).mean()), rel=0.02)
        torch.testing.assert_close(least_weight(made, t, x0, z), (1 / output_power(c, shape)).clamp(max=20), rtol=1e-6, atol=0)


@torch.no_grad()
def test_snr_and_output_of_eps_are_the_same_loss() -> None:
    made = restorer("noise:schedule=betas", "eps")
    model, x0 = Model(made.degradation, made), pixels()
    z = model.draw(x0, generator(1, "z"))
    losses = [restoration_loss(model, x0, T, z, weight=weight) for weight in ("snr", "output")]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=0)


@torch.no_grad()
def test_other_losses_take_the_root_of_the_weight() -> None:
    made = restorer("noise:schedule=betas", "eps")
    model, x0 = Model(made.degradation, made), pixels()
    z = model.draw(x0, generator(1, "z"))
    eps_hat = made.net(model.degrade(x0, T, z), T)
    by_hand = (eps_hat - z["endpoint"]).abs().flatten(1).mean(1)
    for weight in ("output", "snr"):
        torch.testing.assert_close(restoration_loss(model, x0, T, z, loss="l1", weight=weight), by_hand, rtol=1e-3, atol=0)


@pytest.mark.parametrize("schedule", ["betas(steps=40,beta_max=0.3)", "betas(kind=cosine,steps=40)", "geometric(steps=40)"])
def test_the_weight_bound_adds_up_to_the_bound(schedule: str) -> None:
    """Of the weighted error, the mean over the knots is the sum over the steps of KL(q(x_s | x_t, x0), p(x_s | x_t)), with the small variance."""
    d, x0 = build(f"noise:schedule={schedule}"), pixels().double()
    model = Model(d, lambda x, t: torch.tanh(x))
    n = d.knots
    assert n == 40
    weighted, kl = torch.zeros(len(x0), dtype=DOUBLE), torch.zeros(len(x0), dtype=DOUBLE)
    for i in range(2, n + 1):  # the last step has no variance: its part of the bound is a likelihood
        t = torch.full((len(x0),), i / n, dtype=DOUBLE)
        z = model.draw(x0, generator(i, "z"))
        weighted += restoration_loss(model, x0, t, z, weight="bound") / n
        x_t = d(x0, t, z)
        laws = [chain.posterior(d, x_t, known, t, t - 1 / n, z) for known in (x0, torch.tanh(x_t))]
        p, q = (torch.distributions.Normal(law.mean, law.small.sqrt()) for law in laws)
        kl += torch.distributions.kl_divergence(p, q).flatten(1).mean(1)
    torch.testing.assert_close(weighted, kl, rtol=1e-8, atol=1e-10)


def test_no_weight_is_infinite_however_small_the_severity() -> None:
    x0, t = pixels(), torch.tensor([1e-7, 1e-5, 1e-4, 9e-4, 1e-3, 1.0])
    for text, part in (("noise", "v"), ("noise:schedule=karras", "edm"), ("noise:schedule=linear", "flow"), ("noise:schedule=betas", "eps")):
        made = restorer(text, part)
        model = Model(made.degradation, made)
        z = model.draw(x0, generator(1, "z"))
        for weight in ("output", "min-output", "snr", "min-snr", "bound"):
            assert bool(restoration_loss(model, x0, t, z, weight=weight).isfinite().all()), (text, weight)


def test_what_a_weight_needs_is_asked_for_by_name() -> None:
    for weight in ("snr", "min-snr", "bound"):
        with pytest.raises(TypeError, match="gaussian-blur is no Gaussian chain, for it has no noise at its end"):
            check_weight(build("gaussian-blur"), weight)
        check_weight(build("noise"), weight)
    warm = build("gaussian-blur+noise")
    check_weight(warm, "snr")
    with pytest.raises(TypeError, match=r"^the weight bound needs one signal-to-noise ratio for all .*gaussian-blur\+noise has not: take snr"):
        check_weight(warm, "bound")
    model, x0 = Model(build("noise"), lambda x, t: x), pixels()
    z = model.draw(x0, generator(0, "z"))
    for weight in ("output", "min-output"):
        with pytest.raises(TypeError, match=f"^training.weight = {weight} weighs what a network returns"):
            restoration_loss(model, x0, T, z, weight=weight)
    with pytest.raises(ValueError, match="unknown weight 'sqrt': choose uniform, output, min-output, snr, min-snr or bound"):
        restoration_loss(model, x0, T, z, weight="sqrt")


def test_the_weight_snr_of_a_warm_path_counts_what_the_blur_leaves() -> None:
    """Soft score matching: the error of A x0_hat / sigma, frequency by frequency."""
    d, x0 = build("gaussian-blur:sigma_px=2+noise"), pixels().double()
    model, t = Model(d, lambda x, t: torch.tanh(x)), T.double()
    z = model.draw(x0, generator(1, "z"))
    x_t = d(x0, t, z)
    quiet = {name: torch.zeros_like(value) for name, value in z.items()}
    error = (d(torch.tanh(x_t), t, quiet) - d(x0, t, quiet)) / column(d.sigma(t))
    torch.testing.assert_close(restoration_loss(model, x0, t, z, weight="snr"), mean_square(error), rtol=1e-9, atol=0)


# --- a learned variance ----------------------------------------------------------------------------------


class Told(Informed):
    """Answers what it is made with."""

    def __init__(self, x0: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.x0, self.spread = x0, spread

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        return self.x0, self.spread


@pytest.mark.parametrize("schedule", ["betas(steps=40,beta_max=0.3)", "betas(kind=cosine,steps=40)", "cosine"])
def test_the_loss_of_a_spread_is_the_divergence_of_the_two_steps(schedule: str) -> None:
    d, x0 = build(f"noise:schedule={schedule}"), pixels().double()
    n = steps(d)
    assert n == (40 if d.knots else 1000)
    t = torch.tensor([2, 3, n // 4, n // 2, n - 1, n], dtype=DOUBLE) / n
    z = d.draw(x0, generator(1, "z"))
    x_t, guess, spread = d(x0, t, z), x0 + 0.1 * pixels(seed=5), torch.rand(6, *SHAPE, dtype=DOUBLE, generator=generator(3, "spread"))
    true, ours = (chain.posterior(d, x_t, known, t, t - 1 / n, z) for known in (x0, guess))
    variance = true.small ** (1 - spread) * true.large**spread  # Nichol and Dhariwal, eq. 15
    p, q = torch.distributions.Normal(true.mean, true.small.sqrt()), torch.distributions.Normal(ours.mean, variance.sqrt())
    expected = torch.distributions.kl_divergence(p, q).flatten(1).mean(1)
    torch.testing.assert_close(spread_loss(d, x_t, x0, guess, spread, t, z), expected, rtol=1e-9, atol=1e-12)
    single = spread_loss(d, x_t.float(), x0.float(), guess.float(), spread.float(), t.float(), {name: value.float() for name, value in z.items()})
    torch.testing.assert_close(single.double(), expected, rtol=0.05, atol=1e-5)


def test_a_perfect_restorer_does_best_with_the_small_variance() -> None:
    d, x0 = build("noise:schedule=betas"), pixels().double()
    t = torch.tensor([2, 3, 10, 100, 500, 1000], dtype=DOUBLE) / 1000
    z = d.draw(x0, generator(1, "z"))
    x_t = d(x0, t, z)
    losses = [spread_loss(d, x_t, x0, x0, torch.full_like(x0, v), t, z) for v in (0.0, 0.1, 1.0)]
    assert float(losses[0].abs().max()) < 1e-12
    assert bool((losses[1] > 0).all())
    assert bool((losses[2] >= losses[1]).all())


def test_the_last_step_costs_what_its_decoder_says_of_the_8_bit_level() -> None:
    d = build("noise:schedule=betas")
    x0 = ((torch.rand(3, *SHAPE, dtype=DOUBLE, generator=generator(0, "levels")) * 255).round() / 127.5 - 1).clamp(-1, 1)
    x0[0, :, :4], x0[0, :, 4:] = -1, 1  # the outermost levels, which most pixels of a digit are
    guess, t = x0 + 0.01 * torch.randn(x0.shape, dtype=DOUBLE, generator=generator(1, "off")), torch.full((3,), 1e-3, dtype=DOUBLE)
    z = d.draw(x0, generator(1, "z"))
    x_t = d(x0, t, z)
    first = chain.posterior(d, x_t, x0, 2 * t, t, z).small  # the last step's own is 0: Ho et al. take the one before
    large = chain.posterior(d, x_t, x0, t, 0 * t, z).large
    law = torch.distributions.Normal(guess, (first * large).sqrt().sqrt())  # half way, in the logarithm of the variance
    above = torch.where(x0 > 0.999, 1, law.cdf(x0 + 1 / 255))
    below = torch.where(x0 < -0.999, 0, law.cdf(x0 - 1 / 255))
    expected = -(above - below).log().flatten(1).mean(1)
    spread = torch.full_like(x0, 0.5, requires_grad=True)
    found = spread_loss(d, x_t, x0, guess, spread, t, z)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    far = spread_loss(d, x_t, x0, x0 + 1.5, spread, t, z)  # a young network
    assert bool(far.isfinite().all())
    (found + far).sum().backward()
    assert bool(spread.grad.isfinite().all())
    single = torch.full(x0.shape, 0.5, requires_grad=True)
    young = spread_loss(d, x_t.float(), x0.float(), x0.float() + 1.5, single, t.float(), {name: value.float() for name, value in z.items()})
    young.sum().backward()
    assert bool(young.isfinite().all())
    assert bool(single.grad.isfinite().all())


@pytest.mark.parametrize("schedule", ["betas(steps=40,beta_max=0.3)", "cosine", "linear"])
def test_below_the_first_step_of_the_chain_counts_that_step(schedule: str) -> None:
    """Severities may be continuous, a chain is not: below 1/T both losses are what they are at 1/T."""
    d, x0 = build(f"noise:schedule={schedule}"), pixels().double()
    first = torch.full((6,), 1 / steps(d), dtype=DOUBLE)
    t = first * torch.tensor([1e-9, 1e-4, 0.1, 0.4, 0.6, 0.99], dtype=DOUBLE)
    z = d.draw(x0, generator(1, "z"))
    x_t, guess, spread = d(x0, t, z), x0 + 0.1 * pixels(seed=5), torch.full_like(x0, 0.3)
    found = spread_loss(d, x_t, x0, guess, spread, t, z)
    assert bool(found.isfinite().all())
    assert torch.equal(found, spread_loss(d, x_t, x0, guess, spread, first, z))
    bounds = [restoration_loss(Model(d, lambda x, t: guess), x0, at, z, weight="bound") for at in (t, first)]
    assert bool(bounds[0].isfinite().all())
    assert torch.equal(*bounds)


def test_a_chain_of_one_step_has_one_variance() -> None:
    d, x0 = build("noise:schedule=betas(steps=1,beta_min=0.3)"), pixels().double()
    t, z = torch.ones(6, dtype=DOUBLE), d.draw(x0, generator(1, "z"))
    x_t, guess = d(x0, t, z), x0 + 0.1 * pixels(seed=5)
    expected = -log_level(x0, guess, torch.full_like(x0, 0.3)).flatten(1).mean(1)
    torch.testing.assert_close(spread_loss(d, x_t, x0, guess, torch.rand_like(x0), t, z), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("part", "weight"), [("x0", "uniform"), ("x0", "bound"), ("eps", "output"), ("v", "uniform")])
def test_a_learned_variance_on_a_table_bears_every_severity(part: str, weight: str) -> None:
    """What training.severities = uniform draws between 0 and the first knot: so near to 0 that the table has no noise there."""
    made, x0 = restorer("noise:schedule=betas", part, variance="learned"), pixels()
    t, model = torch.tensor([1e-7, 1e-5, 4e-4, 6e-4, 1e-3, 1.0]), Model(made.degradation, made)
    loss = restoration_loss(model, x0, t, model.draw(x0, generator(1, "z")), weight=weight)
    assert bool(loss.isfinite().all())
    loss.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in made.parameters() if p.grad is not None)


def test_the_optimal_spread_of_a_restorer_that_errs_covers_its_error() -> None:
    d, x0 = build("noise:schedule=betas"), pixels().double()
    t = torch.full((6,), 0.01, dtype=DOUBLE)
    z = d.draw(x0, generator(1, "z"))
    x_t, guess = d(x0, t, z), x0 + 0.02
    spread = torch.full_like(x0, 0.5, requires_grad=True)
    law = chain.posterior(d, x_t, x0, t, t - 1e-3, z)
    error = (chain.posterior(d, x_t, guess, t, t - 1e-3, z).mean - law.mean).square().mean()
    best = ((law.small + error).log() - law.small.log()) / (law.large.log() - law.small.log())
    assert 0.01 < float(best[0]) < 1
    with torch.no_grad():
        spread.copy_(best.expand_as(spread))
    spread_loss(d, x_t, x0, guess, spread, t, z).sum().backward()
    assert float(spread.grad.abs().max()) < 1e-12


def test_the_hybrid_loss_moves_the_mean_by_the_first_part_alone() -> None:
    x0, t = pixels().double(), torch.full((6,), 0.3, dtype=DOUBLE)
    d = build("noise:schedule=betas")
    guess, spread = (x0 + 0.1).requires_grad_(), torch.full_like(x0, 0.5, requires_grad=True)
    z = d.draw(x0, generator(1, "z"))
    loss = restoration_loss(Model(d, Told(guess, spread)), x0, t, z)
    kl = spread_loss(d, d(x0, t, z), x0, guess.detach(), spread.detach(), t, z)
    torch.testing.assert_close(loss, mean_square(guess - x0) + 1e-3 * 1000 * kl)
    loss.sum().backward()
    torch.testing.assert_close(guess.grad, 2 * (guess.detach() - x0) / 64, rtol=1e-12, atol=0)
    assert float(spread.grad.abs().min()) > 0


def test_a_learned_variance_is_half_way_at_first_and_learned_of_the_same_network() -> None:
    made = Restorer(build("noise"), UNet(widths=(8,), blocks=1), SHAPE, parameterization=build("v", "parameterization"), variance="learned")
    x0, spread = made.predict(pixels(), T)
    assert x0.shape == spread.shape == (6, *SHAPE)
    assert torch.equal(spread, torch.full_like(spread, 0.5))
    assert made.train().predict(pixels(), T)[1].requires_grad
    assert Restorer(build("noise"), UNet(widths=(8,), blocks=1), SHAPE).predict(pixels(), T)[1] is None
    with torch.no_grad():
        made.net.out.bias.copy_(torch.arange(len(made.net.out.bias)))
    c = made.coefficients(pixels(), T)
    moved, spread = made.predict(pixels(), T)
    f = made.net(pixels(), T)
    torch.testing.assert_close(spread, (f[:, 1:] + 1) / 2)
    torch.testing.assert_close(moved, c.skip * pixels() + c.out * f[:, :1])


def test_model_estimate_is_the_first_half_of_predict() -> None:
    model = Model(build("noise"), restorer("noise", "v", variance="learned").eval())
    with torch.no_grad():
        x0, spread = model.predict(pixels(), T)
        assert torch.equal(model.estimate(pixels(), T), x0)
    assert spread is not None
    assert Model(build("noise"), lambda x, t: x).predict(pixels(), T)[1] is None


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(SpecError, match="unknown parameterization 'epsilon'"):
        build("epsilon", "parameterization")
