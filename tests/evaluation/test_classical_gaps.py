"""Gaps in sound, filled: against least squares written out, and sounds that predict themselves."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from snowmelt.evaluation import classical_gaps as classical

VOWEL = np.poly(0.97 * np.exp(1j * np.array([0.25, 0.6, 1.3])[:, None] * [1, -1]).ravel()).real


def autoregressive(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(signal.lfilter([1.0], VOWEL, np.random.default_rng(seed).standard_normal(n)))


def tones(n: int = 2000) -> Tensor:
    t = torch.arange(n, dtype=torch.float64)
    return (torch.sin(0.31 * t) + 0.5 * torch.sin(0.77 * t + 1))[None, None]


def hole(n: int, *spans: tuple[int, int]) -> Tensor:
    lost = torch.zeros(1, 1, n, dtype=torch.bool)
    for start, end in spans:
        lost[..., start:end] = True
    return lost


def test_gaps_are_found() -> None:
    assert list(classical.gaps(np.array([1, 1, 0, 0, 1, 0, 1], dtype=bool))) == [(0, 2), (4, 5), (6, 7)]
    assert list(classical.gaps(np.zeros(3, dtype=bool))) == []


def test_a_line_is_drawn_over_a_gap() -> None:
    x = torch.arange(20.0)[None, None].square()
    out = classical.linear(x, hole(20, (0, 2), (5, 8), (18, 20)))
    assert out[0, 0, :2].tolist() == [4, 4]
    assert out[0, 0, 4:9].tolist() == [16, 28, 40, 52, 64]
    assert out[0, 0, 17:].tolist() == [289] * 3


def test_burg_finds_the_coefficients() -> None:
    found = classical.burg(autoregressive(20_000), len(VOWEL) - 1)
    assert found == pytest.approx(VOWEL, abs=0.1)
    assert np.abs(np.roots(classical.burg(autoregressive(90), 30))).max() < 1


def test_tones_are_continued() -> None:
    x = tones(1000)[0, 0].numpy()
    assert classical.extrapolated(x[:900], 32, 50) == pytest.approx(x[900:950], abs=0.05)
    assert not classical.extrapolated(np.zeros(100), 8, 5).any()
    assert not classical.extrapolated(x[:2], 8, 5).any()


@pytest.mark.parametrize("fill", [classical.predicted, classical.least_squares])
def test_tones_are_filled_in(fill: object) -> None:
    x, lost = tones(), hole(2000, (600, 680), (900, 960), (0, 5), (1990, 2000))
    out = fill(x.masked_fill(lost, 0), lost, order=32)  # type: ignore[operator]
    assert torch.equal(out[~lost], x[~lost])
    assert (out - x)[..., 590:970].abs().max() < 0.1
    assert (classical.linear(x, lost) - x)[..., 590:970].abs().max() > 1
    assert torch.equal(fill(x, lost & False), x)  # type: ignore[operator]
    assert torch.equal(fill(x, lost | True), x)  # type: ignore[operator]


def test_least_squares_is_the_least_of_squares() -> None:
    """The sum of all e_n^2 of the piece between silences, minimised by a general solver over a matrix that is written out."""
    x = autoregressive(120)
    gone = np.zeros(120, dtype=bool)
    gone[[40, 41, 42, 60, 80, 81]] = True
    begun = np.where(gone, 0.0, x)
    order = 4
    lags = np.array([begun[: 120 - k] @ begun[k:] for k in range(order + 1)])
    lags[0] *= 1 + classical._RIDGE
    a = np.concatenate([[1.0], np.linalg.solve(np.array([[lags[abs(i - j)] for j in range(order)] for i in range(order)]), -lags[1:])])
    matrix = np.zeros((120 + order, 120))
    for i in range(120):
        matrix[i : i + order + 1, i] = a
    wanted = np.linalg.lstsq(matrix[:, gone], -matrix[:, ~gone] @ x[~gone], rcond=None)[0]
    found = classical._janssen(begun, gone, order, 1)
    assert found[gone] == pytest.approx(wanted, abs=1e-8)
    assert found[~gone] == pytest.approx(x[~gone])


def test_resonances_are_filled_better_than_by_a_line() -> None:
    x = torch.tensor(np.array([autoregressive(4000, seed) for seed in range(3)]))[:, None]
    lost = hole(4000, *((start, start + 12) for start in range(200, 3900, 100)))
    begun = x.masked_fill(lost, 0)

    def error(out: Tensor) -> float:
        return float((out - x).square().sum() / begun.sub(x).square().sum())

    line, ahead = error(classical.linear(begun, lost)), error(classical.predicted(begun, lost, order=12))
    squares = error(classical.least_squares(begun, lost, order=12))
    assert squares < ahead < 0.7
    assert squares < 0.3 < line


def test_clipped_peaks_are_rounded_off_again() -> None:
    x = tones().repeat(2, 1, 1)
    level = torch.tensor([0.9, 1.1], dtype=torch.float64)
    clipped = torch.minimum(torch.maximum(x, -level[:, None, None]), level[:, None, None])
    out = classical.declipped(clipped, level, order=16)
    beyond = clipped.abs() >= level[:, None, None]
    assert torch.equal(out[~beyond], clipped[~beyond])
    assert bool((out.abs() >= clipped.abs() - 1e-9).all())
    assert (out - x).square().mean() < 0.2 * (clipped - x).square().mean()
    assert torch.equal(classical.declipped(x, torch.tensor([9.0, 9.0])), x)
