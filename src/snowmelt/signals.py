r"""Signals: what the samples of a data set are, and what one has to know of them besides their numbers.

The core knows tensors (b, \*d) only. What a sample *is* decides how a file becomes one, how it is shown and by what it is scored, and each
of these rooms (``data``, ``pictures``, ``metrics``, ``restoration``) has one file for each signal:

=======  ====================  =====================================================================
signal   one sample            what has to be known of it
=======  ====================  =====================================================================
picture  (c, h, w)             nothing: [-1, 1] is black to white
sound    (c, n)                samples per second; the loudness that all recordings are brought to
scan     (3, rings, azimuths)  the sensor: where its beams point, how far it sees
=======  ====================  =====================================================================

A signal is a value of text and numbers, held by the data set, saved in the model, and asked for by no operator: a restorer of sound
at 8 kHz says so itself when it meets a file at 44.1 kHz.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar

from snowmelt.registry import Part, Range, SpecError, label, register


class Signal(Part, kind="signal"):
    """What samples are. `one` and `many` are the words for them in messages, `axes` the letters of a sample's shape."""

    one: ClassVar[str]
    many: ClassVar[str]
    axes: ClassVar[str]

    @property
    def name(self) -> str:
        """What it is registered as: by this every room finds its file."""
        return label(type(self))


@register("picture")
@dataclass(frozen=True)
class Picture(Signal):
    """Pictures (c, h, w) in [-1, 1], black to white."""

    one: ClassVar[str] = "picture"
    many: ClassVar[str] = "pictures"
    axes: ClassVar[str] = "(c, h, w)"


@register("sound")
@dataclass(frozen=True)
class Sound(Signal):
    """Recordings (c, n), one channel or two, at one rate, all brought to one loudness: a root mean square of `level`.

    Full scale is 1, and peaks of a recording that was brought to the level may lie beyond it; files are written at their own loudness.
    """

    rate_hz: Annotated[int, Range(1000, 384_000, "Hz"), "samples per second"] = 8000
    level: Annotated[float, Range(0.001, 1), "root mean square of every recording"] = 0.2
    one: ClassVar[str] = "recording"
    many: ClassVar[str] = "recordings"
    axes: ClassVar[str] = "(c, n)"


@register("scan", papers=("zyrianov2022",))
@dataclass(frozen=True)
class Scan(Signal):
    r"""Scans of a rotating LiDAR as range images (3, rings, azimuths): range, reflectance, and whether anything came back.

    All three lie in [-1, 1]. Row 0 is the highest ring, column 0 looks backwards and columns go clockwise seen from above, so that the middle looks
    ahead. With r in metres,

    .. math:: x_0 = 2 \log_2(1 + r) / \log_2(1 + r_{max}) - 1, \qquad x_1 = 2 \rho - 1, \qquad x_2 = \pm 1,

    and where nothing came back all three are -1. The logarithm gives near things, where errors matter, more of the range.

    Source: Zyrianov et al. 2022 (arXiv 2209.03954), LiDARGen, section 3.1, for the logarithm.
    """

    rings: Annotated[int, Range(1, 1024), "beams, rows of the image"] = 64
    azimuths: Annotated[int, Range(8, 65_536), "columns, one turn"] = 1024
    up_deg: Annotated[float, Range(-90, 90, "degrees"), "elevation of the highest beam"] = 2.0
    down_deg: Annotated[float, Range(-90, 90, "degrees"), "elevation of the lowest beam"] = -24.8
    elevations_deg: Annotated[tuple[float, ...], Range(-90, 90, "degrees"), "of every beam from the highest on, if not evenly spaced"] = ()
    farthest_m: Annotated[float, Range(1, 2000, "m"), "what lies beyond is no return"] = 80.0
    one: ClassVar[str] = "scan"
    many: ClassVar[str] = "scans"
    axes: ClassVar[str] = "(3, rings, azimuths)"

    def __post_init__(self) -> None:
        """Check the fields, and that the beams go from up to down.

        Raises:
            SpecError: they do not, or there are not as many as rings.
        """
        super().__post_init__()
        if self.elevations_deg and len(self.elevations_deg) != self.rings:
            raise SpecError(f"scan.elevations_deg has {len(self.elevations_deg)} beams, scan.rings = {self.rings}: give one for each ring")
        beams = self.beams_deg
        if any(b >= a for a, b in itertools.pairwise(beams)):
            raise SpecError(f"scan: the beams go from {beams[0]:g} to {beams[-1]:g} degrees, not downwards: give the highest first")

    @property
    def beams_deg(self) -> tuple[float, ...]:
        """The elevation of every ring, the highest first."""
        if self.elevations_deg:
            return self.elevations_deg
        step = (self.up_deg - self.down_deg) / max(self.rings - 1, 1)
        return tuple(self.up_deg - i * step for i in range(self.rings))


PICTURE = Picture()
