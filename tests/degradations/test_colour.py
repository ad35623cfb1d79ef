"""The paper's loss of colour against one 1 x 1 convolution after another."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations import Decolour, Grey
from snowmelt.registry import SpecError, build, spec
from snowmelt.testing import check_degradation

DOUBLE = torch.float64
VARIANTS = [
    Decolour(),
    Decolour(steps=1),
    Decolour(steps=7, total=True),
    Decolour("constant", 20),
    Decolour("constant", 20, total=True),
    Decolour("constant", 1, total=True),
]


def picture(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.empty(shape, dtype=DOUBLE).uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(dtype)


def kept(d: Decolour) -> list[float]:
    """f_i: what step i = 1 ... T keeps of the colour that is left."""
    if d.routine == "linear":
        left = [1 - i / d.steps for i in range(d.steps + 1)]
        return [after / before for before, after in itertools.pairwise(left)]
    return [0.9] * (d.steps - 1) + [0.0 if d.total else 0.9]


def loop(d: Decolour, x: Tensor) -> list[Tensor]:
    """x_0 ... x_T: every step the kernel f I + (1 - f) J / c."""
    c, out = x.shape[1], [x]
    for f in kept(d):
        kernel = f * torch.eye(c, dtype=x.dtype) + (1 - f) * torch.ones(c, c, dtype=x.dtype) / c
        out.append(functional.conv2d(out[-1], kernel[:, :, None, None]))
    return out


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 32, 32), (3, 28, 37), (2, 5, 3), (5, 1, 4)], ids=str)
def test_every_knot_is_the_loop(d, dtype, tolerance, shape):
    x = picture(2, *shape, dtype=dtype)
    states = loop(d, x.double())
    for k, state in enumerate(states):
        seen = d(x, torch.full((2,), k / d.steps, dtype=dtype))
        torch.testing.assert_close(seen.double(), state, rtol=0, atol=tolerance)
    assert (float(states[-1].std(1).max()) < 1e-12) == (d.routine == "linear" or d.total)


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
def test_between_knots_pictures_are_mixed_linearly_each_with_its_own_severity(d):
    x, at = picture(3, 3, 4, 6), [(0, 0.3), (min(1, d.steps - 1), 0.25), (d.steps - 1, 0.9)]
    seen, states = d(x, torch.tensor([(k + on) / d.steps for k, on in at], dtype=DOUBLE)), loop(d, x)
    for row, (k, on) in enumerate(at):
        torch.testing.assert_close(seen[row], ((1 - on) * states[k] + on * states[k + 1])[row], rtol=0, atol=1e-12)


def test_linear_is_grey():
    x, t = picture(5, 3, 4, 6), torch.linspace(0, 1, 5, dtype=DOUBLE)
    torch.testing.assert_close(Decolour()(x, t), Grey()(x, t), rtol=0, atol=1e-12)
    assert (Decolour().knots, Grey().knots) == (20, None)


@pytest.mark.parametrize("d", [*VARIANTS, Grey()], ids=spec)
def test_the_inverse_gives_back_the_colour_that_is_left(d):
    x, t = picture(2, 3, 4, 6), torch.tensor([0.5, 1.0], dtype=DOUBLE)
    y = d(x, t)
    torch.testing.assert_close(d(d.pinv(y, t), t), y, rtol=0, atol=1e-12)
    if d.lost(t)[1] == 1:
        torch.testing.assert_close(d.pinv(y, t)[1], x.mean(1, keepdim=True)[1].expand(3, 4, 6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", VARIANTS, ids=spec)
def test_contract(d):
    assert {"identity", "affine", "adjoint", "diagonal"} <= set(check_degradation(d))
    assert build(spec(d)) == d


def test_spec():
    assert build("decolour:routine=linear,steps=20") == Decolour()
    assert spec(Decolour("constant", total=True)) == "decolour:routine=constant,total=true"
    with pytest.raises(SpecError, match=r"decolour\.routine.*linear"):
        build("decolour:routine=exponential")


def test_a_grey_picture_has_no_colour_to_lose():
    with pytest.raises(ValueError, match="decolour needs pictures in colour; these have 1 channel: .* load with channels = 3"):
        Decolour()(picture(1, 1, 4, 4), torch.ones(1, dtype=DOUBLE))
