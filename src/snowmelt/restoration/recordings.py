r"""Recordings of any length, restored piece by piece: memory does not grow with them, and three hours go through as three seconds do.

A recording is cut into k pieces of equal length m that overlap by an eighth, each is restored by a walk of its own with random numbers keyed by
the file and the piece, and what two pieces say of their overlap is cross-faded by :math:`\sin^2`. A piece has 4 s, or the length that the model
was trained on if that is more; what is shorter than that length is followed by zeros, as in training. What was restored waits at the
model's rate in a temporary file beside the result, from which the result is resampled and written block by block.

*Loudness.* A model knows clean recordings of one root mean square, the signal's level, and what D makes of them. So a file that is degraded already
is brought to level times r, with r the factor by which this model's D at this severity changes the loudness of a clean sound, taken from one
that is drawn: noise with a falling spectrum that swells four times a second, as speech does. (White noise of 0 dB: r = 1.41.) Written, the
result is divided by the same gain. Channels that are restored by themselves have each a gain of its own, and a silent one is copied.

*Lost packets.* A model that must be told where sound is missing is told of runs of exact zeros of 4 ms to 0.5 s; longer ones, and those that touch an
end of the recording, are pauses, and so is what follows a short one. Where rates differ, 4 samples on either side of a gap count as lost: the filter
rings there. Loudness, of the file and of what D leaves, is then that of the samples that are known, however many are lost.
"""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from snowmelt.data import audio
from snowmelt.data.audio import BLOCK, Header, Samples
from snowmelt.data.door import Unreadable
from snowmelt.data.sound import SILENCE, SoundDoor, padded, played
from snowmelt.disk import beside, replacing
from snowmelt.randomness import generator, normal
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import severity_for
from snowmelt.restoration.loop import Loop, Made
from snowmelt.restoration.picture import Ready
from snowmelt.restoration.plan import Job, Plan
from snowmelt.restoration.whole import copied
from snowmelt.restoration.work import Work
from snowmelt.restorers import Estimate, Restorer
from snowmelt.signals import Sound

_PIECE_S, _OVERLAP = 4.0, 8
_TOGETHER = 8  # pieces that share a call, where nobody says how many
_HELD = 1 << 22  # values of a result that wait in memory; more wait in a file
_GAP_S, _PAUSE_S = 0.004, 0.5
_RINGS = 4  # samples at the model's rate beside a gap, in which a resampled recording rings
_DB = (-60.0, 100.0)  # of a score, as the metrics have it
_LOST, _APART, _SILENT, _CLIPPED = range(4)


@dataclass(frozen=True, eq=False)
class Heard(Ready):
    """A recording that is ready: its header, its length at the model's rate, the gain (c,) and the numbers of the channels that are not silent."""

    job: Job
    header: Header
    n: int
    gain: Samples
    live: tuple[int, ...]
    severity: float
    estimate: Estimate | None = None


@dataclass
class Restored:
    """What was computed of a recording, at the model's rate and with its gain: (n, c), on disk if it is long; and its scores."""

    after: "Spool"
    before: "Spool | None" = None
    scores: dict[str, float] | None = None


