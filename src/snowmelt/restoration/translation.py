r"""Translation: from a picture of one kind to one of another, with a model of ``morph``.

The walk begins where training ended: at t = 1 the picture is the endpoint itself, :math:`x_1 = y`. On the way to t = 0 the endpoint either
stays what it was (*fixed*: TACoS), or is solved anew at every step from what the restorer believes (*estimated*: the algebra of DDIM),

.. math:: \hat y = (x_t - \alpha_t \hat x_0) / \sigma_t, \qquad x_s = \alpha_s \hat x_0 + \sigma_s \hat y.

With pairs, an estimated endpoint is InDI. A little noise on x_1 gives what a deterministic walk lacks: several answers to one picture.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 5.2; Delbracio and Milanfar 2023 (arXiv 2303.11435), algorithm 1.
"""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from snowmelt.data.images import Picture, resize, shrunk, to_channels
from snowmelt.degradations import Morph
from snowmelt.model import Model, noted
from snowmelt.randomness import normal
from snowmelt.registry import spec
from snowmelt.restoration.walks import begin
from snowmelt.restorers import Restorer
from snowmelt.samplers import Ancestral, Sampler, TACoS
from snowmelt.types import Batch, Generators, State

Endpoint: TypeAlias = Literal["estimated", "fixed"]
CALLS = 12


def translate(
    model: Model,
    x: Batch,
    *,
    endpoint: Endpoint = "estimated",
    steps: int | None = None,
    noise: float | None = None,
    generator: Generators = None,
) -> Batch:
    """The pictures of the model's kind that x, pictures of its endpoint's kind, turn into: (b, c, h, w).

    Args:
        model: one of ``morph``.
        x: pictures (b, c, h, w) of the endpoint's kind, in [-1, 1], prepared as the training pictures were (:func:`fitted`).
        endpoint: "estimated" solves it anew at every step; "fixed" keeps x.
        steps: calls of the restorer; by default 12, or as many as a tuned model is good for.
        noise: standard deviation of what is added to x_1, on [-1, 1]; by default the model's noise floor.
        generator: one, or one per picture, for that noise.

    Raises:
        ValueError: the model morphs nothing, x is not finite or not floating-point, noise lies outside [0, 1].
    """
    states = list(translation(model, x, endpoint=endpoint, steps=steps, noise=noise, generator=generator))
    return states[-1].x


def translation(
    model: Model,
    x: Batch,
    *,
    endpoint: Endpoint = "estimated",
    steps: int | None = None,
    noise: float | None = None,
    generator: Generators = None,
) -> Iterator[State]:
    """The walk of :func:`translate`, from t = 1 to 0: each state has x, the estimate x0, and the endpoint (estimate) as z["endpoint"]."""
    start = start_of(model, x, noise, generator)
    yield from walk_for(model, endpoint, steps).trajectory(model, start)


def start_of(model: Model, x: Batch, noise: float | None = None, generator: Generators = None) -> State:
    """The state at t = 1: x with its noise is x_1 and the endpoint; arguments and errors as in :func:`translate`."""
    check(model)
    level = model.noise_floor if noise is None else noise
    if not 0 <= level <= 1:
        raise ValueError(f"noise = {level:g} lies outside [0, 1]")
    x = begin(model, x, 1.0, {"floor": torch.zeros(0)}).x  # checked; its noise is added here
    if level > 0:
        x = x + level * normal(x, generator)
    return State(x, 1.0, {"endpoint": x})


def walk_for(model: Model, endpoint: Endpoint, steps: int | None = None) -> Sampler:
    """The sampler of a translation: of order 2, but of order 1 where the model is tuned for few calls.

    Raises:
        ValueError: `endpoint` is neither "estimated" nor "fixed", or steps lies under 1.
    """
    snap = model.degradation.knots is not None
    if endpoint not in get_args(Endpoint):
        raise ValueError(f'endpoint = "{endpoint}" is neither "estimated" nor "fixed"')
    calls = model.most_calls or CALLS if steps is None else steps
    built: dict[str, Any] = {"steps": calls, "order": 1 if model.most_calls else 2, "snap": snap}
    return Ancestral(**built, eta=0.0) if endpoint == "estimated" else TACoS(**built)


def check(model: Model) -> None:
    """Refuse a model that does not translate.

    Raises:
        ValueError: its degradation is no morph, or does not end in the endpoint.
    """
    D = model.degradation
    if not isinstance(D, Morph):
        raise ValueError(f"a model of {spec(D)} turns nothing into something else: restore with it, or train one of morph on two sets of pictures")
    alpha, sigma = D.schedule(torch.ones(1, dtype=torch.float64))
    if float(alpha) > 0.1 or abs(float(sigma) - 1) > 0.1:
        raise ValueError(
            f"{spec(D)} ends in {float(alpha):.2g} x0 + {float(sigma):.2g} endpoint, so that no picture of the endpoint's kind is its x at t = 1: "
            "train with a schedule that ends in the endpoint, such as linear"
        )


def prepared(model: Model) -> tuple[int, int] | None:
    """The height and width in px that pictures have to be resized to, as those in training were; None where squares were cut from them."""
    if noted(model.notes, "recipe", "data", "fit") == "crop" or not isinstance(model.restorer, Restorer):
        return None
    _, h, w = model.restorer.shape
    return h, w


def fitted(model: Model, picture: Picture, largest_px: int | None = None) -> Batch:
    """A picture from a file as those in training were prepared: (1, c, h, w) in [-1, 1], of the model's channels and the size of :func:`prepared`.

    Args:
        model: the one that is to see it.
        picture: what :func:`snowmelt.data.images.read` returned; what is transparent in it lies on white.
        largest_px: what its longer side may have where the training did not resize pictures but cut squares from them; None leaves it as it is.
    """
    x, size = with_channels(model, picture), prepared(model)
    if size is not None:
        return resize(x, size)[None]
    return (x if largest_px is None else shrunk(x, largest_px))[None]


def with_channels(model: Model, picture: Picture) -> Tensor:
    """A picture from a file in the model's channels, (c, h, w) in [-1, 1] and of its own size; what is transparent in it lies on white.

    Raises:
        ValueError: it has neither the model's channels nor those that can become them.
    """
    x = picture.over()
    return to_channels(x, model.restorer.shape[0]) if isinstance(model.restorer, Restorer) else x
