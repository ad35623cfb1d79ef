"""Linear prediction of many gaps at once, against one gap at a time in double precision."""

import math

import numpy as np
import pytest
import torch

from snowmelt.evaluation import classical_gaps
from snowmelt.restorers.prediction import burg, gaps, predicted


def autoregressive(*shape, seed=0):
    """Noise through two resonances, 120 and 700 Hz at 8 kHz."""
    from scipy.signal import lfilter

    poles = [radius * np.exp(2j * np.pi * f / 8000) for radius, f in ((0.995, 120), (0.98, 700))]
    a = np.real(np.poly([*poles, *np.conj(poles)]))
    noise = np.random.default_rng(seed).standard_normal(shape)
    x = lfilter([1.0], a, noise)
    return torch.from_numpy(x / x.std()).float() * 0.2


def lost_in(n, *pieces, rows=1):
    lost = torch.zeros(rows, 1, n, dtype=torch.bool)
    for start, end in pieces:
        lost[..., start:end] = True
    return lost


@pytest.mark.parametrize("pieces", [[(900, 1060)], [(0, 200)], [(1800, 2000)], [(3, 40)], [(1000, 1001)]])
def test_one_gap_is_what_the_classical_method_predicts(pieces):
    x, lost = autoregressive(2, 1, 2000), lost_in(2000, *pieces)
    made = torch.where(lost, predicted(x, lost, order=16, half=math.inf).faded, x)
    torch.testing.assert_close(made, classical_gaps.predicted(x, lost, order=16), atol=2e-4, rtol=1e-3)


def test_gaps_apart_by_more_than_the_context_are_those_of_the_classical_method():
    x, lost = autoregressive(1, 2, 3000), lost_in(3000, (500, 660), (1400, 1700), (2500, 2501))
    made = torch.where(lost, predicted(x, lost, order=16, context=400, half=math.inf).faded, x)
    torch.testing.assert_close(made, classical_gaps.predicted(x, lost, order=16, context=400), atol=2e-4, rtol=1e-3)


def test_it_is_better_than_silence_on_what_can_be_predicted():
    x = autoregressive(4, 1, 4000)
    lost = lost_in(4000, *((start, start + 40) for start in range(300, 4000, 300)))
    left = (predicted(x, lost, order=8).faded - x)[lost.expand(x.shape)].square().mean()
    assert left < 0.35 * x[lost.expand(x.shape)].square().mean()


@pytest.mark.parametrize(("order", "half", "within"), [(2, math.inf, 0.005), (64, math.inf, 0.005), (200, math.inf, 0.005), (64, 200.0, 0.1)])
def test_a_sine_is_continued_from_either_side(order, half, within):
    """With weights Burg's method is a little off the frequency, and falls behind in 300 samples."""
    at = torch.arange(2000, dtype=torch.float64)
    x = (0.3 * torch.sin(2 * math.pi * at * 440 / 8000 + 1)).float()[None, None]
    lost = lost_in(2000, (900, 1200))
    found = predicted(x, lost, order=order, half=half)
    for part in found:
        torch.testing.assert_close(part[..., 900:1200], x[..., 900:1200], atol=within, rtol=0)
        assert not part[~lost.expand(x.shape)].any()


def test_short_stretches_between_gaps_are_predicted_from_what_lies_beyond_them():
    at = torch.arange(2000, dtype=torch.float64)
    x = (0.3 * torch.sin(2 * math.pi * at * 440 / 8000)).float()[None, None]
    lost = lost_in(2000, (900, 980), (984, 1060))  # 4 known samples: enough to go on from, too few to learn from
    found = predicted(x, lost, order=2, half=math.inf)
    torch.testing.assert_close(found.ahead[..., 984:1060], x[..., 984:1060], atol=2e-2, rtol=0)
    hidden = predicted(torch.where(lost, 9.0, x), lost, order=2, half=math.inf)
    torch.testing.assert_close(hidden.faded, found.faded)  # what stands in a gap is not looked at


def test_the_order_is_no_more_than_the_samples_right_before_a_gap():
    x, lost = autoregressive(1, 1, 1000), lost_in(1000, (700, 780), (784, 860))
    four, sixteen = (predicted(x, lost, order=order).ahead[..., 784:860] for order in (4, 16))
    assert four.any()
    torch.testing.assert_close(four, sixteen)


def test_what_lies_far_away_counts_less():
    at = torch.arange(800, dtype=torch.float64)
    low, high = (torch.sin(2 * math.pi * at * f / 8000) for f in (200, 900))
    x = torch.where(at < 600, low, high).float()[None, None]
    lost = lost_in(800, (760, 800))
    errors = [(predicted(x, lost, order=4, half=half).ahead - x)[lost].square().mean() for half in (20, math.inf)]
    assert errors[0] < 0.4 * errors[1]