class RecordingCollection(Loop[Heard]):
    """One run over a plan of recordings."""

    amount: ClassVar[str] = "seconds_of_sound"

    def __init__(self, work: Work, jobs: Plan, journal: Journal, batch: int | None, *, overwrite: bool) -> None:
        signal = work.model.signal
        if not isinstance(signal, Sound):
            raise ValueError(f"a model of {signal.many} restores no recordings")
        self.sentences = (
            f"{{n}} have more than the {signal.rate_hz:,} samples per second of the model: what lies above {signal.rate_hz // 2:,} Hz is lost",
            "{n} are stereo, and the model was trained on mono: each channel was restored by itself",
            "{n} are silent, and were copied",
            "{n} were clipped to full scale; restored.jsonl says how many samples",
        )
        super().__init__(work, jobs, journal, batch, overwrite=overwrite)
        self.door, self.signal = SoundDoor(signal), signal
        self.trained = work.model.restorer.shape if isinstance(work.model.restorer, Restorer) else None
        self.masked = not work.degrade and any(name.rpartition(".")[2] == "mask" for name in work.model.degradation.given)

    def load(self, job: Job) -> Heard:
        """See :meth:`Loop.load`. The whole recording is heard once, for its loudness; no more than a block of it is held."""
        with audio.File(job.source) as file:
            header = file.header
            if self.trained is not None and self.trained[0] > header.channels:
                raise Unreadable(job.source, "it is mono, and the model was trained on stereo: give it two channels", broken=False)
            n = self.door.shape(header)[1]
            loud = audio.loudness(partial(self.door.piece, file), n, partial(self._known, file) if self.masked else None)
            first = self.door.piece(file, 0, min(n, self._length()))
        apart = self._apart(header)
        if not apart:
            loud = np.full_like(loud, np.sqrt(np.square(loud).mean()))
        gain = np.array([self.door.gain(float(one)) for one in loud], np.float32)
        live = tuple(np.flatnonzero(loud >= SILENCE).tolist())
        if not live:
            return Heard(job, header, n, gain, live, self.work.severity or 0.0)
        x = torch.from_numpy(np.ascontiguousarray((first * gain).T))
        severity, estimate = severity_for(self.work, x[list(live[:1])] if apart else x)
        if not self.work.degrade:
            factor = louder(self.work, severity, self.trained or (1, self._length()), self.signal, known=self.masked)
            gain[list(live)] *= np.float32(factor)
        return Heard(job, header, n, gain, live, severity, estimate)

    def _apart(self, header: Header) -> bool:
        """Whether each channel is a sample of its own."""
        return self.trained is None or self.trained[0] != header.channels

    def _known(self, file: audio.File, start: int, n: int) -> Samples:
        """(n, 1), 1 where samples are known."""
        found: Samples = known(file, start, n, self.signal.rate_hz)[0, 0, :, None].numpy()
        return found

    def compute(self, batch: list[Heard]) -> Restored | str:
        """The restored recording; of silence, nothing."""
        one, work = batch[0], self.work
        if not one.live:
            return "silent"
        with contextlib.ExitStack() as spools:  # closed where anything goes wrong, else by who writes the results
            made = [spools.enter_context(Spool(one.job.target, one.n, one.header.channels)) for _ in range(1 + work.degrade)]
            found = Restored(made[0], made[1] if work.degrade else None)
            self._restore(one, found)
            spools.pop_all()
        return found

    def _restore(self, one: Heard, found: Restored) -> None:
        """Restore piece after piece into the spools, and score them."""
        spans, score = pieces(one.n, self._length()), Score(one.header.channels)
        tail: Samples = np.zeros((0, one.header.channels), np.float32)
        seen: Samples = tail
        with audio.File(one.job.source) as file:
            for number, ((start, stop), (x, before, restored)) in enumerate(zip(spans, self._pieces(one, file, spans), strict=True)):
                following = spans[number + 1][0] if number + 1 < len(spans) else stop
                restored[: len(tail)] = crossed(tail, restored)
                found.after.write(start, restored[: following - start])
                if found.before is not None:
                    # Noise that is cross-faded with other noise is softer: the degraded recording changes over at once, in the middle.
                    half = len(tail) // 2
                    before[:half] = seen[:half]
                    found.before.write(start, before[: following - start])
                    done = slice(0, following - start)
                    score.add(x[done], before[done], restored[done])
                tail, seen = restored[following - start :], before[following - start :]
                self.within(number + 1, len(spans))
        found.scores = score.decibels() if found.before is not None else None

    def _pieces(self, one: Heard, file: audio.File, spans: list[tuple[int, int]]) -> Iterator[tuple[Samples, Samples, Samples]]:
        """Of every piece what was read, what the walk started from and what it ended in: (n, c) each."""
        many, numbered = self.batch or _TOGETHER, list(enumerate(spans))
        for at in range(0, len(spans), many):
            group = numbered[at : at + many]
            read = [self._piece(one, file, start, stop) for _, (start, stop) in group]
            keys = [one.job.key if len(spans) == 1 else f"{one.job.key}#{i}" for i, _ in group]
            x = torch.from_numpy(np.stack([np.ascontiguousarray(piece.T) for piece, _ in read]))  # (b, c, n)
            masks = [mask for _, mask in read if mask is not None]
            b, c, m = x.shape
            live, each = list(range(c)), x
            apart = self._apart(one.header)
            if apart:
                live = list(one.live)
                each, keys = x[:, live].reshape(-1, 1, m), [key if c == 1 else f"{key}/{i}" for key in keys for i in live]
            mask = torch.cat([one_mask for one_mask in masks for _ in range(len(live) if apart else 1)]) if masks else None
            states = self.work.walk(each.to(self.work.device), one.severity, keys, mask)
            first, last = x.clone(), x.clone()  # a silent channel stays what it is
            for y, state in ((first, states[0]), (last, states[-1])):
                y[:, live] = state.x.float().cpu().reshape(b, len(live), m)
            for row, (_, (start, stop)) in enumerate(group):
                yield tuple(np.ascontiguousarray(y[row, :, : stop - start].numpy().T) for y in (x, first, last))  # type: ignore[misc]

    def _piece(self, one: Heard, file: audio.File, start: int, stop: int) -> tuple[Samples, Tensor | None]:
        """A piece (n, c) with its gain, at least as long as training's, and where it is known (1, 1, n), if the model is to be told."""
        m = max(stop - start, self.trained[1] if self.trained else 0)
        x = self.door.piece(file, start, m) * one.gain
        return x, known(file, start, m, self.signal.rate_hz) if self.masked else None

    def _length(self) -> int:
        """Samples in a piece."""
        return max(int(_PIECE_S * self.signal.rate_hz), self.trained[1] if self.trained else 0)

    def weight(self, one: Heard) -> float:
        """Its seconds."""
        return one.header.seconds

    def write(self, made: Made[Heard], row: int) -> dict[str, Any]:
        """See :meth:`Loop.write`."""
        one, found = made.batch[row], made.result
        entry: dict[str, Any] = {"severity": one.severity, "seconds_of_sound": round(one.header.seconds, 3), "rate_hz": one.header.rate_hz}
        entry |= {"channels": one.header.channels, **self.damage(one)}
        if found == "silent":
            self._copy(one)
            self.remark(_SILENT)
            return entry | {"left as it is": "silent"}
        with found.after, found.before or contextlib.nullcontext():
            if found.before is not None:
                self._save(one.job.beside("degraded"), one, found.before)
            clipped = self._save(one.job.target, one, found.after)
        for number, true in (
            (_LOST, one.header.rate_hz > self.signal.rate_hz),
            (_APART, one.header.channels == 2 and self._apart(one.header)),
            (_CLIPPED, clipped > 0),
        ):
            if true:
                self.remark(number)
        return entry | (found.scores or {}) | ({"clipped": clipped} if clipped else {})

    def _save(self, path: Path, one: Heard, spool: "Spool") -> int:
        with replacing(path) as temporary:
            return audio.save(temporary, played(spool.read, self.signal.rate_hz, one.header, one.gain), one.header, path)

    def _copy(self, one: Heard) -> None:
        """The recording as it is, in the format of its result."""
        if one.job.source.suffix.lower() == one.job.target.suffix.lower():
            copied(one.job)
            return
        with audio.File(one.job.source) as file, replacing(one.job.target) as temporary:
            blocks = (file.read(start, min(BLOCK, one.header.frames - start)) for start in range(0, one.header.frames, BLOCK))
            audio.save(temporary, blocks, one.header, one.job.target)

    def leave(self, one: Heard, verdict: str) -> dict[str, Any]:
        """See :meth:`Loop.leave`."""
        self._copy(one)
        return {"left as it is": verdict, **self.damage(one)}


