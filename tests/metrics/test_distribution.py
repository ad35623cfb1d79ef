"""Distances between sets of features: against other implementations, against the truth, and their intervals."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from snowmelt.metrics import coverage, frechet, frechet_interval, kid, kid_interval, nearest
from snowmelt.metrics.distribution import caveat
from snowmelt.randomness import generator, normal

K = 12


def rows(n: int, index: int, k: int = K, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    mixing = normal(torch.empty(k, k), generator(0, "mixing")) / k**0.5
    return normal(torch.empty(n, k), generator(0, "rows", index)) @ mixing * scale + shift


class Passed(nn.Module):
    """Features that are their input, so that torchmetrics needs no Inception."""

    num_features = K

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : self.num_features]


def as_pictures(x: Tensor) -> Tensor:
    return x[:, :, None, None]


def by_definition(a: Tensor, b: Tensor) -> float:
    """Dowson and Landau, with scipy's root of the product of both covariances."""
    p, q = a.double().numpy(), b.double().numpy()
    s, t = np.cov(p, rowvar=False), np.cov(q, rowvar=False)
    return float(np.square(p.mean(0) - q.mean(0)).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real))


@pytest.mark.parametrize(("n", "m", "shift", "scale"), [(400, 300, 0.3, 1.0), (500, 500, 0.0, 1.4), (60, 900, -1.0, 0.5)])
def test_frechet_is_the_definition_and_what_torchmetrics_says(n, m, shift, scale):
    a, b = rows(n, 1), rows(m, 2, shift=shift, scale=scale)
    theirs = FrechetInceptionDistance(feature=Passed(), normalize=True, input_img_size=(K, 1, 1)).set_dtype(torch.float64)
    theirs.update(as_pictures(a), real=True)
    theirs.update(as_pictures(b), real=False)
    assert frechet(a, b) == pytest.approx(by_definition(a, b), rel=1e-9)
    assert frechet(a, b) == pytest.approx(float(theirs.compute()), rel=1e-4, abs=1e-3)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
