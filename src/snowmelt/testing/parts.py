"""Checks of the other parts: schedules, samplers, backbones, restorers."""

from collections.abc import Callable

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import label
from snowmelt.restorers import Backbone
from snowmelt.samplers import Sampler
from snowmelt.schedules import Schedule
from snowmelt.testing.findings import close, require, spec_round_trip
from snowmelt.testing.samples import pixels, samples


def check_schedule(schedule: Schedule) -> None:
    """Check (alpha, sigma) = (1, 0) at t = 0, finite and monotone over [0, 1].

    Raises:
        ContractError: a clause does not hold.
    """
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule(t)
    name = label(type(schedule))
    close(name, "(alpha, sigma) at t = 0", torch.stack([alpha[0], sigma[0]]), torch.tensor([1.0, 0.0], dtype=torch.float64), 1e-12)
    require(alpha.isfinite().all() and sigma.isfinite().all(), name, "alpha and sigma are not finite over [0, 1]")
    require((alpha.diff() <= 1e-12).all() and (sigma.diff() >= -1e-12).all(), name, "alpha must fall and sigma must rise with t")
    spec_round_trip(schedule)


def check_sampler(sampler: Sampler, degradation: Degradation, *, shape: tuple[int, ...] | None = None) -> None:
    """Check that with a perfect restorer the sampler returns the truth, and that it calls the restorer `steps` times.

    Raises:
        ContractError: a clause does not hold.
    """
    x, calls = samples(degradation, 3, shape), []

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x

    model = Model(degradation, oracle)
    out = sampler.sample(model, model.corrupt(x, 1.0, generator(0, "check")), generator(1, "check"))
    close(label(type(sampler)), f"the result on {registry.spec(degradation)} with a perfect restorer", out, x, 1e-9)
    require(len(calls) <= sampler.steps, label(type(sampler)), f"made {len(calls)} calls of the restorer with steps = {sampler.steps}")
    spec_round_trip(sampler)


def check_backbone(backbone: Backbone, *, channels: tuple[int, int] = (4, 3)) -> None:
    """Check that the network keeps the sides of its samples, whatever they are, and depends on each row's own input only.

    Samples are recordings for a backbone that says it works on one axis, else pictures.

    Raises:
        ContractError: a clause does not hold.
    """
    name, net = label(type(backbone)), backbone.build(*channels).eval()
    for sides in ((256,), (271,), (5,)) if backbone.axes == 1 else ((16, 16), (13, 21), (5, 7)):
        x, t = pixels(2, (channels[0], *sides)).float(), torch.tensor([0.2, 0.9])
        with torch.no_grad():
            out, alone = net(x, t), net(x[1:], t[1:])
        require(out.shape == (2, channels[1], *sides), name, f"turned {tuple(x.shape)} into {tuple(out.shape)}")
        close(name, "a row alone against the same row in a batch", alone, out[1:], 1e-4)


def check_restorer(restorer: Callable[..., Tensor], *, shape: tuple[int, ...] = (3, 12, 16)) -> None:
    """Check that restorer(x_t, t) keeps the shape, is finite over [0, 1] and does not change its input.

    Raises:
        ContractError: a clause does not hold.
    """
    x, t = pixels(5, shape).float(), torch.linspace(0, 1, 5)
    before = x.clone()
    with torch.no_grad():
        out = restorer(x, t)
    require(out.shape == x.shape, "restorer", f"turned {tuple(x.shape)} into {tuple(out.shape)}")
    require(out.isfinite().all(), "restorer", "returned values that are not finite")
    require(torch.equal(x, before), "restorer", "changed x_t in place")
