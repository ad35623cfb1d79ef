r"""What a scan can be short of: rings, azimuths, single rays.

A scan (b, 3, rings, azimuths) loses cells, and where nothing comes back all three channels are -1. With m the part of a cell that is left,

.. math:: x_t = m_t \odot (x_0 + 1) - 1, \qquad
          m_t = \begin{cases} 1 & \tau \ge 1 \\ \mathrm{clip}(1 - (t - \tau) / w,\ 0,\ 1) & \text{else,} \end{cases}

so that each cell fades between its own time tau and tau + w and is gone from there on: what is kept is kept exactly, and what is lost says
nothing. The times are the draw, called "mask": a mask that a user gives, or that is read off a file, is 1 where the scan is known and 0
where it is not. A restorer is told m, and so knows a lost ray from one that met nothing.

Source: Shan et al. 2020 (arXiv 2004.05242) and Yang et al. 2024 (TULIP, arXiv 2312.06733) for every k-th ring; Nakashima and Kurazume 2021
(arXiv 2102.11952) for lost rays.
"""

import abc
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import Degradation, Inverse, images
from snowmelt.degradations.inverse import divided
from snowmelt.randomness import uniform
from snowmelt.registry import Range, SpecError, label, register
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity

NEVER = 1.0  # the time at which a cell goes that stays
FADE = 1 / 16  # of t that a single ray takes to go
_ROUNDING = 1e-5  # how far a severity may be from the knot that it is


