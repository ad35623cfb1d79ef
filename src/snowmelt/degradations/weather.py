r"""What a LiDAR measures badly: noise of its ranges, fog and rain.

The power that comes back from a target of reflectance rho at range r is

.. math:: P(r) \propto \frac{\rho}{r^2}\, e^{-2 \alpha r},

the law of Beer and Lambert on the way there and back; alpha is the extinction of the air in 1/m. What falls below the power that the sensor can
detect, that of a target of reflectance 0.9 at its farthest range in clear air, is lost; of what is not, the reflectance is read lower by
:math:`e^{-2 \alpha r}`. Whatever the clean scan shows was detected, however dark it looks there, and no two pulses fade alike: every ray
has a small reserve of its own, drawn once. In fog :math:`\alpha = \ln 20 / V` with V the meteorological optical range, the
distance at which a contrast falls to 5 %; in rain it is :math:`1.076\, R^{2/3}` dB/km with R in mm/h, and ranges scatter by
:math:`0.02\, r\, (1 - e^{-R})^2`. At severity t the air has the extinction t alpha, so that it rains :math:`t^{3/2} R`.

Of the rays that the air swallows, some may return from drops near the sensor (`clutter`).

Ranges are metres, and x has their logarithm, scaled by the farthest range of the sensor: `farthest_m` has to be that of the data.

Source: Koschmieder 1924 for visibility; Rasshofer et al. 2011, "Influences of weather phenomena on automotive laser radar systems", and Hahner et
al. 2021 (arXiv 2108.05249) for fog; Carbonneau and Wisely 1998, "Opportunities and challenges for optical wireless", for the extinction of rain;
Goodin et al. 2019, "Predicting the influence of rain on LIDAR in ADAS", for the threshold and for how ranges scatter.
"""

import abc
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.scan import FADE, NEVER, OfScans, faded, scans
from snowmelt.randomness import normal, uniform
from snowmelt.registry import Range, label, register
from snowmelt.sensor import NEAREST, encoded, metres
from snowmelt.types import Batch, Draw, Generators

_CONTRAST = math.log(20)  # Koschmieder's threshold of 5 %
_RAIN = 1.076e-3 * math.log(10) / 10  # 1/m of the power that arrives, for 1 mm/h
_BRIGHT = 0.9  # reflectance of the target that is just seen at the farthest range; Goodin et al., section 2
_RESERVE = 0.25  # mean reserve of a ray, in nepers
_NEAREST_M = 1.0  # where the receiver begins to see the beam; Hahner et al., section 3
_DROP = 0.05  # reflectance of what returns from the air


def moved(x: Tensor, by_m: Tensor, farthest_m: float) -> Tensor:
    """Encoded ranges x after `by_m` metres, between the nearest that is a return and the farthest; where `by_m` is 0, the same bits."""
    r = metres(x.clamp(-1, 1), farthest_m)
    by_m = torch.where(by_m == 0, by_m, torch.minimum(torch.maximum(by_m, -r), farthest_m - r))
    out = x + 2 * torch.log1p(by_m / (1 + r)) / math.log1p(farthest_m)
    return torch.maximum(out, x.clamp(max=NEAREST))


@register("range-noise")
@dataclass(frozen=True)
class RangeNoise(OfScans):
    """Normal noise along the ray, in metres, wherever something came back."""

    sigma_m: Annotated[float, Range(0.001, 100, "m"), "standard deviation at t = 1"] = 0.5
    farthest_m: Annotated[float, Range(1, 2000, "m"), "the farthest range of the sensor, as the data have it"] = 80.0

    @property
    def hidden(self) -> tuple[str, ...]:
        """The noise."""
        return ("ranging",)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """ranging ~ N(0, I): (b, 1, rings, azimuths)."""
        return {"ranging": normal(like, generator, (1, *scans(like, "range-noise")))}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """The range channel, moved by t sigma n."""
        scans(x, "range-noise")
        there = x[:, 2:] > 0
        near = torch.where(there, moved(x[:, :1], self.sigma_m * t * z["ranging"].to(x), self.farthest_m), x[:, :1])
        return torch.cat([near, x[:, 1:]], 1)

    def in_units(self, t: float) -> dict[str, float]:
        """Sigma in metres."""
        return {"sigma_m": self.sigma_m * t}


