r"""Samples to check a degradation on, of the signal that it takes: white pixels, recordings from noise to tone, scans of a room.

Pictures are worst-case ones, white noise in [-1, 1]. The others keep the conventions of :mod:`snowmelt.signals`, for an operator
may rely on them: recordings have a root mean square of 0.2, and of a scan range, reflectance and return say the same, all -1 where nothing came back.

Recordings go from pink noise to tones of eight harmonics that die away, evenly, neighbours unlike. Scans show the ground and the four walls
of a yard of random size, turn and reflectance, what is beyond 80 m and one ray in twenty without return:

.. math:: r = \min\left(\frac{h}{\sin(-\epsilon)},\; \frac{1}{\cos \epsilon} \min\left(\frac{a}{|\cos \phi|}, \frac{b}{|\sin \phi|}\right)\right)

at elevation epsilon and azimuth phi, h above the ground.
"""

import math

import torch
from torch import Tensor

from snowmelt.degradations import Degradation, Several
from snowmelt.randomness import generator
from snowmelt.registry import SpecError, lookup
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.types import Batch

SHAPES = {"picture": (3, 12, 16), "sound": (2, 400), "scan": (3, 64, 16)}
MEASURED = {"sound": (1, 432), "scan": (3, 64, 3)}  # what is measured on costs the cube of its values
_HARMONICS = 8
_GOLDEN = (math.sqrt(5) - 1) / 2
_HEIGHT_M = 1.73
_NO_RETURN = 0.05
_TURN = 64  # columns of the scans of which a sector is measured on


def signal_of(degradation: Degradation) -> type[Signal]:
    """The signal that it takes; pictures where it does not say.

    Raises:
        SpecError: there is no such signal.
    """
    name = degradation.takes
    found = type(PICTURE) if name is None else lookup(name, "signal")
    if not issubclass(found, Signal):  # by its kind it is one
        raise SpecError(f"{name!r} is no signal")
    return found


def shape_for(degradation: Degradation, channels: int | None = None) -> tuple[int, ...]:
    """The shape of the samples that a contract is checked on, with so many channels."""
    shape = SHAPES.get(degradation.takes or "picture", SHAPES["picture"])
    if degradation.takes == "scan":
        shape = (3, rings_of(degradation), shape[-1])
    return shape if channels is None else (channels, *shape[1:])


def samples(degradation: Degradation, n: int, shape: tuple[int, ...] | None = None) -> Batch:
    """N clean samples of the signal that it takes, (n, *shape), float64, always the same."""
    shape = shape_for(degradation) if shape is None else shape
    if degradation.takes == "sound":
        return recordings(n, shape)
    return scans(n, shape) if degradation.takes == "scan" else pixels(n, shape)


def to_measure_on(degradation: Degradation, n: int, channels: int) -> Batch:
    """N small samples with the statistics of natural ones, of sound or scans: (n, *MEASURED), float64."""
    if degradation.takes == "sound":
        return recordings(n, (channels, *MEASURED["sound"][1:]))
    return scans(n, (3, rings_of(degradation), _TURN))[..., : MEASURED["scan"][-1]].contiguous()


def rings_of(degradation: Degradation) -> int:
    """The rings of the sensor that it, or one of its parts, is made for; 64 where none says so."""
    parts = degradation.parts if isinstance(degradation, Several) else (degradation,)
    found = (rings_of(part) if isinstance(part, Several) else getattr(part, "rings", None) for part in parts)
    return next((int(rings) for rings in found if rings), SHAPES["scan"][1])


def pixels(n: int, shape: tuple[int, ...]) -> Batch:
    """White noise, uniform in [-1, 1]: (n, *shape), float64."""
    like = torch.empty(n, *shape, dtype=torch.float64)
    return like.uniform_(-1, 1, generator=generator(0, "pixels"))


def recordings(n: int, shape: tuple[int, ...]) -> Batch:
    """Recordings (n, c, samples) with a root mean square of 0.2, the first of them pink noise, the others more or less of a tone: float64."""
    c, length = shape
    source, at = generator(0, "recordings"), torch.arange(length, dtype=torch.float64)
    uniform = _uniform(source, n, 2)
    share = (torch.arange(n, dtype=torch.float64) * _GOLDEN % 1)[:, None, None]
    order = torch.arange(1, _HARMONICS + 1, dtype=torch.float64)
    pitch = (0.005 * 10 ** uniform[:, :1]) * order  # cycles per sample
    strength = torch.where(pitch < 0.5, 1 / order, 0)[:, None, :, None]
    phase = _uniform(source, n, c, _HARMONICS, 1)
    tone = (strength * torch.sin(2 * math.pi * (pitch[:, None, :, None] * at + phase))).sum(2)
    tone = tone * torch.exp(-3 * uniform[:, 1:, None] * at / length)
    white = torch.empty(n, c, length, dtype=torch.float64).normal_(generator=source)
    spectrum = torch.fft.rfft(white)
    pink = torch.fft.irfft(spectrum * (1 + torch.arange(spectrum.shape[-1], dtype=torch.float64)).rsqrt(), length)
    x = share.sqrt() * tone / _rms(tone) + (1 - share).sqrt() * pink / _rms(pink)
    out: Tensor = Sound().level * x / _rms(x)
    return out


def scans(n: int, shape: tuple[int, ...]) -> Batch:
    """Scans (n, 3, rings, azimuths) of yards, in the numbers of :class:`~snowmelt.signals.Scan`: float64."""
    rings, columns = shape[1:]
    sensor, source = Scan(rings=rings, azimuths=max(columns, 8)), generator(0, "scans")
    yard, turn, bright = _uniform(source, n, 2), _uniform(source, n, 1, 1), _uniform(source, n, 2, 1, 1)
    up = torch.deg2rad(torch.tensor(sensor.beams_deg, dtype=torch.float64))[:, None]
    round_ = 2 * math.pi * (turn + (torch.arange(columns, dtype=torch.float64) + 0.5) / columns)
    half = 5 * 8 ** yard[..., None, None]  # 5 to 40 m
    wall = torch.minimum(half[:, 0] / round_.cos().abs().clamp(min=1e-9), half[:, 1] / round_.sin().abs().clamp(min=1e-9)) / up.cos()
    ground = torch.where(up < 0, _HEIGHT_M / (-up).sin().clamp(min=1e-9), math.inf)
    metres = torch.minimum(wall, ground)
    reflectance = torch.where(wall < ground, bright[:, 0], 0.3 * bright[:, 1]) + 0.05 * _uniform(source, n, rings, columns)
    seen = (metres <= sensor.farthest_m) & (_uniform(source, n, rings, columns) >= _NO_RETURN)
    x = torch.stack([2 * torch.log1p(metres) / math.log1p(sensor.farthest_m) - 1, 2 * reflectance.clamp(0, 1) - 1, torch.ones_like(metres)], 1)
    return torch.where(seen[:, None], x, -1)


def _uniform(source: torch.Generator, *size: int) -> Tensor:
    return torch.empty(*size, dtype=torch.float64).uniform_(generator=source)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-9)
