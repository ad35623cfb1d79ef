r"""Sound files through libsndfile: their headers, pieces of them at any rate, and writing them as they were.

A piece at another rate is what it would be were the whole file resampled and the piece cut from it: the samples around it that the filter reaches are
read too. So a file of hours is read window by window, by seeking, and its pieces fit together to the last digit but rounding.

Resampling by the ratio p/q is interpolation by p, one low-pass filter, decimation by q, computed in polyphase form (only what is kept). The
filter is a windowed sinc of 64 zero crossings on each side, with a Kaiser window of beta = 8.6: what would fold is 80 dB down or more, and what
is kept is level to 91 % of the lower rate's Nyquist frequency.

A header is believed no further than the file goes: one of WAV (RF64 too), AIFF or FLAC that announces more than there is names a truncated file. What
programs write into a WAV whose length they did not know when they began means whatever is there: 0xFFFFFFFF; 0x7FFFF000 or more, if what is there are
whole frames; and 0, if something follows that is no chunk.

Beyond its ends a recording that is resampled goes on as its odd reflection, x[-k] = 2 x[0] - x[k]: were it followed by silence, the filter would
answer that step within the recording. What lies outside is 0 all the same.

Source: Crochiere and Rabiner 1983, "Multirate digital signal processing", chapter 3, for polyphase resampling; Kaiser 1974, for the window.
"""

import errno
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from snowmelt.data.door import Unreadable, opened_file
from snowmelt.data.options import RATES_HZ

Samples: TypeAlias = NDArray[np.float32]
Source: TypeAlias = Callable[[int, int], Samples]
"""(start, n) -> the samples (n, c) from there on."""

CHANNELS = (1, 2)
BLOCK = 1 << 18  # samples that are worked on at a time
_CROSSINGS = 64
_BETA = 8.6
_CUTOFF = 0.955
_FINEST = 4096  # the smaller number of a ratio of rates; others are taken to one part in 10^7
_STREAMED, _ENDLESS = 0xFFFFFFFF, 0x7FFFF000
_LENGTH = re.compile(r"^ *(data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_FRAMES = re.compile(r"Frame count read from 'COMM' chunk \((\d+)\)")
_DS64 = re.compile(r"^ *Data size\s*:\s*(\d+)", re.MULTILINE)
_FRAME = re.compile(r"^ *Block Align\s*:\s*(\d+)", re.MULTILINE)
_CHUNKS = 64  # of a WAV before its sound, more than any has
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FLOATS = ("FLOAT", "DOUBLE")
_LARGEST_WAV = 4_000_000_000  # bytes; its sizes have 32 bits


@dataclass(frozen=True)
class Header:
    """What a sound file says of itself.

    Attributes:
        frames: samples in each channel.
        rate_hz: samples per second.
        channels: 1 or 2.
        container: WAV, FLAC, OGG, AIFF, ...
        subtype: how samples are stored: PCM_16, PCM_24, FLOAT, VORBIS, ...
    """

    frames: int
    rate_hz: int
    channels: int
    container: str
    subtype: str

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.frames / self.rate_hz


def header(path: Path) -> Header:
    """The header of a sound file, held against the file.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is empty or no sound, ends before its header says, or has more than two channels or a strange rate.
    """
    import soundfile

    with _stream(path) as stream:
        if not stream.read(1):
            raise Unreadable(path, "the file is empty")
        stream.seek(0)
        try:
            with soundfile.SoundFile(stream) as file:
                found = Header(int(file.frames), int(file.samplerate), int(file.channels), str(file.format), str(file.subtype))
                log = str(file.extra_info)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise Unreadable(path, f"not a recording that libsndfile reads ({_plain(error)})") from error
    if lacking := _lacking(log, found):
        raise Unreadable(path, f"truncated: its header says {lacking}")
    if found.frames < 1:
        raise Unreadable(path, "it holds no sound: 0 samples")
    if found.channels not in CHANNELS:
        raise Unreadable(path, f"it has {found.channels} channels: recordings have 1 (mono) or 2 (stereo)")
    if not RATES_HZ[0] <= found.rate_hz <= RATES_HZ[1]:
        raise Unreadable(path, f"its header says {found.rate_hz:,} Hz, which lies outside [{RATES_HZ[0]:,}, {RATES_HZ[1]:,}]")
    return found


def _lacking(log: str, found: Header) -> str | None:
    """How much is promised and how much is there, in words, where that is less."""
    frame = int(said[1]) if (said := _FRAME.search(log)) else 0
    if said := _LENGTH.search(log):
        promised, there = int(said[2]), int(said[3])
        streamed = said[1] == "data" and (promised == _STREAMED or (promised >= _ENDLESS and frame > 0 and there % frame == 0))
        if promised > there and not streamed:
            return f"{promised:,} bytes of sound, and {there:,} are there"
    if (said := _FRAMES.search(log)) and int(said[1]) > found.frames:
        return f"{int(said[1]):,} samples, and {found.frames:,} are there"
    if found.container == "RF64" and frame and (said := _DS64.search(log)) and frame <= int(said[1]) - found.frames * frame < 1 << 62:
        return f"{int(said[1]):,} bytes of sound, and {found.frames * frame:,} are there"
    return None


class _Unfinished:
    """A WAV that says its sound has 0 bytes, as a recorder leaves it that was cut off, read as if it said 0xFFFFFFFF: whatever is there."""

    def __init__(self, stream: Any, place: int) -> None:
        self._inner, self._place = stream, place
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def __enter__(self) -> "_Unfinished":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, n: int) -> bytes:
        at = self.tell()
        found = bytearray(self._inner.read(n))
        for i in range(max(self._place - at, 0), min(self._place + 4 - at, len(found))):
            found[i] = 0xFF
        return bytes(found)


