"""How generated samples become files, one kind for each signal: PNG, WAV of 16 bits at the model's rate, KITTI's .bin.

A picture is written as any other is. Sound keeps the loudness that the model gave it, unless that would hurt
(:func:`~snowmelt.pictures.sound.audible`). A scan is its points, x, y, z and reflectance, ring after ring.
"""

from pathlib import Path

import torch
from torch import Tensor

from snowmelt.data import images
from snowmelt.data.door import door_for
from snowmelt.data.sound import Recording
from snowmelt.pictures.sound import audible
from snowmelt.signals import Picture, Scan, Signal, Sound

SUFFIXES = {"picture": ".png", "sound": ".wav", "scan": ".bin"}


def write(path: Path, x: Tensor, signal: Signal) -> None:
    """Write a sample (c, *d) that no file lies behind, whole or not at all.

    Raises:
        ValueError: it holds NaN, or the file cannot hold it.
    """
    if isinstance(signal, Picture):
        images.write(path, x)
        return
    if bool(x.isnan().any()):
        raise ValueError(f"{path}: the {signal.one} holds NaN: the model or sampler that made it has diverged")
    door_for(signal).write(path, audible(x) if isinstance(signal, Sound) else x, None)


def read(path: Path, signal: Signal) -> Tensor:
    """What :func:`write` wrote, (c, *d): sound at its own loudness, and also a scan in which nothing came back.

    Raises:
        ValueError: it cannot be read.
    """
    if isinstance(signal, Picture):
        return images.read(path).x
    if isinstance(signal, Scan) and path.stat().st_size == 0:
        return torch.full((3, signal.rings, signal.azimuths), -1.0)
    found = door_for(signal).read(path)
    return found.x / found.gain if isinstance(found, Recording) else found.x
