"""Masks of a user's: pictures in which white says "damaged, to be filled" and black "keep".

One file is the mask of every picture; of a folder, each picture takes the mask at its own path, of whatever format.
"""

from pathlib import Path

import torch
from torch import Tensor

from snowmelt.data.images import MAX_PIXELS, SUFFIXES, UnreadableImage, read, to_channels

_GREY = 0.0  # the middle of [-1, 1]


def mask_file(given: Path, name: Path) -> Path:
    """The mask of the picture at `name` below its input.

    Raises:
        ValueError: the folder holds none for it.
    """
    if not given.is_dir():
        return given
    same = given / name
    found = [same, *(same.with_suffix(suffix) for suffix in SUFFIXES), *(same.with_suffix(suffix.upper()) for suffix in SUFFIXES)]
    mask = next((path for path in found if path.is_file()), None)
    if mask is None:
        raise ValueError(f"it has no mask: neither {same} nor one of another format is there")
    return mask


def read_mask(path: Path, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The mask (1, 1, h, w), 1 where the picture is known and 0 in the holes.

    Args:
        path: a picture, white where the damage is; anything lighter than middle grey counts as white, what is transparent as black.
        size: (h, w) of the picture.
        max_pixels: as for pictures.

    Raises:
        ValueError: it is no picture, has another size, or hides everything; the message names it.
    """
    try:
        x = to_channels(read(path, max_pixels=max_pixels, still=True).over(-1.0), 1)
    except UnreadableImage as error:  # of a picture the name is said elsewhere; this is not the picture
        raise ValueError(f"its mask {error}") from error
    if tuple(x.shape[1:]) != size:
        raise ValueError(f"its mask {path} has {x.shape[2]} x {x.shape[1]} px, the picture {size[1]} x {size[0]}: they must agree")
    mask = torch.where(x > _GREY, 0.0, 1.0)[None]
    if not bool(mask.any()):
        raise ValueError(f"its mask {path} is white all over, so that nothing of the picture is known: white is for the damage alone")
    return mask
