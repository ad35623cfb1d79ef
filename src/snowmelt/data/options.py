"""Which data, in which form: the one value a recipe, a command line and a report agree on.

It is text and numbers only. The command line reads it to print ``--help``, so nothing here may import
torch, numpy or Pillow.
"""

import math
from dataclasses import dataclass
from typing import Literal

from snowmelt.disk import as_text

PREVIOUS = "previous"  # an endpoint: the file before
WINDOWS = (16, 1 << 24)  # samples; 2^24 are six minutes at 44.1 kHz
RATES_HZ = (1000, 384_000)


@dataclass(frozen=True)
class DataOptions:
    """Where the pictures are and what becomes of them before they are called clean.

    Attributes:
        path: a folder of pictures, recordings (.wav, .flac) or LiDAR scans (.bin, .npy), or of train/ and test/ folders of them, an idx
            or idx.gz file, a folder of MNIST's idx files, a .npy or .npz array, an image pack (.npz), or bundled:digits, bundled:photos.
        size: side in px of the square pictures; by default as they are, if all are equal.
        channels: 1 (grey) or 3 (RGB); of recordings 1, which mixes stereo down. By default as they are, if all are equal.
        fit: resize the whole picture to size x size (bilinear), or crop a square: at random in training, else the centre.
        flip: mirror half of the training pictures left to right; never for digits or letters.
        turn: turn training pictures by a random number of quarters; with flip, all eight positions of a square.
        validation: the part of the training pictures kept for validation, chosen by a hash of their content.
        test: the part kept for testing, chosen likewise; ignored where the source brings its own test split.
        limit: at most this many pictures in each split, chosen by hash.
        range: the values that are black and white in an array, such as (0, 1); by default that of uint8 or uint16.
        endpoint: a second source, the pictures that those of `path` are morphed into; prepared and split as they are. "previous" is, for every
            file, the one before it in its folder in the order of names; the first of each folder is left out.
        pairs: endpoints belong to the pictures one by one: files of the same names, or arrays of equal length.
        window: samples of a recording that are shown at a time: from a random place on in training, else from the middle. By default as long
            as they are, if all are equal; what is shorter is followed by zeros.
        rate_hz: samples per second that recordings are brought to; by default that of most of them.
        sensor: the LiDAR of the scans as text, such as scan:rings=32,up_deg=10,down_deg=-30; by default as its files say.
    """

    path: str = "bundled:digits"
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fit: Literal["resize", "crop"] = "resize"
    flip: bool = False
    turn: bool = False
    validation: float = 0.05
    test: float = 0.1
    limit: int | None = None
    range: tuple[float, float] | None = None
    endpoint: str | None = None
    pairs: bool = False
    window: int | None = None
    rate_hz: int | None = None
    sensor: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no source could serve.

        Raises:
            ValueError: a field lies outside its bounds; the message names it, its value and the bounds.
        """
        for name in ("path", "endpoint"):
            object.__setattr__(self, name, _text(name, getattr(self, name)))
        if not self.path:
            raise ValueError('data.path is empty: give a folder, a file or a bundled set such as "bundled:digits"')
        if self.endpoint == "":
            raise ValueError("data.endpoint is empty: give a folder, a file or a bundled set, or leave it out")
        if self.pairs and self.endpoint is None:
            raise ValueError("data.pairs = True pairs the pictures of data.path with those of a second source: give data.endpoint")
        if self.size is not None and not 4 <= self.size <= 8192:
            raise ValueError(f"data.size = {self.size} lies outside [4, 8192] px")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"data.channels = {self.channels} is neither 1 (grey) nor 3 (RGB)")
        for name, whole, (least, most), unit in (("window", self.window, WINDOWS, "samples"), ("rate_hz", self.rate_hz, RATES_HZ, "Hz")):
            if whole is not None and not least <= whole <= most:
                raise ValueError(f"data.{name} = {whole} lies outside [{least}, {most}] {unit}")
        if self.fit not in ("resize", "crop"):
            raise ValueError(f'data.fit = "{self.fit}" is neither "resize" nor "crop"')
        if self.fit == "crop" and self.size is None:
            raise ValueError('data.fit = "crop" needs a side: give data.size')
        for name, part in (("validation", self.validation), ("test", self.test)):
            if not 0 <= part <= 0.5:
                raise ValueError(f"data.{name} = {part} lies outside [0, 0.5]")
        if self.validation + self.test >= 1:
            raise ValueError(f"data.validation + data.test = {self.validation + self.test} leaves nothing to train on")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"data.limit = {self.limit}: give at least 1, or leave it out for all pictures")
        if self.range is not None:
            if len(self.range) != 2:
                raise ValueError(f"data.range = {self.range} is not a range: give two numbers, black first")
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"data.range = ({low}, {high}) is not a range: give two finite numbers, black first")


def _text(name: str, path: str | None) -> str | None:
    """A path as a recipe can hold it.

    Raises:
        ValueError: it cannot.
    """
    text = None if path is None else as_text(path)
    if text is not None and any(0xD800 <= ord(sign) <= 0xDFFF for sign in text):
        raise ValueError(f"data.{name} = {text!r} is not UTF-8, and a recipe has to name it: rename the folder")
    return text