@pytest.mark.parametrize("scale", [0.0, 1e-7, 1.0, 1e4])
def test_silence_and_any_loudness_are_finite(scale):
    x = scale * torch.cat([autoregressive(2, 1, 1000), torch.zeros(1, 1, 1000)])
    lost = lost_in(1000, (300, 460), (470, 640), rows=3)
    for part in predicted(x, lost):
        assert part.isfinite().all()
        assert part.abs().max() <= 20 * scale
        assert not part[2].any()


def test_nothing_lost_and_all_lost_are_nothing():
    x = autoregressive(2, 2, 700)
    for lost in (lost_in(700, rows=2), ~lost_in(700, rows=2)):
        assert all(part.shape == x.shape and not part.any() for part in predicted(x, lost))


def test_a_side_of_which_nothing_is_known_does_not_count():
    x, lost = autoregressive(1, 1, 600), lost_in(600, (0, 100), (500, 600))
    found = predicted(x, lost, order=8)
    assert not found.ahead[..., :100].any()
    assert torch.equal(found.faded[..., :100], found.back[..., :100])
    assert torch.equal(found.faded[..., 500:], found.ahead[..., 500:])
    assert found.faded[..., 500:].any()


def test_rows_do_not_know_each_other_and_many_gaps_are_taken_in_portions(monkeypatch):
    x = autoregressive(3, 2, 1500)
    lost = torch.cat([lost_in(1500, (200, 360), (700, 1100)), lost_in(1500), lost_in(1500, (1490, 1500), (0, 7), (90, 91))])
    whole = predicted(x, lost)
    for i in range(3):
        for one, part in zip(predicted(x[i : i + 1], lost[i : i + 1]), whole, strict=True):
            torch.testing.assert_close(one[0], part[i], atol=1e-5, rtol=1e-4)
    monkeypatch.setattr("snowmelt.restorers.prediction._AT_ONCE", 2)
    torch.testing.assert_close(predicted(x, lost).faded, whole.faded, atol=1e-5, rtol=1e-4)


def test_prediction_ends_at_its_reach():
    x = torch.sin(torch.arange(1000) * 0.3)[None, None]
    lost = lost_in(1000, (300, 700))
    found = predicted(x, lost, order=4, reach=50)
    assert found.ahead[..., 340:350].any()
    assert not found.ahead[..., 350:].any()
    assert not found.back[..., :650].any()


def test_a_batch_without_samples_has_no_gaps():
    assert predicted(torch.zeros(0, 1, 50), torch.zeros(0, 1, 50, dtype=torch.bool)).faded.shape == (0, 1, 50)
    row, start, end = gaps(torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool))
    assert (row.tolist(), start.tolist(), end.tolist()) == ([0, 0, 2], [0, 2, 1], [1, 4, 3])


def test_coefficients_are_burg_s_and_stable():
    x = autoregressive(5, 300)
    a = burg(x, torch.ones_like(x), 12, torch.tensor([12, 12, 12, 4, 0]), torch.ones(300))
    for i, most in enumerate((12, 12, 12, 4, 0)):
        alone = classical_gaps.burg(x[i].double().numpy(), most)
        np.testing.assert_allclose(a[i, : most + 1].numpy(), alone, atol=2e-3)
        assert not a[i, most + 1 :].any()
        assert most == 0 or np.abs(np.roots(a[i, : most + 1].numpy())).max() < 1


def test_pieces_with_holes_are_segments_of_one_process():
    x = autoregressive(400)
    known = torch.ones(400)
    known[100:130] = known[300] = 0
    found = burg((x * known)[None], known[None], 6, torch.tensor([6]), torch.ones(400))[0]
    a = np.ones(1)
    errors = [(part[1:], part[:-1]) for part in (x[:100].numpy(), x[130:300].numpy(), x[301:].numpy())]
    for _ in range(6):
        k = -2 * sum(f @ b for f, b in errors) / sum(f @ f + b @ b for f, b in errors)
        a = np.append(a, 0)
        a = a + k * a[::-1]
        errors = [((f + k * b)[1:], (b + k * f)[:-1]) for f, b in errors]
    np.testing.assert_allclose(found.numpy(), a, atol=1e-4)


def test_no_gradient_is_kept():
    x = autoregressive(1, 1, 400).requires_grad_()
    assert not predicted(x, lost_in(400, (100, 150))).faded.requires_grad