class Weather(OfScans):
    """Air that swallows light. A subclass has `farthest_m` and `clutter`, and says how much at severity t."""

    farthest_m: float
    clutter: float

    @property
    def hidden(self) -> tuple[str, ...]:
        """What every ray draws."""
        return ("reserve", "drop", "at", "ranging")

    @abc.abstractmethod
    def extinction(self, t: Tensor) -> Tensor:
        """Alpha in 1/m at severities t, of any shape: proportional to t."""

    def scatter(self, r: Tensor, t: Tensor) -> Tensor:
        """The standard deviation of measured ranges in m; by default none."""
        return torch.zeros_like(r)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """All (b, 1, rings, azimuths): reserve, drop and at uniform, ranging normal."""
        h, w = scans(like, label(type(self)))
        u = uniform(like, generator, (3, h, w))
        return {"reserve": u[:, :1], "drop": u[:, 1:2], "at": u[:, 2:], "ranging": normal(like, generator, (1, h, w))}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Reflectances fall, ranges scatter, weak returns are lost or come from drops instead."""
        scans(x, label(type(self)))
        drawn = {name: z[name].to(x) for name in self.hidden}
        there, alpha = x[:, 2:] > 0, self.extinction(t)
        r, light = metres(x[:, :1].clamp(-1, 1), self.farthest_m), ((x[:, 1:2] + 1) / 2).clamp(0, 1)
        swallowed = 2 * alpha * r
        spare = (light.clamp(min=1e-6) / _BRIGHT).log() + 2 * (self.farthest_m / r.clamp(min=0.1)).log()
        reserve = spare.clamp(min=0) - _RESERVE * torch.log1p(-drawn["reserve"].clamp(max=1 - 1e-6))
        # Extinction grows with t as a straight line, so that each return has one time at which it is lost; it fades, to be gone by t = 1.
        lost = reserve / (2 * self.extinction(torch.ones_like(t)) * r).clamp(min=1e-9)
        left = faded(torch.where(lost < 1, lost * (1 - FADE), NEVER), t, FADE)
        near = moved(x[:, :1], self.scatter(r, t) * drawn["ranging"], self.farthest_m)
        dim = x[:, 1:2] + 2 * light * torch.expm1(-swallowed)
        seen, instead = torch.cat([near, dim, x[:, 2:]], 1), self._drops(x, r, t, drawn)
        return torch.where(there & (t > 0), torch.where(left == 1, seen, torch.lerp(instead, seen, left)), x)

    def _drops(self, x: Tensor, r: Tensor, t: Tensor, drawn: Draw) -> Tensor:
        """What a ray that got lost shows: nothing, or a drop near the sensor."""
        most = self.extinction(torch.ones_like(t)).clamp(min=1e-6)
        at = _NEAREST_M - torch.log1p(-drawn["at"].clamp(max=1 - 1e-6)) / (2 * most)
        drop = (drawn["drop"] < self.clutter) & (at < r)
        near = encoded(at.clamp(max=self.farthest_m), self.farthest_m)
        there = torch.cat([near, torch.full_like(near, 2 * _DROP - 1), torch.ones_like(near)], 1)
        return torch.where(drop, there, -1.0)


@register("fog", papers=("koschmieder1924", "rasshofer2011", "hahner2021"))
@dataclass(frozen=True)
class Fog(Weather):
    """Fog of a visibility: far and dark things are lost first."""

    visibility_m: Annotated[float, Range(1, 100_000, "m"), "meteorological optical range at t = 1"] = 50.0
    clutter: Annotated[float, Range(0, 1), "the part of lost rays that return from droplets near the sensor"] = 0.0
    farthest_m: Annotated[float, Range(1, 2000, "m"), "the farthest range of the sensor, as the data have it"] = 80.0

    def extinction(self, t: Tensor) -> Tensor:
        """t ln 20 / V."""
        return t * _CONTRAST / self.visibility_m

    def in_units(self, t: float) -> dict[str, float]:
        """The visibility."""
        return {"visibility_m": self.visibility_m / t if t else float("inf")}


@register("rain", papers=("koschmieder1924", "carbonneau1998", "goodin2019"))
@dataclass(frozen=True)
class Rain(Weather):
    """Rain of a rate: weak returns are lost, ranges scatter."""

    rate_mm_h: Annotated[float, Range(0.1, 500, "mm/h"), "rain at t = 1"] = 50.0
    clutter: Annotated[float, Range(0, 1), "the part of lost rays that return from drops near the sensor"] = 0.0
    farthest_m: Annotated[float, Range(1, 2000, "m"), "the farthest range of the sensor, as the data have it"] = 80.0

    def extinction(self, t: Tensor) -> Tensor:
        """1.076 R^(2/3) dB/km with R = t^(3/2) rate."""
        return t * (_RAIN * math.pow(self.rate_mm_h, 2 / 3))

    def scatter(self, r: Tensor, t: Tensor) -> Tensor:
        """0.02 r (1 - exp(-R))^2."""
        rate: Tensor = self.rate_mm_h * t**1.5
        return 0.02 * r * torch.expm1(-rate).square()

    def in_units(self, t: float) -> dict[str, float]:
        """The rate."""
        return {"rate_mm_h": self.rate_mm_h * t**1.5}
