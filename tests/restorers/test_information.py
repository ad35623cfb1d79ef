"""How much is lost at a severity, against closed forms; and severities of equal loss."""

import pytest
import torch
from torch import Tensor

from snowmelt.randomness import generator, normal
from snowmelt.registry import build
from snowmelt.restorers.information import closed_form, drawn, errors, middle, on_distinct_knots, spaced, variance
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.restorers.suggestion import suggest

DOUBLE = torch.float64


def pictures(n: int = 3000, channels: int = 1) -> Tensor:
    white = normal(torch.zeros(n, channels, 6, 6, dtype=DOUBLE), generator(0, "pictures"))
    return build("gaussian-blur:sigma_px=1")(white, torch.ones(n, dtype=DOUBLE)) * 2


def test_the_formula_is_the_error_that_the_best_linear_restorer_makes() -> None:
    d, x, sigma = build("mask:width=0.3"), pictures(), 0.1
    best = LinearRestorer(d, [x], sigma)
    z, t = d.draw(x[:1], generator(1, "z")), torch.full((len(x),), 0.8, dtype=DOUBLE)
    all_z = {k: v.expand(len(x), *v.shape[1:]) for k, v in z.items()}
    x_t = d(x, t, all_z) + sigma * normal(x, generator(2, "floor"))
    seen = torch.cat([best(x_t[i : i + 1], t[:1], z) for i in range(0, 300)])
    assert float((seen - x[:300]).square().mean()) == pytest.approx(best.expected_error(0.8, z), rel=0.05)


def test_noise_on_white_pictures_has_wieners_error() -> None:
    x = normal(torch.zeros(20_000, 1, 2, 2, dtype=DOUBLE), generator(0, "white"))
    found = errors(build("noise:schedule=linear"), x, [0.0, 0.5, 0.9, 1.0], sigma=0.0).mean(1)
    expected = [t**2 / ((1 - t) ** 2 + t**2) for t in (0.0, 0.5, 0.9, 1.0)]
    assert found.tolist() == pytest.approx(expected, rel=0.02, abs=1e-9)


def test_regression_comes_near_the_formula() -> None:
    x, severities = pictures(), [0.0, 0.4, 0.7, 1.0]
    assert closed_form(build("noise"))
    assert not closed_form(build("noise+noise"))  # the first noise is hidden in the second
    assert not closed_form(build("jpeg"))
    assert not closed_form(build("morph"))
    once = errors(build("noise"), x, severities, sigma=0.01).mean(1)
    twice = errors(build("noise:schedule=ve(sigma_max=0)+noise"), x, severities, sigma=0.01)
    assert twice.shape == (4, 1500)
    assert twice.mean(1).tolist() == pytest.approx(once.tolist(), rel=0.1, abs=1e-3)
    assert float(once[-1]) == pytest.approx(variance(x), rel=1e-3)


def test_what_is_needed_has_a_stand_in_from_the_data() -> None:
    x = pictures(16)
    assert torch.equal(drawn(build("morph"), x)["endpoint"], x.roll(1, 0).flip(-1))


def test_equal_losses() -> None:
    t = [i / 100 for i in range(101)]
    squares = [v**2 for v in t]
    assert spaced(t, squares, 4) == pytest.approx([1, 0.75**0.5, 0.5**0.5, 0.5], abs=1e-3)
    assert spaced(t, squares, 4, power=0.5) == pytest.approx([1, 0.75, 0.5, 0.25], abs=1e-3)
    assert spaced(t, t, 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    dented = [v if i != 50 else 0.0 for i, v in enumerate(squares)]
    assert spaced(t, dented, 4) == pytest.approx([1, 0.75**0.5, 0.5**0.5, 0.5], abs=0.02)
    with pytest.raises(ValueError, match="nothing is lost"):
        spaced(t, [1.0] * 101, 3)


def test_knots_are_distinct_and_falling() -> None:
    assert on_distinct_knots([1, 0.98, 0.97, 0.3], 10) == [1, 0.9, 0.8, 0.3]
    assert on_distinct_knots([1, 0.02, 0.01], 10) == [1, 0.2, 0.1]
    assert on_distinct_knots([1, 0.5, 0.4, 0.3, 0.2], 3) == pytest.approx([1, 2 / 3, 1 / 3])
    assert on_distinct_knots([0.5, 0.3], 10) == [0.5, 0.3]


@pytest.mark.parametrize(("text", "start"), [("gaussian-blur:sigma_px=4", 1.0), ("gaussian-blur:sigma_px=4", 0.7), ("noise", 0.5)])
def test_a_suggestion_loses_equally_much_in_every_step(text: str, start: float) -> None:
    found = suggest(build(text), pictures(), 5, start=start)
    assert found.times[0] == start
    assert found.exact
    steps = -torch.tensor([*found.losses, found.curve[0]], dtype=DOUBLE).diff()
    assert torch.allclose(steps, steps.mean().expand(5), rtol=0.02)


def test_a_suggestion_for_a_table_names_its_knots() -> None:
    found = suggest(build("recursive-blur:steps=20,kernel_std=0.5"), pictures(), 4)
    assert found.knots == 20
    assert all(abs(t * 20 - round(t * 20)) < 1e-9 for t in found.times)
    assert len(set(found.times)) == 4
    assert suggest(build("holes"), pictures(), 4).times == (1.0,)


@pytest.mark.parametrize("text", ["choice:parts=(gaussian-blur,mask)", "choice:parts=(gaussian-blur,mask)+noise"])
def test_a_choice_has_no_one_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="choice loses as much as the part it chooses.*take one part of gaussian-blur, mask"):
        suggest(build(text), pictures(), 3)


def test_large_pictures_are_cut_to_their_middle() -> None:
    x = torch.arange(2 * 3 * 10 * 12, dtype=DOUBLE).reshape(2, 3, 10, 12)
    assert torch.equal(middle(x, 3 * 16), x[..., 3:7, 4:8])
    assert middle(x, 360) is x
    with pytest.raises(ValueError, match="7 pictures are too few"):
        errors(build("noise"), pictures(7), [0.5])