class Spool:
    """Samples (n, c) that are written in order and read from anywhere: in memory, or if there are many in a nameless file beside `path`."""

    def __init__(self, path: Path, n: int, channels: int) -> None:
        self.n, self.channels = n, channels
        self._held: Samples | None = np.zeros((n, channels), np.float32) if n * channels <= _HELD else None
        self._file: Any = None
        if self._held is None:
            with beside(path, n * channels * 4):
                self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by the block that reads it

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, start: int, x: Samples) -> None:
        """Samples from number `start` on."""
        if self._held is not None:
            self._held[start : start + len(x)] = x
            return
        self._file.seek(start * self.channels * 4)
        self._file.write(np.ascontiguousarray(x, dtype=np.float32).tobytes())

    def read(self, start: int, n: int) -> Samples:
        """n samples from number `start` on; 0 outside."""
        if self._held is not None:
            return padded(self._held, start, n)
        first, last = max(start, 0), min(start + n, self.n)
        out: Samples = np.zeros((n, self.channels), np.float32)
        if last > first:
            self._file.seek(first * self.channels * 4)
            found = np.frombuffer(self._file.read((last - first) * self.channels * 4), np.float32)
            out[first - start : last - start] = found.reshape(-1, self.channels)
        return out


class Score:
    """SI-SDR of what was degraded here and of what was restored, gathered piece by piece, each channel by itself; their mean counts."""

    def __init__(self, channels: int) -> None:
        self._n = 0
        self._sums = np.zeros((2, 5, channels))  # of x, y, xx, xy, yy, for y degraded and restored

    def add(self, clean: Samples, degraded: Samples, restored: Samples) -> None:
        """A piece (n, c) of each."""
        x = clean.astype(np.float64)
        self._n += len(x)
        for row, y in enumerate((degraded.astype(np.float64), restored.astype(np.float64))):
            self._sums[row] += np.stack([x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0), (y * y).sum(0)])

    def decibels(self) -> dict[str, float]:
        """degraded_si_sdr_db and restored_si_sdr_db, in [-60, 100]; nothing where a clean channel is silent."""
        found = {}
        for name, (x, y, xx, xy, yy) in zip(("degraded_si_sdr_db", "restored_si_sdr_db"), self._sums, strict=True):
            xx, xy, yy = xx - x * x / self._n, xy - x * y / self._n, yy - y * y / self._n
            if (xx <= self._n * SILENCE**2).any():
                return {}
            told = xy * xy / xx
            ratio = np.maximum(told, 1e-30) / np.maximum(yy - told, 1e-30)
            found[name] = float((10 * np.log10(ratio)).clip(*_DB).mean())
        return found


