r"""Pure noise: the prior of hot diffusion, whose degradation forgets the picture altogether, :math:`x_1 = \sigma_1 z`.

Two draws are joined along the sphere, since high-dimensional normal vectors have one length and a straight line between two of them
runs through shorter ones that no training picture ended in:

.. math:: x(w) = \frac{\sin((1-w)\theta)\, a + \sin(w\theta)\, b}{\sin\theta}, \qquad \cos\theta = \frac{\langle a, b\rangle}{|a|\,|b|}.

Source: Shoemake 1985, "Animating rotation with quaternion curves"; Song et al. 2020 (arXiv 2010.02502), appendix D.5.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from torch import Tensor

from snowmelt.priors.base import Prior, as_state
from snowmelt.randomness import normal
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Generators, State

_PARALLEL = 1e-4


@register("normal", papers=("song2020", "shoemake1985"))
@dataclass(frozen=True)
class Normal(Prior):
    """Standard normal noise, the draw's "endpoint", times `scale`: 1 where the variance is kept, sigma(1) where it explodes."""

    shape: tuple[int, ...] = ()
    scale: Annotated[float, Range(1e-6, 1e6), "standard deviation of x_1"] = 1.0

    def fit(self, batches: Iterable[Batch | State]) -> Self:
        """Takes over the shape of a sample; there is nothing else to learn."""
        return dataclasses.replace(self, shape=tuple(as_state(next(iter(batches))).x.shape[1:]))

    def sample(self, n: int, generator: Generators = None) -> State:
        """x = scale z["endpoint"], z["endpoint"] ~ N(0, I)."""
        if not self.shape:
            raise ValueError("the normal prior does not know the shape of a sample: call fit first, or give Normal(shape=(c, h, w))")
        z = normal(torch.empty(n, *self.shape), generator)
        return State(self.scale * z, 1.0, {"endpoint": z})

    def require_learned(self, shape: tuple[int, ...]) -> None:
        """Refuse the shape of other samples."""
        if self.shape not in ((), shape):
            raise ValueError(f"the prior normal is of samples {self.shape}, not {shape}")

    def gives(self, drawn: frozenset[str]) -> frozenset[str]:
        """The endpoint."""
        return frozenset({"endpoint"})

    def between(self, a: State, b: State, share: Tensor) -> State:
        """Along the sphere; a straight line where the two ends are parallel."""
        x, y = a.x, b.x
        cosine = (x * y).sum() / (x.norm() * y.norm())
        angle = cosine.clamp(-1, 1).acos()
        share = share.reshape(-1, *(1,) * (x.ndim - 1)).to(x)
        if float(angle.sin()) < _PARALLEL:
            out = torch.lerp(x, y, share)
        else:
            out = (((1 - share) * angle).sin() * x + (share * angle).sin() * y) / angle.sin()
        return State(out, a.t, {"endpoint": out / self.scale})
