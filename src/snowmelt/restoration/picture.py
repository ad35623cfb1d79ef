"""One picture of a collection: loaded, computed with what memory there is, scored and written; and why that failed, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.door import Unreadable
from snowmelt.data.images import Picture, resize, upright, write
from snowmelt.restoration.plan import Job
from snowmelt.restoration.work import Work, with_smaller_tiles
from snowmelt.restorers import Estimate
from snowmelt.restorers.tiles import out_of_memory
from snowmelt.types import State

_DEEP = (".png", ".tif", ".tiff")
_CLEAR = (".png", ".webp", ".tif", ".tiff")


class Ready:
    """A file that is ready to be restored, of any signal.

    Attributes:
        job: which one.
        severity: where its walk starts.
        estimate: what the model's estimator reads from it; None if it was not asked.
    """

    job: Job
    severity: float
    estimate: Estimate | None


@dataclass(frozen=True)
class Loaded(Ready):
    """A picture that is ready to be restored.

    Attributes:
        job: which one.
        picture: as it was read.
        x: (c, h, w), with the model's channels, enlarged if that was asked for.
        severity: where its walk starts.
        mask: (1, 1, h, w), 1 where it is known; None without a user's mask.
        greyed: in colour, but the model knows only grey.
        grey: without colour, and to stay so.
        estimate: what the model's estimator reads from it; None if it was not asked.
        turn: the orientation x is in, EXIF's 1 to 8.
    """

    job: Job
    picture: Picture
    x: Tensor
    severity: float
    mask: Tensor | None = None
    greyed: bool = False
    grey: bool = False
    estimate: Estimate | None = None
    turn: int = 1


def compute(work: Work, batch: Sequence[Loaded]) -> list[State]:
    """The walk of pictures of one shape, on the CPU; without memory for a single one, again by smaller tiles.

    Raises:
        MemoryError, RuntimeError: even the smallest tiles were too large, or there is no memory for several.
    """
    x = torch.stack([one.x for one in batch]).to(work.device)
    levels = {one.severity for one in batch}
    severity = levels.pop() if len(levels) == 1 else torch.tensor([one.severity for one in batch], dtype=torch.float64)
    masks = [one.mask for one in batch if one.mask is not None]
    now: Work | None = work
    while now is not None:
        try:
            states = now.walk(x, severity, [one.job.key for one in batch], torch.cat(masks) if masks else None)
            return [s._replace(x=s.x.cpu(), x0=None if s.x0 is None else s.x0.cpu()) for s in states]
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or len(batch) > 1:  # fewer at a time are the same pictures, tiles may be others
                raise
        now = with_smaller_tiles(now)  # beyond the except clause, whose traceback keeps the memory
    raise MemoryError(f"not enough memory for {batch[0].x.shape[2]} x {batch[0].x.shape[1]} px, even by tiles: make it smaller")


def finished(one: Loaded, x: Tensor) -> Tensor:
    """A restored picture x (c, h, w) as it is written: upright, and what came without colour stays without."""
    x = upright(x, one.turn)
    return x.mean(0, keepdim=True).expand(one.picture.x.shape[0], -1, -1) if one.grey and x.shape[0] > 1 else x


def save(path: Path, x: Tensor, picture: Picture, note: dict[str, Any] | None) -> None:
    """Write at the depth it was read, with its opacity and what the file said, where the format can hold them."""
    suffix = path.suffix.lower()
    metadata = picture.metadata if x.shape[0] == picture.x.shape[0] else replace(picture.metadata, icc=None)
    bits = 16 if picture.bits == 16 and suffix in _DEEP else 8
    alpha = picture.alpha if suffix in _CLEAR else None
    if alpha is not None:
        alpha = resize(alpha, (x.shape[1], x.shape[2]))
    write(path, x, alpha=alpha, bits=bits, metadata=metadata, note=note)


def reason(error: BaseException) -> str:
    """Why a picture could not be restored, in one line that does not repeat its path."""
    if out_of_memory(error):
        text = str(error) if isinstance(error, MemoryError) and str(error) else "not enough memory for a picture of this size"
    elif isinstance(error, Unreadable):
        text = error.reason
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, ValueError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def psnr(x: Tensor, clean: Tensor) -> float:
    """PSNR in dB of what is saved, on [-1, 1]; at most 100."""
    square = float((x.clamp(-1, 1) - clean).double().square().mean())
    return min(-10 * math.log10(max(square, 1e-12) / 4), 100.0)


def lossless(path: Path) -> Path:
    """The path for a degraded picture: as JPEG it would be degraded twice."""
    return path.with_name(f"{path.name}.png") if path.suffix.lower() in (".jpg", ".jpeg") else path
