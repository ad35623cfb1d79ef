"""Parameterizations: their algebra, the Wiener filter against scipy's transforms, and what does not fit is refused."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from snowmelt.degradations import Degradation, GaussianNoise
from snowmelt.degradations.spectral import forward
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, build
from snowmelt.restorers import X0, Eps, Residual, Restorer, Statistics, UNet, V, Wiener, preferred
from snowmelt.restorers.parameterization import Parameterization, linear_estimate, scale_output
from snowmelt.schedules import Betas, Linear, Schedule

DOUBLE = torch.float64
SMALL = UNet(widths=(8,), blocks=1)


def picture(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=generator(0, "pixels"))


def hub(
    part: Parameterization, d: Degradation, x_t: Tensor, t: Tensor, z: dict[str, Tensor], f: Tensor, stats: Statistics | None = None
) -> Tensor:
    """The estimate when the network's answer is f."""
    c = part.coefficients(d, stats, x_t, t, z, 0.0)
    return linear_estimate(c, x_t)[0] + scale_output(c, f)


# --- algebra ---------------------------------------------------------------------------------------------

TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "x0": lambda x0, x_t, eps, alpha, sigma: x0,
    "residual": lambda x0, x_t, eps, alpha, sigma: x0 - x_t,
    "eps": lambda x0, x_t, eps, alpha, sigma: eps,
    "v": lambda x0, x_t, eps, alpha, sigma: alpha * eps - sigma * x0,
}


