"""Blur against the loop of convolutions it stands for, and against the heat equation."""

import math

import pytest
import scipy.fft
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations import GaussianBlur, RecursiveBlur, spectral, ways
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import SpecError, build, spec
from snowmelt.schedules import knot
from snowmelt.testing import check_degradation

DOUBLE = torch.float64


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)


# --- the paper's recursion, as a loop --------------------------------------------------------------------


def widths(routine: str, std: float, steps: int) -> list[float]:
    """The kernel's standard deviation at step i."""
    return [
        {"constant": std, "incremental": std * (i + 1), "exponential": math.exp(std * i), "special-6": i / 100 + 0.35}[routine]
        for i in range(steps)
    ]


def loop(x: Tensor, routine: str, size: int, std: float, steps: int, padding: str, discrete: bool) -> list[Tensor]:
    """x_0 ... x_T, one depthwise 2-D convolution after another."""
    if routine == "special-6":
        size, padding = 11, "reflect"
    n = torch.arange(size, dtype=DOUBLE) - size // 2
    out = [x]
    for i, width in enumerate(widths(routine, std, steps)):
        taps = torch.exp(-(n**2) / (2 * width**2))
        kernel = torch.outer(taps, taps)
        kernel = (kernel / kernel.sum()).to(x)[None, None].repeat(x.shape[1], 1, 1, 1)
        wide = functional.pad(out[-1], (size // 2,) * 4, mode=padding)
        blurred = functional.conv2d(wide, kernel, groups=x.shape[1])
        if discrete and i == steps - 1:
            blurred = blurred.mean((-2, -1), keepdim=True).expand_as(x)
        out.append(blurred)
    return out


RECURSIONS = [
    ("constant", 11, 7.0, 20, "circular", False),
    ("constant", 11, 7.0, 20, "circular", True),
    ("constant", 11, 7.0, 6, "reflect", False),
    ("incremental", 7, 0.4, 8, "circular", False),
    ("incremental", 7, 0.4, 8, "reflect", False),
    ("exponential", 11, 0.01, 12, "circular", False),
    ("exponential", 15, 0.01, 12, "reflect", False),
    ("exponential", 27, 0.01, 10, "circular", True),
    ("special-6", 3, 1.0, 50, "circular", False),
    ("special-6", 3, 1.0, 5, "reflect", False),
    pytest.param(("incremental", 7, 0.4, 8, "reflect", True)),
    pytest.param(("special-6", 3, 1.0, 5, "reflect", True)),
    ("constant", 1, 7.0, 3, "circular", False),
    pytest.param(("constant", 11, 7.0, 6, "reflect", True)),
    pytest.param(("incremental", 7, 0.4, 8, "circular", True)),
    pytest.param(("exponential", 15, 0.01, 12, "reflect", True)),
]


@pytest.mark.parametrize("recursion", RECURSIONS, ids=lambda r: "-".join(map(str, r)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [(32, 32), (28, 37)])
def test_every_knot_is_the_loop(recursion, dtype, tolerance, size):
    routine, taps, std, steps, padding, discrete = recursion
    blur, x = RecursiveBlur(routine, taps, std, steps, padding, discrete), picture(2, 3, *size, dtype=dtype)
    expected = loop(x.double(), *recursion)
    for i, knot_i in enumerate(expected):
        seen = blur(x, torch.full((2,), i / steps, dtype=dtype))
        torch.testing.assert_close(seen.double(), knot_i, rtol=0, atol=tolerance)
    assert (expected[-1] - x).abs().max() > (0.1 if taps > 1 else -1)


@pytest.mark.parametrize(
    ("recursion", "size"),
    [
        (("constant", 11, 7.0, 4, "circular", False), (8, 128)),
        (("constant", 11, 7.0, 4, "circular", True), (100, 99)),
        (("exponential", 27, 0.01, 6, "circular", False), (97, 27)),
    ],
    ids=str,
)
def test_large_pictures_go_through_the_spectrum_to_the_same_result(recursion, size, monkeypatch):
    monkeypatch.setattr(RecursiveBlur, "table", None)  # the way of small pictures is closed
    blur, x, steps = RecursiveBlur(*recursion), picture(2, 1, *size), recursion[3]
    states = loop(x, *recursion)
    for i, expected in enumerate(states):
        torch.testing.assert_close(blur(x, torch.full((2,), i / steps, dtype=DOUBLE)), expected, rtol=0, atol=1e-12)
    between = blur(x, torch.full((2,), 1.25 / steps, dtype=DOUBLE))
    torch.testing.assert_close(between, 0.75 * states[1] + 0.25 * states[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("recursion", RECURSIONS[:5], ids=str)
def test_between_knots_pictures_are_mixed_linearly_each_with_its_own_severity(recursion):
    blur, x = RecursiveBlur(*recursion), picture(1, 3, 16, 12).expand(5, 3, 16, 12)
    steps, states = recursion[3], loop(x, *recursion)
    t = torch.tensor([0.0, 0.3 / steps, 1.5 / steps, 1 - 0.1 / steps, 1.0], dtype=DOUBLE)
    seen = blur(x, t)
    for row, value in zip(seen, t, strict=True):
        below, on = knot(value[None], steps)
        expected = (1 - on) * states[int(below)][0] + on * states[int(below) + 1][0]
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["circular", "reflect"])
def test_a_kernel_wider_than_the_picture_wraps_more_than_once(padding):
    blur, x = RecursiveBlur(kernel_size=31, kernel_std=50.0, steps=3, padding=padding), picture(1, 1, 4, 5)
    out = blur(x, torch.ones(1, dtype=DOUBLE))
    assert float(out.std()) < 0.05 * float(x.std())
    if padding == "circular":
        torch.testing.assert_close(out.mean(), x.mean(), rtol=0, atol=1e-12)


def test_the_reach_of_truncated_kernels_is_the_one_that_is_documented():
    for steps, reach in ((20, 13.6), (40, 19.2)):
        taps = RecursiveBlur(steps=steps).kernels()
        n = torch.arange(11, dtype=DOUBLE) - 5
        assert float((taps * n**2).sum().sqrt()) == pytest.approx(reach, abs=0.05)


def test_an_even_kernel_has_no_middle():
    with pytest.raises(SpecError, match="kernel_size = 4 is even: a centred kernel has an odd number of taps"):
        RecursiveBlur(kernel_size=4)


def test_bases():
    assert RecursiveBlur().basis == "fft"
    assert RecursiveBlur(padding="reflect").basis is None
    assert RecursiveBlur("special-6").basis is None
    with pytest.raises(TypeError, match="diagonal in no basis it knows"):
        RecursiveBlur("special-6").gain((1, 4, 4), torch.ones(1), {})


# --- the true Gaussian -----------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["reflect", "circular"])
@settings(max_examples=20)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 20))
def test_widths_add_as_variances(padding, a, b, sigma_px):
    blur, x = GaussianBlur(50.0, padding), picture(1, 2, 9, 12)
    a, b = a * blur.severity(sigma_px), b * blur.severity(sigma_px)
    total = math.hypot(float(blur.width(torch.tensor(a, dtype=DOUBLE))), float(blur.width(torch.tensor(b, dtype=DOUBLE))))
    once = blur(x, torch.tensor([blur.severity(total)], dtype=DOUBLE))
    twice = blur(blur(x, torch.tensor([a], dtype=DOUBLE)), torch.tensor([b], dtype=DOUBLE))
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-10)


def test_the_width_grows_geometrically_from_nothing_to_sigma():
    blur, t = GaussianBlur(8.0), torch.linspace(0, 1, 5, dtype=DOUBLE)
    width = blur.width(t)
    assert width[0] == 0
    assert float(width[-1]) == pytest.approx(8, abs=1e-12)
    assert (width + 0.3).log().diff().tolist() == pytest.approx([math.log((8 + 0.3) / 0.3) / 4] * 4)
    assert float(GaussianBlur(0.0).width(t).abs().max()) == 0


@given(st.floats(1e-3, 1000), st.floats(0, 1))
@settings(max_examples=30)
def test_severity_is_the_inverse_of_the_width(sigma_px, share):
    blur = GaussianBlur(sigma_px)
    assert float(blur.width(torch.tensor(blur.severity(share * sigma_px), dtype=DOUBLE))) == pytest.approx(
        share * sigma_px, abs=1e-9 * sigma_px
    )


def test_a_blur_wider_than_this_one_is_refused():
    with pytest.raises(ValueError, match=r"a blur of 9 px lies outside \[0, 8\] px, the reach of this degradation"):
        GaussianBlur(8.0).severity(9)
    assert GaussianBlur(0.0).severity(0) == 0


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_a_point_becomes_a_gaussian(padding):
    x = torch.zeros(1, 1, 41, 61, dtype=DOUBLE)
    x[..., 20, 30] = 1
    y, w = torch.meshgrid(torch.arange(41, dtype=DOUBLE) - 20, torch.arange(61, dtype=DOUBLE) - 30, indexing="ij")
    expected = torch.exp(-(y**2 + w**2) / (2 * 3.0**2)) / (2 * math.pi * 3.0**2)
    torch.testing.assert_close(GaussianBlur(3.0, padding)(x, torch.ones(1, dtype=DOUBLE))[0, 0], expected, rtol=0, atol=1e-9)


def test_reflecting_edges_are_those_of_the_dct_in_scipy():
    x = picture(1, 1, 10, 7)
    k, m = torch.arange(10, dtype=DOUBLE) / 20, torch.arange(7, dtype=DOUBLE) / 14
    gain = torch.exp(-0.5 * (2 * math.pi * 2.0) ** 2 * (k[:, None] ** 2 + m[None] ** 2)).numpy()
    expected = scipy.fft.idctn(scipy.fft.dctn(x[0, 0].numpy(), norm="ortho") * gain, norm="ortho")
    torch.testing.assert_close(GaussianBlur(2.0)(x, torch.ones(1, dtype=DOUBLE))[0, 0], torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_a_mirrored_picture_blurs_on_a_circle_to_the_mirror_of_its_blur():
    x, t = picture(1, 1, 6, 9), torch.tensor([0.8], dtype=DOUBLE)
    mirrored = torch.cat([torch.cat([x, x.flip(-1)], -1), torch.cat([x, x.flip(-1)], -1).flip(-2)], -2)
    seen = GaussianBlur(4.0, "circular")(mirrored, t)[..., :6, :9]
    torch.testing.assert_close(seen, GaussianBlur(4.0, "reflect")(x, t), rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_the_mean_is_kept_and_what_is_not_a_picture_is_refused(padding):
    x = picture(2, 3, 8, 8)
    torch.testing.assert_close(
        GaussianBlur(1000.0, padding)(x, torch.ones(2, dtype=DOUBLE)), x.mean((-2, -1), keepdim=True).expand_as(x), rtol=0, atol=1e-9
    )
    with pytest.raises(ValueError, match=r"gaussian-blur degrades images of shape \(b, c, h, w\); got \(2, 8\)"):
        GaussianBlur(1.0, padding)(x[:, 0, 0], torch.ones(2, dtype=DOUBLE))


def test_a_table_too_large_for_memory_is_refused_with_the_way_out():
    x = torch.zeros(1, 1, 2, 4000)
    with pytest.raises(ValueError, match=r"recursive-blur of 50 knots on 4000 px needs a table of 6\.5 GB"):
        build("recursive-blur:routine=special-6,steps=50,discrete=true")(x, torch.ones(1))
    assert build("recursive-blur:routine=special-6,steps=50")(x, torch.ones(1)).abs().max() == 0


# --- large pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recursion",
    [("constant", 11, 7.0, 4, "reflect", False), ("special-6", 3, 1.0, 5, "reflect", False), ("incremental", 31, 4.0, 3, "reflect", False)],
    ids=str,
)
@pytest.mark.parametrize("size", [(32, 40), (33, 41), (1, 33), (2, 40)])
def test_the_mirrored_extension_gives_what_the_table_gives_at_every_knot(recursion, size, monkeypatch):
    blur, steps, x = RecursiveBlur(*recursion), recursion[3], picture(3, 2, *size)
    severities = [torch.full((3,), i / steps, dtype=DOUBLE) for i in range(steps + 1)] + [torch.tensor([0.1, 0.55, 0.97], dtype=DOUBLE)]
    expected, pulled = [blur(x, t) for t in severities], blur.adjoint(x, severities[-1])
    monkeypatch.setitem(ways.LARGEST_PX["cpu"], "mirrored", 0)
    monkeypatch.setattr(RecursiveBlur, "table", None)  # the way of small pictures is closed
    for t, y in zip(severities, expected, strict=True):
        torch.testing.assert_close(blur(x, t), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(blur(x.float(), t.float()).double(), y, rtol=0, atol=1e-5)
    torch.testing.assert_close(blur.adjoint(x, severities[-1]), pulled, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [(257, 300), (258, 301), (263, 2), (300, 257)])
def test_a_large_picture_has_the_dct_of_scipy_and_comes_back(size, dtype, tolerance):
    x = picture(2, 1, *size, dtype=dtype)
    y = forward(x, "dct")
    expected = torch.from_numpy(scipy.fft.dctn(x.double().numpy(), axes=(-2, -1), norm="ortho"))
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(backward(y, "dct", size[1]), x, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(6, 5), (7, 8), (2, 3), (9, 2)])
def test_the_dct_by_fft_is_the_dct_by_matrices_and_so_are_its_derivatives(size, monkeypatch):
    x, t = picture(2, 3, *size), torch.tensor([0.4, 1.0], dtype=DOUBLE)
    blur = GaussianBlur(2.0)

    def seen() -> list[Tensor]:
        return [forward(x, "dct"), backward(x, "dct", size[1]), blur(x, t), blur(x.float(), t.float()).double(), blur.adjoint(x.flip(0), t)]

    expected = seen()
    monkeypatch.setitem(ways.LARGEST_PX["cpu"], "cosine", 1)
    monkeypatch.setitem(ways.LARGEST_PX["cpu"], "smooth", 1)
    monkeypatch.setattr(GaussianBlur, "_matrix", None)  # so is that of the kernel
    monkeypatch.setattr(spectral, "dct_matrix", None)
    for got, want, tolerance in zip(seen(), expected, (1e-12, 1e-12, 1e-12, 1e-6, 1e-12), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=tolerance)
    for f in (lambda v: forward(v, "dct"), lambda v: backward(v, "dct", size[1])):
        assert torch.autograd.gradcheck(f, x[:1, :1].clone().requires_grad_())


@pytest.mark.parametrize("basis", ["dct", "fft"])
def test_a_large_gaussian_blur_is_that_of_scipy(basis):
    x = picture(1, 1, 311, 270)
    mode = {"dct": "reflect", "fft": "wrap"}[basis]
    expected = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), 3.0, mode=mode, truncate=12)
    seen = GaussianBlur(3.0, {"dct": "reflect", "fft": "circular"}[basis])(x, torch.ones(1, dtype=DOUBLE))
    torch.testing.assert_close(seen[0, 0], torch.from_numpy(expected), rtol=0, atol=1e-9)


