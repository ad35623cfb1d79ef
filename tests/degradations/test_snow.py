"""Snow against the step-by-step definition: scipy's zoom, one layer after another, a kernel written out."""

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from snowmelt.degradations import Snow
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build, schema, spec
from snowmelt.testing import check_degradation

DOUBLE = torch.float64

# (mean, std, zoom, first and last threshold, length, first and last sigma, last brightness)
LEVELS = {
    1: (0.1, 0.3, 3.0, 0.7, 0.3, 5, 0.5, 5.0, 0.7),
    2: (0.55, 0.3, 2.5, 1.15, 0.7, 11, 0.05, 12.0, 0.55),
    3: (0.55, 0.3, 2.5, 1.15, 0.7, 11, 0.05, 16.0, 0.4),
    4: (0.55, 0.3, 2.5, 1.15, 0.55, 11, 0.05, 20.0, 0.3),
}


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=generator(0, "pixels")).to(dtype)


def along(n: int, zoom: float) -> tuple[int, int]:
    """Where the middle of n begins, and its length, when it is to fill n px after zooming."""
    length = int(np.ceil(n / zoom))
    return (n - length) // 2, length


def enlarged(matrix: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of a seed matrix, as large as the matrix itself: scipy's linear zoom, what is too much cut off evenly."""
    h, w = matrix.shape
    (top, high), (left, wide) = along(h, zoom), along(w, zoom)
    big = scipy.ndimage.zoom(matrix[top : top + high, left : left + wide], zoom, order=1)
    top, left = (big.shape[0] - h) // 2, (big.shape[1] - w) // 2
    return big[top : top + h, left : left + w]


def walk(x: np.ndarray, flakes: np.ndarray, horizontal: bool, level: int, steps: int, fading: bool) -> list[np.ndarray]:
    """x_0 ... x_T of one picture (c, h, w) in [-1, 1], one step after another."""
    _, _, _, high, low, length, narrow, broad, dark = LEVELS[level]
    out = [x]
    for i in range(steps):
        share = i / (steps - 1) if steps > 1 else 0.0
        threshold, sigma, b = high + share * (low - high), narrow + share * (broad - narrow), 0.95 + share * (dark - 0.95)
        layer = flakes.copy()
        layer[layer < threshold] = 0
        layer = np.clip(layer, 0, 1)
        kernel = np.array([math.exp(-((k - length // 2) ** 2) / (2 * sigma**2)) for k in range(length)])
        layer = scipy.ndimage.convolve1d(layer, kernel / kernel.sum(), axis=1 if horizontal else 0, mode="mirror")
        unit = (x + 1) / 2
        if fading:
            grey = unit[0] if len(unit) == 1 else 0.299 * unit[0] + 0.587 * unit[1] + 0.114 * unit[2]
            unit = b * unit + (1 - b) * np.maximum(unit, 1.5 * grey + 0.5)
        out.append(2 * np.clip(unit + layer + np.rot90(layer, 2), 0, 1) - 1)
    return out


CASES = [
    (3, 6, "fixed", (3, 32, 32)),
    (3, 5, "fading", (3, 13, 9)),
    (1, 4, "fixed", (1, 28, 28)),
    (1, 7, "fading", (1, 9, 17)),
    (2, 3, "fading", (3, 21, 40)),
    (4, 2, "fixed", (3, 16, 15)),
    (4, 1, "fading", (3, 11, 11)),
    (3, 3, "fixed", (3, 4, 3)),
    (3, 3, "fixed", (1, 1, 7)),
    (2, 2, "fixed", (2, 70, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
def test_every_knot_is_the_step_by_step_definition(case, dtype, tolerance):
    level, steps, brightness, shape = case
    d, x = Snow(level=level, steps=steps, brightness=brightness), picture(4, *shape, dtype=dtype)
    z = {**d.draw(x, generators(3, "z", range(4))), "direction": torch.tensor([0.0, 1.0, 1.0, 0.0])}
    for row in range(4):
        states = walk(x[row].double().numpy(), z["flakes"][row, 0].double().numpy(), bool(z["direction"][row]), level, steps, brightness == "fading")
        alone = {name: value[row : row + 1] for name, value in z.items()}
        for i, expected in enumerate(states):
            seen = d(x[row : row + 1], torch.tensor([i / steps], dtype=dtype), alone)
            torch.testing.assert_close(seen[0].double(), torch.from_numpy(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_each_sample_of_a_batch_has_its_own_of_200_steps(level, dtype, tolerance):
    knots = [0, 1, 2, 37, 99, 100, 101, 163, 199, 200]
    d, x = Snow(level=level), picture(len(knots), 3, 20, 24, dtype=dtype)
    z = d.draw(x, generator(1, "z"))
    seen = d(x, torch.tensor([i / 200 for i in knots], dtype=dtype), z)
    for row, i in enumerate(knots):
        states = walk(x[row].double().numpy(), z["flakes"][row, 0].double().numpy(), bool(z["direction"][row]), level, 200, False)
        torch.testing.assert_close(seen[row].double(), torch.from_numpy(states[i]), rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (13, 9), (1, 1), (2, 5), (3, 70), (128, 100)])
@pytest.mark.parametrize("level", [1, 3])
def test_the_flakes_are_the_middle_of_a_seed_matrix_enlarged(size, level):
    (mean, std, zoom), (h, w) = LEVELS[level][:3], size
    d, like = Snow(level=level), torch.empty(2, 3, h, w, dtype=DOUBLE)
    flakes = d.draw(like, generators(0, "z", range(2)))["flakes"]
    assert flakes.shape == (2, 1, h, w)
    (top, high), (left, wide) = along(h, zoom), along(w, zoom)
    for seen, g in zip(flakes[:, 0], generators(0, "z", range(2)), strict=True):
        matrix = np.full(size, np.nan)  # nothing but its middle is ever read
        matrix[top : top + high, left : left + wide] = mean + std * torch.empty(high, wide, dtype=DOUBLE).normal_(generator=g).numpy()
        np.testing.assert_allclose(seen.numpy(), enlarged(matrix, zoom), rtol=0, atol=1e-12)


def test_between_two_steps_both_results_are_mixed():
    d, x = Snow(steps=8), picture(3, 3, 10, 12)
    z = d.draw(x, generator(2, "z"))
    knots = [d(x, torch.full((3,), i / 8, dtype=DOUBLE), z) for i in range(9)]
    seen = d(x, torch.tensor([0.3 / 8, 5.75 / 8, 1.0], dtype=DOUBLE), z)
    torch.testing.assert_close(seen[0], 0.7 * x[0] + 0.3 * knots[1][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(seen[1], 0.25 * knots[5][1] + 0.75 * knots[6][1], rtol=0, atol=1e-12)
    assert torch.equal(seen[2], knots[8][2])


def test_step_0_does_not_clip_and_step_1_does():
    d, x = Snow(steps=4), 3 * picture(2, 1, 6, 6)
    z = d.draw(x, generator(0, "z"))
    assert torch.equal(d(x, torch.zeros(2, dtype=DOUBLE), z), x)
    assert d(x, torch.full((2,), 0.25, dtype=DOUBLE), z).abs().max() <= 1


def test_snow_grows_from_next_to_nothing():
    """The start of the paper's walk: a flake in each of some hundred pixels and no smear; later there is ever more light."""
    d, black = Snow(level=4), torch.full((16, 1, 128, 128), -1.0)
    z = d.draw(black, generator(0, "z"))
    light = [(d(black, torch.full((16,), i / 200), z) + 1).mean((1, 2, 3)) / 2 for i in (0, 1, 50, 100, 150, 200)]
    assert float(light[0].max()) == 0
    assert 0.002 < float(light[1].mean()) < 0.01
    assert all((after > before).all() for before, after in itertools.pairwise(light))


# --- the draw --------------------------------------------------------------------------------------------


def test_without_a_seed_every_sample_has_its_own_snow_and_fall():
    d, like = Snow(), torch.empty(256, 3, 8, 8)
    z = d.draw(like, generators(0, "z", range(256)))
    again = d.draw(like[:3], generators(0, "z", [5, 0, 255]))
    assert all(torch.equal(again[name], z[name][[5, 0, 255]]) for name in z)
    assert len(torch.unique(z["flakes"], dim=0)) == 256
    assert 0.4 < float(z["direction"].mean()) < 0.6
    assert z["direction"].shape == (256,)


def test_a_seed_is_one_snow_for_all_pictures_whatever_the_generator():
    d, like = Snow(seed=7), torch.empty(3, 3, 8, 10)
    z, other = d.draw(like, generator(0, "z")), d.draw(like[:1].double(), generators(1, "y", [4]))
    for name in z:
        assert len(torch.unique(z[name], dim=0)) == 1
        assert torch.equal(z[name][:1], other[name].float())
    assert d.draw(like[:0])["flakes"].shape == (0, 1, 8, 10)
    assert not torch.equal(Snow(seed=8).draw(like)["flakes"], z["flakes"])
    falls = {float(Snow(seed=seed).draw(like)["direction"][0]) for seed in range(8)}
    assert falls == {0.0, 1.0}


@pytest.mark.parametrize(("direction", "axis"), [("vertical", -2), ("horizontal", -1)])
@pytest.mark.parametrize("seed", [None, 1])
def test_the_direction_can_be_told(direction, axis, seed):
    d = Snow(direction=direction, seed=seed)
    z = d.draw(torch.empty(2, 1, 15, 15), generator(0, "z"))
    z = {**z, "flakes": torch.zeros(2, 1, 15, 15)}
    z["flakes"][:, :, 7, 7] = 1.0  # one flake, in the middle: it stays in its own row or column
    out = d(torch.full((2, 1, 15, 15), -1.0), torch.ones(2), z) + 1
    assert (out.select(axis + 1 if axis == -2 else -2, 7).amax((1, 2)) > 0).all()
    assert float(out.sum()) == pytest.approx(2 * 2 * 2, rel=1e-5)  # two layers of one flake each, twice for [-1, 1], two pictures
    assert int((out[0, 0] > 0).any(1).sum()) == (11 if axis == -2 else 1)
    assert int((out[0, 0] > 0).any(0).sum()) == (1 if axis == -2 else 11)


# --- the contract ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["snow", "snow:level=1,steps=20,brightness=fading", "snow:level=4,direction=vertical,seed=0"])
@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 7, 5)])
def test_snow_keeps_the_contract(text, shape):
    checks = check_degradation(build(text), shape=shape)
    assert "oracle_exact" in checks
    assert "affine" not in checks


def test_what_snow_says_of_itself():
    d = build("snow:level=3,steps=200")
    assert d == Snow()
    assert spec(d) == "snow"
    assert d.knots == 200
    assert d.hidden == ("flakes", "direction")
    assert not d.linear
    assert d.in_units(0.5) == {"step": 100.0}
    assert build(spec(Snow(seed=3, brightness="fading"))) == Snow(seed=3, brightness="fading")
    assert build("snow:seed=none") == Snow()


@pytest.mark.parametrize("name", ["decolour", "fade-mask", "recursive-blur", "resample", "snow"])
def test_steps_say_what_they_are(name):
    (steps,) = (field for field in schema(name) if field.name == "steps")
    assert steps.doc == "in how many steps t goes from 0 to 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snow:level=5", r"snow.level = 5 lies outside \[1, 4\]"),
        ("snow:level=0", r"snow.level = 0 lies outside \[1, 4\]"),
        ("snow:steps=0", r"snow.steps = 0 lies outside"),
        ("snow:seed=-1", r"snow.seed = -1 lies outside"),
        ("snow:brightness=faded", "snow.brightness = faded is unknown.*fixed, fading"),
        ("snow:direction=up", "snow.direction = up is unknown.*random, vertical, horizontal"),
    ],
)
def test_a_wrong_field_is_named(text, message):
    with pytest.raises(SpecError, match=message):
        build(text)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="snow degrades images of shape"):
        Snow().draw(torch.empty(2, 5))
    d, x = Snow(brightness="fading"), torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r'grey of 1 or 3 channels; these have 2: use brightness = "fixed"'):
        d(x, torch.ones(1), d.draw(x, generator(0, "z")))