@pytest.mark.parametrize("schedule", ["betas", "betas:steps=20,beta_max=0.4"])
@pytest.mark.parametrize("name", TARGETS)
def test_the_true_answer_of_the_network_gives_the_truth(name, schedule):
    d, x0 = GaussianNoise(build(schedule, "schedule")), picture(5, 3, 4, 6)
    part = build(name, "parameterization")
    part.check(d)
    t, z = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=DOUBLE), d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z)
    alpha, sigma = (v[:, None, None, None] for v in d.schedule(t))
    f = TARGETS[name](x0, x_t, z["endpoint"], alpha, sigma)
    torch.testing.assert_close(hub(part, d, x_t, t, z, f), x0, rtol=0, atol=1e-10)
    assert (hub(part, d, x_t, t, z, f + 1) - x0).abs().amax((1, 2, 3))[1:].min() > 1e-3, "f matters"
    c = part.coefficients(d, None, x_t, t, z, 0.0)
    assert torch.equal(linear_estimate(c, x_t)[1], x_t), "the network sees x_t as it is"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "eps",
            "noise:schedule=linear",
            r"^eps divides by alpha, which is 0 at t = 1 for 'noise:schedule=linear': use parameterization flow or x0",
        ),
        ("eps", "noise", r"^eps divides by alpha, which is 0 at t = 1 for 'noise'"),
        ("eps", "noise:schedule=betas(kind=cosine,steps=10000)", "eps divides by alpha"),
        ("eps", "gaussian-blur", r"^eps needs x_t = alpha x0 \+ sigma z, which 'gaussian-blur' is not: use x0, residual or wiener$"),
        ("eps", "gaussian-blur+noise", r"^eps needs x_t = alpha x0 \+ sigma z, which 'gaussian-blur\+noise' is not"),
        ("v", "mask", r"^v needs x_t = alpha x0 \+ sigma z, which 'mask' is not"),
        (
            "v",
            "noise:schedule=linear",
            r"^v needs alpha\^2 \+ sigma\^2 = 1, which 'noise:schedule=linear' does not keep: use flow or x0$",
        ),
        ("wiener", "pixelate", r"^wiener needs an operator that is diagonal in a basis, which 'pixelate' is not: use residual$"),
        ("wiener", "noise+mask", "^wiener needs an operator that is diagonal in a basis"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(name, text, said):
    with pytest.raises(SpecError, match=said):
        Restorer(build(text), SMALL, (3, 8, 8), parameterization=build(name, "parameterization"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("eps", "noise:schedule=betas"),
        ("eps", "noise:schedule=betas(kind=cosine)"),
        ("v", "noise"),
        ("v", "noise:schedule=betas(kind=cosine)"),
        ("x0", "pixelate"),
    ],
)
def test_what_fits_is_not_refused(name, text):
    Restorer(build(text), SMALL, (3, 8, 8), parameterization=build(name, "parameterization"))


def test_what_is_preferred():
    for text, told, expected in [
        ("gaussian-blur", True, Wiener()),
        ("noise", False, Wiener()),
        ("mask", True, Wiener()),
        ("mask", False, Residual()),
        ("pixelate", True, Residual()),
        ("mask+noise", False, Residual()),
        ("grey", False, Wiener()),
    ]:
        assert preferred(build(text), told=told) == expected
        assert Restorer(build(text), SMALL, (3, 8, 8), told=told).parameterization == expected


def test_wiener_for_a_mask_that_is_not_told_is_refused():
    try:
        restorer = Restorer(build("mask"), SMALL, (3, 8, 8), parameterization=Wiener(), told=False)
    except SpecError:
        return
    restorer(torch.zeros(1, 3, 8, 8), torch.ones(1))


# --- the Wiener filter -----------------------------------------------------------------------------------

N = 16
MEAN = np.linspace(-0.5, 0.5, N)[None, :] * np.ones((N, 1))


def field(n: int, seed: int) -> np.ndarray:
    """Gaussian pictures with a mean and a falling spectrum, stationary up to mirroring: (n, 1, 16, 16)."""
    k = np.arange(N)
    spectrum = 0.8 / (1 + k[:, None] ** 2 + k[None] ** 2) ** 1.2
    return MEAN + scipy.fft.idctn(np.random.default_rng(seed).standard_normal((n, 1, N, N)) * np.sqrt(spectrum), axes=(2, 3), norm="ortho")


def transform(x: np.ndarray, basis: str) -> np.ndarray:
    return np.fft.fft2(x, norm="ortho") if basis == "fft" else scipy.fft.dctn(x, axes=(2, 3), norm="ortho") if basis == "dct" else x


def inverse(y: np.ndarray, basis: str) -> np.ndarray:
    return np.fft.ifft2(y, norm="ortho").real if basis == "fft" else scipy.fft.idctn(y, axes=(2, 3), norm="ortho") if basis == "dct" else y


def blur_gain(basis: str, t: float) -> np.ndarray:
    width = 0.3 * ((1 + 3 / 0.3) ** t - 1)
    f = np.arange(N) / (2 * N) if basis == "dct" else np.fft.fftfreq(N)
    return np.exp(-0.5 * (2 * np.pi * width) ** 2 * (f[:, None] ** 2 + f[None] ** 2))


def closed_form(
    x_t: np.ndarray, train: np.ndarray, basis: str, gain: np.ndarray | float, sigma: float, floor: float = 0.0023
) -> np.ndarray:
    """m + A v / (A^2 v + sigma^2) (x_t - A m), m and v estimated from `train`."""
    m = train.mean(0, keepdims=True)
    v = (np.abs(transform(train - m, basis)) ** 2).mean(0, keepdims=True)
    noise = max(sigma, floor) ** 2
    v = np.maximum(v, floor**2)
    centre = transform(m, basis)
    return inverse(centre + gain * v / (gain**2 * v + noise) * (transform(x_t, basis) - gain * centre), basis)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


TRAIN, TEST = field(2000, 1), field(100, 2)


def fresh(d: Degradation, noise_floor: float = 0.0, told: bool = True) -> Restorer:
    restorer = Restorer(d, SMALL, (1, N, N), parameterization=Wiener(), told=told, noise_floor=noise_floor)
    return restorer.fit(torch.from_numpy(TRAIN).split(300)).eval()


@pytest.mark.parametrize("floor", [0.0, 0.02])
@pytest.mark.parametrize("padding", ["reflect", "circular"])
@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
def test_a_fresh_restorer_is_the_wiener_filter_and_beats_doing_nothing(t, padding, floor):
    d, basis = build(f"gaussian-blur:sigma_px=3,padding={padding}"), "dct" if padding == "reflect" else "fft"
    restorer, x0 = fresh(d, floor), torch.from_numpy(TEST).float()
    severity = torch.full((len(x0),), t)
    x_t = d(x0, severity) + floor * torch.randn(x0.shape, generator=generator(3, "floor"))
    with torch.no_grad():
        seen = restorer(x_t, severity)
    expected = closed_form(x_t.double().numpy(), TRAIN, basis, blur_gain(basis, t), floor)
    assert np.abs(seen.numpy() - expected).max() < 2e-3 * np.abs(expected).max()
    assert rmse(seen.numpy(), expected) < 2e-4
    if padding == "reflect":  # where the field is what the operator assumes
        assert rmse(seen.numpy(), TEST) < (0.95 if floor else 0.7) * rmse(x_t.numpy(), TEST)


def test_a_fresh_restorer_that_is_told_the_mask_is_the_wiener_filter_per_pixel():
    d = build("mask:strength=4")
    restorer, x0 = fresh(d, 0.05), torch.from_numpy(TEST).float()
    t, z = torch.full((len(x0),), 0.9), d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z) + 0.05 * torch.randn(x0.shape, generator=generator(3, "floor"))
    with torch.no_grad():
        seen = restorer(x_t, t, z)
    expected = closed_form(x_t.double().numpy(), TRAIN, "pixel", d.gain((1, N, N), t, z).double().numpy(), 0.05)
    assert np.abs(seen.numpy() - expected).max() < 1e-4
    assert rmse(seen.numpy(), TEST) < 0.7 * rmse(x_t.numpy(), TEST)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("text", ["noise", "noise:schedule=linear", "gaussian-blur:sigma_px=3+noise"])
