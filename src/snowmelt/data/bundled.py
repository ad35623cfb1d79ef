"""Pictures that come with packages snowmelt needs anyway: a first run without a download.

``bundled:digits``: 1,797 handwritten digits of 8 x 8 px and 17 levels (scikit-learn; the test part of the
UCI set "Optical recognition of handwritten digits", 1998). Split by content.

``bundled:photos``: square crops of colour photographs (scikit-image). Neighbouring crops overlap and all
crops of a photograph share its light and its camera, so a split by crop would let a model be tested on
what it has seen: here **every photograph belongs to one split**. They are first halved by area averaging,
because a 64 px window of the originals shows little but skin or sky.
"""

import difflib
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from snowmelt.data import images
from snowmelt.data.labels import Labels, checked
from snowmelt.data.splits import Split

NAMES = ("digits", "photos")
PHOTO_SIZE = 64
_PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut.png", "coffee.png", "rocket.jpg", "ihc.png"),
    "validation": ("chelsea.png",),
    "test": ("motorcycle_left.png",),
}


def known(path: str) -> str:
    """The name behind ``bundled:name``; ValueError with the nearest one where there is none."""
    name = path.removeprefix("bundled:")
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1, cutoff=0)[0]
        raise ValueError(f'data.path = "{path}" is unknown: did you mean "bundled:{near}"? There are {", ".join(NAMES)}')
    return name


def digits() -> NDArray[np.uint8]:
    """The digits, white on black: (1797, 8, 8, 1), uint8."""
    from sklearn.datasets import load_digits  # takes a second: only for those who ask

    sixteenths: NDArray[np.float64] = load_digits().images
    return np.rint(sixteenths * (255 / 16)).astype(np.uint8)[..., None]


def digit_labels() -> Labels:
    """Which digit each of :func:`digits` is."""
    from sklearn.datasets import load_digits

    return checked(load_digits().target, "bundled:digits", 1797)


def photos(split: Split, size: int = PHOTO_SIZE) -> tuple[NDArray[np.uint8], list[str]]:
    """Crops of the photographs of one split, (n, size, size, 3) uint8, and their names ``photograph@top,left``.

    Training crops begin every quarter of `size`, the others every half.

    Raises:
        ValueError: every photograph of the split is smaller than `size`.
        FileNotFoundError: scikit-image is not installed, or without its pictures.
    """
    crops: list[NDArray[np.uint8]] = []
    names: list[str] = []
    stride = max(1, size // (4 if split == "train" else 2))
    for file in _PHOTOS[split]:
        pixels = photo(file, size)
        h, w, _ = pixels.shape
        for top in range(0, h - size + 1, stride):
            for left in range(0, w - size + 1, stride):
                crops.append(pixels[top : top + size, left : left + size])
                names.append(f"{Path(file).stem}@{top},{left}")
    if not crops:
        raise ValueError(f'data.size = {size} px is larger than every {split} photograph of "bundled:photos": give 64 or 128')
    return np.stack(crops), names


def photo(file: str, size: int = PHOTO_SIZE) -> NDArray[np.uint8]:
    """One photograph, (h, w, 3), at half its size unless that is below `size`."""
    spec = importlib.util.find_spec("skimage")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not (folder / file).is_file():
        raise FileNotFoundError(f'"bundled:photos" needs the picture {file} of scikit-image: pip install scikit-image')
    x = images.read(folder / file).x
    if min(x.shape[1:]) >= 2 * size:
        x = functional.avg_pool2d(x, 2)
    return images.to_uint8(x)