def test_half_precision_goes_through_the_matrix_at_any_size():
    x = picture(1, 1, 3, 300)
    torch.testing.assert_close(forward(x.bfloat16(), "dct").double(), forward(x, "dct"), rtol=0, atol=0.1)


# --- the blur of blurring diffusion --------------------------------------------------------------------------------


def test_the_width_grows_as_a_squared_sine():
    d = build("gaussian-blur:sigma_px=20,growth=sine,least=0.001")
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(d.width(t), 20 * torch.sin(t * math.pi / 2) ** 2, rtol=0, atol=1e-12)
    for sigma_px in (0, 0.3, 5, 19.9, 20):
        assert float(d.width(torch.tensor(d.severity(sigma_px), dtype=torch.float64))) == pytest.approx(sigma_px, abs=1e-9)
    assert d.in_units(0.5) == {"sigma_px": pytest.approx(10)}
    with pytest.raises(ValueError, match="outside"):
        d.severity(20.1)
    assert build("gaussian-blur:sigma_px=0,growth=sine").severity(0) == 0


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_every_frequency_keeps_the_least_gain(padding):
    d, plain = (build(f"gaussian-blur:sigma_px=20,padding={padding}{more}") for more in (",least=0.001", ""))
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    seen, expected = (p.gain((1, 8, 8), t, {}) for p in (d, plain))
    torch.testing.assert_close(seen, 0.999 * expected + 0.001, rtol=0, atol=1e-15)
    assert seen.min() >= 0.001
    assert (seen[0] == 1).all()
    check_degradation(d)


def test_specs_of_the_plain_blur_are_what_they_were_and_old_tables_load():
    assert spec(build("gaussian-blur:sigma_px=4")) == "gaussian-blur:sigma_px=4"
    assert build({"name": "gaussian-blur", "sigma_px": 4.0, "padding": "reflect"}) == build("gaussian-blur:sigma_px=4")
    assert build("gaussian-blur").growth == "exponential"
