"""Findings in words: each broken toy fails exactly its check, and what is measured is what is so."""

import random as python_random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation, LinearDegradation
from snowmelt.randomness import generator, normal
from snowmelt.registry import build, names, schema
from snowmelt.testing import Finding, astray, examine
from snowmelt.testing.ambient import disturbed
from snowmelt.types import Draw, Generators

DOUBLE = torch.float64


def smooth(channels: int = 1, n: int = 200) -> Tensor:
    """Smooth random pictures (n, channels, 8, 8)."""
    white = normal(torch.zeros(n, channels, 8, 8, dtype=DOUBLE), generator(0, "smooth"))
    return build("gaussian-blur:sigma_px=1.5")(white, torch.ones(n, dtype=DOUBLE)) * 1.5


@dataclass(frozen=True)
class Toy(Degradation):
    """Fades to black, correctly."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x


@dataclass(frozen=True)
class Numpys(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x + t * torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x.dtype)


@dataclass(frozen=True)
class OwnGenerator(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x + t * torch.from_numpy(np.random.default_rng().standard_normal(tuple(x.shape))).to(x.dtype)


@dataclass(frozen=True)
class Leaks(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x + t * x.mean(0, keepdim=True)


@dataclass(frozen=True)
class NotIdentity(Toy):
    def degrade(self, x, t, z):
        return (1 - 0.9 * t) * x + 0.01


@dataclass(frozen=True)
class ComesBack(Toy):
    def degrade(self, x, t, z):
        return (1 - torch.sin(3.1 * t)) * x


@dataclass(frozen=True)
class HalfWayAndBack(Toy):
    """Never loses anything, for it can be divided out; yet t = 1 is as clean as t = 0."""

    def degrade(self, x, t, z):
        return (1 - torch.sin(3.1 * t) / 3) * x


@dataclass(frozen=True)
class ClearsUp(Toy):
    """A hole that closes again at t = 1, while the rest is moved further and further."""

    def degrade(self, x, t, z):
        kept = 1 - torch.sin(3.14 * t)
        return torch.cat([x[..., :4] * kept, x[..., 4:]], -1) + 2 * t


@dataclass(frozen=True)
class DrawReads(Toy):
    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"level": like.mean((1, 2, 3), keepdim=True)}

    def degrade(self, x, t, z):
        return (1 - t) * x + t * z["level"]


@dataclass(frozen=True)
class Sharpens(LinearDegradation):
    """The fine half of the picture grows with t, so that walks multiply errors."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x + 200 * t * (x - x.mean((2, 3), keepdim=True))


@dataclass(frozen=True)
class NoPictures(Toy):
    def degrade(self, x, t, z):
        raise RuntimeError("sound only")


def failed(found: list[Finding]) -> list[str]:
    return [f.name for f in found if f.passed is False]


def one(found: list[Finding], name: str) -> Finding:
    return next(f for f in found if f.name == name)


BROKEN = [
    (Numpys, "hidden_randomness", "numpy's global generator (np.random) in degrade()"),
    (OwnGenerator, "hidden_randomness", "two calls with the same (x, t, z) differ"),
    (Leaks, "rows_independent", "row 0 alone against row 0 of a batch"),
    (NotIdentity, "identity", "D(x, 0, z), which must be x is off by 0.01"),
    (ComesBack, "monotone", "the loss falls from 99% of the variance at t = 0.5 to 0% at t = 1"),
    (ClearsUp, "monotone", "the loss falls from 32% of the variance at t = 0.5 to 0% at t = 1"),
    (HalfWayAndBack, "monotone", "away from x0 at t = 0.5 (root mean square on [-1, 1]), yet only"),
    (DrawReads, "draws", "drew a level that depends on the pixels"),
    (Sharpens, "forgives", "Algorithm 2 makes errors larger here"),
]


@pytest.mark.parametrize(("broken", "check", "words"), BROKEN, ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_each_broken_toy_fails_its_check_and_no_other(broken, check, words):
    found = examine(broken(), smooth())
    assert failed(found) == [check]
    finding = one(found, check)
    assert words in finding.seen
    assert finding.checked
    assert finding.advice


def test_the_toy_is_right_before_it_is_spoilt():
    found = examine(Toy(), smooth())
    assert failed(found) == []
    assert not any(f.waits for f in found)
    assert one(found, "affine").passed is None
    assert "does not claim to be linear, but it is" in one(found, "affine").seen
    assert "the prior constant" in one(found, "end").seen


def test_what_rests_on_a_failed_check_waits():
    found = examine(Numpys(), smooth())
    assert {f.name for f in found if f.waits} >= {"identity", "rows_independent", "monotone", "end", "forgives"}
    assert one(found, "pure").passed is True


def test_an_operator_that_takes_no_pictures():
    (finding,) = examine(NoPictures())
    assert (finding.name, finding.passed) == ("accepts", False)
    assert "RuntimeError: sound only" in finding.seen


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("noise", "the prior normal"),
        ("recursive-blur:discrete=true", "the prior gaussian-mixture:grid=1"),
        ("gaussian-blur:sigma_px=500", "the prior gaussian-mixture:grid=1"),
        ("pixelate:levels=2", "the prior gaussian-mixture:grid=2"),
        ("holes", "A model can restore"),
        ("jpeg", "A model can restore"),
    ],
)
def test_what_is_left_at_the_end(text, prior):
    found = examine(build(text), smooth(3 if text == "jpeg" else 1))
    assert failed(found) == []
    assert prior in one(found, "end").seen
    assert one(found, "end").passed is (True if "prior" in prior else None)


def test_errors_come_out_as_the_theory_says():
    measured = one(examine(build("gaussian-blur:sigma_px=500"), smooth()), "forgives").measured
    assert measured["Algorithm 1, smooth"] == pytest.approx(1, abs=1e-9), "x0 + e_1"
    assert measured["Algorithm 1, random"] == pytest.approx(1, abs=0.05)
    # x0 + (1 - D_1) e: of a smooth bias 1 + rows + columns, the mean is lost, which is half of its square.
    assert measured["Algorithm 2, smooth"] == pytest.approx(0.5**0.5, abs=1e-3)


def test_a_walk_that_makes_errors_larger_is_said_to_and_does_not_fail():
    finding = one(examine(build("jpeg"), smooth(3)), "forgives")
    assert finding.measured["Algorithm 2, random"] > 1.5 > finding.measured["Algorithm 1, random"]
    assert finding.passed is None
    assert "Algorithm 2 makes errors larger here" in finding.seen
    assert "naive" in finding.advice


def test_astray_is_as_wrong_as_it_says():
    x = smooth(n=8)
    for how in ("smooth", "random"):
        error = astray(x, 0.1, how)(x, torch.ones(8)) - x
        assert float(error.square().mean().sqrt()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names("degradation") if not any(f.required for f in schema(name))])
def test_everything_that_is_registered_passes(name):
    assert failed(examine(build(name))) == []


def test_global_generators_are_watched_and_put_back():
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), python_random.getstate())
    with disturbed(1) as touched:
        assert touched() == []
        torch.rand(1)
        assert touched() == ["torch's global generator"]
        np.random.rand()
        python_random.seed(3)
        assert len(touched()) == 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert python_random.getstate() == before[2]