def _stream(path: Path) -> Any:
    """:func:`opened_file`; of a WAV that was never finished, see :class:`_Unfinished`."""
    stream = opened_file(path)
    try:
        place = _nought(stream)
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream if place is None else _Unfinished(stream, place)


def _nought(stream: Any) -> int | None:
    """Where a WAV says that its sound has 0 bytes, although something follows that is no chunk."""
    start = stream.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        return None
    for _ in range(_CHUNKS):
        head = stream.read(8)
        if head[:4] == b"data" and len(head) == 8:
            here, after = stream.tell(), stream.read(8)
            end = stream.seek(0, 2)
            chunk = re.fullmatch(rb"[A-Za-z][\w ]{3}", after[:4]) and here + 8 + int.from_bytes(after[4:], "little") <= end
            return here - 4 if after and not any(head[4:]) and not chunk else None
        if len(head) < 8:
            return None
        size = int.from_bytes(head[4:], "little")
        stream.seek(size + size % 2, 1)
    return None


class File:
    """A sound file that is open for reading from anywhere; `header` is what it says of itself. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        import soundfile

        self.path, self.header = path, header(path)
        self._stream = _stream(path)
        self._file = soundfile.SoundFile(self._stream)

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self._stream.close()

    def read(self, start: int, n: int) -> Samples:
        """n samples (n, c) from number `start` on, float32, full scale 1; what lies outside of the file is 0.

        Raises:
            Unreadable: it is damaged, ends before its header says, or holds values that are not finite.
        """
        first, last = max(start, 0), min(start + n, self.header.frames)
        out: Samples = np.zeros((n, self.header.channels), np.float32)
        if last <= first:
            return out
        try:
            self._file.seek(first)
            found = self._file.read(last - first, dtype="float32", always_2d=True)
        except (RuntimeError, ValueError) as error:
            raise Unreadable(self.path, f"damaged ({_plain(error)})") from error
        if len(found) < last - first:
            raise Unreadable(self.path, f"truncated: its header says {self.header.frames:,} samples, and it ends after {first + len(found):,}")
        if not np.isfinite(found).all():
            raise Unreadable(self.path, "it holds values that are not finite (NaN or infinity)")
        out[first - start : last - start] = found
        return out


def ratio(rate_hz: int, to_hz: int) -> tuple[int, int]:
    """(p, q): for every q samples p."""
    exact = Fraction(to_hz, rate_hz)
    near = exact.limit_denominator(_FINEST) if exact > 1 else 1 / (1 / exact).limit_denominator(_FINEST)
    return near.numerator, near.denominator


def length(n: int, rate_hz: int, to_hz: int) -> int:
    """How many samples n samples become at another rate: every one that begins before they end."""
    p, q = ratio(rate_hz, to_hz)
    return -(-n * p // q)


def resampled(read: Source, frames: int, rate_hz: int, to_hz: int, start: int, n: int) -> Samples:
    """n samples (n, c) from number `start` on, of what `read` gives at `rate_hz`, brought to `to_hz`; what lies outside of the recording is 0.

    Args:
        read: gives samples at any place, 0 outside.
        frames: how many it has.
        rate_hz: at this rate.
        to_hz: the rate wanted.
        start: in samples at `to_hz`.
        n: how many.
    """
    p, q = ratio(rate_hz, to_hz)
    if p == q or n <= 0:
        return read(start, max(n, 0))
    from scipy.signal import resample_poly

    reach = -(-_CROSSINGS * max(p, q) // p) + 1  # samples at rate_hz on each side
    # Number k p of the result lies where number k q of the source does: there begins what is resampled.
    first = (start // p - (-(-reach // q))) * q
    last = -(-(start + n) * q // p) + reach
    found = resample_poly(_reflected(read, frames, first, last - first, reach), p, q, axis=0, window=_filter(max(p, q)))
    skip = start - first // q * p
    piece: Samples = np.array(found[skip : skip + n], dtype=np.float32)
    piece[: max(-start, 0)] = 0
    piece[max(length(frames, rate_hz, to_hz) - start, 0) :] = 0
    return piece


def _reflected(read: Source, frames: int, start: int, n: int, reach: int) -> Samples:
    """n samples (n, c) from number `start` on, where a recording goes on beyond its ends as its odd reflection, as far as `reach` (then level)."""
    x, at = read(start, n), np.arange(start, start + n)
    most = min(reach, frames - 1)
    for outside, first, inwards in ((at < 0, 0, 1), (at >= frames, frames - 1 - most, -1)):
        if frames > 0 and outside.any():
            near = read(first, most + 1)[::inwards]
            end = 0 if inwards == 1 else frames - 1
            x = x.copy()
            x[outside] = 2 * near[0] - near[np.abs(at[outside] - end).clip(max=most)]
    return x


@functools.lru_cache(maxsize=8)
def _filter(most: int) -> NDArray[np.float32]:
    from scipy.signal import firwin

    taps: NDArray[np.float32] = firwin(2 * _CROSSINGS * most + 1, _CUTOFF / most, window=("kaiser", _BETA)).astype(np.float32)
    return taps


def loudness(read: Source, n: int, known: Source | None = None) -> NDArray[np.float64]:
    """The root mean square of each channel of n samples, (c,), read in blocks; only of those where `known`, (n, 1), is 1."""
    total: NDArray[np.float64] = np.zeros(1)
    count = 0.0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        power = np.square(read(start, m), dtype=np.float64)
        weight = np.ones((m, 1)) if known is None else known(start, m)
        total, count = total + (power * weight).sum(0), count + float(weight.sum())
    found: NDArray[np.float64] = np.sqrt(total / max(count, 1))
    return found


def container_of(path: Path, like: Header) -> tuple[str, str]:
    """(container, subtype) of a file that is to be written: as `like` is stored, if the suffix and its format allow it, else the nearest.

    Raises:
        ValueError: the suffix is of no format that can be written.
    """
    import soundfile

    suffix = path.suffix.lower()
    if suffix not in _CONTAINERS:
        raise ValueError(f'{path}: recordings cannot be written as "{path.suffix}": use one of {", ".join(_CONTAINERS)}')
    container = _CONTAINERS[suffix]
    if container == "WAV" and like.frames * like.channels * 4 > _LARGEST_WAV:
        container = "RF64"
    same = {"WAVEX": "WAV", "RF64": "WAV", "W64": "WAV"}
    if same.get(like.container, like.container) == same.get(container, container) and soundfile.check_format(container, like.subtype):
        return container, like.subtype
    deep = like.subtype in (*_FLOATS, "PCM_24", "PCM_32")
    wanted = (like.subtype, "PCM_24" if deep else "PCM_16", soundfile.default_subtype(container))
    return container, next(one for one in wanted if soundfile.check_format(container, one))


_CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aif": "AIFF", ".aiff": "AIFF"}


def save(path: Path, blocks: Iterator[Samples], like: Header, name: Path) -> int:
    """Write blocks of samples (n, c) to a file, stored as `like` is; returns how many values were clipped.

    Whole numbers are rounded here and not by libsndfile, which writes with another factor than it reads with: what did not change stays bit for bit.

    Args:
        path: a temporary file, whatever its suffix.
        blocks: what to write, full scale 1.
        like: rate, channels and storage.
        name: what the file will be called: its suffix is the format.

    Raises:
        ValueError: the suffix is unknown, or a value is NaN.
        OSError: it cannot be written.
    """
    import soundfile

    container, subtype = container_of(name, like)
    clipped, bits = 0, _BITS.get(subtype)
    try:
        with soundfile.SoundFile(path, "w", like.rate_hz, like.channels, subtype, format=container) as file:
            for block in blocks:
                if np.isnan(block).any():
                    raise ValueError("a recording holds NaN, which is no sound: the model or sampler that made it has diverged")
                if subtype not in _FLOATS:
                    clipped += int((np.abs(block) > 1).sum())
                    block = block.clip(-1, 1)
                file.write(block if bits is None else _levels(block, bits))
    except soundfile.LibsndfileError as error:
        raise OSError(errno.EIO, f"libsndfile cannot write {container} {subtype} ({_plain(error)})") from error
    return clipped


def _levels(block: Samples, bits: int) -> NDArray[np.int32]:
    """Samples as whole numbers of so many bits, in the upper bits of 32."""
    top = 2.0 ** (bits - 1)
    found = np.rint(block.astype(np.float64) * top).clip(-top, top - 1)
    levels: NDArray[np.int32] = (found * 2.0 ** (32 - bits)).astype(np.int32)
    return levels


def _plain(error: Exception) -> str:
    """What libsndfile says, without the file's name."""
    return " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")
