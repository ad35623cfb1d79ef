"""Whether a degradation can be afforded: what pieces of a picture take says what the whole would take, of time and of memory."""

import functools
import itertools
import time

from torch import Tensor

from snowmelt.data.checks import Check
from snowmelt.degradations import Degradation
from snowmelt.registry import spec
from snowmelt.restoration.memory import peak_bytes
from snowmelt.studio.limits import Refused
from snowmelt.studio.work import looking

_PIECES_PX = (16, 32, 64, 128, 256)  # the sides of the pieces by which the whole is judged
_MOST_BYTES = 2 * 2**30  # every degradation as it comes takes less on 16 megapixels


def require_affordable(D: Degradation, x: Tensor, severity: float, seconds: float, check: Check, endpoint: Tensor | None) -> None:
    """Refuse a degradation that would take too long, or too much memory: a part of it is one call, which nothing could stop.

    So pieces of the picture are tried, each of twice the side of the one before: what one takes tells about the next, and the last about the whole.
    A step never goes far, as what a call costs whatever the size would count as often as the step is large. Of memory, two pieces tell how much of
    it grows with the picture.

    Args:
        D: what would be done.
        x: the picture (1, c, h, w).
        severity: in [0, 1].
        seconds: that one wish may take.
        check: called before every part.
        endpoint: the picture that a morph ends in, (1, c, h, w).

    Raises:
        Refused: it would take longer than one wish may, or hold more than 2 GiB at once.
    """
    pieces = [x[..., :px, :px] for px in _PIECES_PX if px < max(x.shape[-2:])]
    other = None if endpoint is None else endpoint[..., : _PIECES_PX[-1], : _PIECES_PX[-1]]
    before, held = 0, 0
    for piece, larger in itertools.pairwise([*pieces, x]):
        tried = functools.partial(looking.degraded, D, piece, [severity], endpoint=other, check=check)
        began = time.perf_counter()
        try:
            tried()
        except Refused:  # of a piece that is too small for it; of the whole it is said below
            continue
        took_s = time.perf_counter() - began
        if (expected_s := took_s * larger.numel() / piece.numel()) > seconds:
            words = f"would take about {expected_s:.1f} s or more on a picture of this size, and {seconds:g} s is the limit"
            raise Refused(f"{spec(D)} {words}: make it smaller, or take fewer parts or steps")
        peak = peak_bytes(tried)  # once more, as to be counted takes its time
        # Proportional to the size at first; then by what grew from piece to piece, as a kernel is as large in every picture.
        growth = max(peak - held, 0) / (piece.numel() - before)
        before, held = piece.numel(), peak
        if (expected := held + growth * (larger.numel() - before)) > _MOST_BYTES:
            words = f"would take {expected / 2**30:.1f} GB of memory or more on a picture of this size, and {_MOST_BYTES // 2**30} GB is the limit"
            raise Refused(f"{spec(D)} {words}: make it smaller, or take fewer parts or steps")
