"""Morph against the paper's recursive definition, what of it is solved for, what is refused."""

import math

import pytest
import torch

import snowmelt
from snowmelt.degradations import Morph
from snowmelt.model import Model
from snowmelt.randomness import generator, uniform
from snowmelt.samplers import Ancestral, TACoS, default_sampler
from snowmelt.testing import check_degradation

T = 200


def two(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean pictures and endpoints, float64 in [-1, 1]."""
    like = torch.empty(n, 3, 6, 5, dtype=torch.float64)
    return uniform(like, generator(0, "x0")) * 2 - 1, uniform(like, generator(0, "y")) * 2 - 1


def test_every_knot_is_the_papers_cosine() -> None:
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) y, abar multiplied up step by step from betas clipped at .999 (offset .008)."""
    x, y = two(1)
    D, bar = snowmelt.build("morph"), 1.0
    for i in range(1, T + 1):
        now, before = (math.cos((j / T + 0.008) / 1.008 * math.pi / 2) ** 2 for j in (i, i - 1))
        bar *= 1 - min(1 - now / before, 0.999)
        expected = math.sqrt(bar) * x + math.sqrt(1 - bar) * y
        found = D(x, torch.tensor([i / T], dtype=torch.float64), {"endpoint": y})
        assert float((found - expected).abs().max()) < 1e-12, i
    assert bar == pytest.approx(6e-8, rel=0.05)  # what is left of x0 in x_1, as the paper's code has it


def test_linear_is_indi() -> None:
    x, y = two()
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    column = t[:, None, None, None]
    assert torch.equal(snowmelt.build("morph:schedule=linear")(x, t, {"endpoint": y}), (1 - column) * x + column * y)


@pytest.mark.parametrize("spec", ["morph", "morph:schedule=linear", "morph:schedule=cosine", "gaussian-blur:sigma_px=2+morph"])
def test_contract(spec: str) -> None:
    assert any("recover" in str(name) or "solved" in str(name) for name in check_degradation(snowmelt.build(spec)))


def test_the_endpoint_is_solved_and_never_renewed() -> None:
    x, y = two()
    D, t, s = Morph(), torch.full((3,), 0.7, dtype=torch.float64), torch.full((3,), 0.4, dtype=torch.float64)
    solved = D.recover(D(x, t, {"endpoint": y}), x, t, {})
    torch.testing.assert_close(solved["endpoint"], y, atol=1e-12, rtol=0)
    assert D.refresh(solved, t, s, 1.0, generator(0, "any")) is solved


def test_an_endpoint_is_no_noise() -> None:
    D = Morph()
    assert D.noise == D.hidden == ()
    assert D.recovers
    assert D.recovered == D.given == D.needs == ("endpoint",)
    assert float(D.sigma(torch.ones(1))) == 0
    assert D.basis is None
    drawn = D.draw(torch.zeros(500, 1, 2, 2), generator(0, "stand-in"))["endpoint"]
    assert float(drawn.abs().max()) <= 1
    assert torch.equal(drawn, drawn[..., :1, :1].expand_as(drawn))


def test_the_default_walk_estimates_the_endpoint() -> None:
    assert default_sampler(Morph()) == Ancestral(steps=12, order=2, eta=0.0, snap=True)
    assert Ancestral().reads(Morph()) == frozenset()
    assert TACoS().reads(Morph()) == {"endpoint"}


def test_indi_in_its_own_words() -> None:
    """InDI, eq. 9: x_s = (1 - s/t) R(x_t, t) + (s/t) x_t, whatever R says; it is Ancestral with eta = 0."""
    _, y = two()

    def wrong(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x_t) * (1 - t[:, None, None, None] / 2)

    model = Model(snowmelt.build("morph:schedule=linear"), wrong)
    walk = list(Ancestral(steps=7, eta=0.0).trajectory(model, snowmelt.State(y, 1.0, {"endpoint": y})))
    now = y
    for i in range(7, 0, -1):
        now = now / i * (i - 1) + wrong(now, torch.full((3,), i / 7, dtype=torch.float64)) / i
        torch.testing.assert_close(walk[8 - i].x, now, atol=1e-10, rtol=0)


def test_what_a_data_item_gives() -> None:
    x, y = two()
    item = {"x0": x, "endpoint": y}
    assert Morph().given_by(item) == {"endpoint": y}
    assert snowmelt.build("gaussian-blur:sigma_px=1+morph").given_by(item) == {"1.endpoint": y}
    assert snowmelt.build("holes").given_by(item) == {}
    model = Model(Morph(), lambda x_t, t: x_t)
    assert torch.equal(model.corrupt(x, 1.0, generator(0, "z"), item).z["endpoint"], y)


@pytest.mark.parametrize(("z", "says"), [({}, 'z["endpoint"]'), ({"endpoint": torch.zeros(3, 3, 6, 6)}, "(3, 3, 6, 6)")])
def test_a_wrong_endpoint_is_refused(z: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(ValueError, match="endpoint") as error:
        Morph()(two()[0], torch.ones(3, dtype=torch.float64), z)
    assert says in str(error.value)
