"""The small training loop: which samples it asks for, at which rates, and how it is interrupted."""

import os
import signal

import pytest
import torch
from torch import Tensor, nn

from snowmelt.stopping import Stopped
from snowmelt.training import descent
from snowmelt.training.descent import descend, warm_cosine
from snowmelt.training.scaling import Diverged


def run(
    weight: nn.Parameter, seen: list[range], *, steps: int = 40, clip: float | None = None, slope: float = 1.0, stop_at: int | None = None
) -> None:
    def loss(numbers: range) -> Tensor:
        seen.append(numbers)
        if len(seen) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return slope * (weight - 3).square().sum()

    descend([weight], loss, steps, 4, rate=lambda step: 0.2, weight_decay=0.0, clip=clip, title="x", way_out="begin again", unit="crops")


def test_it_goes_down_and_numbers_the_samples_on() -> None:
    weight, seen = nn.Parameter(torch.zeros(1)), []
    run(weight, seen)
    assert abs(float(weight.detach()) - 3) < 0.2
    assert [i for numbers in seen for i in numbers] == list(range(160))


def test_the_gradient_is_clipped_where_asked() -> None:
    norms = []
    for clip in (None, 0.5):
        weight = nn.Parameter(torch.zeros(1))
        run(weight, [], steps=1, clip=clip, slope=100.0)
        assert weight.grad is not None
        norms.append(float(weight.grad.norm()))
    assert norms == [600.0, pytest.approx(0.5)]


def test_steps_without_a_finite_loss_are_skipped_and_three_in_a_row_end_it() -> None:
    def fit(weight: nn.Parameter, bad: set[int], steps: int) -> None:
        def loss(numbers: range) -> Tensor:
            return (weight - 3).square().sum() * (float("nan") if numbers.start // 4 in bad else 1)

        descend([weight], loss, steps, 4, rate=lambda step: 0.2, weight_decay=0.1, title="reading", way_out="begin again")

    whole, spoiled, ended = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    fit(whole, set(), 30)
    fit(spoiled, {0, 7, 8, 21}, 34)
    assert torch.equal(whole, spoiled)
    with pytest.raises(Diverged, match="reading: the loss or its gradient was no finite number in 3 steps in a row, up to step 40; nothing was kept"):
        fit(ended, {18, 19, 37, 38, 39}, 40)
    assert bool(ended.isfinite())


def test_ctrl_c_ends_it_between_two_steps_and_says_the_way_on() -> None:
    seen: list[range] = []
    with pytest.raises(Stopped, match=r"stopped after 12 of 160 crops; begin again"):
        run(nn.Parameter(torch.zeros(1)), seen, stop_at=3)
    assert len(seen) == 3


@pytest.mark.parametrize(("steps", "told"), [(1, [4]), (20, [80]), (47, [80, 80, 28])])
def test_the_bar_is_told_seldom_and_of_every_sample_once(monkeypatch: pytest.MonkeyPatch, steps: int, told: list[int]) -> None:
    advance, seen = descent.Bar.advance, []
    monkeypatch.setattr(descent.Bar, "advance", lambda self, n, **values: seen.append(n) or advance(self, n, **values))
    run(nn.Parameter(torch.zeros(1)), [], steps=steps)
    assert seen == told


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [warm_cosine(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[-1] < 0.01
    assert warm_cosine(0, 1, 1.0, 0.05) == 1.0
