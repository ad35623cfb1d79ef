"""Reading ahead: a picture, its mask and what can be told of its damage, ready before it is its turn."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from snowmelt.data.images import read, resize, stored, to_channels
from snowmelt.degradations import Pixelate
from snowmelt.model import Model
from snowmelt.restoration.masks import mask_file, read_mask
from snowmelt.restoration.picture import Loaded
from snowmelt.restoration.plan import Job
from snowmelt.restoration.work import Work
from snowmelt.restorers import Estimate, Estimator

T = TypeVar("T")
R = TypeVar("R")


def severity_for(work: Work, x: Tensor) -> tuple[float, Estimate | None]:
    """How degraded one picture (c, h, w) is: what was said of all of them, or what the model's estimator makes of it, and that estimate."""
    levels = next((part.levels for part in [work.model.degradation] if isinstance(part, Pixelate)), None)
    if work.severity is None and levels is not None and work.enlarge > 1:
        return math.log2(work.enlarge) / levels, None  # what enlarging will make of it is known
    asked = work.severity is None or (work.blind and work.model.estimator is not None)
    estimate = estimator_of(work.model).estimate(x[None].to(work.device)) if asked else None
    if work.severity is not None or estimate is None:
        return work.severity or 0.0, estimate
    if len(estimate.severity) != 1:
        raise ValueError(f"it has {len(estimate.severity)} severities ({', '.join(estimate.severity)}), of which a walk needs one: give severity")
    return float(*estimate.severity.values()), estimate


def estimator_of(model: Model) -> Estimator:
    """What estimates severities for a model.

    Raises:
        ValueError: it has nothing of the kind, so that somebody has to say how degraded the pictures are.
    """
    if model.estimator is None:
        raise ValueError("how degraded are the pictures? This model cannot tell: give severity, in [0, 1], or degrade = True if they are clean")
    return model.estimator


def load(work: Work, job: Job) -> Loaded:
    """Read a picture, its mask and its severity; in the thread that reads ahead.

    Raises:
        UnreadableImage, ValueError, OSError: it or its mask cannot be used.
    """
    picture = read(job.source, max_pixels=work.max_pixels, still=True)
    x, greyed, grey = picture.x, False, not work.colour and bool((picture.x == picture.x[:1]).all())
    if work.channels in (1, 3):
        greyed = x.shape[0] > work.channels and bool((x != x[:1]).any())
        x = to_channels(x, work.channels)
    mask = None
    if work.mask is not None:
        h, w = x.shape[1:]
        mask = read_mask(mask_file(work.mask, job.name), (h, w), max_pixels=work.max_pixels)
    # Restored as it was stored: the blocks of a JPEG file begin at its own corner, wherever that is on the upright picture.
    turn = 1 if work.trajectory or work.size else picture.turn
    x, mask = stored(x, turn), None if mask is None else stored(mask, turn)
    if work.size:
        x = resize(x, work.size)
    severity, estimate = severity_for(work, x)
    if work.enlarge > 1:
        x, mask = enlarged(x, work.enlarge), None if mask is None else enlarged(mask, work.enlarge)
    return Loaded(job, picture, x, severity, mask, greyed, grey, estimate, turn)


def enlarged(x: Tensor, times: int) -> Tensor:
    """Every pixel of x (..., h, w) as a block of `times` x `times`: what `pixelate` would have made of a larger picture."""
    return x.repeat_interleave(times, -1).repeat_interleave(times, -2)


def ahead(items: Sequence[T], do: Callable[[T], R]) -> Iterator[tuple[T, Callable[[], R]]]:
    """(item, how to get do(item)), each done in one other thread while the one before is in use: never more than one ahead."""
    with ThreadPoolExecutor(1, "snowmelt-read") as pool:
        waiting = None
        for item in items:
            coming = (item, pool.submit(do, item).result)
            if waiting is not None:
                yield waiting
            waiting = coming
        if waiting is not None:
            yield waiting