@pytest.mark.parametrize(("n", "m"), [(300, 300), (150, 420)])
def test_kid_is_what_torchmetrics_says_of_all_rows(n, m):
    a, b = rows(n, 1), rows(m, 2, shift=0.2)
    if n == m:  # torchmetrics takes subsets of one size: all rows, once
        theirs = KernelInceptionDistance(feature=Passed(), subsets=1, subset_size=n, normalize=True)
        theirs.update(as_pictures(a), real=True)
        theirs.update(as_pictures(b), real=False)
        assert kid(a, b) == pytest.approx(float(theirs.compute()[0]), rel=1e-3)

    def k(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() @ y.double().T / K + 1) ** 3

    within = [(k(x, x).sum() - k(x, x).trace()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    assert kid(a, b) == pytest.approx(float(within[0] + within[1] - 2 * k(a, b).mean()), rel=1e-10)


def test_pieces_change_nothing(monkeypatch):
    a, b = rows(70, 1), rows(50, 2)
    whole = frechet(a, b), kid(a, b), nearest(a, b)[0].tolist(), coverage(a, b)
    monkeypatch.setattr("snowmelt.metrics.distribution._CHUNK", 3)
    again = frechet(a, b), kid(a, b), nearest(a, b)[0].tolist(), coverage(a, b)
    assert again[0] == whole[0]
    assert again[1] == pytest.approx(whole[1], rel=1e-12)
    assert again[2:] == whole[2:]


def test_a_set_is_at_distance_zero_from_itself_and_a_shift_costs_its_square():
    a = rows(200, 1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + 2.0) == pytest.approx(4 * K, rel=1e-6)
    assert frechet(a, rows(200, 2)) == pytest.approx(frechet(rows(200, 2), a), rel=1e-9)


def test_a_singular_covariance_gives_a_number_and_a_caveat():
    few, many = rows(6, 1), rows(500, 2)
    found = frechet(few, many)
    assert found > frechet(rows(400, 3), many)
    assert "singular" in caveat(6, 500, K)
    assert "bias" in caveat(500, 2 * K - 1, K)
    assert caveat(2 * K, 2 * K, K) is None


def test_the_bias_is_of_fd_not_of_kid():
    pairs = [(rows(60, 2 * i), rows(60, 2 * i + 1)) for i in range(40)]
    kernel = torch.tensor([kid(a, b) for a, b in pairs])
    assert min(frechet(a, b) for a, b in pairs) > 0.5  # equal laws, and yet
    assert abs(float(kernel.mean())) < 3 * float(kernel.std()) / len(pairs) ** 0.5


def by_hand(a: Tensor, b: Tensor) -> float:
    """The kernel distance of pairs, pair by pair: never a row with itself, never a picture with its own original."""
    total = {"aa": 0.0, "bb": 0.0, "ab": 0.0}
    for i in range(len(a)):
        for j in range(len(a)):
            if i != j:
                for name, (x, y) in {"aa": (a, a), "bb": (b, b), "ab": (a, b)}.items():
                    total[name] += (float(x[i].double() @ y[j].double()) / a.shape[1] + 1) ** 3
    return (total["aa"] + total["bb"] - 2 * total["ab"]) / (len(a) * (len(a) - 1))


def restored(clean: Tensor, index: int, shift: float = 0.2) -> Tensor:
    return clean + 0.1 * rows(len(clean), index) + shift


def test_the_kernel_distance_of_pairs_leaves_out_a_picture_and_its_own_original(monkeypatch):
    clean = rows(17, 0)
    a = restored(clean, 1)
    assert kid(a, clean, paired=True) == pytest.approx(by_hand(a, clean), rel=1e-9)
    assert kid(a, clean, paired=True) > kid(a, clean)
    monkeypatch.setattr("snowmelt.metrics.distribution._CHUNK", 5)
    assert kid(a, clean, paired=True) == pytest.approx(by_hand(a, clean), rel=1e-9)


def test_a_perfect_restorer_has_a_kernel_distance_of_zero_with_any_pictures():
    clean = rows(90, 0)
    assert kid(clean, clean.clone(), paired=True) == pytest.approx(0, abs=1e-12)
    assert kid_interval(clean, clean.clone(), paired=True, resamples=30) == pytest.approx((0, 0), abs=1e-12)
    assert kid(clean, clean.clone()) < -0.05  # what the pairs of a picture and its original would make of it


def test_the_kernel_distance_of_pairs_is_on_average_what_many_pictures_give():
    many = rows(6000, 0)
    truth = kid(restored(many, 1), many, paired=True)
    small = [rows(25, 2 * i + 10) for i in range(300)]
    values, mixed = (torch.tensor([kid(restored(x, 2 * i + 11), x, paired=paired) for i, x in enumerate(small)]) for paired in (True, False))
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - truth) < 3 * error
    assert float(mixed.mean()) - truth < -10 * error


def test_the_interval_of_pairs_holds_its_own_estimate():
    for i in range(8):
        clean = rows(80, 3 * i)
        for shift in (0.0, 0.3):
            a = restored(clean, 3 * i + 1, shift)
            low, high = kid_interval(a, clean, paired=True, resamples=60)
            assert low < kid(a, clean, paired=True) < high


@pytest.mark.parametrize(("distance", "interval"), [(frechet, frechet_interval), (kid, kid_interval)])
def test_an_interval_holds_what_other_pictures_of_the_same_sources_give(distance, interval):
    low, high = interval(rows(150, 0), rows(150, 1, shift=0.4), resamples=100)
    values = [distance(rows(150, 2 * i), rows(150, 2 * i + 1, shift=0.4)) for i in range(1, 41)]
    spread = float(torch.tensor(values).std())
    assert low < distance(rows(150, 0), rows(150, 1, shift=0.4)) < high
    assert 2 * spread < high - low < 8 * spread  # 3.9 for a normal law
    assert interval(rows(50, 0), rows(50, 1), resamples=20, run=3) == interval(rows(50, 0), rows(50, 1), resamples=20, run=3)
    assert interval(rows(50, 0), rows(50, 1), resamples=20, run=3) != interval(rows(50, 0), rows(50, 1), resamples=20, run=4)


def test_pairs_are_drawn_together():
    clean = rows(200, 0)
    restored = clean + 0.05 * rows(200, 1) + 0.3
    for interval in (frechet_interval, kid_interval):
        together, apart = (interval(restored, clean, paired=paired, resamples=50) for paired in (True, False))
        assert together[1] - together[0] < 0.6 * (apart[1] - apart[0])
        with pytest.raises(ValueError, match="one row each per picture; these have 200 and 199"):
            interval(restored, clean[:-1], paired=True)
        with pytest.raises(ValueError, match="resamples = 19 lies under 20"):
            interval(restored, clean, resamples=19)


def test_the_excess_of_resampled_frechet_distances_is_taken_off():
    a, b = rows(60, 0), rows(60, 1)
    low, high = frechet_interval(a, b, resamples=100)
    assert low < frechet(a, b) < high  # resampled, they are about twice that


def test_resampled_kernel_distances_are_not_moved_by_rows_drawn_twice():
    a, b = rows(100, 0), rows(100, 1)
    low, high = kid_interval(a, b, resamples=200)
    assert (low + high) / 2 == pytest.approx(kid(a, b), abs=0.35 * (high - low))


def test_nearest_finds_copies_at_distance_zero_and_ties_go_to_the_first():
    held = rows(3000, 0, k=300) + 50  # a common offset, as pictures have
    asked = torch.cat([held[[2999, 17]], held[[5]] + 0.01])
    held[40] = held[17]
    index, distance = nearest(asked, held)
    assert index.tolist() == [2999, 17, 5]
    assert distance[:2].tolist() == [0.0, 0.0]
    assert float(distance[2]) == pytest.approx(0.01 * 300**0.5, rel=1e-3)


def test_nearest_is_brute_force_for_pictures():
    a, b = rows(40, 0, k=48).view(40, 3, 4, 4), rows(70, 1, k=48).view(70, 3, 4, 4)
    index, distance = nearest(a, b)
    every = (a.double().flatten(1)[:, None] - b.double().flatten(1)).square().sum(2).sqrt()
    assert torch.equal(index, every.argmin(1))
    assert torch.allclose(distance, every.min(1).values)
    assert nearest(a[:0], b)[0].shape == (0,)


def test_coverage_tells_lost_modes_from_bad_samples():
    real = torch.cat([rows(150, 0, k=4), rows(150, 1, k=4) + 60])
    same = torch.cat([rows(150, 2, k=4), rows(150, 3, k=4) + 60])
    one_mode, bad = rows(300, 4, k=4), rows(300, 5, k=4) - 500
    alike, lost, wrong = (coverage(x, real) for x in (same, one_mode, bad))
    assert min(alike.values()) > 0.8
    assert lost["precision"] > 0.8
    assert lost["coverage"] < 0.6
    assert lost["recall"] < 0.6
    assert wrong == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}
    with pytest.raises(ValueError, match=r"neighbours = 5 lies outside \[1, 2\]"):
        coverage(real[:3], real)


@pytest.mark.parametrize("distance", [frechet, kid, frechet_interval, kid_interval, coverage])
def test_what_has_no_distance_is_refused(distance):
    good = rows(10, 0)
    bad = good.clone()
    bad[3, 2] = float("nan")
    for a, b, word in [(good, bad, "NaN or infinity in 1 of 10 rows"), (good[:1], good, "n = 2"), (good, good[:, :5], "one network")]:
        with pytest.raises(ValueError, match=word):
            distance(a, b)
