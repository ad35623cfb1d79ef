"""Whole chains against the schedulers of diffusers, whose float32 tables are replaced by float64 ones: equal to 1e-8, random numbers included."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import GaussianNoise
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.restorers import Informed
from snowmelt.samplers import Ancestral, Sampler
from snowmelt.schedules import Betas
from snowmelt.types import EMPTY, Draw, State

DOUBLE = torch.float64
SHAPE = (2, 3, 6, 8)
PREDICTIONS = ["sample", "epsilon", "v_prediction"]
RESPACED = [(50, 50), (200, 25), (1000, 20)]


def net(channels: int) -> Callable[[Tensor, Tensor], Tensor]:
    """An arbitrary network with so many channels in for every one out."""
    d = math.prod(SHAPE[1:])
    weight = torch.randn(channels * d, d + 1, dtype=DOUBLE, generator=generator(0, "weight")) / math.sqrt(d)

    def apply(x: Tensor, t: Tensor) -> Tensor:
        out = torch.tanh(torch.cat([x.flatten(1), 3 * t[:, None]], 1) @ weight.mT)
        return out.reshape(len(x), channels * SHAPE[1], *SHAPE[2:])

    return apply


class Predicting(Informed):
    """The network of a diffusers pipeline as a restorer: its answer is the noise, v or the sample, and perhaps where the variance lies."""

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], prediction: str, noise: GaussianNoise, learned: bool = False) -> None:
        super().__init__()
        self.f, self.prediction, self.noise, self.learned = f, prediction, noise, learned

    def predict(self, x_t: Tensor, t: Tensor, z: Draw = EMPTY) -> tuple[Tensor, Tensor | None]:
        assert "spread" not in z
        out = self.f(x_t, t)
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in self.noise.schedule(t))
        spread = None
        if self.learned:
            out, v = out.chunk(2, 1)
            spread = (v + 1) / 2
        match self.prediction:
            case "epsilon":
                out = (x_t - sigma * out) / alpha
            case "v_prediction":
                out = alpha * x_t - sigma * out
        return out, spread


def tables(other: object, steps: int) -> None:
    """float64 tables of linear betas, written out here so that it is not ours that is compared with ours."""
    other.betas = torch.linspace(1e-4, 0.02, steps, dtype=DOUBLE)  # type: ignore[attr-defined]
    other.alphas = 1 - other.betas  # type: ignore[attr-defined]
    other.alphas_cumprod = torch.cumprod(other.alphas, 0)  # type: ignore[attr-defined]
    other.one = other.final_alpha_cumprod = torch.ones((), dtype=DOUBLE)  # type: ignore[attr-defined]


def theirs(other: object, steps: int, calls: int, f: Callable[[Tensor, Tensor], Tensor], start: Tensor, **options: object) -> Iterator[object]:
    """What the scheduler's steps return, one after the other."""
    tables(other, steps)
    other.set_timesteps(calls)  # type: ignore[attr-defined]
    x, source = start, generator(3, "walk")
    for t in other.timesteps:  # type: ignore[attr-defined]
        out = f(x, torch.full((len(x),), (int(t) + 1) / steps, dtype=DOUBLE))
        found = other.step(out, int(t), x, generator=source, **options)  # type: ignore[attr-defined]
        x = found.prev_sample
        yield found


def agree(sampler: Sampler, noise: GaussianNoise, restorer: Informed, start: Tensor, expected: list[object], *, noisy_end: bool = False) -> None:
    """Every state of the walk, and the end; diffusers adds noise after the last step of a respaced chain, DDPM and we do not."""
    states = list(sampler.trajectory(Model(noise, restorer), State(start, 1.0), generator(3, "walk")))[1:]
    assert len(states) == len(expected)
    for i, (seen, found) in enumerate(zip(states, expected, strict=True)):
        last = i == len(expected) - 1
        answer = found.pred_original_sample if last and noisy_end else found.prev_sample  # type: ignore[attr-defined]
        torch.testing.assert_close(seen.x, answer, rtol=0, atol=1e-8)
        assert set(seen.z) == {"endpoint"}
    assert (states[-1].x - start).abs().max() > 0.5
    assert not any(torch.equal(a.x, b.x) for a, b in itertools.pairwise(states))


@pytest.mark.parametrize(("steps", "calls"), RESPACED)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("theirs_is", "ours"), [("fixed_small", "small"), ("fixed_large", "large"), ("learned_range", "learned")])
def test_ddpm(theirs_is, ours, prediction, steps, calls):
    from diffusers import DDPMScheduler

    other = DDPMScheduler(
        steps,
        beta_schedule="linear",
        prediction_type=prediction,
        clip_sample=False,
        variance_type=theirs_is,
        timestep_spacing="trailing",
    )
    learned, start, noise = ours == "learned", normal(torch.empty(SHAPE, dtype=DOUBLE), generator(2, "start")), GaussianNoise(Betas(steps))
    f = net(2 if learned else 1)
    expected = list(theirs(other, steps, calls, f, start))
    agree(Ancestral(calls, variance=ours), noise, Predicting(f, prediction, noise, learned), start, expected, noisy_end=ours != "small")


@pytest.mark.parametrize(("steps", "calls"), RESPACED)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(eta, prediction, steps, calls):
    from diffusers import DDIMScheduler

    other = DDIMScheduler(
        steps,
        beta_schedule="linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    start, noise, f = normal(torch.empty(SHAPE, dtype=DOUBLE), generator(2, "start")), GaussianNoise(Betas(steps)), net(1)
    expected = list(theirs(other, steps, calls, f, start, eta=eta))
    agree(Ancestral(calls, eta=eta), noise, Predicting(f, prediction, noise), start, expected)
