"""The paper's masks against products of masks, one after another."""

import math

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import FadeMask
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build, spec
from snowmelt.restorers import Restorer, UNet
from snowmelt.testing import check_degradation

DOUBLE = torch.float64


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)


# --- the recursion, as a loop ------------------------------------------------------------------------------


def widths(routine: str, std: float, first: float, steps: int) -> list[float]:
    return [std if routine == "constant" else std * (i + first) for i in range(steps)]


def bump(n: int, width: float) -> Tensor:
    """The Gaussian along an axis of n pixels, on a grid of n + 1 without its first (for an odd n of n)."""
    grid = n + 1 if n % 2 == 0 else n
    taps = torch.exp(-((torch.arange(grid, dtype=DOUBLE) - grid // 2) ** 2) / (2 * width**2))
    return (taps / taps.sum())[grid - n :]


def mask(size: tuple[int, int], width: float) -> Tensor:
    """1 - G, where G is 1 at its peak."""
    kernel = torch.outer(bump(size[0], width), bump(size[1], width))
    return 1 - kernel / kernel.max()


def masks(d: FadeMask, size: tuple[int, int], offset: Tensor | None) -> list[Tensor]:
    """The mask of every step for one sample: for *random* cut out of one of twice the size."""
    steps = widths(d.routine, d.kernel_std, d.initial_mask, d.steps)
    if offset is None:
        return [mask(size, width) for width in steps]
    (i, j), (h, w) = (int(v) for v in offset), size
    return [mask((2 * h, 2 * w), width)[i : i + h, j : j + w] for width in steps]


def products(factors: list[Tensor]) -> list[Tensor]:
    out = [torch.ones_like(factors[0])]
    for factor in factors:
        out.append(out[-1] * factor)
    return out


def loop(d: FadeMask, x: Tensor, z: dict[str, Tensor], row: int) -> list[Tensor]:
    """x_0 ... x_T of one sample."""
    factors = masks(d, x.shape[-2:], z["offset"][row] if d.routine == "random" else None)
    colour = z["colour"][row][:, None, None] if d.towards == "colour" else torch.zeros(1, 1, 1)
    out, shares = [x[row]], products(factors)
    for k in range(1, d.steps + 1):
        if d.reverse:  # the share of the colour: the product of the masks of the first T - k steps
            share = shares[d.steps - k]
            out.append((1 - share) * x[row] + share * colour)
        else:  # once more of the picture, or of its difference to the colour
            out.append(colour + (out[-1] - colour) * factors[k - 1])
    return out


VARIANTS = [
    FadeMask(steps=12),
    FadeMask(kernel_std=1.5, initial_mask=2, steps=8),
    FadeMask("constant", 3.0, steps=9),
    FadeMask("random", 0.1, 11, steps=10),
    FadeMask("random", 0.4, steps=7),
    FadeMask(steps=12, reverse=True),
    FadeMask(kernel_std=0.5, steps=12, reverse=True, towards="colour"),
    FadeMask(kernel_std=0.5, steps=12, towards="colour"),
    FadeMask("random", 0.5, steps=6, reverse=True, towards="colour"),
    FadeMask("constant", 100.0, steps=4, reverse=True),
]
SIZES = [(16, 16), (32, 32), (28, 37), (13, 9)]


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_knot_is_the_loop(d, dtype, tolerance, size):
    x = picture(2, 3, *size, dtype=dtype)
    z = d.draw(x, generator(3, "z"))
    for row in range(2):
        for k, state in enumerate(loop(d, x.double(), {name: v.double() for name, v in z.items()}, row)):
            seen = d(x, torch.full((2,), k / d.steps, dtype=dtype), z)[row]
            torch.testing.assert_close(seen.double(), state, rtol=0, atol=tolerance)
    assert float((d(x, torch.ones(2, dtype=dtype), z) - x).abs().max()) > 0.1


@pytest.mark.parametrize("size", [(9, 9), (8, 11), (8, 6)], ids=str)
def test_a_drawn_place_shifts_the_mask_and_may_lie_one_pixel_outside(size):
    d, (h, w) = FadeMask("random", 0.3, steps=5), size
    for i, j in ((0, 0), (h, w), (h // 2, 3), (h, 0)):
        gain = d.gain((1, h, w), torch.ones(1, dtype=DOUBLE), {"offset": torch.tensor([[float(i), float(j)]])})[0, 0]
        row, column = h - 1 - i, w - 1 - j
        for r in range(h):
            for c in range(w):
                square = (r - row) ** 2 + (c - column) ** 2
                expected = math.prod(1 - math.exp(-square / (2 * (0.3 * (k + 1)) ** 2)) for k in range(5))
                assert float(gain[r, c]) == pytest.approx(expected, abs=1e-12)
        assert (float(gain.min()) == 0) == (row >= 0 and column >= 0)


def test_offsets_are_whole_numbers_uniform_up_to_the_size_and_each_samples_own():
    d = FadeMask("random", towards="colour")
    z = d.draw(torch.zeros(4000, 3, 4, 6), generators(0, "z", range(4000)))
    for axis, n in ((0, 4), (1, 6)):
        values, counts = z["offset"][:, axis].unique(return_counts=True)
        assert values.tolist() == list(range(n + 1))
        assert counts.float().div(4000).tolist() == pytest.approx([1 / (n + 1)] * (n + 1), abs=0.03)
    assert z["colour"].shape == (4000, 3)
    assert -0.5 <= float(z["colour"].min()) < -0.49
    assert 0.49 < float(z["colour"].max()) < 0.5
    assert float(z["colour"].std()) == pytest.approx(1 / math.sqrt(12), abs=0.01)
    rounded = FadeMask("random").draw(torch.zeros(4000, 1, 4, 6, dtype=torch.bfloat16), generator(0, "z"))["offset"]
    assert rounded.amax(0).tolist() == [4, 6]


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
def test_between_knots_pictures_are_mixed_linearly_each_with_its_own_severity(d):
    x = picture(4, 3, 16, 12)
    z, at = d.draw(x, generator(3, "z")), [(0, 0.0), (0, 0.3), (1, 0.25), (d.steps - 1, 0.9)]
    seen = d(x, torch.tensor([(k + on) / d.steps for k, on in at], dtype=DOUBLE), z)
    for row, (k, on) in enumerate(at):
        states = loop(d, x, z, row)
        torch.testing.assert_close(seen[row], (1 - on) * states[k] + on * states[k + 1], rtol=0, atol=1e-12)


def test_reversed_there_is_nothing_but_the_colour_in_the_end():
    d, x = build("fade-mask:kernel_std=0.05,steps=750,reverse=true,towards=colour"), picture(2, 3, 32, 24)
    z = d.draw(x, generator(0, "z"))
    out = d(x, torch.ones(2, dtype=DOUBLE), z)
    assert torch.equal(out, z["colour"][:, :, None, None].expand_as(x))
    late = d.gain((3, 32, 24), torch.full((1,), 1 - 20 / 750, dtype=DOUBLE), {})[0, 0]
    assert late[15, 11] == 1, "the middle comes first"
    assert late[0, 0] < 1e-9
    assert d.gain((3, 32, 24), torch.zeros(1), {}).min() == 1


@pytest.mark.parametrize(
    ("text", "side", "kept", "under_half"),
    [
        ("fade-mask:steps=100", 128, 0.53, 0.45),  # CelebA
        ("fade-mask:routine=random,kernel_std=0.1,initial_mask=11", 32, 0.62, 0.37),  # CIFAR-10, trained
        ("fade-mask:routine=random,kernel_std=0.1", 32, 0.73, 0.26),  # CIFAR-10, tested
    ],
)
def test_the_papers_recipes_cover_what_they_are_known_to_cover(text, side, kept, under_half):
    d, like = build(text), torch.zeros(1000, 1, side, side)[: 1 if side == 128 else None]
    gain = d.gain((1, side, side), torch.ones(len(like)), d.draw(like, generator(0, "z")))
    assert float(gain.mean()) == pytest.approx(kept, abs=0.011)
    assert float((gain < 0.5).float().mean()) == pytest.approx(under_half, abs=0.011)
    if side == 128:
        assert float(gain[0, 0, -1, -1]) == pytest.approx(0.9998, abs=1e-3)
        exact = d.gain((1, side, side), torch.ones(1, dtype=DOUBLE), {})[0, 0]
        assert (exact == 0).nonzero().tolist() == [[63, 63]]


def test_what_is_far_from_every_mask_needs_no_table_of_its_own(monkeypatch):
    d, t = FadeMask("random", 0.5, steps=4), torch.tensor([0.3, 1.0], dtype=DOUBLE)
    z = {"offset": torch.tensor([[0.0, 90.0], [20.0, 3.0]], dtype=DOUBLE)}
    near = d.gain((1, 100, 90), t, z)
    assert d._reach(100) == 19
    monkeypatch.setattr("snowmelt.degradations.fade._FAR", 1000.0)
    assert d._reach(100) == 101
    assert torch.equal(d.gain((1, 100, 90), t, z), near)


def test_a_table_too_large_for_memory_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"fade-mask of 10000 steps with masks of up to 2000 px needs a table of 5\.3 GB: use smaller pictures"):
        FadeMask(steps=10_000)(torch.zeros(1, 1, 512, 512), torch.ones(1))


# --- what it knows of itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 1, 1), (3, 1, 7), (2, 13, 5)])
@pytest.mark.parametrize("d", [*VARIANTS, FadeMask(), FadeMask("random", 0.1)], ids=spec)
def test_contract(d, shape):
    ran = check_degradation(d, shape=shape)
    assert "affine" in ran
    assert ("diagonal" in ran) == (d.towards == "grey")


@pytest.mark.parametrize("colours", [0, 3])
def test_no_damage_is_no_mask_and_no_colour(colours):
    d = build("fade-mask:routine=random,towards=colour" if colours else "fade-mask")
    seen = d.absent((3, 6, 8), torch.ones(2, dtype=DOUBLE))
    assert torch.equal(seen, torch.cat([torch.ones(2, 1, 6, 8), torch.zeros(2, colours, 6, 8)], dim=1).double())


def test_what_a_restorer_is_told():
    x, t = picture(2, 3, 6, 8), torch.tensor([0.4, 1.0], dtype=DOUBLE)
    for text, tells in (
        ("fade-mask", ()),
        ("fade-mask:routine=random", ("offset",)),
        ("fade-mask:reverse=true,towards=colour", ("colour",)),
        ("fade-mask:routine=random,towards=colour", ("offset", "colour")),
    ):
        d = build(text)
        z = d.draw(x, generator(0, "z"))
        assert d.tells == tuple(z) == tells
        assert (d.noise, d.hidden, d.given) == ((), (), ())
        seen = d.context((3, 6, 8), t, z)
        torch.testing.assert_close(seen[:, :1], d.gain((3, 6, 8), t, z), rtol=0, atol=0)
        if "colour" in tells:
            assert torch.equal(seen[:, 1:], z["colour"][:, :, None, None].expand(2, 3, 6, 8))
        else:
            assert seen.shape[1] == 1
            torch.testing.assert_close(d(x, t, z), x * seen, rtol=0, atol=0)
        assert Restorer(d, UNet(widths=(8,), blocks=1), (3, 8, 8))(x.float(), t.float(), z).shape == x.shape


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
def test_the_inverse_divides_differences_where_something_is_left(d):
    x, y, t = picture(2, 3, 12, 16), picture(2, 3, 12, 16).flip(0), torch.tensor([0.3, 1.0], dtype=DOUBLE)
    z = d.draw(x, generator(0, "z"))
    left = (d.gain((3, 12, 16), t, z) > 0.05).expand_as(x)
    found = d.pinv(d(x, t, z) - d(y, t, z), t, z)
    assert d.inverse == "exact"
    torch.testing.assert_close(found[left], (x - y)[left], rtol=0, atol=1e-12)
    assert float(found[~left].abs().sum()) == 0


@pytest.mark.parametrize("text", ["fade-mask", "fade-mask:routine=random,kernel_std=0.1", "fade-mask:steps=750,reverse=true,towards=colour"])
def test_specs_come_back(text):
    assert spec(build(text)) == text
    assert build("fade-mask:routine=incremental,kernel_std=0.2,initial_mask=1,steps=50") == FadeMask()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fade-mask:routine=spiral", r"fade-mask\.routine.*incremental"),
        ("fade-mask:towards=black", r"fade-mask\.towards.*grey"),
        ("fade-mask:initial_mask=0", r"fade-mask\.initial_mask = 0"),
        ("fade-mask:kernel_std=0", r"fade-mask\.kernel_std = 0"),
    ],
)
def test_what_is_no_mask_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        build(text)


@pytest.mark.parametrize("text", ["fade-mask", "fade-mask:towards=colour"])
def test_what_is_no_picture_is_refused(text):
    with pytest.raises(ValueError, match=r"fade-mask degrades images of shape \(b, c, h, w\); got \(2, 3, 8\)"):
        build(text)(picture(2, 3, 8), torch.ones(2, dtype=DOUBLE), {"colour": torch.zeros(2, 3)})
