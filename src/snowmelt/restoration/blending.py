r"""Blending: the way between two pictures of one's own through what a model knows.

A mixture of pixels :math:`(1 - s)\, a + s\, b` shows both pictures at once. Degraded by the model's own D, with one draw z for all, it keeps of the
two what a severity leaves, and the walk back makes the rest anew: every picture on the way is the :func:`~snowmelt.restoration.edit` of its mixture,

.. math:: x_t(s) = D\bigl((1 - s)\, a + s\, b,\ t,\ z\bigr).

A low severity fades the one into the other; a high one has the model draw what lies between. The ends are edits, too: of a and b themselves.

Source: Ho et al. 2020 (arXiv 2006.11239), section 4.4, which blends two pictures after each was given noise of its own.
"""

from collections import deque
from collections.abc import Iterator

import torch

from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.restoration.editing import check, editing
from snowmelt.restoration.generation import STREAM
from snowmelt.restoration.walks import Walk
from snowmelt.types import Batch, State


def blend(model: Model, a: Batch, b: Batch, severity: float, steps: int = 8, *, sampler: Walk = "default", seed: int = 0) -> Batch:
    """The pictures (steps, c, h, w) on the way from a to b: mixtures of the two, degraded with one draw and walked back.

    Args:
        model: one that edits: of noise, or of another degradation that leaves less and less of a picture.
        a: the one end (1, c, h, w), in the model's range; :func:`~snowmelt.restoration.fitted` makes it of a picture from a file.
        b: the other end, of the same shape.
        severity: in (0, 1], how much is made anew.
        steps: how many pictures, both ends among them.
        sampler: a sampler or its spec; "default" is that of the degradation.
        seed: of the draw and of samplers that draw, the same all the way.

    Raises:
        ValueError: fewer than 2 steps, ends that are not one picture each of one shape, or as :func:`~snowmelt.restoration.edit`.
    """
    walks = blending(model, a, b, severity, steps, sampler=sampler, seed=seed)
    return torch.cat([deque(walk, maxlen=1)[0].x for walk in walks])


def blending(
    model: Model, a: Batch, b: Batch, severity: float, steps: int = 8, *, sampler: Walk = "default", seed: int = 0
) -> Iterator[Iterator[State]]:
    """The walks of :func:`blend`, one picture after the other, each from the degraded mixture to t = 0; arguments and errors are its."""
    if steps < 2:
        raise ValueError(f"steps = {steps}: a way has at least its two ends")
    check(model.degradation)
    if a.ndim != 4 or b.ndim != 4 or len(a) != 1 or len(b) != 1:
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: give one picture each, (1, c, h, w)")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the two pictures have {a.shape[1]} and {b.shape[1]} channels: bring them to one number (snowmelt.data.images.to_channels)")
    if a.shape != b.shape:
        sizes = " and ".join(f"{one.shape[-1]} x {one.shape[-2]}" for one in (a, b))
        raise ValueError(f"the two pictures are {sizes} px: crop them to one size")
    for s in torch.linspace(0, 1, steps).to(a):
        yield editing(model, torch.lerp(a, b, s), severity, sampler=sampler, generator=[generator(seed, STREAM)])
