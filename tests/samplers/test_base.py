"""The one loop, with samplers of a user's own: grids that stay, correctors, and estimates that are clipped."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.samplers import Ancestral, Heun, Naive, TACoS
from snowmelt.types import State

DOUBLE = torch.float64


def pixels() -> Tensor:
    return torch.empty(3, 3, 4, 6, dtype=DOUBLE).uniform_(-1, 1, generator=generator(0, "pixels"))


def guess(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x.flip(-1) + 0.3 * x + t[:, None, None, None])


class Stays(Naive):
    """Goes down to a half, stays there, and ends."""

    def grid(self) -> list[float]:
        return [1.0, 0.5, 0.5, 0.0]


def test_order_2_extrapolates_from_no_severity_to_itself():
    """A grid that repeats a severity: the step after it has no earlier severity to extrapolate from."""
    answers = []
    model = Model(build("grey"), lambda x, t: answers.append(guess(x, t)) or answers[-1])
    states = list(Stays(order=2).trajectory(model, State(pixels(), 1.0)))
    assert [state.t for state in states] == [1, 0.5, 0.5, 0]
    assert len(answers) == 3
    assert all(bool(state.x.isfinite().all()) for state in states)
    assert torch.equal(states[2].x, model.degradation(answers[1], torch.full((3,), 0.5, dtype=DOUBLE)))
    assert torch.equal(states[3].x, answers[2])


class Corrected(TACoS):
    """A corrector of a user's own, who says no more of it than that there is one."""

    corrector = True


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (2, 1), (5, 5), (6, 5), (13, 13)])
def test_a_corrector_of_ones_own_makes_the_calls_it_was_given(steps, calls):
    seen = []
    model = Model(build("grey"), lambda x, t: seen.append(t) or guess(x, t))
    sampler = Corrected(steps)
    found = sampler.sample(model, State(pixels(), 1.0))
    assert len(seen) == calls == sampler.calls(model.degradation)
    assert Corrected(times=tuple(sampler.levels()[:-1])).steps == calls
    assert torch.equal(found, Heun(steps).sample(model, State(pixels(), 1.0)))


@pytest.mark.parametrize("sampler", [Naive(3), TACoS(3), Ancestral(3), Heun(5), Corrected(5)], ids=lambda s: type(s).__name__)
def test_every_estimate_is_clipped_before_anything_is_made_of_it(sampler):
    """Of a corrector the second one too."""
    answers, seen = [], []
    model = Model(build("noise"), lambda x, t: answers.append(5 * guess(x, t)) or answers[-1], range=(-1.0, 0.5))
    start = model.corrupt(pixels(), 1.0, generator(0, "z"))
    states = list(replace(sampler, clip=True).trajectory(model, start, generator(1, "w"), post=lambda x: seen.append(x) or x + 2))
    assert len(seen) == len(answers) + 1 == sampler.calls(model.degradation) + 1
    assert all(torch.equal(given, answer.clamp(-1, 0.5)) for given, answer in zip(seen, answers, strict=False))
    assert all(float(answer.abs().max()) > 1 for answer in answers)
    assert all(any(state.x0 is answer for answer in answers) for state in states[1:]), "a state holds what the restorer said"
    assert float(states[-1].x.min()) > 0.9, "what post makes of an estimate is not clipped"
