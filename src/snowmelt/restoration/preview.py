"""A look before hours of work: some pictures restored, side by side, and how long all of them would take here.

The estimate is seconds per megapixel, measured on the pictures of the sheet, times the megapixels that all headers announce.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt import pictures
from snowmelt.data.images import UnreadableImage, probe, to_channels
from snowmelt.pictures.sheets import evenly
from snowmelt.restoration.plan import Failure, Job

_TILE_PX = 256


@dataclass(frozen=True)
class Preview:
    """What a look shows.

    Attributes:
        path: the sheet, before beside after.
        shown: how many pictures are on it.
        total: how many there are whose header can be read.
        megapixels: of all of them.
        seconds: what restoring all of them would take here.
    """

    path: Path
    shown: int
    total: int
    megapixels: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.total:,} picture{'' if self.total == 1 else 's'} ≈ {duration(self.seconds)} here"


def preview_of(
    jobs: Sequence[Job],
    restore: Callable[[Job], tuple[Any, Any]],
    n: int,
    path: Path,
    reason: Callable[[BaseException], str],
    *,
    max_pixels: int,
) -> tuple[Preview, list[Failure]]:
    """Restore n pictures spread evenly over `jobs`, write the sheet, and estimate the rest.

    Args:
        jobs: the whole plan.
        restore: a job to (loaded picture, states of its walk).
        n: how many to show.
        path: where the sheet goes.
        reason: an error in words.
        max_pixels: larger pictures are not counted, for they will not be restored.

    Raises:
        ValueError: none of them could be restored.
    """
    before, after, names, failed = [], [], [], []
    seconds = megapixels = 0.0
    for job in evenly(jobs, n):
        start = time.perf_counter()
        try:
            loaded, states = restore(job)
        except Exception as error:
            failed.append(Failure(job.source, reason(error), broken=isinstance(error, UnreadableImage) and error.broken and not job.named))
            continue
        seconds += time.perf_counter() - start
        megapixels += loaded.x[0].numel() / 1e6
        before.append(small(states[0].x[0]))
        after.append(small(states[-1].x[0]))
        names.append(job.name.as_posix())
    if not names:
        raise ValueError(f"none of the {len(failed)} pictures of the preview could be restored; the first is {failed[0].source}: {failed[0].reason}")
    pictures.save(path, pictures.grid({"before": stacked(before), "after": stacked(after)}, rows=names))
    total, all_megapixels = _sizes(jobs, max_pixels)
    return Preview(path, len(names), total, all_megapixels, seconds / megapixels * all_megapixels), failed


def duration(seconds: float) -> str:
    """Seconds in the unit in which one says them: 40 s, 12 min, 3.1 h, 2.5 days."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}" if seconds / length < 10 else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _sizes(jobs: Sequence[Job], max_pixels: int) -> tuple[int, float]:
    """How many headers can be read, and their megapixels."""
    n, pixels = 0, 0
    for job in jobs:
        try:
            _, h, w = probe(job.source, max_pixels=max_pixels)
        except (OSError, UnreadableImage):
            continue
        n, pixels = n + 1, pixels + h * w
    return n, pixels / 1e6


def small(x: Tensor) -> Tensor:
    """A picture (c, h, w) in colour, its longer side at most 256 px."""
    x = to_channels(x.clamp(-1, 1), 3)
    h, w = x.shape[1:]
    if max(h, w) <= _TILE_PX:
        return x
    size = [max(1, round(side * _TILE_PX / max(h, w))) for side in (h, w)]
    return functional.interpolate(x[None], size, mode="area")[0]


def stacked(found: Sequence[Tensor]) -> Tensor:
    """Pictures of several sizes as one batch, on white."""
    h, w = (max(x.shape[side] for x in found) for side in (1, 2))
    sheet = found[0].new_ones(len(found), 3, h, w)
    for row, x in zip(sheet, found, strict=True):
        top, left = (h - x.shape[1]) // 2, (w - x.shape[2]) // 2
        row[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    return torch.nan_to_num(sheet)
