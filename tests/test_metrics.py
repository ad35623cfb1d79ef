"""Distortion against formulas written out by hand, and against scikit-image."""

import math
import sys

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from snowmelt.metrics import Distortion, rmse


def pair(*shape: int, seed: int = 0, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """A smooth picture with noise on it, and the picture: both reach outside [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(shape, generator=generator).cumsum(-1).cumsum(-2) / 8
    return clean + noise * torch.randn(shape, generator=generator), clean


def unit(x: Tensor) -> np.ndarray:
    return np.clip((x.double().numpy() + 1) / 2, 0, 1)


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """scikit-image averages over the windows inside, too."""
    return structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=0,
    )


def test_rmse_is_one_root_over_everything() -> None:
    x, clean = pair(5, 3, 16, 12)
    assert rmse(x, clean) == pytest.approx(np.sqrt(np.mean((unit(x) - unit(clean)) ** 2)), rel=1e-6)
    assert rmse(clean, clean) == 0


def test_values_outside_the_range_are_clamped() -> None:
    clean = torch.ones(2, 1, 8, 8)
    assert rmse(clean * 7, clean) == 0
    assert rmse(-clean * 7, clean) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_distortion_matches_numpy_and_scikit_image(channels: int) -> None:
    x, clean = pair(6, channels, 32, 28)
    scores = Distortion()
    scores.update(x[:4], clean[:4])
    scores.update(x[4:], clean[4:])
    a, b = unit(x), unit(clean)
    mse = np.mean((a - b) ** 2, axis=(1, 2, 3))
    found = scores.compute()
    assert len(scores) == 6
    assert found["rmse"] == pytest.approx(math.sqrt(mse.mean()), rel=1e-6)
    assert found["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-6)
    assert found["ssim"] == pytest.approx(np.mean([skimage_ssim(p, q) for p, q in zip(a, b, strict=True)]), abs=1e-5)


def test_psnr_is_the_mean_of_decibels_not_the_decibels_of_the_mean() -> None:
    clean = torch.zeros(2, 1, 12, 12)
    scores = Distortion()
    scores.update(clean + torch.tensor([0.2, 0.02]).reshape(2, 1, 1, 1), clean)
    assert scores.compute()["psnr"] == pytest.approx(30, abs=1e-4)


def test_pictures_of_two_sizes_are_weighted_by_their_values() -> None:
    scores = Distortion()
    for side, offset in ((12, 0.2), (24, 0.4)):
        clean = torch.zeros(1, 1, side, side)
        scores.update(clean + offset, clean)
    assert scores.compute()["rmse"] == pytest.approx(math.sqrt((0.01 * 144 + 0.04 * 576) / 720), rel=1e-6)


def test_equal_pictures_stop_at_100_db() -> None:
    scores = Distortion()
    scores.update(torch.zeros(3, 1, 16, 16), torch.zeros(3, 1, 16, 16))
    assert scores.compute() == {"rmse": 0.0, "psnr": pytest.approx(100), "ssim": pytest.approx(1)}


@pytest.mark.parametrize(("side", "window"), [(3, 3), (4, 3), (8, 7), (10, 9), (11, 11), (12, 11)])
def test_small_pictures_get_the_largest_odd_window(side: int, window: int) -> None:
    x, clean = pair(2, 1, side, side + 3)
    scores = Distortion()
    scores.update(x, clean)
    radius, sigma = window // 2, 1.5 * window / 11
    g = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(g, g) / g.sum() ** 2

    def blur(p: np.ndarray) -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view(p, (window, window))
        return np.einsum("hwij,ij->hw", views, kernel)

    def ssim(a: np.ndarray, b: np.ndarray) -> float:
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        return float(np.mean((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))))

    assert scores.ssim == pytest.approx([ssim(unit(p)[0], unit(q)[0]) for p, q in zip(x, clean, strict=True)], abs=1e-4)


def test_no_ssim_under_three_pixels() -> None:
    x, clean = pair(2, 1, 2, 9)
    scores = Distortion()
    scores.update(x, clean)
    assert scores.compute()["ssim"] is None
    assert scores.interval()["ssim"] is None
    assert scores.ssim == [None, None]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """200 experiments of 64 pictures whose errors are drawn from a known law."""
    generator = torch.Generator().manual_seed(3)
    inside = 0
    for _ in range(200):
        mse = (0.01 + 0.004 * torch.rand(64, generator=generator)).tolist()
        low, high = Distortion(mse, mse, list(mse), [64] * 64).interval()["rmse"] or (1.0, 0.0)
        inside += low <= math.sqrt(0.012) <= high
    assert 180 <= inside <= 199


def test_interval_of_the_mean_is_the_textbook_one() -> None:
    x, clean = pair(9, 1, 16, 16)
    scores = Distortion()
    scores.update(x, clean)
    db = np.array(scores.psnr)
    half = 1.959964 * db.std(ddof=1) / 3
    assert scores.interval()["psnr"] == pytest.approx((db.mean() - half, db.mean() + half), rel=1e-6)


def test_one_picture_has_no_interval() -> None:
    scores = Distortion()
    scores.update(*pair(1, 1, 16, 16))
    assert scores.interval() == {"rmse": None, "psnr": None, "ssim": None}


def test_half_precision_and_gradients_do_not_matter() -> None:
    x, clean = pair(2, 1, 16, 16)
    scores = Distortion()
    scores.update(x.clamp(-1, 1).bfloat16().requires_grad_(), clean.bfloat16())
    assert scores.compute()["rmse"] == pytest.approx(rmse(x, clean), rel=0.02)


def test_refusals() -> None:
    x = torch.zeros(2, 1, 16, 16)
    with pytest.raises(ValueError, match="shapes differ"):
        rmse(x, x[:1])
    with pytest.raises(ValueError, match="holds no value"):
        rmse(x[:0], x[:0])
    with pytest.raises(ValueError, match="uint8"):
        rmse(x.byte(), x.byte())
    with pytest.raises(ValueError, match="NaN in 1 of 2"):
        Distortion().update(torch.cat([x[:1], x[1:] * math.nan]), x)
    with pytest.raises(ValueError, match=r"\(b, c, h, w\)"):
        Distortion().update(x[0], x[0])
    with pytest.raises(ValueError, match="no picture"):
        Distortion().compute()


def test_an_empty_batch_changes_nothing() -> None:
    scores = Distortion()
    scores.update(torch.zeros(0, 1, 16, 16), torch.zeros(0, 1, 16, 16))
    assert len(scores) == 0


def test_the_import_is_light() -> None:
    import subprocess

    code = "import sys, snowmelt.metrics; assert 'torchmetrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
