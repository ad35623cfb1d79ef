"""Masks, pixelation, loss of colour, blends and compositions against formulas written out."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.images import quantise
from snowmelt.degradations import Blend, Compose, Degradation, GaussianNoise, Grey, Mask, Pixelate, ways
from snowmelt.degradations.spectral import backward, forward, frequencies
from snowmelt.randomness import generator, generators
from snowmelt.registry import build, names, schema
from snowmelt.schedules import Betas, Linear
from snowmelt.testing.samples import samples

DOUBLE = torch.float64


def picture(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(0, "pixels"))


def full(t: float, n: int) -> Tensor:
    return torch.full((n,), t, dtype=DOUBLE)


# --- pixelate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (13, 9), (3, 70)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
def test_pixelate_shows_the_means_of_blocks_at_every_level(size, dtype, tolerance):
    d, x = Pixelate(levels=5), picture(2, 3, *size).to(dtype)
    for level in range(6):
        side = 2**level
        means = functional.avg_pool2d(x.double(), side, ceil_mode=True, count_include_pad=False)
        expected = means.repeat_interleave(side, -2).repeat_interleave(side, -1)[..., : size[0], : size[1]]
        torch.testing.assert_close(d(x, torch.full((2,), level / 5, dtype=dtype)).double(), expected, rtol=0, atol=tolerance)


def test_pixelate_is_the_recursion_of_two_by_two_means_on_full_blocks():
    d, x = Pixelate(levels=3), picture(1, 3, 32, 24)
    small = x
    for level in (1, 2, 3):
        small = functional.avg_pool2d(small, 2)
        torch.testing.assert_close(
            d(x, full(level / 3, 1)), functional.interpolate(small, scale_factor=2**level, mode="nearest"), rtol=0, atol=1e-12
        )


def test_levels_are_nested_projections_and_mixed_linearly_in_between():
    d, x = Pixelate(levels=3), picture(2, 1, 16, 24)
    one, two = d(x, full(1 / 3, 2)), d(x, full(2 / 3, 2))
    torch.testing.assert_close(d(one, full(2 / 3, 2)), two, rtol=0, atol=1e-12)
    torch.testing.assert_close(d(two, full(2 / 3, 2)), two, rtol=0, atol=1e-12)
    torch.testing.assert_close(d(x, full(0.5, 2)), (one + two) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(64, 32), (13, 9), (1, 5), (5, 1), (70, 33)])
@pytest.mark.parametrize("levels", [3, 7])
def test_large_pictures_are_pixelated_by_the_means_themselves_to_the_same_result(size, levels, monkeypatch):
    d, x = Pixelate(levels=levels), picture(3, 2, *size)
    severities = [full(i / levels, 3) for i in range(levels + 1)] + [torch.tensor([0.1, 0.55, 0.97], dtype=DOUBLE)]
    expected, pulled = [d(x, t) for t in severities], d.adjoint(x, severities[-1])
    monkeypatch.setitem(ways.LARGEST_PX["cpu"], "blocks", 0)
    monkeypatch.setattr(Pixelate, "table", None)  # the way of small pictures is closed
    for t, y in zip(severities, expected, strict=True):
        torch.testing.assert_close(d(x, t), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(d(x.float(), t.float()).double(), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(d.adjoint(x, severities[-1]), pulled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_means_of_large_blocks_are_finite_in_half_precision(dtype, monkeypatch):
    monkeypatch.setitem(ways.LARGEST_PX["cpu"], "blocks", 0)
    d, x = Pixelate(levels=9), torch.full((1, 1, 512, 512), 0.75, dtype=dtype)
    for level in (8, 9):
        assert torch.equal(d(x, torch.full((1,), level / 9, dtype=torch.float32)), x)


# --- grey ------------------------------------------------------------------------------------------------


def test_grey_is_the_recursion_with_cumulative_weight_1_minus_t():
    d, x, steps = Grey(), picture(2, 3, 5, 4), 20
    state, weight = x, 1.0
    for i in range(1, steps + 1):
        f = (1 - i / steps) / weight if weight else 0.0  # what is left after step i, of what was left before
        state = f * state + (1 - f) * state.mean(1, keepdim=True)
        weight *= f
        torch.testing.assert_close(d(x, full(i / steps, 2)), state, rtol=0, atol=1e-12)
        torch.testing.assert_close(state, (1 - i / steps) * x + i / steps * x.mean(1, keepdim=True), rtol=0, atol=1e-12)


def test_grey_needs_colour():
    with pytest.raises(ValueError, match="grey needs pictures in colour; these have 1 channel"):
        Grey()(picture(1, 1, 2, 2), full(0.5, 1))
    assert Grey()(picture(1, 5, 2, 2), full(1.0, 1)).std(1).max() < 1e-15


# --- mask ------------------------------------------------------------------------------------------------


def test_mask_is_the_formula():
    d, x = Mask(width=0.2, strength=5.0), picture(2, 3, 6, 10)
    z = {"centre": torch.tensor([[0.25, 0.5], [1.0, 0.0]], dtype=DOUBLE)}
    seen, t = d(x, torch.tensor([0.3, 0.9], dtype=DOUBLE), z), [0.3, 0.9]
    for b, i, j in [(0, 1, 5), (0, 0, 0), (1, 5, 0), (1, 0, 9), (0, 3, 7)]:
        row, column = (float(v) for v in z["centre"][b])
        distance = (i + 0.5 - 6 * row) ** 2 + (j + 0.5 - 10 * column) ** 2
        hole = 0.999 * math.exp(-distance / (2 * (0.2 * 6) ** 2))
        left = max(0, ((1 - hole) ** (5 * t[b]) - 1 / 128) / (1 - 1 / 128))
        assert seen[b, :, i, j].tolist() == pytest.approx((x[b, :, i, j] * left).tolist(), abs=1e-14)


def test_a_hole_is_empty():
    """Nothing of the picture may be left where the mask looks empty: neither small numbers nor their sign."""
    d, x = Mask(centre="middle"), picture(1, 1, 33, 33)
    out = d(x, full(1.0, 1), d.draw(x))
    assert int((out == 0).sum()) > 50
    assert torch.equal(out, d(-x, full(1.0, 1), d.draw(x)) * -1)
    assert torch.equal(quantise(out)[out == 0], quantise(-out)[out == 0])


def test_the_hole_deepens_and_is_where_the_draw_says():
    d, x = Mask(), torch.ones(1, 1, 9, 9, dtype=DOUBLE)
    z = d.draw(x, generator(1, "z"))
    seen = torch.cat([d(x, full(t, 1), z) for t in (0.0, 0.2, 0.5, 1.0)])
    assert (seen.diff(dim=0) <= 0).all()
    assert (seen.diff(dim=0) < 0).any(dim=0).all()
    middle = Mask(centre="middle")
    out = middle(x, full(1.0, 1), middle.draw(x))
    assert float(out[0, 0, 4, 4]) == 0 < float(out[0, 0, 0, 0])
    assert torch.equal(middle.context((1, 9, 9), full(1.0, 1), middle.draw(x)), out)
    torch.testing.assert_close(out, out.flip(-1), rtol=0, atol=1e-14)


def test_centres_are_uniform_and_one_per_sample():
    centre = Mask().draw(torch.zeros(500, 1, 2, 2), generators(0, "z", range(500)))["centre"]
    assert centre.shape == (500, 2)
    assert 0 <= float(centre.min()) < 0.05
    assert 0.95 < float(centre.max()) < 1
    assert centre.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.04)


# --- blends ----------------------------------------------------------------------------------------------


def test_noise_that_cannot_be_seen_is_kept_when_it_is_solved_for():
    d, x = GaussianNoise(Betas(10)), picture(2, 1, 2, 2)
    z = d.draw(x, generator(0, "z"))
    kept = d.recover(x, x, torch.tensor([0.0, 1.0], dtype=DOUBLE), z)["endpoint"]
    assert torch.equal(kept[0], z["endpoint"][0])
    assert d.recover(x, x, full(0.0, 2), {})["endpoint"].abs().max() == 0
    assert kept.isfinite().all()


def test_recover_and_refresh_keep_what_else_is_in_the_draw():
    d, x = GaussianNoise(), picture(2, 1, 2, 2)
    z = {**d.draw(x, generator(0, "z")), "floor": x}
    for found in (d.recover(x, x, full(0.5, 2), z), d.refresh(z, full(0.5, 2), full(0.25, 2), 1.0, generator(1, "walk"))):
        assert found["floor"] is x
        assert found.keys() == {"endpoint", "floor"}
    assert d.refresh(z, full(0.5, 2), full(0.25, 2), 0.0) is z


def test_a_refreshed_draw_is_again_standard_normal():
    d = GaussianNoise()
    z = d.draw(torch.zeros(1, 1, 200, 200, dtype=DOUBLE), generator(0, "z"))
    fresh = d.refresh(z, full(0.5, 1), full(0.4, 1), 1.0, generator(1, "walk"))["endpoint"]
    assert float(fresh.std()) == pytest.approx(1, abs=0.02)
    shared = float((fresh * z["endpoint"]).mean())
    assert 0 < shared < 0.9


def test_any_endpoint_makes_a_blend():
    d, x, y = Blend(Linear()), picture(2, 3, 2, 2), picture(2, 3, 2, 2).flip(0)
    torch.testing.assert_close(d(x, full(0.25, 2), {"endpoint": y}), 0.75 * x + 0.25 * y)
    assert (d.noise, d.recovered, d.linear, d.basis) == ((), ("endpoint",), True, None)


# --- what every degradation has --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in names("degradation") if not any(field.required for field in schema(n))])
def test_severities_are_one_per_sample(name):
    d = build(name)
    x = picture(3, 3, 4, 4) if d.takes is None else samples(d, 3)
    for wrong in (full(0.5, 2), torch.tensor(0.5), full(0.5, 3)[:, None]):
        with pytest.raises(ValueError, match=rf"^{name}: t has shape .* for a batch of 3; give one severity per sample$"):
            d(x, wrong, d.draw(x))
    seen = d(x, torch.ones(3), d.draw(x, generator(0, "z")))  # float32 severities for a float64 batch
    assert seen.dtype == DOUBLE
    assert hash(d) == hash(build(name))
    with pytest.raises(AttributeError):
        d.new_field = 1


@pytest.mark.parametrize("text", ["gaussian-blur", "pixelate", "grey", "mask"])
def test_adjoint_works_inside_no_grad_and_keeps_no_graph(text):
    d, y = build(text), picture(2, 3, 4, 6)
    with torch.no_grad():
        out = d.adjoint(y, full(0.7, 2), d.draw(y, generator(0, "z")))
    assert not out.requires_grad
    if text != "pixelate":  # the means of smaller blocks at an end make it unsymmetric
        torch.testing.assert_close(out, d(y, full(0.7, 2), d.draw(y, generator(0, "z"))), rtol=0, atol=1e-12)


def test_what_is_not_linear_has_no_adjoint_and_what_has_no_noise_says_so():
    assert not hasattr(GaussianNoise(), "adjoint")
    with pytest.raises(TypeError, match=r"^mask has no noise that could be recovered.*append '\+noise'$"):
        Mask().recover(picture(1, 1, 2, 2), picture(1, 1, 2, 2), full(1.0, 1), {})


# --- compositions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "basis", "knots", "noise", "linear"),
    [
        ("gaussian-blur+noise", "dct", None, ("1.endpoint",), True),
        ("noise+gaussian-blur", None, None, (), True),
        ("gaussian-blur:padding=circular+recursive-blur:steps=7", "fft", 7, (), True),
        ("gaussian-blur+gaussian-blur:padding=circular", None, None, (), True),
        ("noise+noise:schedule=betas(steps=9)", "any", None, ("1.endpoint",), True),
        ("mask+mask+noise", "pixel", None, ("2.endpoint",), True),
        ("noise+mask", None, None, (), True),
        ("pixelate:levels=4+recursive-blur:steps=3", None, 4, (), True),
    ],
)
def test_what_a_composition_knows_of_itself(text, basis, knots, noise, linear):
    d = build(text)
    assert (d.basis, d.knots, d.noise, d.linear, d.recovers) == (basis, knots, noise, linear, bool(noise))


class Nonlinear(Degradation):
    def degrade(self, x: Tensor, t: Tensor, z: dict[str, Tensor]) -> Tensor:
        return x - t * x**3


def test_a_composition_is_linear_only_if_every_part_is():
    assert not Compose((Grey(), Nonlinear())).linear


@pytest.mark.parametrize("text", ["noise:schedule=linear+noise", "gaussian-blur+noise", "noise+noise+noise:schedule=betas"])
def test_sigma_is_the_deviation_of_the_noise_in_x_t(text):
    d = build(text)
    x = torch.zeros(1, 1, 300, 300, dtype=DOUBLE)
    for t in (0.2, 0.6, 0.9):
        assert float(d.sigma(full(t, 1))) == pytest.approx(float(d(x, full(t, 1), d.draw(x, generator(0, "z"))).std()), rel=0.02)


def test_draws_of_equal_parts_differ():
    z = build("noise+noise").draw(torch.zeros(2, 1, 3, 3), generators(0, "z", range(2)))
    assert not torch.equal(z["0.endpoint"], z["1.endpoint"])


def test_the_contexts_of_the_parts_stand_side_by_side():
    d, x = build("mask+grey+mask:width=0.5+noise"), picture(2, 3, 5, 6)
    z, t = d.draw(x, generator(0, "z")), full(0.5, 2)
    seen = d.context((3, 5, 6), t, z)
    expected = [d.parts[i].context((3, 5, 6), t, {"centre": z[f"{i}.centre"]}) for i in (0, 2)]
    assert torch.equal(seen, torch.cat(expected, 1))
    assert build("grey+noise").context((3, 5, 6), t, {}) is None


# --- the transforms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 7), (8, 1)])
@pytest.mark.parametrize("basis", ["pixel", "channel", "dct", "any", "fft"])
def test_transforms_are_orthonormal_and_come_back(basis, size):
    x = picture(2, 3, *size)
    y = forward(x, basis)
    torch.testing.assert_close(backward(y, basis, size[1]), x, rtol=0, atol=1e-12)
    if basis != "fft":
        torch.testing.assert_close(y.square().sum(), x.square().sum())


def test_frequencies_are_cycles_per_pixel():
    assert frequencies(4, "dct").tolist() == [0, 1 / 8, 2 / 8, 3 / 8]
    assert frequencies(4, "fft").tolist() == [0, 1 / 4, -1 / 2, -1 / 4]
    assert frequencies(5, "fft", half=True).tolist() == pytest.approx([0, 0.2, 0.4])
    n = torch.arange(16, dtype=DOUBLE)
    wave = torch.cos(2 * math.pi * frequencies(16, "dct")[5] * (n + 0.5))
    assert int(forward(wave.expand(1, 1, 16, 16), "dct")[0, 0, 0].abs().argmax()) == 5
