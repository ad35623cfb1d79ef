r"""Morphs: one picture turns into another, :math:`x_t = \alpha_t x_0 + \sigma_t y`.

The endpoint y is a sample of another data set. Unpaired, faces and cats for instance, this is the paper's *animorphosis*: a restorer
that undoes it turns a cat into some face. Paired, y being what a camera made of x_0, with ``schedule=linear`` it is InDI: a walk
from the degraded picture to the clean one in small steps.

The endpoint is no noise: no chance stands in for it, and no sampler renews it. It comes with the data or from the user. But like noise
it can be solved from the two others,

.. math:: \hat y = (x_t - \alpha_t \hat x_0) / \sigma_t,

so a walk may keep the endpoint it began with ("fixed": TACoS) or believe what it sees now ("estimated": Ancestral with eta = 0,
the algebra of DDIM, of InDI and of Euler on a flow).

Source: Bansal et al. 2022 (arXiv 2208.09392), section 5.2, animorphosis: T = 200 steps of the cosine table; Delbracio and Milanfar
2023 (arXiv 2303.11435), eq. 3, InDI.
"""

from dataclasses import dataclass

from torch import Tensor

from snowmelt.degradations.blend import Blend
from snowmelt.randomness import uniform
from snowmelt.registry import register
from snowmelt.schedules import Betas, Schedule
from snowmelt.types import Batch, Draw, Generators


@register("morph", papers=("bansal2022", "delbracio2023"))
@dataclass(frozen=True)
class Morph(Blend):
    """Turn into a sample of another data set: morph is animorphosis, morph:schedule=linear on pairs is InDI."""

    schedule: Schedule = Betas(steps=200, kind="cosine")  # noqa: RUF009 - frozen, so one shared default is safe

    @property
    def given(self) -> tuple[str, ...]:
        """The endpoint."""
        return ("endpoint",)

    @property
    def needs(self) -> tuple[str, ...]:
        """The endpoint: nothing that is drawn is a sample of another data set."""
        return ("endpoint",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """A stand-in for the endpoint, so that the operator can be looked at and checked: one colour a sample, in [-1, 1]."""
        colour = uniform(like, generator, (like.shape[1], *(1,) * (like.ndim - 2))) * 2 - 1
        return {"endpoint": colour.expand(like.shape).contiguous()}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """alpha_t x + sigma_t endpoint.

        Raises:
            ValueError: the endpoint is missing, or has another shape than x.
        """
        if "endpoint" not in z:
            raise ValueError('morph needs the picture it ends in: give it as z["endpoint"], with the shape of x')
        if z["endpoint"].shape != x.shape:
            shapes = f"{tuple(z['endpoint'].shape)} and samples of shape {tuple(x.shape)}"
            raise ValueError(f"morph has an endpoint of shape {shapes}: both must be equal")
        return super().degrade(x, t, z)
