"""Doors: how the files of a signal become samples, and samples files.

Pictures have theirs in :mod:`snowmelt.data.images`, which is older than this and knows more of its files than any other door has to. For every
other signal there is one :class:`Door`, found by a file's suffix or by the signal itself (:func:`door_for`):

======  =========================  ==========================================
signal  files                      door
======  =========================  ==========================================
sound   .wav, .flac, .ogg, .aiff   :class:`snowmelt.data.sound.SoundDoor`
scan    .bin, .npy                 :class:`snowmelt.data.scans.ScanDoor`
======  =========================  ==========================================

A door is a frozen value that holds its signal: that of sound at 8 kHz reads every file at 8 kHz. What a file says besides the sample (its own rate,
its loudness, its depth) stays in what :meth:`Door.read` returns, so that :meth:`Door.write` can give it back.
"""

import abc
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from torch import Tensor

from snowmelt.data.checks import Check, unchecked
from snowmelt.data.options import DataOptions
from snowmelt.data.streams import opened
from snowmelt.signals import Signal

if TYPE_CHECKING:
    from snowmelt.data.dataset import Dataset
    from snowmelt.data.readings import DoorPool
    from snowmelt.data.splits import Split

_HOMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"sound": ("snowmelt.data.sound", "SoundDoor"), "scan": ("snowmelt.data.scans", "ScanDoor")}
)
# Of every signal, known without importing its door: the command line asks before anything is loaded.
SUFFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"sound": (".wav", ".flac", ".ogg", ".aif", ".aiff"), "scan": (".bin", ".npy")}
)


class Unreadable(ValueError):  # noqa: N818 - it says what the file is
    """A file that holds no sample this library can read; the message is ``path: reason``.

    Attributes:
        path: the file.
        reason: what is wrong, in words.
        broken: whether that is the file's own fault: not the disk's, and not that of a limit somebody chose.
    """

    def __init__(self, path: Path, reason: str, *, broken: bool = True) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason, self.broken = path, reason, broken


@dataclass(frozen=True, eq=False)
class Reading:
    """What one file holds. Every door adds what it needs to write a result as the file was.

    Attributes:
        x: the sample (c, *d), float32 on the CPU, as a model takes it.
    """

    x: Tensor


@dataclass(frozen=True)
class Door(abc.ABC):
    """How files of one signal are read and written.

    Attributes:
        signal: what the samples are: the rate of sound, the sensor of scans.
        suffixes: of files that are read, in lower case with their dot.
        written: of files that can be written; a file of another suffix becomes the first of these.
    """

    signal: Signal
    suffixes: ClassVar[tuple[str, ...]]
    written: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def probe(self, path: Path) -> tuple[int, ...]:
        """The shape (c, *d) that :meth:`read` would give, from the header alone; raises as it does."""

    @abc.abstractmethod
    def read(self, path: Path) -> Reading:
        """The sample in a file.

        Raises:
            FileNotFoundError: there is no such file.
            Unreadable: it is empty, truncated, too large, or of another kind; with the reason in words.
        """

    @abc.abstractmethod
    def write(self, path: Path, x: Tensor, like: Any) -> None:
        """Save a sample whole or not at all (:func:`snowmelt.disk.replacing`).

        Args:
            path: its suffix, one of `written`, is the format.
            x: (c, *d), as a model gives it.
            like: what :meth:`read` returned of the file that x was made of; None of a sample that was made of none.

        Raises:
            ValueError: the suffix is unknown, or x holds NaN.
        """

    @abc.abstractmethod
    def suited(self, paths: Sequence[Path], options: DataOptions, check: Check = unchecked) -> Self:
        """This door with the signal that `options` ask for, or else that these files show: their rate, their sensor.

        Args:
            paths: the files.
            options: what is asked for.
            check: is called before each file that is looked into; it may raise to end the work.

        Raises:
            ValueError: an option means nothing for such files; the message names it and the way out.
        """

    @abc.abstractmethod
    def dataset(self, files: "DoorPool", chosen: Sequence[int], split: "Split", options: DataOptions) -> "Dataset":
        """The chosen files of a pool as a data set; see :class:`snowmelt.data.readings.Readings`, of which to make one."""

    def of(self, signal: Signal) -> Self:
        """This door for that signal.

        Raises:
            ValueError: it is a signal of another kind.
        """
        if type(signal) is not type(self.signal):
            raise ValueError(f"files of {self.signal.many} hold no {signal.many}")
        return replace(self, signal=signal)


def door_for(what: Path | str | Signal) -> Door:
    """The door of a signal, or of a file by its suffix (with the signal's defaults).

    Raises:
        ValueError: there is none: pictures have :mod:`snowmelt.data.images`, and other files are none that are known.
    """
    name = what.name if isinstance(what, Signal) else signal_of(what)
    if name is None or name not in _HOMES:
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise ValueError(f"{what if name is None else name}: no file of sound or scans ({known})")
    module, kind = _HOMES[name]
    found: type[Door] = getattr(importlib.import_module(module), kind)
    return found().of(what) if isinstance(what, Signal) else found()  # type: ignore[call-arg]  # every door has a signal by default


def opened_file(path: Path) -> BinaryIO:
    """A file for reading, of which no more is asked for than is there; what the system refuses is unreadable, but no fault of the file.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it cannot be opened.
    """
    try:
        return opened(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error), broken=False) from error


def signal_of(path: Path | str) -> str | None:
    """sound or scan, by the suffix of a file; None of any other. What is inside is not looked at."""
    suffix = Path(path).suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def picture_only(options: DataOptions, signal: Signal, *allowed: str) -> None:
    """Refuse the options of pictures that mean nothing for a signal.

    Args:
        options: what was asked for.
        signal: what the files hold.
        allowed: names of options that mean something for it all the same.

    Raises:
        ValueError: one of them is set; the message names it and says to leave it out.
    """
    bare = {field.name: field.default for field in fields(DataOptions)}
    for name in ("size", "fit", "flip", "turn", "range", "window", "rate_hz", "sensor"):
        if name not in allowed and (value := getattr(options, name, None)) != bare.get(name):
            raise ValueError(f"data.{name} = {value} means nothing for {signal.many}: leave it out")

