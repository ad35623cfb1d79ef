"""What samplers say of themselves, held against what they do."""

import math
import re
from collections.abc import Callable

import pytest
import torch

from snowmelt import registry
from snowmelt.registry import build, names
from snowmelt.samplers import Rule, Sampler, TACoS, measured

EVERY = [
    *names("sampler"),
    "ancestral:eta=0",
    "ancestral:eta=0.5",
    "ancestral:variance=large",
    "ancestral:variance=learned,again=3",
    "momentum:closed=true",
    "naive:fresh=true",
    "naive:noise=0.1",
    "naive:fresh=true,noise=0.1",
    "langevin:rate=1",
]


@pytest.mark.parametrize("text", EVERY)
def test_every_sampler_names_its_gain_its_noise_and_a_paper(text):
    rule = build(text, "sampler").rule
    assert isinstance(rule, Rule)
    assert all((rule.words, rule.gain, rule.noise, rule.fits, rule.calls, rule.second))
    assert rule.source
    assert all(re.search(r", 20\d\d, arXiv \d{4}\.\d{5}", source) for source in rule.source)


def small(a: float, s: float, t: float) -> float:
    return s * math.sqrt(1 - (a * s / t) ** 2)


def large(a: float, s: float, t: float) -> float:
    return math.sqrt(t**2 - (a * s) ** 2)


# Of every sampler K and tau as functions of a, sigma_s and sigma_t, with the words in which its rule says them.
FORMULAS: dict[str, tuple[Callable[..., float], str, Callable[..., float], str]] = {
    "ancestral": (lambda a, s, t: a * s**2 / t**2, "a sigma_s^2 / sigma_t^2", small, "sigma_s r"),
    "ancestral:variance=large": (lambda a, s, t: a * s**2 / t**2, "a sigma_s^2 / sigma_t^2", large, "sigma_t r"),
    "ancestral:variance=learned,again=3": (
        lambda a, s, t: a * s**2 / t**2,
        "a sigma_s^2 / sigma_t^2",
        lambda a, s, t: math.sqrt(small(a, s, t) * large(a, s, t)),  # no model says v here: one half
        "sigma_s^(1-v) sigma_t^v r",
    ),
    "ancestral:eta=0": (lambda a, s, t: s / t, "sigma_s / sigma_t", lambda a, s, t: 0, "0"),
    "ancestral:eta=0.5": (
        lambda a, s, t: math.sqrt(s**2 - (0.5 * small(a, s, t)) ** 2) / t,
        "sqrt(sigma_s^2 - tau^2) / sigma_t",
        lambda a, s, t: 0.5 * small(a, s, t),
        "0.5 sigma_s r",
    ),
    "heun": (lambda a, s, t: s / t, "sigma_s / sigma_t", lambda a, s, t: 0, "0"),
    "momentum": (lambda a, s, t: s**2 / t**2, "sigma_s^2 / sigma_t^2", lambda a, s, t: math.sqrt(t**2 - s**2), "sqrt(sigma_t^2 - sigma_s^2)"),
    "momentum:closed=true": (
        lambda a, s, t: s**2 / t**2,
        "sigma_s^2 / sigma_t^2",
        lambda a, s, t: s * math.sqrt(1 - s**2 / t**2),
        "sigma_s sqrt(1 - sigma_s^2 / sigma_t^2)",
    ),
    "naive:fresh=true": (lambda a, s, t: 0, "0", lambda a, s, t: s, "sigma_s"),
    "langevin": (lambda a, s, t: 0.9, "1 - c/2, with c = 0.2", lambda a, s, t: math.sqrt(0.2) * t, "sqrt(c) sigma_t, with c = 0.2"),
    "langevin:rate=1": (lambda a, s, t: 0.5, "1 - c/2, with c = 1", lambda a, s, t: t, "sqrt(c) sigma_t, with c = 1"),
    "tacos": (lambda a, s, t: 1, "1", lambda a, s, t: 0, "0"),
    "naive": (lambda a, s, t: 0, "0", lambda a, s, t: 0, "0"),
    "naive:noise=0.1": (lambda a, s, t: 0, "0", lambda a, s, t: 0.1, "0.1"),
}


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("noise", ["noise", "noise:schedule=ve", "noise:schedule=linear"])
def test_the_formulas_are_what_the_moves_do(text, noise):
    d, walk = build(noise), build(text, "sampler")
    gain, gain_said, size, size_said = FORMULAS[text]
    (a_t, sigma_t), (a_s, sigma_s) = ((float(v) for v in d.schedule(torch.tensor(u, dtype=torch.float64))) for u in (0.7, 0.4))
    k, tau = measured(walk, d, 0.7, 0.4)
    torch.testing.assert_close(k, torch.full_like(k, gain(a_t / a_s, sigma_s, sigma_t)), rtol=0, atol=1e-9)
    torch.testing.assert_close(tau, torch.full_like(tau, size(a_t / a_s, sigma_s, sigma_t)), rtol=0, atol=1e-9)
    assert walk.rule.gain.startswith(gain_said)
    assert walk.rule.noise.startswith(size_said)


def test_every_sampler_has_its_formula_here():
    ours = {name for name in names("sampler") if registry.lookup(name, "sampler").__module__.startswith("snowmelt.")}
    assert {text.partition(":")[0] for text in FORMULAS} >= ours


@pytest.mark.parametrize(
    "text", ["gaussian-blur:sigma_px=1+noise", "gaussian-blur:padding=circular,sigma_px=1+noise", "mask:strength=1+noise", "grey+noise"]
)
def test_numbers_are_those_of_the_chain_in_every_coefficient(text):
    from snowmelt.degradations import chain
    from snowmelt.randomness import generator

    d, shape = build(text), (3, 8, 8)
    z = d.draw(torch.zeros(64, *shape, dtype=torch.float64), generator(0, "rule"))
    k, tau = measured(build("ancestral", "sampler"), d, 0.7, 0.4, shape)
    t, s = (torch.tensor([v], dtype=torch.float64) for v in (0.7, 0.4))
    ratio, variance = chain.transition(d, shape, s, t, {name: value[:1] for name, value in z.items()})
    share = (d.sigma(s) / d.sigma(t)) ** 2
    torch.testing.assert_close(k, (ratio * share)[0].expand_as(k), rtol=0, atol=1e-9)
    torch.testing.assert_close(tau**2, (variance * share)[0].expand_as(tau), rtol=0, atol=1e-9)


def test_cold_gains():
    for d in ("grey", "mask", "gaussian-blur", "gaussian-blur:padding=circular"):
        for text, gain in (("tacos", 1.0), ("naive", 0.0), ("heun", 1.0)):
            k, tau = measured(build(text, "sampler"), build(d), 0.7, 0.4, (3, 8, 8))
            torch.testing.assert_close(k, torch.full_like(k, gain), rtol=0, atol=1e-9)
            assert tau.abs().max() < 1e-12


def test_where_no_basis_is_there_are_no_numbers():
    with pytest.raises(ValueError, match="jpeg is diagonal in no basis"):
        measured(TACoS(), build("jpeg"), 1, 0.5)


def test_a_sampler_need_not_say_anything():
    class Silent(TACoS):
        rule = Sampler.rule

    assert Silent().rule is None
