r"""Shot noise: light arrives in photons, and the fewer there are, the more their number varies.

With :math:`u = (x_0 + 1)/2` as brightness and N photons at u = 1, a sensor counts :math:`k \sim \mathrm{Poisson}(N u)` and reports k / N.
Here the count is a function of one standard normal number z a value, so that a draw stays the same along a
trajectory, by the first terms of the expansion of Cornish and Fisher,

.. math:: k \approx N u + \sqrt{N u}\, z + \tfrac16 (z^2 - 1), \qquad N = N_1 / t^2,

which has the mean and variance of the Poisson law and its skewness up to :math:`(N u)^{-1}`; below one photon its last term fades
out with the light, no count is negative, and the mean is up to a third too high. The noise is proportional to t.

Source: Cornish and Fisher 1938, "Moments and cumulants in the specification of distributions"; Hasinoff 2014, "Photon, Poisson noise".
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import Degradation
from snowmelt.randomness import normal
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Draw, Generators


@register("poisson-noise", papers=("cornish1938", "hasinoff2014"))
@dataclass(frozen=True)
class PoissonNoise(Degradation):
    """The noise of counting photons: strong in the shadows' ratio, strongest in the lights' absolute value."""

    peak: Annotated[float, Range(0.1, 1e6, "photons"), "photons of the brightest value at t = 1"] = 20.0

    @property
    def hidden(self) -> tuple[str, ...]:
        """The photons."""
        return ("photons",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """photons ~ N(0, I), the shape of `like`."""
        return {"photons": normal(like, generator)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """k / N, back on [-1, 1]; values below black count as black."""
        light, n = ((x + 1) / 2).clamp(min=0), z["photons"]
        each = torch.where(t > 0, t**2 / self.peak, 1)  # the brightness of one photon
        seen = torch.addcmul(light, (light * each).sqrt(), n)
        seen = torch.addcmul(seen, torch.minimum(each, light), n.square().sub_(1), value=1 / 6).clamp(min=0)
        return torch.where(t > 0, seen.mul_(2).sub_(1), x)

    def in_units(self, t: float) -> dict[str, float]:
        """Photons at the brightest value."""
        return {"peak": self.peak / t**2 if t else float("inf")}
