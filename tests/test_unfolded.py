"""Unfolded training and the named penalties, against the formulas written out."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from snowmelt.losses import PENALTIES, distance, estimates, frequency_penalty, gradient_penalty, restoration_loss, unfolded_loss
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.samplers import Ancestral, TACoS
from snowmelt.sensor import encoded, in_metres, measured
from snowmelt.training.options import TrainingOptions
from snowmelt.types import State


def pair(shape=(3, 1, 64)):
    source = generator(0, "pair")
    return torch.randn(shape, dtype=torch.float64, generator=source), torch.randn(shape, dtype=torch.float64, generator=source)


def wrong(x_t, t):
    """A restorer that errs, differently at every severity."""
    return 0.5 * x_t + t.reshape(-1, *(1,) * (x_t.ndim - 1)).to(x_t)


@pytest.mark.parametrize(("degradation", "sampler"), [("noise:schedule=linear", Ancestral(eta=0.0)), ("gaussian-blur:sigma_px=2", TACoS())])
def test_the_second_call_is_where_a_step_of_the_walk_leads(degradation, sampler):
    x0 = pair((3, 1, 8, 8))[0]
    model = Model(build(degradation), wrong)
    t, s = torch.full((3,), 0.8, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)
    z = model.draw(x0, generator(1, "z"))
    x_t = model.degrade(x0, t, z)
    two = dataclasses.replace(sampler, steps=2, times=(1.0, 0.375))
    walked = list(two.trajectory(model, State(x_t, 0.8, z)))
    first, second = (distance(walked[i].x0, x0, "l2") for i in (1, 2))
    found = unfolded_loss(model, x0, t, s, z)
    assert found.tolist() == pytest.approx(((first + second) / 2).tolist(), rel=1e-9)
    assert not torch.allclose(found, restoration_loss(model, x0, t, z))


def test_a_perfect_restorer_has_no_unfolded_loss_and_both_calls_have_a_gradient():
    x0 = pair()[0]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    model = Model(build("noise:schedule=linear"), lambda x_t, t: scale * x0)
    t, z = torch.full((3,), 0.9, dtype=torch.float64), model.draw(x0, generator(1, "z"))
    assert float(unfolded_loss(model, x0, t, t / 2, z).detach().abs().max()) == 0
    calls = []

    def counted(x_t, t):
        calls.append(x_t)
        return scale * x_t

    unfolded_loss(dataclasses.replace(model, restorer=counted), x0, t, t / 2, z).sum().backward()
    assert len(calls) == 2
    assert calls[1].requires_grad  # through the step, back to the first call
    assert scale.grad is not None


def test_the_gradient_penalty_is_that_of_neighbouring_errors():
    for shape in ((3, 1, 64), (2, 3, 6, 7)):
        a, b = pair(shape)
        error = (a - b).numpy()
        along = [np.abs(np.diff(error, axis=axis)).reshape(len(error), -1).mean(1) for axis in range(2, error.ndim)]
        assert gradient_penalty(a, b).tolist() == pytest.approx(np.mean(along, axis=0).tolist(), rel=1e-12)
    assert float(gradient_penalty(a + 1, a).max()) < 1e-12  # an offset has no gradient


def test_the_squares_penalty_is_the_mean_squared_error():
    a, b = pair((2, 3, 4, 5))
    assert PENALTIES["squares"](a, b).tolist() == pytest.approx(((a - b).numpy() ** 2).mean((1, 2, 3)).tolist(), rel=1e-12)


def test_the_frequency_penalty_asks_for_energy_and_not_for_phase():
    n = torch.arange(2048) / 8000
    tone = (0.2 * torch.sin(2 * math.pi * 1000 * n))[None, None]
    late = (0.2 * torch.sin(2 * math.pi * 1000 * n + 1.0))[None, None]
    lost = torch.zeros_like(tone)
    assert float(frequency_penalty(tone, tone)) == 0
    assert float(frequency_penalty(late, tone)) < 0.1 * float(frequency_penalty(lost, tone))
    assert float(distance(late, tone, "l2")) > 0.9 * float(distance(lost, tone, "l2"))  # the distance thinks otherwise


def test_the_frequency_penalty_is_its_formula_on_one_window():
    a, b = (x[:, :, :40].float() for x in pair())
    shape = np.hanning(33)[:32]
    frames = [slice(i, i + 32) for i in range(0, 9, 8)]

    def logs(x):
        spectra = np.stack([np.fft.rfft(x[..., frame] * shape) for frame in frames], -1)
        return np.log(np.abs(spectra) ** 2 + 1e-5) / 2

    wanted = np.abs(logs(a.numpy()) - logs(b.numpy())).reshape(3, -1).mean(1)
    assert frequency_penalty(a, b).tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


def test_penalties_are_finite_on_silence_and_refuse_what_they_cannot_see():
    silence = torch.zeros(1, 1, 600, requires_grad=True)
    for name, penalty in PENALTIES.items():
        out = penalty(silence, torch.zeros(1, 1, 600)).sum()
        assert float(out.detach()) == 0, name
        (gradient,) = torch.autograd.grad(out, silence)
        assert bool(gradient.isfinite().all()), name
    with pytest.raises(ValueError, match=r"frequency looks at windows of 32 .* have 16"):
        frequency_penalty(torch.zeros(1, 1, 16), torch.zeros(1, 1, 16))


def test_a_penalised_restorer_says_that_it_is_no_mean():
    assert estimates("l2", penalty="frequency") == "penalised"
    with pytest.raises(TypeError, match="penalised"):
        Model(build("noise"), wrong, estimates="penalised").score(torch.zeros(1, 1, 4), torch.ones(1))


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"training\.gap tunes"):
        TrainingOptions(gap=0.5, unfold=True)
    with pytest.raises(ValueError, match=r"penalty_weight = 0"):
        TrainingOptions(penalty="gradient", penalty_weight=0)
    with pytest.raises(ValueError, match=r"training\.penalty"):
        TrainingOptions(penalty="blur")


def test_only_what_was_measured_counts():
    x0 = torch.rand(2, 3, 4, 8) * 2 - 1
    x0[:, 2] = 1
    x0[0, :, :2] = -1  # nothing came back
    model = Model(build("ray-drop"), lambda x_t, t: x0 + wrong_there)
    wrong_there = torch.zeros_like(x0)
    wrong_there[0, :2, :2] = 5  # range and reflectance of what is not there
    t, z = torch.ones(2), model.draw(x0, generator(0, "z"))
    assert float(restoration_loss(model, x0, t, z).max()) > 1
    assert float(restoration_loss(model, x0, t, z, counted=measured).max()) == 0
    assert float(unfolded_loss(model, x0, t, t / 2, z, counted=measured).max()) == 0
    wrong_there[0, 2, 0, 0] = 1  # that it is not there counts
    assert float(restoration_loss(model, x0, t, z, counted=measured)[0]) == pytest.approx(1 / x0[0].numel())
    with pytest.raises(ValueError, match=r"leave training\.unfold, penalty and counted out"):
        TrainingOptions(gap=0.5, counted="returns")


def test_errors_of_range_count_in_tens_of_metres():
    near, far = encoded(torch.tensor([4.0, 60.0]), 80.0)
    x0 = torch.ones(1, 3, 1, 2)
    x0[0, 0, 0] = torch.stack([near, far])
    moved = x0.clone()
    moved[0, 0, 0] = encoded(torch.tensor([4.1, 60.1]), 80.0)
    seen = in_metres(x0, 80.0) * (moved - x0)
    assert seen[0, 0, 0].tolist() == pytest.approx([0.01, 0.01], rel=0.02)
    assert seen[0, 1:].abs().max() == 0
    assert float(in_metres(torch.full_like(x0, -1), 80.0)[0, :2].max()) == 0