def scans(x: Tensor, name: str) -> tuple[int, int]:
    """The rings and azimuths of a batch of scans.

    Raises:
        ValueError: x is not (b, 3, rings, azimuths).
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"{name} degrades scans of shape (b, 3, rings, azimuths): range, reflectance, return; got {tuple(x.shape)}")
    return images(x, name)


def faded(times: Tensor, t: Tensor, fade: float) -> Tensor:
    """m_t in [0, 1] of cells that begin to go at `times` and are gone after `fade`; those of a time of 1 or more stay."""
    gone = ((t - times) / fade).clamp(0, 1)
    gone = torch.where(gone < _ROUNDING, 0, torch.where(gone > 1 - _ROUNDING, 1, gone))  # of a lost cell not even a digit may be left
    return torch.where(times >= NEVER, 1.0, 1 - gone)


class OfScans(Degradation):
    """A degradation of scans."""

    @property
    def takes(self) -> str:
        """Scans."""
        return "scan"


class Dropping(OfScans):
    """Cells that go, each at its time; a subclass says in :meth:`draw` when, and in `fade` how long one takes."""

    @property
    def given(self) -> tuple[str, ...]:
        """The mask, where the scan is the user's."""
        return ("mask",)

    @property
    def tells(self) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    @property
    def linear(self) -> bool:
        """True: affine, for what is lost is -1."""
        return True

    @property
    def inverse(self) -> Inverse:
        """Cell by cell."""
        return "exact"

    @property
    def local(self) -> bool:
        """True."""
        return True

    @property
    @abc.abstractmethod
    def fade(self) -> float:
        """How much of t a cell takes to go."""

    def left(self, t: Severity, z: Draw) -> Tensor:
        """m_t in [0, 1]: (b, 1, h, w)."""
        return faded(z["mask"].to(t), t.reshape(-1, 1, 1, 1), self.fade)

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """m (x + 1) - 1, written so that what is kept is so bit for bit."""
        scans(x, label(type(self)))
        left = self.left(t.reshape(-1), z)
        return torch.where(left == 1, x, left * (x + 1) - 1)

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Y over m, where more than a twentieth of a cell is left."""
        return divided(y, self.left(t.to(y.dtype), z))

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """m, one channel."""
        return self.left(t, z)

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """All is known."""
        return t.new_ones(len(t), 1, *shape[-2:])


def halvings(n: int, halved: int, like: Tensor) -> Tensor:
    """When each of n rows goes, of which 1/2, then 1/4, ... are left after each of `halved` steps: (n,); the multiples of 2^halved never do."""
    at = torch.arange(n, device=like.device)
    times = torch.full((n,), NEVER, dtype=like.dtype, device=like.device)
    for step in range(halved):
        times[at % 2 ** (step + 1) == 2**step] = step / halved
    return times


@register("beam-drop", papers=("shan2020", "yang2024"))
@dataclass(frozen=True)
class BeamDrop(Dropping):
    """Every second beam goes, then every second of those left, ... until `beams` are left; the highest ring always stays.

    Of a sensor with another number of rings the same share is left: say how many it has.
    """

    beams: Annotated[int, Range(1, 512), "beams left at t = 1: those of the sensor divided by 2, 4, 8, ..."] = 16
    rings: Annotated[int, Range(2, 1024), "beams of the sensor"] = 64

    def __post_init__(self) -> None:
        """Check the fields, and that halving leads from one to the other."""
        super().__post_init__()
        if self.beams >= self.rings or self.rings % self.beams or math.log2(self.rings // self.beams) % 1:
            raise SpecError(f"beam-drop.beams = {self.beams} cannot be had by halving beam-drop.rings = {self.rings}: give {self.rings // 4}, say")

    @property
    def knots(self) -> int:
        """How often the beams are halved."""
        return round(math.log2(self.rings // self.beams))

    @property
    def fade(self) -> float:
        """From knot to knot."""
        return 1 / self.knots

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """mask (b, 1, rings, azimuths): when each ring goes. Nothing is random."""
        h, w = scans(like, "beam-drop")
        return {"mask": halvings(h, self.knots, like)[:, None].expand(len(like), 1, h, w)}

    def in_units(self, t: float) -> dict[str, float]:
        """Beams left."""
        return {"beams": self.rings / 2 ** (self.knots * t)}


@register("azimuth-drop", papers=("shan2020",))
@dataclass(frozen=True)
class AzimuthDrop(Dropping):
    """Every second azimuth goes, then every second of those left, ... until one of `factor` is left: a sensor that turns faster."""

    factor: Annotated[int, Range(2, 256), "of so many azimuths one is left at t = 1: 2, 4, 8, ..."] = 4

    def __post_init__(self) -> None:
        """Check the field: a power of 2."""
        super().__post_init__()
        if math.log2(self.factor) % 1:
            raise SpecError(f"azimuth-drop.factor = {self.factor} is no power of 2: give 2, 4, 8 or 16")

    @property
    def knots(self) -> int:
        """How often the azimuths are halved."""
        return round(math.log2(self.factor))

    @property
    def fade(self) -> float:
        """From knot to knot."""
        return 1 / self.knots

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """mask (b, 1, rings, azimuths): when each azimuth goes. Nothing is random."""
        h, w = scans(like, "azimuth-drop")
        return {"mask": halvings(w, self.knots, like).expand(len(like), 1, h, w)}

    def in_units(self, t: float) -> dict[str, float]:
        """The factor."""
        return {"factor": 2 ** (self.knots * t)}


@register("ray-drop", papers=("nakashima2021",))
@dataclass(frozen=True)
class RayDrop(Dropping):
    """Single rays get lost at random places, in an order that is drawn once: the more, the larger t."""

    lost: Annotated[float, Range(0.001, 1), "the part of the rays that is lost at t = 1"] = 0.5

    @property
    def fade(self) -> float:
        """A sixteenth of t."""
        return FADE

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """mask (b, 1, rings, azimuths): when each ray goes."""
        h, w = scans(like, "ray-drop")
        order = uniform(like, generator, (1, h, w)) / self.lost
        return {"mask": torch.where(order < 1, order * (1 - FADE), NEVER)}

    def in_units(self, t: float) -> dict[str, float]:
        """The part of the rays that is lost."""
        return {"lost": self.lost * t}
