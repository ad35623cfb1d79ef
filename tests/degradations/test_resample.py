"""The paper's super-resolution against the loop of interpolations it stands for."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations import Pixelate, Resample
from snowmelt.registry import SpecError, build, spec
from snowmelt.testing import check_degradation

DOUBLE = torch.float64


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)


# --- the recursion, as a loop ------------------------------------------------------------------------------


def there_and_back(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Smaller without smoothing against aliases, then the nearest pixel at the old size."""
    options = {} if mode == "area" else {"align_corners": False, "antialias": False} if mode == "bicubic" else {"align_corners": False}
    return functional.interpolate(functional.interpolate(x, size=size, mode=mode, **options), size=x.shape[-2:], mode="nearest-exact")


def blurred(x: Tensor) -> Tensor:
    taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=DOUBLE) / (2 * 0.5**2))
    kernel = torch.outer(taps, taps)
    kernel = (kernel / kernel.sum()).to(x)[None, None].repeat(x.shape[1], 1, 1, 1)
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


def loop(x: Tensor, factor: int, steps: int, mode: str, routine: str) -> list[Tensor]:
    """x_0 ... x_T, one step after another."""
    out, (h, w) = [x], x.shape[-2:]
    for i in range(steps):
        size = (h - i, w - i) if routine == "incremental" else (max(1, h // factor ** (i + 1)), max(1, w // factor ** (i + 1)))
        if routine == "factor-with-blur":
            out.append(blurred(there_and_back(blurred(out[-1]), size, mode)))
        else:
            out.append(there_and_back(out[-1], size, "area" if routine == "factor" and i > 0 else mode))
    return out


RECURSIONS = [
    (2, 3, "bicubic", "factor"),
    (2, 3, "bilinear", "factor"),
    (2, 5, "area", "factor"),
    (3, 2, "bicubic", "factor"),
    (4, 2, "bilinear", "factor"),
    (2, 3, "bicubic", "factor-with-blur"),
    (2, 3, "bilinear", "factor-with-blur"),
    (2, 3, "area", "factor-with-blur"),
    (2, 7, "bicubic", "incremental"),
    (2, 7, "bilinear", "incremental"),
    (2, 7, "area", "incremental"),
]
SIZES = [(16, 16), (32, 32), (28, 37), (13, 9)]


@pytest.mark.parametrize("recursion", RECURSIONS, ids=lambda r: "-".join(map(str, r)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_knot_is_the_loop(recursion, dtype, tolerance, size):
    d, x = Resample(*recursion), picture(2, 3, *size, dtype=dtype)
    expected = loop(x.double(), *recursion)
    assert len(expected) == d.knots + 1
    for i, state in enumerate(expected):
        seen = d(x, torch.full((2,), i / d.knots, dtype=dtype))
        torch.testing.assert_close(seen.double(), state, rtol=0, atol=tolerance)
    assert float((expected[-1] - x).abs().max()) > 0.1


@pytest.mark.parametrize("size", [(16, 16), (32, 64)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "area"])
def test_with_a_factor_of_2_that_divides_the_size_every_mode_may_be_used_at_every_step(size, mode):
    x = picture(1, 3, *size)
    d, state = Resample(2, 4, mode), x
    for i in range(1, 5):
        state = there_and_back(state, (size[0] // 2**i, size[1] // 2**i), mode)
        torch.testing.assert_close(d(x, torch.full((1,), i / 4, dtype=DOUBLE)), state, rtol=0, atol=1e-12)


def test_the_first_step_has_four_taps_and_the_later_ones_are_the_means_of_its_blocks():
    d, x = build("resample:factor=2,steps=3"), picture(1, 2, 32, 16)
    taps = torch.tensor([-3.0, 19, 19, -3], dtype=DOUBLE) / 32
    wide = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    small = functional.conv2d(wide, torch.outer(taps, taps)[None, None].repeat(2, 1, 1, 1), stride=2, groups=2)
    for i in (1, 2, 3):
        shown = small.repeat_interleave(2**i, -2).repeat_interleave(2**i, -1)
        torch.testing.assert_close(d(x, torch.full((1,), i / 3, dtype=DOUBLE)), shown, rtol=0, atol=1e-12)
        small = functional.avg_pool2d(small, 2)
    extreme = torch.where(torch.arange(32) % 4 < 2, 1.0, -1.0).expand(1, 1, 32, 32).roll(-1, -1)
    assert float(d(extreme, torch.full((1,), 1 / 3)).abs().max()) == pytest.approx(0, abs=1e-6), "aliases pass"
    assert float(d(extreme.roll(1, -1), torch.full((1,), 1 / 3)).max()) > 1.05, "and edges overshoot"


def test_areas_are_pixelate():
    x = picture(3, 1, 32, 16)
    t = torch.tensor([0.2, 0.5, 1.0], dtype=DOUBLE)
    torch.testing.assert_close(Resample(mode="area")(x, t), Pixelate()(x, t), rtol=0, atol=1e-12)


def test_the_first_step_by_single_pixels_does_nothing():
    x = picture(1, 3, 8, 8)
    torch.testing.assert_close(build("resample:routine=incremental,steps=4")(x, torch.tensor([0.25], dtype=DOUBLE)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recursion", RECURSIONS, ids=lambda r: "-".join(map(str, r)))
def test_between_knots_pictures_are_mixed_linearly_each_with_its_own_severity(recursion):
    d, x = Resample(*recursion), picture(1, 3, 16, 12).expand(4, 3, 16, 12)
    states = loop(x, *recursion)
    seen = d(x, torch.tensor([0.0, 0.3, 1.25, d.knots - 0.1], dtype=DOUBLE) / d.knots)
    for row, (below, on) in zip(seen, [(0, 0.0), (0, 0.3), (1, 0.25), (d.knots - 1, 0.9)], strict=True):
        torch.testing.assert_close(row, (1 - on) * states[below][0] + on * states[below + 1][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("recursion", "size"),
    [
        ((2, 3, "bicubic", "factor"), (130, 99)),
        ((3, 2, "bilinear", "factor"), (8, 128)),
        ((3, 2, "area", "factor"), (9, 81)),
        ((2, 2, "bicubic", "factor"), (72, 8)),
        ((2, 5, "bicubic", "incremental"), (97, 100)),
    ],
    ids=str,
)
def test_large_pictures_need_no_table(recursion, size, monkeypatch):
    d, x = Resample(*recursion), picture(4, 1, *size)
    t = torch.tensor([0.0, 0.9, d.knots - 1.25, d.knots], dtype=DOUBLE) / d.knots
    by_matrices = super(Resample, d).degrade(x, t[:, None, None, None], {})
    monkeypatch.setattr(Resample, "table", None)  # the way of small pictures is closed
    torch.testing.assert_close(d(x, t), by_matrices, rtol=0, atol=1e-12)
    for i, state in enumerate(loop(x, *recursion)):
        torch.testing.assert_close(d(x, torch.full((4,), i / d.knots, dtype=DOUBLE)), state, rtol=0, atol=1e-12)
    for t_i, row in zip(t, d(x, t), strict=True):
        assert torch.equal(d(x[:1], t_i[None]), d(x, t_i.expand(4))[:1])
        assert row.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 1, 1), (3, 1, 7), (2, 13, 5), (4, 97, 3)])
@pytest.mark.parametrize("recursion", RECURSIONS, ids=lambda r: "-".join(map(str, r)))
def test_contract(recursion, shape):
    assert {"identity", "affine", "adjoint"} <= set(check_degradation(Resample(*recursion), shape=shape))


@pytest.mark.parametrize("text", ["resample", "resample:factor=3", "resample:steps=6", "resample:mode=area", "resample:steps=20,routine=incremental"])
def test_specs_come_back(text):
    assert spec(build(text)) == text
    assert build(spec(build(text))) == build(text)
    assert build("resample:factor=2,steps=3") == build("resample")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resample:factor=1", r"resample\.factor = 1 .*\[2, 64\]"),
        ("resample:mode=nearest", r"resample\.mode.*bicubic"),
        ("resample:routine=by-two", r"resample\.routine.*factor"),
    ],
)
def test_what_is_no_resampling_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        build(text)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"resample degrades images of shape \(b, c, h, w\); got \(2, 3, 8\)"):
        Resample()(picture(2, 3, 8), torch.ones(2, dtype=DOUBLE))