def test_a_fresh_restorer_is_the_wiener_filter_where_there_is_noise(text, t):
    d = build(text)
    restorer, x0 = fresh(d), torch.from_numpy(TEST).float()
    severity, z = torch.full((len(x0),), t), d.draw(x0, generator(0, "z"))
    x_t = d(x0, severity, z)
    with torch.no_grad():
        seen = restorer(x_t, severity)
    alpha, sigma = (1 - t, t) if "linear" in text else (math.cos(t * math.pi / 2), math.sin(t * math.pi / 2))
    expected = closed_form(x_t.double().numpy(), TRAIN, "dct", alpha * (blur_gain("dct", t) if "blur" in text else 1), sigma)
    assert rmse(seen.numpy(), TEST) < 1.05 * rmse(expected, TEST)
    assert rmse(seen.numpy(), expected) < 1e-3


@dataclass(frozen=True)
class Exploding(Schedule):
    """alpha = 1, sigma = 80 t^3."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), 80 * t**3


def test_wiener_on_white_data_without_attenuation_is_the_preconditioning_of_karras_et_al():
    d, t = GaussianNoise(Exploding()), torch.linspace(0.01, 1, 9, dtype=DOUBLE)
    stats = Statistics((1, 4, 4), "dct").double()
    stats.variance.fill_(0.25)
    like = torch.zeros(9, 1, 4, 4, dtype=DOUBLE)
    c = Wiener(sigma_min=1e-7).coefficients(d, stats, like, t, {}, 0.0)
    sigma = 80 * t**3
    for seen, expected in [
        (c.skip, 0.25 / (sigma**2 + 0.25)),
        (c.out, sigma * 0.5 / (sigma**2 + 0.25).sqrt()),
        (c.in_, 1 / (sigma**2 + 0.25).sqrt()),
    ]:
        torch.testing.assert_close(seen.expand(9, 1, 4, 4), expected[:, None, None, None].expand(9, 1, 4, 4), rtol=1e-9, atol=0)


def test_the_network_sees_unit_variance_in_every_coefficient():
    d, t = build("gaussian-blur:sigma_px=3"), torch.full((len(TRAIN),), 0.6)
    restorer, x0 = fresh(d, 0.05), torch.from_numpy(TRAIN).float()
    x_t = d(x0, t) + 0.05 * torch.randn(x0.shape, generator=generator(3, "floor"))
    c = restorer.parameterization.coefficients(d, restorer.statistics, x_t, t, {}, 0.05)
    inner = linear_estimate(c, x_t)[1]
    deviation = forward(inner, "dct").std(0)
    assert deviation.min() > 0.9
    assert deviation.max() < 1.1
    assert inner.mean(0).abs().max() < 0.1


def test_the_output_scale_is_the_error_of_the_linear_answer():
    """c_out^2 = v sigma^2 / (A^2 v + sigma^2) is what is left to learn, coefficient by coefficient."""
    d, t = build("gaussian-blur:sigma_px=3"), torch.full((len(TRAIN),), 0.6)
    restorer, x0 = fresh(d, 0.05), torch.from_numpy(TRAIN).float()
    x_t = d(x0, t) + 0.05 * torch.randn(x0.shape, generator=generator(3, "floor"))
    c = restorer.parameterization.coefficients(d, restorer.statistics, x_t, t, {}, 0.05)
    left = forward(linear_estimate(c, x_t)[0] - x0, "dct").square().mean(0).sqrt()
    strong = restorer.statistics.variance > 2 * 0.05**2  # weaker coefficients are given the floor's variance
    assert ((left / c.out[0])[strong] - 1).abs().max() < 0.1
    assert ((left / c.out[0])[~strong]).max() < 1.1


def test_sigma_min_stands_in_for_the_noise_of_a_noiseless_picture():
    d, x = build("gaussian-blur:sigma_px=3"), torch.zeros(1, 1, N, N)
    stats = fresh(d).statistics
    skip = [Wiener(s).coefficients(d, stats, x, torch.ones(1), {}, 0.0).skip.abs().max() for s in (1e-3, 1e-1)]
    assert skip[0] > 10 * skip[1]
    floor = Wiener(1e-3).coefficients(d, stats, x, torch.ones(1), {}, 0.1).skip.abs().max()
    assert floor == skip[1]


def test_x0_and_residual_know_nothing_of_the_operator():
    for part in (X0(), Residual()):
        assert part.basis(build("gaussian-blur")) is None
    assert Wiener().basis(build("noise")) == "dct"
    assert Wiener().basis(build("grey")) == "channel"
    assert Eps().basis(GaussianNoise(Betas())) is None
    with pytest.raises(SpecError):
        V().check(GaussianNoise(Linear()))
