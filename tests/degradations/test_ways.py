"""Two ways to one result: the choice between them never depends on a run, and no way looks at values where that would make an accelerator wait."""

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation, RecursiveBlur, ways
from snowmelt.degradations.ways import LARGEST_PX, by_matrix
from snowmelt.randomness import generators
from snowmelt.registry import build, names
from snowmelt.samplers import TACoS
from snowmelt.schedules import certain, knot
from snowmelt.testing.samples import samples
from snowmelt.types import once, severity

DOUBLE = torch.float64
SPECS = {
    "choice": "choice:parts=(gaussian-blur,snow,pixelate,grey)",
    "compose": "gaussian-blur:sigma_px=2+noise",
    "mixture": "mixture:parts=(recursive-blur,noise,jpeg)",
}
MORE = ("recursive-blur:padding=reflect", "gaussian-blur:padding=circular", "fade-mask:routine=random", "fade-mask:reverse=true,towards=colour")
ALL = (*(SPECS.get(name, name) for name in names("degradation")), *MORE)


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)


def taken(d: Degradation, n: int, px: int) -> Tensor:
    """Pictures px wide and high, or samples of the signal that it takes."""
    return picture(n, 3, px, px) if d.takes is None else samples(d, n)


def test_the_choice_is_a_table_by_device(monkeypatch):
    for row, device in (("cpu", "cpu"), ("other", "meta")):
        for kind, px in LARGEST_PX[row].items():
            like = torch.empty(1, device=device)
            assert [by_matrix(kind, n, like) for n in (px - 1, px, px + 1)] == [True, True, False]
    monkeypatch.setitem(ways.LARGEST_PX, "meta", {**LARGEST_PX["cpu"], "circular": 5})
    assert not by_matrix("circular", 6, torch.empty(1, device="meta"))
    assert by_matrix("circular", 6, torch.empty(1))
    assert all(row.keys() == LARGEST_PX["cpu"].keys() for row in LARGEST_PX.values())


@pytest.mark.parametrize("px", [24, 104])
def test_the_same_call_takes_the_same_way_to_the_same_bits(px):
    """Whatever else a machine does: an interrupted training goes on to the same weights."""
    for spec in ("recursive-blur", "gaussian-blur", "pixelate", "resample"):
        d, x = build(spec), picture(3, 3, px, px, dtype=torch.float32)
        t = d.snapped(torch.tensor([0.2, 0.6, 1.0]), {})
        first = d(x, t)
        assert all(torch.equal(d(x, t), first) for _ in range(3))


@pytest.mark.parametrize("px", [16, 40, 100])
@pytest.mark.parametrize("spec", ALL)
def test_no_operator_looks_at_values_on_a_device_that_would_have_to_be_waited_for(spec, px):
    """Tensors without values stand for those of an accelerator: whoever asks for a value is refused."""
    d = build(spec)
    x = taken(d, 2, px).float()
    z = {name: value.to("meta") for name, value in d.draw(x, generators(0, "draw", range(2))).items()}
    far, t = x.to("meta"), torch.tensor([0.3, 1.0]).to("meta")
    assert d(far, t, z).shape == x.shape
    assert d(far, severity(0.5, far), z).shape == x.shape
    assert d.change(far, t, severity(0.2, far), z).shape == x.shape


@pytest.mark.parametrize("px", [16, 100])
@pytest.mark.parametrize("spec", ALL)
def test_a_severity_for_all_is_that_severity_for_each_and_a_change_is_a_difference(spec, px):
    d = build(spec)
    x = taken(d, 3, px)
    z = d.draw(x, generators(0, "draw", range(3)))
    for value in (0.0, 0.37, 1.0 if d.knots is None else 1 / d.knots, 1.0):
        one, each = severity(value, x), torch.full((3,), value, dtype=DOUBLE)
        assert once(one).shape == (1,)
        assert once(each).shape == (3,)
        torch.testing.assert_close(d(x, one, z), d(x, each, z), rtol=0, atol=1e-11)
        s = torch.tensor([0.0, 0.2, 0.3], dtype=DOUBLE) * value
        torch.testing.assert_close(d.change(x, one, s, z), d(x, s, z) - d(x, each, z), rtol=0, atol=1e-11)
        moved, _ = TACoS().move(d, x, x, one, s, z, None)
        torch.testing.assert_close(moved, x - d(x, each, z) + d(x, s, z), rtol=0, atol=1e-11)


@pytest.mark.parametrize("spec", ["recursive-blur", "recursive-blur:padding=reflect", "snow", "fade-mask", "pixelate", "resample"])
@pytest.mark.parametrize("px", [16, 104])
def test_on_the_knots_one_knot_gives_the_bits_that_two_give(spec, px, monkeypatch):
    d, x = build(spec), picture(4, 3, px, px)
    z = d.draw(x, generators(0, "draw", range(4)))
    t = d.snapped(torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=DOUBLE), z)
    assert certain(knot(t, d.knots)[1])
    expected = d(x, t, z)
    for module in ("separable", "blur", "snow", "fade", "pyramid"):
        monkeypatch.setattr(f"snowmelt.degradations.{module}.certain", lambda on: False)
    assert torch.equal(d(x, t, z), expected)


def test_knots_are_certain_only_where_values_are_at_hand(monkeypatch):
    on = torch.tensor([0.0, 1.0, 0.0])
    assert certain(on)
    assert not certain(torch.tensor([0.0, 0.5]))
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__bool__", lambda self: pytest.fail("a value was looked at"))
        assert not certain(on.to("meta"))
    seen = []
    torch.func.vmap(lambda v: seen.append(certain(v)) or v)(on)
    assert seen == [False]
    d, x = RecursiveBlur(steps=4), picture(3, 1, 8, 8)
    t = torch.tensor([0.25, 0.5, 1.0], dtype=DOUBLE)
    mapped = torch.func.vmap(lambda row, value: d(row[None], value[None])[0])(x, t)
    torch.testing.assert_close(mapped, d(x, t), rtol=0, atol=1e-12)


def test_a_choice_degrades_rows_apart_as_it_degrades_them_together(monkeypatch):
    d, x = build("choice:parts=(gaussian-blur,mask,snow,grey)"), picture(9, 3, 12, 12).requires_grad_()
    z, t = dict(d.draw(x, generators(0, "draw", range(9)))), torch.linspace(0, 1, 9, dtype=DOUBLE)
    assert len(z["which"].unique()) > 2
    for which in (z["which"], torch.full((9,), 1)):
        z["which"] = which
        apart = d(x, t, z)
        pulled = torch.autograd.grad(apart.square().sum(), x)[0]
        with monkeypatch.context() as patch:
            patch.setattr("snowmelt.degradations.choice._groups", lambda which, parts: None)
            together = d(x, t, z)
        torch.testing.assert_close(apart, together, rtol=0, atol=1e-12)
        torch.testing.assert_close(pulled, torch.autograd.grad(together.square().sum(), x)[0], rtol=0, atol=1e-12)


def test_the_gradient_of_shot_noise_at_severity_0_is_that_of_the_identity():
    d, x = build("poisson-noise"), picture(2, 1, 4, 4).requires_grad_()
    z = d.draw(x, generators(0, "draw", range(2)))
    assert torch.equal(torch.autograd.grad(d(x, torch.zeros(2, dtype=DOUBLE), z).sum(), x)[0], torch.ones_like(x))