def pieces(n: int, most: int) -> list[tuple[int, int]]:
    """(start, stop) of overlapping pieces of equal length, at most `most`, that cover n samples: neighbours share an eighth of `most`."""
    if n <= most:
        return [(0, n)]
    shared = most // _OVERLAP
    k = -(-(n - shared) // (most - shared))
    m = -(-(n + (k - 1) * shared) // k)
    starts = [min(i * (m - shared), n - m) for i in range(k)]
    return [(start, start + m) for start in starts]


def crossed(tail: Samples, x: Samples) -> Samples:
    """The end of one piece (n, c) faded into the beginning of the next."""
    n = len(tail)
    if n == 0:
        return tail
    rising = np.sin(0.5 * np.pi * (np.arange(n, dtype=np.float32) + 0.5) / n)[:, None] ** 2
    faded: Samples = tail * (1 - rising) + x[:n] * rising
    return faded


def known(file: audio.File, start: int, n: int, rate_hz: int) -> Tensor:
    """1 where samples of a piece are known, 0 in gaps: (1, 1, n) at `rate_hz`.

    A gap is a run of exact zeros in all channels of 4 ms to 0.5 s. One that is longer or touches an end of the recording is a pause, and known;
    so is what lies outside.
    """
    header, p, q = file.header, *audio.ratio(file.header.rate_hz, rate_hz)
    least, most = max(int(_GAP_S * header.rate_hz), 2), int(_PAUSE_S * header.rate_hz)
    wide = 0 if p == q else -(-_RINGS * q // p)
    first = start * q // p - most - wide - 2  # what reaches beyond what is read is longer than a gap
    x = file.read(first, -(-n * q // p) + 2 * (most + wide + 2))
    zero = np.concatenate([[False], (x == 0).all(1), [False]])
    edges = np.flatnonzero(zero[1:] != zero[:-1]).reshape(-1, 2)
    hole = np.zeros(len(x), bool)
    for begin, end in edges[(edges[:, 1] - edges[:, 0] >= least) & (edges[:, 1] - edges[:, 0] <= most)].tolist():
        if first + begin > 0 and first + end < header.frames:
            hole[max(begin - wide, 0) : end + wide] = True
    at = (np.arange(start, start + n, dtype=np.int64) * q // p - first).clip(0, len(hole) - 1)
    return torch.from_numpy(~hole[at]).float()[None, None]


def louder(work: Work, severity: float, shape: tuple[int, ...], signal: Sound, *, known: bool = False) -> float:
    """The factor by which D at this severity changes the loudness of a clean sound that swells as speech does; with `known`, of what is not lost."""
    n = max(shape[1], 2 * signal.rate_hz)
    source = generator(work.seed, "restore-loudness")
    white = torch.fft.rfft(normal(torch.empty(1, shape[0], n), source))
    hertz = torch.arange(white.shape[-1]) * (signal.rate_hz / n)
    x = torch.fft.irfft(white * (hertz / 80).clamp(max=1) / (1 + hertz / 500), n)
    x = x * (0.05 + torch.sin(math.pi * 4 * torch.arange(n) / signal.rate_hz).square())
    x = x * signal.level / x.square().mean().sqrt()
    y = work.model.corrupt(x, severity, source).x.to(x)
    heard = y != 0 if known else torch.ones_like(y, dtype=torch.bool)
    loud = float((y[heard].square().mean() / x[heard].square().mean()).sqrt())
    return min(max(loud, 0.1), 10.0) if math.isfinite(loud) else 1.0

