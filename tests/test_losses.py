"""Losses, one value per sample, against the formulas written out."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from snowmelt import registry
from snowmelt.losses import Weight, check_weight, distance, estimates, restoration_loss
from snowmelt.model import Model
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Restorer, UNet

LOSSES = ("l2", "l1", "charbonnier", "pseudo-huber")


def by_hand(error: np.ndarray, loss: str) -> float:
    match loss:
        case "l2":
            return float(np.mean(error**2))
        case "l1":
            return float(np.mean(np.abs(error)))
        case "charbonnier":
            return float(np.mean(np.sqrt(error**2 + 1e-6)))
        case "pseudo-huber":
            return math.sqrt(np.mean(error**2) + 0.06**2) - 0.06
    raise AssertionError


def pair(shape: tuple[int, ...] = (4, 3, 5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(0, "pair")
    return torch.randn(shape, dtype=torch.float64, generator=source), torch.randn(shape, dtype=torch.float64, generator=source)


@pytest.mark.parametrize("loss", LOSSES)
def test_distance_is_the_formula_for_each_sample(loss):
    a, b = pair()
    a[1] = b[1] + 0.01 * (a[1] - b[1])  # a small error, where the smooth losses bend
    seen = distance(a, b, loss)
    assert seen.shape == (4,)
    assert seen.tolist() == pytest.approx([by_hand((a[i] - b[i]).numpy(), loss) for i in range(4)], rel=1e-12)
    assert distance(a, a, loss).tolist() == pytest.approx([1e-3 if loss == "charbonnier" else 0] * 4, abs=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_measured_in_float32(loss):
    a, b = (v.bfloat16() for v in pair())
    seen = distance(a, b, loss)
    assert seen.dtype == torch.float32
    assert seen.tolist() == pytest.approx([by_hand((a[i] - b[i]).double().numpy(), loss) for i in range(4)], rel=1e-2)


def test_a_loss_that_is_not_known():
    a, b = pair()
    with pytest.raises(ValueError, match="unknown loss 'l3': choose l2, l1, charbonnier or pseudo-huber"):
        distance(a, b, "l3")


def test_only_the_squared_error_makes_a_mean():
    assert [estimates(loss) for loss in LOSSES] == ["mean", "median", "median", "median"]


@pytest.mark.parametrize("loss", LOSSES)
def test_restoration_loss_degrades_estimates_and_compares_each_sample(loss):
    model = Model(build("gaussian-blur+noise"), lambda x, t: x * (1 - t)[:, None, None, None], noise_floor=0.1)
    _, x0 = pair()
    t, z = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64), model.draw(x0, generator(1, "z"))
    x_t = model.degradation(x0, t, z) + 0.1 * z["floor"]
    expected = [by_hand(((1 - t[i]) * x_t[i] - x0[i]).numpy(), loss) for i in range(4)]
    seen = restoration_loss(model, x0, t, z, loss=loss)
    assert seen.tolist() == pytest.approx(expected, rel=1e-12)

    weighted = restoration_loss(model, x0, t, z, loss=loss, weight=lambda t: 1 + t)
    assert weighted.tolist() == pytest.approx([e * (1 + float(v)) for e, v in zip(expected, t, strict=True)], rel=1e-12)

    both = restoration_loss(
        model, x0, t, z, loss=loss, weight=lambda t: 2 + 0 * t, penalty=lambda estimate, x: estimate.sum((1, 2, 3)) - x[:, 0, 0, 0]
    )
    penalty = [float((x_t[i] * (1 - t[i])).sum() - x0[i, 0, 0, 0]) for i in range(4)]
    assert both.tolist() == pytest.approx([2 * e + p for e, p in zip(expected, penalty, strict=True)], rel=1e-9)


def test_a_samples_loss_depends_on_that_sample_only():
    model = Model(build("mask+noise"), lambda x, t: torch.tanh(x))
    _, x0 = pair()
    t, z = torch.tensor([0.1, 0.3, 0.6, 1.0], dtype=torch.float64), model.draw(x0, generator(1, "z"))
    whole = restoration_loss(model, x0, t, z)
    for i in range(4):
        row = slice(i, i + 1)
        assert torch.equal(restoration_loss(model, x0[row], t[row], {k: v[row] for k, v in z.items()}), whole[row])


def test_condition_and_gradient_reach_the_restorer():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    model = Model(build("grey"), lambda x, t, cond: scale * x + cond[:, None, None, None])
    _, x0 = pair()
    t, cond = torch.full((4,), 0.5, dtype=torch.float64), torch.arange(4, dtype=torch.float64)
    seen = restoration_loss(model, x0, t, {}, cond=cond)
    x_t = model.degradation(x0, t)
    assert seen.tolist() == pytest.approx([float((0.5 * x_t[i] + i - x0[i]).square().mean()) for i in range(4)])
    seen.sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0


def test_conversions_between_the_losses_of_x0_eps_and_v():
    """|eps - eps_hat|^2 = SNR |x0 - x0_hat|^2 and |v - v_hat|^2 = (SNR + 1) |x0 - x0_hat|^2."""
    alpha, sigma = 0.8, 0.6
    x0, x0_hat = pair()
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=generator(2, "eps"))
    x_t = alpha * x0 + sigma * eps
    eps_hat = (x_t - alpha * x0_hat) / sigma
    error = distance(x0_hat, x0, "l2")
    torch.testing.assert_close(distance(eps_hat, eps, "l2"), (alpha / sigma) ** 2 * error)
    v, v_hat = alpha * eps - sigma * x0, alpha * eps_hat - sigma * x0_hat
    torch.testing.assert_close(distance(v_hat, v, "l2"), ((alpha / sigma) ** 2 + 1) * error)


@pytest.mark.parametrize("spec", ["noise", "noise:schedule=betas", "gaussian-blur:sigma_px=2+noise", "mask", "jpeg"])
def test_losses_and_gradients_are_finite_at_the_ends_of_severity(spec):
    """Where sigma and c_out vanish and ratios of signal to noise do not end: every weight of every parameterization that there can be."""
    t, d, looked_at = torch.tensor([1e-16, 1e-8, 1e-5, 1e-3, 0.5, 1 - 1e-7, 1.0]), build(spec), 0
    x0 = torch.rand(len(t), 3, 8, 8, generator=generator(0, "ends")) * 2 - 1
    for name in registry.names("parameterization"):
        try:
            restorer = Restorer(d, UNet(widths=(8, 8), patch=2, groups=4, blocks=1), (3, 8, 8), parameterization=build(name, "parameterization"))
        except SpecError:
            continue
        model = Model(d, restorer.fit([x0]))
        z = model.draw(x0, generators(0, "ends", range(len(t))))
        for weight in get_args(Weight):
            try:
                check_weight(d, weight)
            except TypeError:
                continue
            restorer.zero_grad()
            each = restoration_loss(model, x0, t, z, weight=weight)
            each.sum().backward()
            looked_at += 1
            assert bool(each.isfinite().all()), (name, weight, each.tolist())
            assert all(bool(p.grad.isfinite().all()) for p in restorer.parameters()), (name, weight)
    assert looked_at >= 3
