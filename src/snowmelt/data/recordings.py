"""Recordings as a data set: windows of one length, from a random place on in training, else from the middle.

A recording that is shorter than the window is followed by zeros. One of up to two minutes is decoded once and kept; of a longer one nothing is
read but the window (and the margin that the resampler's filter needs), by seeking. The loudness of such a long one is that of 64 pieces spread
evenly over it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data import audio
from snowmelt.data.options import WINDOWS, DataOptions
from snowmelt.data.readings import DoorPool, Readings
from snowmelt.data.sound import SoundDoor, padded
from snowmelt.data.splits import Split

_SHORT_S = 120
_PIECES, _PIECE = 64, 4096


class Recordings(Readings):
    """Windows (c, window) of a pool's chosen recordings.

    Args:
        door: of sound, with the rate and the channels wanted.
        files: the pool.
        chosen: which of its files.
        split: the split they are.
        options: of which `window` is read; by default as long as they are, if all are equal.

    Raises:
        ValueError: some are mono and some stereo, or their lengths differ, and no option decides.
    """

    def __init__(self, door: SoundDoor, files: DoorPool, chosen: Sequence[int], split: Split, options: DataOptions) -> None:
        channels = files.common(0, "channel(s)", "--data.channels 1, which mixes stereo down")
        shortest = min(max(shape[1] for shape in files.shapes), max(min(shape[1] for shape in files.shapes), WINDOWS[0]))
        window = options.window or files.common(1, "samples", f"--data.window {shortest}")
        if not WINDOWS[0] <= window <= WINDOWS[1]:
            within = f"[{WINDOWS[0]}, {WINDOWS[1]}]"
            raise ValueError(f"{files.name}: its recordings have {window:,} samples, which is no window: give --data.window in {within}")
        super().__init__(files, chosen, split, (channels, window))
        self._sound = door
        self._lengths = [files.shapes[i][1] for i in chosen]
        self._gains: dict[Path, float] = {}

    @property
    def random(self) -> bool:
        """See :attr:`Dataset.random`; only what is longer than the window begins anywhere else than at its beginning."""
        return self.split == "train" and max(self._lengths) > self.shape[1]

    def _cut(self, indices: Sequence[int], draws: NDArray[np.float64] | None) -> Tensor:
        """See :meth:`Dataset._cut`; the first of the numbers drawn says where a window begins."""
        places = [None] * len(indices) if draws is None else draws[:, 0].tolist()
        x = [self.shelf.first(i, lambda j, u=u: self._window(j, u)) for i, u in zip(indices, places, strict=True)]  # type: ignore[misc]
        return torch.stack(x) if x else torch.empty(0, *self.shape)

    def _window(self, i: int, u: float | None) -> Tensor:
        """The window (c, n) of file i that begins at the part u in [0, 1) of where it can begin; without u, in the middle."""
        n, window = self._lengths[i], self.shape[1]
        room = max(n - window, 0)
        start = room // 2 if u is None else int(u * (room + 1))
        if n <= _SHORT_S * self._sound.signal.rate_hz or n <= window:
            piece = padded(self.shelf.whole(i).numpy().T, start, window)
        else:
            piece = self._sought(self.shelf.paths[i], start, window, n)
        return torch.from_numpy(np.ascontiguousarray(piece.T))

    def _sought(self, path: Path, start: int, window: int, n: int) -> audio.Samples:
        """A window (n, c) of a long recording, of which no more is read than that."""
        with audio.File(path) as file:
            if path not in self._gains:
                places = np.linspace(0, n - _PIECE, _PIECES).astype(int).tolist()
                heard = np.concatenate([self._sound.piece(file, place, _PIECE) for place in places])
                self._gains[path] = self._sound.gain(float(np.sqrt(np.square(heard, dtype=np.float64).mean())))
            return self._sound.piece(file, start, window) * np.float32(self._gains[path])
