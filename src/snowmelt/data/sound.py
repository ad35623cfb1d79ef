"""The door of sound: recordings at one rate and one loudness, and back to the rate and the loudness that they had.

A recording is resampled to the signal's rate (:mod:`snowmelt.data.audio`) and multiplied by its *gain*,

    gain = level / (root mean square of all its channels together, at that rate),

so that a whisper and a shout are one task. Peaks may then lie beyond 1, and nothing is clipped. Silence (below -120 dB of full scale) has no
loudness to bring anywhere: its gain is 1. Written, a result is divided by the gain and resampled back, so what was not changed is what it was, up to
what the lower rate cannot hold: above half the signal's rate nothing passes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from snowmelt.data import audio
from snowmelt.data.audio import BLOCK, Header, Samples
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.door import SUFFIXES, Door, Reading, Unreadable, picture_only
from snowmelt.data.options import DataOptions
from snowmelt.disk import replacing
from snowmelt.signals import Sound

if TYPE_CHECKING:
    from snowmelt.data.dataset import Dataset
    from snowmelt.data.readings import DoorPool
    from snowmelt.data.splits import Split

SILENCE = 1e-6  # root mean square; the last bit of 16 is 3e-5
MOST_VALUES = 1 << 27  # of a recording that is read whole: half a gigabyte, 4.6 hours of mono at 8 kHz


@dataclass(frozen=True, eq=False)
class Recording(Reading):
    """One recording: x (c, n) at the door's rate and level.

    Attributes:
        header: what its file says: rate, channels, storage.
        gain: what the recording was multiplied by.
    """

    header: Header
    gain: float


@dataclass(frozen=True)
class SoundDoor(Door):
    """Files of sound through libsndfile.

    Attributes:
        signal: the rate and the level that recordings are brought to.
        channels: 1 mixes stereo down, 2 gives mono twice; None leaves each as it is.
    """

    signal: Sound = field(default_factory=Sound)
    channels: int | None = None
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["sound"]
    written: ClassVar[tuple[str, ...]] = SUFFIXES["sound"]

    def probe(self, path: Path) -> tuple[int, ...]:
        """See :meth:`Door.probe`."""
        return self.shape(audio.header(path))

    def shape(self, header: Header) -> tuple[int, int]:
        """(c, n) of the recording with that header, as :meth:`read` gives it."""
        return self.channels or header.channels, audio.length(header.frames, header.rate_hz, self.signal.rate_hz)

    def read(self, path: Path) -> Recording:
        """See :meth:`Door.read`. A recording of more than 2^27 values is refused: it is restored piece by piece, and trained on by windows."""
        with audio.File(path) as file:
            c, n = self.shape(file.header)
            if c * n > MOST_VALUES:
                raise Unreadable(path, f"{file.header.seconds / 60:,.0f} minutes are too long to be held: read windows of it", broken=False)
            pieces = [self.piece(file, start, min(BLOCK, n - start)) for start in range(0, n, BLOCK)]  # no more is held than is there
        x = np.concatenate(pieces)
        gain = self.gain(float(np.sqrt(np.square(x, dtype=np.float64).mean())))
        return Recording(torch.from_numpy(np.ascontiguousarray(x.T) * np.float32(gain)), replace(file.header, channels=c), gain)

    def piece(self, file: audio.File, start: int, n: int) -> Samples:
        """n samples (n, c) from number `start` on, at the signal's rate, before any gain."""
        x = audio.resampled(file.read, file.header.frames, file.header.rate_hz, self.signal.rate_hz, start, n)
        if self.channels == 1 and x.shape[1] == 2:
            mixed: Samples = x.mean(1, keepdims=True)
            return mixed
        return x.repeat(2, 1) if self.channels == 2 and x.shape[1] == 1 else x

    def gain(self, loudness: float) -> float:
        """What brings a recording of that root mean square to the level; 1 of silence."""
        return 1.0 if loudness < SILENCE else self.signal.level / loudness

    def write(self, path: Path, x: Tensor, like: Recording | None) -> None:
        """See :meth:`Door.write`. Without `like`: 16 bits at the signal's rate, scaled only where it would have to be clipped."""
        self.written_to(path, x, like)

    def written_to(self, path: Path, x: Tensor, like: Recording | None) -> int:
        """:meth:`write`, and how many values had to be clipped to full scale."""
        samples: Samples = x.detach().to("cpu", torch.float32).numpy().T
        if x.ndim != 2 or samples.shape[1] not in audio.CHANNELS:
            raise ValueError(f"a recording has shape (1, n) or (2, n), not {tuple(x.shape)}: write one at a time")
        if like is None:
            header = Header(len(samples), self.signal.rate_hz, samples.shape[1], "", "PCM_16")
            like = Recording(x, header, max(1.0, float(np.abs(samples).max(initial=0))))

        def read(start: int, n: int) -> Samples:
            return padded(samples, start, n)

        header = replace(like.header, channels=samples.shape[1])
        with replacing(path) as temporary:
            return audio.save(temporary, played(read, self.signal.rate_hz, header, like.gain), header, path)

    def suited(self, paths: Sequence[Path], options: DataOptions, check: Check = unchecked) -> Self:
        """See :meth:`Door.suited`; the rate is that of most files, of equally many that of the first of them."""
        picture_only(options, self.signal, "window", "rate_hz")
        if options.channels == 3:
            raise ValueError("data.channels = 3 is for pictures: leave it out, or give 1, which mixes stereo down")
        rate = options.rate_hz
        if rate is None:
            rates = Counter(header.rate_hz for header in (_known(path, check) for path in paths) if header is not None)
            rate = rates.most_common(1)[0][0] if rates else self.signal.rate_hz
        return replace(self, signal=replace(self.signal, rate_hz=rate), channels=options.channels)

    def dataset(self, files: "DoorPool", chosen: Sequence[int], split: "Split", options: DataOptions) -> "Dataset":
        """See :meth:`Door.dataset`."""
        from snowmelt.data.recordings import Recordings

        return Recordings(self, files, chosen, split, options)


def _known(path: Path, check: Check) -> Header | None:
    check()
    try:
        return audio.header(path)
    except (OSError, Unreadable):  # it is named when it is its turn
        return None


def padded(samples: Samples, start: int, n: int) -> Samples:
    """n samples (n, c) from number `start` on of those at hand; 0 outside."""
    first, last = max(start, 0), min(start + n, len(samples))
    if first == start and last == start + n:
        return samples[first:last]
    out: Samples = np.zeros((n, samples.shape[1]), np.float32)
    if last > first:
        out[first - start : last - start] = samples[first:last]
    return out


def played(read: audio.Source, rate_hz: int, header: Header, gain: float | Samples) -> Iterator[Samples]:
    """Blocks (n, c) of a result as its file gets it: at the file's rate, at its loudness, as many samples as it had; a gain, or one a channel."""
    n, by = audio.length(header.frames, header.rate_hz, rate_hz), np.asarray(gain, np.float32)
    for start in range(0, header.frames, BLOCK):
        block: Samples = audio.resampled(read, n, rate_hz, header.rate_hz, start, min(BLOCK, header.frames - start)) / by
        yield block
