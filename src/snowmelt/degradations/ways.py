r"""Which of two ways to one result: matrices for small pictures, a formula for large ones, and where the border lies.

Matrices cost :math:`O(n)` a pixel but run at the speed of a processor's arithmetic; spectra, pyramids and mirrored
extensions cost :math:`O(\log n)` or less and run at that of its memory. Where the one overtakes the other depends on the device and on
the edges, so it was measured, and is kept here as the largest side in px that goes through matrices.

It is a table and not a measurement on first use, because both ways agree to rounding only. A choice that fell out now so, now otherwise, on
the same machine, would end the promise that an interrupted training goes on to the same weights, bit for bit; one that is kept in a file would
bind that promise to a cache. A table is the same for everyone. ``python benchmarks/degrading.py --measure`` times both ways side by
side and prints the table of the machine it runs on.

Source: CPUs measured by that script; for devices that are not listed, the sizes that stood here before there was a script, with matrices for
longer, as they suit accelerators.
"""

from typing import Literal, TypeAlias

from torch import Tensor

Kind: TypeAlias = Literal["circular", "mirrored", "cosine", "smooth", "blocks", "uneven"]

LARGEST_PX: dict[str, dict[Kind, int]] = {
    "cpu": {
        "circular": 64,  # recursive-blur, edges wrapped: against the FFT
        "mirrored": 1024,  # recursive-blur, edges mirrored: against the FFT of an extension of 4 times the pixels
        "cosine": 64,  # the DCT of an axis: against an FFT of the same length
        "smooth": 256,  # gaussian-blur with reflecting edges, one matrix an axis: against the DCT and back
        "blocks": 64,  # pixelate, and resample where its factor divides the size: against a pyramid
        "uneven": 96,  # resample elsewhere: against every knot in turn
    },
    "other": {"circular": 96, "mirrored": 1024, "cosine": 256, "smooth": 256, "blocks": 96, "uneven": 96},
}


def by_matrix(kind: Kind, n: int, like: Tensor) -> bool:
    """Whether an axis of n pixels goes through its matrix, on the device of `like`."""
    return n <= LARGEST_PX.get(like.device.type, LARGEST_PX["other"])[kind]
