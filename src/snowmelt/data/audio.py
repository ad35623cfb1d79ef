r"""Sound files through libsndfile: their headers, pieces of them at any rate, and writing them as they were.

A piece at another rate is what it would be were the whole file resampled and the piece cut from it: the samples around it that the filter reaches are
read too. So a file of hours is read window by window, by seeking, and its pieces fit together to the last digit but rounding.

Resampling by the ratio p/q is interpolation by p, one low-pass filter, decimation by q, computed in polyphase form (only what is kept). The
filter is a windowed sinc of 64 zero crossings on each side, with a Kaiser window of beta = 8.6: what would fold is 80 dB down or more, and what
is kept is level to 91 % of the lower rate's Nyquist frequency.

A header is believed no further than the file goes: one that announces more data than there is names a truncated file. Only 0xFFFFFFFF, which programs
write that did not know the length when they began, means whatever is there.

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

from snowmelt.data.door import Unreadable
from snowmelt.data.options import RATES_HZ
from snowmelt.data.streams import opened

Samples: TypeAlias = NDArray[np.float32]
Source: TypeAlias = Callable[[int, int], Samples]
"""(start, n) -> the samples (n, c) from there on."""

CHANNELS = (1, 2)
BLOCK = 1 << 18  # samples that are worked on at a time
_CROSSINGS = 64
_BETA = 8.6
_CUTOFF = 0.955
_FINEST = 4096  # the smaller number of a ratio of rates; others are taken to one part in 10^7
_STREAMED = 0xFFFFFFFF
_LENGTH = re.compile(r"^(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
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

    with opened_file(path) as stream:
        if not stream.read(1):
            raise Unreadable(path, "the file is empty")
        stream.seek(0)
        try:
            with soundfile.SoundFile(stream) as file:
                found = Header(int(file.frames), int(file.samplerate), int(file.channels), str(file.format), str(file.subtype))
                log = str(file.extra_info)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise Unreadable(path, f"not a recording that libsndfile reads ({_plain(error)})") from error
    said = _LENGTH.search(log)
    if said and int(said[1]) > int(said[2]) and int(said[1]) != _STREAMED:
        raise Unreadable(path, f"truncated: its header says {int(said[1]):,} bytes of sound, and {int(said[2]):,} are there")
    if found.frames < 1:
        raise Unreadable(path, "it holds no sound: 0 samples")
    if found.channels not in CHANNELS:
        raise Unreadable(path, f"it has {found.channels} channels: recordings have 1 (mono) or 2 (stereo)")
    if not RATES_HZ[0] <= found.rate_hz <= RATES_HZ[1]:
        raise Unreadable(path, f"its header says {found.rate_hz:,} Hz, which lies outside [{RATES_HZ[0]:,}, {RATES_HZ[1]:,}]")
    return found


def opened_file(path: Path) -> Any:
    """A file for reading, of which no more is asked for than is there; what the system refuses is unreadable, but no fault of the file.

    Raises:
        FileNotFoundError, Unreadable: there is no such file; or it cannot be opened.
    """
    try:
        return opened(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error), broken=False) from error


class File:
    """A sound file that is open for reading from anywhere; `header` is what it says of itself. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        import soundfile

        self.path, self.header = path, header(path)
        self._stream = opened_file(path)
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


def resampled(read: Source, rate_hz: int, to_hz: int, start: int, n: int) -> Samples:
    """n samples (n, c) from number `start` on, of what `read` gives at `rate_hz`, brought to `to_hz`.

    Args:
        read: gives samples at any place, 0 outside.
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
    found = resample_poly(read(first, last - first), p, q, axis=0, window=_filter(max(p, q)))
    skip = start - first // q * p
    piece: Samples = np.ascontiguousarray(found[skip : skip + n], dtype=np.float32)
    return piece


@functools.lru_cache(maxsize=8)
def _filter(most: int) -> NDArray[np.float32]:
    from scipy.signal import firwin

    taps: NDArray[np.float32] = firwin(2 * _CROSSINGS * most + 1, _CUTOFF / most, window=("kaiser", _BETA)).astype(np.float32)
    return taps


def loudness(read: Source, n: int) -> float:
    """The root mean square of n samples of all channels together, read in blocks."""
    total = channels = 0.0
    for start in range(0, n, BLOCK):
        piece = read(start, min(BLOCK, n - start))
        total, channels = total + float(np.square(piece, dtype=np.float64).sum()), piece.shape[1]
    return float(np.sqrt(total / max(n * channels, 1)))


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
