"""Figures of the paper that need no network: the Degraded columns depend on data and operator alone.

They need SNOWMELT_DATA: a folder with mnist/ (the four original idx files) and cifar10/cifar10_test.npz (an image pack of the test pictures).
"""

import functools
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.metrics import rmse
from snowmelt.types import severity

BLUR = "recursive-blur:routine=constant,kernel_size=11,kernel_std=7,steps=20"
AVERAGING = "pixelate:levels=3"
BICUBIC = "resample:factor=2,steps=3"


@functools.cache
def pictures(name: str) -> Tensor:
    """All 10,000 test pictures at 32 px: MNIST's by plain bilinear resize from 28 px, CIFAR-10's as they are."""
    root = Path(os.environ.get("SNOWMELT_DATA", "/nonexistent"))
    path = root / "mnist" if name == "mnist" else root / "cifar10" / "cifar10_test.npz"
    if not path.exists():
        pytest.skip(f"needs {name}: set SNOWMELT_DATA to a folder that has mnist/ with the original idx files and cifar10/cifar10_test.npz")
    if name == "mnist":
        test = open_data(DataOptions(path=str(path), size=32), "test")
    else:
        test = open_data(DataOptions(path=str(path), validation=0, test=0), "train")  # the whole pack
    assert len(test) == 10_000
    return test.batch(range(10_000))["x0"]


def papers_ssim(x: Tensor, y: Tensor) -> Tensor:
    """(b,): the windows of 11 x 11 px, sigma 1.5, that lie wholly inside the picture, as in the paper's code. (Distortion reflects the border.)"""
    n = torch.arange(11.0) - 5
    taps = torch.exp(-(n**2) / (2 * 1.5**2))
    taps /= taps.sum()

    def local(v: Tensor) -> Tensor:
        v = functional.conv2d(v.flatten(0, 1)[:, None], taps[None, None, :, None])
        return functional.conv2d(v, taps[None, None, None]).reshape(*x.shape[:2], x.shape[2] - 10, x.shape[3] - 10)

    x, y = (x + 1) / 2, (y + 1) / 2
    mx, my = local(x), local(y)
    alike = (2 * (local(x * y) - mx * my) + 0.03**2) / (local(x * x) - mx**2 + local(y * y) - my**2 + 0.03**2)
    return (alike * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)).mean((1, 2, 3))


@functools.cache
def degraded(name: str, spec: str) -> tuple[float, float]:
    """RMSE over all pixels of all pictures, and mean SSIM, of x_1 against x_0. Unclamped, as the paper's code scores them."""
    x0, d = pictures(name), snowmelt.build(spec)
    x1 = torch.cat([d(part, severity(1.0, part)) for part in x0.split(1000)])
    return rmse(x1, x0), float(torch.cat([papers_ssim(p, q) for p, q in zip(x1.split(1000), x0.split(1000), strict=True)]).mean())


@pytest.mark.parametrize(
    ("name", "spec", "error", "ssim"),
    [
        pytest.param("mnist", BLUR, 0.287, None, id="mnist-deblur"),  # the SSIM that is printed, .287, repeats the RMSE
        pytest.param("mnist", AVERAGING, 0.231, 0.178, id="mnist-superres"),
        pytest.param("cifar10", "recursive-blur:routine=special-6,steps=50", 0.136, 0.315, id="cifar10-deblur"),
        pytest.param("cifar10", AVERAGING, 0.146, 0.279, id="cifar10-superres"),
    ],
)
def test_the_papers_degraded_columns(name: str, spec: str, error: float, ssim: float | None) -> None:
    """Tables 1 and 3 of Bansal et al. 2022, column "Degraded", all 10,000 test pictures."""
    seen = degraded(name, spec)
    assert seen[0] == pytest.approx(error, abs=0.002)
    if ssim is not None:
        assert seen[1] == pytest.approx(ssim, abs=0.005)


@pytest.mark.parametrize(("name", "ssim"), [("mnist", 0.182), ("cifar10", 0.281)])
def test_the_codes_bicubic_step_is_not_what_the_table_shows(name: str, ssim: float) -> None:
    """With it the SSIM is another one, which an independent script measured too: both forms are here, and told apart."""
    (_, bicubic), (_, averaging) = degraded(name, BICUBIC), degraded(name, AVERAGING)
    assert bicubic == pytest.approx(ssim, abs=0.0015)
    assert bicubic - averaging > 0.001
