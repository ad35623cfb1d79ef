r"""Blends: a straight mixture of the sample and an endpoint, :math:`x_t = \alpha_t x_0 + \sigma_t z`.

With a standard normal endpoint this is the forward process of DDPM, DDIM and rectified flow. The noise can
be solved from (x_t, x0), :math:`z = (x_t - \alpha_t x_0) / \sigma_t`, so one family of samplers covers
"fixed noise" (z kept), "estimated noise" (z solved at each step, DDIM) and everything between that and the
ancestral chain of DDPM (z renewed by a fraction :math:`\rho`):

.. math:: z' = \sqrt{1 - \rho^2}\, z + \rho\, \varepsilon, \qquad
          \rho = \eta \sqrt{1 - \frac{\alpha_t^2}{\alpha_s^2} \frac{\sigma_s^2}{\sigma_t^2}},

which is written once, in :mod:`snowmelt.degradations.chain`.

A schedule may only lose: alpha / sigma never rises with t. One that does not keep to that is refused where a blend is made of it.

Source: Ho et al. 2020 (arXiv 2006.11239), eq. 4 and 7; Song et al. 2020 (arXiv 2010.02502), eq. 12 and 16.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snowmelt.degradations import chain
from snowmelt.degradations.base import Basis, Degradation
from snowmelt.randomness import normal
from snowmelt.registry import SpecError, label, register
from snowmelt.schedules import Cosine, Schedule, require_monotone
from snowmelt.types import Batch, Draw, Generators, Severity, expand


@dataclass(frozen=True)
class Blend(Degradation):
    """x_t = alpha_t x0 + sigma_t z["endpoint"]; a subclass says where the endpoint comes from."""

    schedule: Schedule = Cosine()  # noqa: RUF009 - frozen, so one shared default is safe

    def __post_init__(self) -> None:
        """Check the fields, and that the schedule only loses.

        Raises:
            SpecError: alpha / sigma rises somewhere, or is not finite.
        """
        super().__post_init__()
        try:
            hash(self.schedule)
        except TypeError as error:
            name = label(type(self.schedule))
            raise SpecError(f"{label(type(self))}.schedule = {name} cannot be compared ({error}): make its fields numbers, text or tuples") from None
        require_monotone(self.schedule, f"{label(type(self))}.schedule")

    @property
    def knots(self) -> int | None:
        """The knots of the schedule."""
        return self.schedule.knots

    @property
    def recovered(self) -> tuple[str, ...]:
        """The endpoint."""
        return ("endpoint",)

    @property
    def linear(self) -> bool:
        """True: affine in x0 for a fixed endpoint."""
        return True

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """alpha_t x + sigma_t endpoint."""
        alpha, sigma = self.schedule(t)
        return alpha * x + sigma * z["endpoint"]

    def recover(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Draw:
        """The endpoint that explains x_t if x0 is the truth; where sigma_t = 0 any would, and the old one is kept."""
        alpha, sigma = (expand(v, x_t) for v in self.schedule(t))
        hidden = sigma == 0
        solved = (x_t - alpha * x0) / torch.where(hidden, 1, sigma)
        kept = z.get("endpoint", torch.zeros_like(x_t))
        return {**z, "endpoint": torch.where(hidden, kept, solved)}

    def in_units(self, t: float) -> dict[str, float]:
        """alpha and sigma of the schedule."""
        alpha, sigma = self.schedule(torch.tensor([t], dtype=torch.float64))
        return {"alpha": float(alpha), "sigma": float(sigma)}


@register("noise", papers=("ho2020", "song2020"))
@dataclass(frozen=True)
class GaussianNoise(Blend):
    """Gaussian noise that grows until only noise is left: the hot diffusion of DDPM, with its schedule as a part."""

    @property
    def noise(self) -> tuple[str, ...]:
        """The endpoint is the noise."""
        return ("endpoint",)

    @property
    def basis(self) -> Basis:
        """A scalar is diagonal in any basis."""
        return "any"

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """endpoint ~ N(0, I), the shape of `like`."""
        return {"endpoint": normal(like, generator)}

    def refresh(self, z: Draw, t: Severity, s: Severity, eta: float, generator: Generators = None) -> Draw:
        """A fraction rho of the endpoint is drawn anew: eta = 1 is the chain of DDPM, eta = 0 keeps it, DDIM."""
        return chain.renewed(self, z, t, s, eta, generator)

    def sigma(self, t: Severity) -> Tensor:
        """sigma_t of the schedule."""
        return self.schedule(t)[1]

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """alpha_t, (b, 1, ..., 1)."""
        return self.schedule(t)[0].reshape(-1, *(1,) * len(shape))
