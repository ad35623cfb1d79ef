"""Every step of a restoration in one folder: pictures for the eye, an npz for programs."""

import os
import shutil
from pathlib import Path

import numpy as np
import torch

from snowmelt import pictures
from snowmelt.data.images import write
from snowmelt.disk import replacing
from snowmelt.types import State


def save(folder: Path, states: list[State], row: int, *, endpoint: bool = False, animation: str = "gif") -> None:
    """Write one picture's walk to `folder`, which is replaced whole or not at all.

    x_00.png ... and x0_hat_01.png ... are what the eye sees; trajectory.npz holds x (n + 1, c, h, w), x0_hat (n, c, h, w)
    and t (n + 1,) as floats; strip.png and walk.gif (or .webp, .mp4) show them in a row and in time. A translation adds endpoint_01.png ...: the
    endpoint, kept or estimated, of each call; its strip has three rows.

    Args:
        folder: named after the picture.
        states: the whole walk, the start first.
        row: which picture of the batch.
        endpoint: the walk is a translation.
        animation: gif, webp or mp4.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        _write(temporary, states, row, endpoint=endpoint, animation=animation)
        if folder.is_dir():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, states: list[State], row: int, *, endpoint: bool, animation: str) -> None:
    x = torch.stack([state.x[row] for state in states]).float()
    x0_hat = torch.stack([state.x0[row] for state in states if state.x0 is not None]).float()
    t = np.array([float(state.t) for state in states])
    y = torch.stack([s.z["endpoint"][row].cpu() for s in states[1:]]).float() if endpoint else None
    digits = max(len(str(len(x) - 1)), 2)
    for i, picture in enumerate(x):
        write(folder / f"x_{i:0{digits}d}.png", picture)
    for i, picture in enumerate(x0_hat, 1):
        write(folder / f"x0_hat_{i:0{digits}d}.png", picture)
    for i, picture in enumerate([] if y is None else y, 1):
        write(folder / f"endpoint_{i:0{digits}d}.png", picture)
    with replacing(folder / "trajectory.npz") as temporary, temporary.open("wb") as stream:
        if y is None:
            np.savez_compressed(stream, x=x.numpy(), x0_hat=x0_hat.numpy(), t=t)
        else:
            np.savez_compressed(stream, x=x.numpy(), x0_hat=x0_hat.numpy(), t=t, endpoint=y.numpy())
    labels = [f"t = {value:.2f}" for value in t]
    if y is None:
        strip = pictures.strip([one[None] for one in x], labels)
    else:  # a column for every call: what it saw, what it believed; at the end what came of the last
        seen = zip(x, [*x0_hat, x0_hat[-1]], [*y, y[-1]], strict=True)
        strip = pictures.strip([torch.stack(column) for column in seen], labels, rows=["x_t", "x0 estimate", "endpoint"])
    pictures.save(folder / "strip.png", strip)
    pictures.animate(folder / f"walk.{animation}", [one[None] for one in x], labels)
