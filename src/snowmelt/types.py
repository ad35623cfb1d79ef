"""The words every other module speaks: a batch, a severity, a draw, a state.

Shape letters, used in every docstring and annotation of snowmelt::

    b    samples in a batch
    *d   the shape of one sample: (c, h, w) for images
    c    channels;  h, w  height and width in pixels
    t, s severities in [0, 1], with s < t: 0 is the clean sample, 1 the prior

A degradation is a pure function ``x_t = D(x0, t, z)``: all of its randomness is in the *draw* ``z``,
a mapping from names to tensors whose first axis is the batch. Randomness that is data can be saved,
sliced, sent and seeded per sample; randomness that is hidden cannot.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Batch: TypeAlias = Float[Tensor, "b *d"]
Severity: TypeAlias = Float[Tensor, " b"]
Draw: TypeAlias = Mapping[str, Tensor]
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None

EMPTY: Draw = MappingProxyType({})


class State(NamedTuple):
    """Where a walk from t = 1 to t = 0 stands.

    Attributes:
        x: the degraded sample x_t, (b, *d).
        t: its severity in [0, 1]: one number for the batch, or (b,).
        z: the draw that produced it, every value batch-first; empty when nothing is random or known.
        x0: the restorer's last estimate of the clean sample, (b, *d); None before the first call.
    """

    x: Tensor
    t: float | Tensor
    z: Draw = EMPTY
    x0: Tensor | None = None


def severity(t: float | Tensor, like: Batch) -> Severity:
    """A severity for every row of `like`: (b,), on its device, in its dtype; read only, for one number is kept once, see :func:`once`."""
    if isinstance(t, Tensor):
        return t.to(device=like.device, dtype=like.dtype).expand(like.shape[0])
    return like.new_full((1,), t).expand(like.shape[0])


def once(t: Tensor) -> Tensor:
    """Severities (b, ...) as (1, ...) where every sample has the same: a stride of 0 says so without a look at values, on any device."""
    return t[:1] if len(t) > 1 and t.stride(0) == 0 else t


def expand(t: Severity, like: Batch) -> Tensor:
    """`t` of shape (b,) as (b, 1, ..., 1), so that it multiplies `like`."""
    return t.reshape(-1, *(1,) * (like.ndim - 1))
