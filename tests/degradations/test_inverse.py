"""Pseudo-inverses against their definition: Moore and Penrose's conditions, and the dense matrix."""

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Compose, Degradation, LinearDegradation
from snowmelt.degradations.inverse import EPSILON, divided, solved
from snowmelt.randomness import generator
from snowmelt.registry import build, names, schema
from snowmelt.testing.samples import samples
from snowmelt.types import Draw

DOUBLE = torch.float64


def pixels(n: int = 3, shape: tuple[int, ...] = (3, 8, 11), seed: int = 0) -> Tensor:
    return torch.empty(n, *shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def ready(text: str, t: float, x: Tensor) -> tuple[Degradation, Tensor, Draw]:
    d = build(text)
    return d, torch.full((len(x),), t, dtype=x.dtype), d.draw(x, generator(1, "draw"))


EXACT = [
    *(("grey", t) for t in (0.0, 0.4, 0.9, 1.0)),
    *(("holes:strokes=2,width_px=3", t) for t in (0.0, 0.5, 1.0)),
    *(("pixelate", t) for t in (0.0, 1 / 3, 0.5, 2 / 3, 0.8, 1.0)),
    ("mask:strength=1,width=.1", 0.1),
]


@pytest.mark.parametrize(("text", "t"), EXACT)
@pytest.mark.parametrize("shape", [(3, 8, 11), (3, 100, 7)])
def test_exact_inverses_are_moores_and_penroses(text, t, shape):
    x, y = pixels(shape=shape), pixels(shape=shape, seed=1)
    d, at, z = ready(text, t, x)
    assert d.inverse == "exact"

    def a(v: Tensor) -> Tensor:
        return d(v, at, z)

    def b(v: Tensor) -> Tensor:
        return d.pinv(v, at, z)

    torch.testing.assert_close(a(b(a(x))), a(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(b(a(b(y))), b(y), rtol=0, atol=1e-10)
    for one, other in (a, b), (b, a):  # A A^+ and A^+ A are symmetric
        torch.testing.assert_close((one(other(x)) * y).sum(), (x * one(other(y))).sum(), rtol=0, atol=1e-9)


def test_what_has_all_but_gone_is_left_alone():
    gain = torch.tensor([1.0, 0.5, 0.051, 0.049, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(divided(gain, gain), torch.tensor([1.0, 1, 1, 0, 0], dtype=DOUBLE), rtol=0, atol=1e-12)
    x = pixels()
    d, at, z = ready("mask", 0.8, x)
    mask = d.gain((3, 8, 11), at, z).expand_as(x)
    again = d(d.pinv(d(x, at, z), at, z), at, z)
    assert (mask <= 0.05).any()
    torch.testing.assert_close(again[mask > 0.05], d(x, at, z)[mask > 0.05], rtol=0, atol=1e-12)
    assert (d.pinv(x, at, z)[mask <= 0.05] == 0).all()
    d, at, z = ready("pixelate", 0.999, x)
    assert d.pinv(x, at, z).abs().max() < 2  # and not 300 times the picture


def dense(d: Degradation, t: float, z: Draw, shape: tuple[int, ...]) -> Tensor:
    n = shape[0] * shape[1] * shape[2]
    eye = torch.eye(n, dtype=DOUBLE).reshape(n, *shape)
    draw = {name: value[:1].expand(n, *value.shape[1:]) for name, value in z.items()}
    return d(eye, torch.full((n,), t, dtype=DOUBLE), draw).flatten(1).mT


DAMPED = [
    ("gaussian-blur:sigma_px=2", 0.7, "damped", 1e-10),
    ("gaussian-blur:sigma_px=2,padding=circular", 0.7, "damped", 1e-10),
    ("gaussian-blur:sigma_px=1+gaussian-blur:sigma_px=2", 1.0, "damped", 1e-10),
    ("recursive-blur:steps=3,kernel_size=5", 0.5, "damped", 1e-10),
    ("recursive-blur:steps=3,kernel_size=5,padding=reflect", 1.0, "iterative", 0.15),
    ("motion-blur:length_px=5", 0.8, "iterative", 0.15),
]


@pytest.mark.parametrize(("text", "t", "kind", "tolerance"), DAMPED)
def test_damped_inverses_against_the_dense_matrix(text, t, kind, tolerance):
    shape = (1, 7, 9)
    x = pixels(2, shape)
    d, at, z = ready(text, t, x)
    assert d.inverse == kind
    for row in range(2):
        a = dense(d, t, {k: v[row : row + 1] for k, v in z.items()}, shape)
        expected = a.mT @ torch.linalg.solve(a @ a.mT + EPSILON * torch.eye(63, dtype=DOUBLE), x[row].flatten())
        seen = d.pinv(x, at, z)[row].flatten()
        assert (seen - expected).norm() <= tolerance * expected.norm()


def test_conjugate_gradients_solve_every_row_by_itself():
    x = pixels(3) * torch.tensor([1.0, 1e-4, 0.0], dtype=DOUBLE)[:, None, None, None]
    d, at, z = ready("motion-blur:length_px=5", 0.8, x)
    whole = d.pinv(x, at, z)
    for row in range(3):
        draw = {k: v[row : row + 1] for k, v in z.items()}
        torch.testing.assert_close(d.pinv(x[row : row + 1], at[:1], draw), whole[row : row + 1], rtol=0, atol=1e-12)
    assert (whole[2] == 0).all()
    same = solved(x, lambda v: v, lambda v: v)
    torch.testing.assert_close(same, x / (1 + EPSILON), rtol=0, atol=1e-12)  # one step is enough


def test_a_new_linear_operator_has_an_inverse_for_nothing():
    class Halved(LinearDegradation):
        def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
            return (1 - t / 2) * x

    x = pixels()
    d, at = Halved(), torch.ones(3, dtype=DOUBLE)
    assert d.inverse == "iterative"
    torch.testing.assert_close(d.pinv(x, at), x * 0.5 / (0.25 + EPSILON), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("noise", "noise"),
        ("jpeg", "jpeg"),
        ("poisson-noise", "poisson-noise"),
        ("gaussian-blur+noise", "compose"),
        ("grey+mask", "compose"),
        ("mixture:parts=(grey,holes)", "mixture"),
    ],
)
def test_what_has_no_inverse_says_so_by_name(text, name):
    d = build(text)
    assert d.inverse is None
    with pytest.raises(TypeError, match=f"{name} has no pseudo-inverse"):
        d.pinv(pixels(), torch.ones(3, dtype=DOUBLE), {})


def test_a_composition_of_one_is_its_part():
    x = pixels()
    d, at, z = ready("holes", 1.0, x)
    one = Compose((d,))
    assert one.inverse == "exact"
    assert torch.equal(one.pinv(x, at, {f"0.{k}": v for k, v in z.items()}), d.pinv(x, at, z))


def test_every_operator_that_claims_an_inverse_has_one():
    x = pixels()
    claimed = {}
    for name in names("degradation"):
        if not any(field.required for field in schema(name)):
            y = x if build(name).takes is None else samples(build(name), len(x))
            d, at, z = ready(name, 0.6, y)
            if d.inverse is not None:
                claimed[name] = d.inverse
                assert d.pinv(y, at, z).isfinite().all()
    assert {"mask", "holes", "grey", "pixelate", "gaussian-blur", "recursive-blur", "motion-blur"} <= claimed.keys()
