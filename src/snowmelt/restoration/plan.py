"""What becomes what: the pictures behind the inputs, in one order, each with the path of its restoration.

The plan is made from names alone, before the first picture is opened. Its order (inputs as given, folders sorted) and the path of
a picture below its folder do not depend on the shard or on what is finished; so every share of the work is a share of one whole.
"""

import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snowmelt.data.door import SUFFIXES as DOORS
from snowmelt.data.door import door_for, signal_of
from snowmelt.data.images import SUFFIXES
from snowmelt.disk import as_text, shortened
from snowmelt.signals import PICTURE, Signal

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_RESTORES = "this model restores"
_JOURNALS = ("restored.jsonl", "translated.jsonl")
_FURTHER = ("degraded", "trajectory", "mean", "uncertainty")
_PART = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]+\.part", re.DOTALL)


@dataclass(frozen=True)
class Kind:
    """Files of one signal, as a plan finds them.

    Attributes:
        one: what one of them is called.
        many: what several are.
        suffixes: of those that are looked for in folders.
        written: of those that can be written; others become the first of these.
    """

    one: str
    many: str
    suffixes: tuple[str, ...]
    written: tuple[str, ...]


PICTURES = Kind(PICTURE.one, PICTURE.many, SUFFIXES, WRITTEN)


def kind_of(signal: Signal) -> Kind:
    """The files of a signal."""
    if signal.name == PICTURE.name:
        return PICTURES
    door = door_for(signal)
    return Kind(signal.one, signal.many, door.suffixes, door.written)


def require_kind(inputs: Sequence[Path], kind: Kind, does: str = _RESTORES) -> None:
    """Refuse files that are, by their names, of another signal.

    Raises:
        ValueError: one is; the message says what it is.
    """
    for given in inputs:
        suffix = given.suffix.lower()
        if suffix in kind.suffixes or given.is_dir():
            continue
        name = signal_of(given)
        # An array is a scan to nobody but a model of scans: of pictures, it is simply none.
        found = {"sound": "a recording", "scan": "a scan"}.get(name or "", "a picture" if suffix in SUFFIXES else None)
        if found is not None and not (kind is PICTURES and name == "scan"):
            way_out = f": give --model a run that was trained on {name}" if name == "sound" and does == _RESTORES else ""
            raise ValueError(f"{given} is {found}, and {does} {kind.many} ({', '.join(kind.suffixes)}){way_out}")


def require_pictures(signal: Signal, inputs: Sequence[Path], verb: str) -> None:
    """Refuse, for a verb that knows pictures only, models and files of another signal.

    Raises:
        ValueError: the model or a file is one.
    """
    if signal.name != PICTURE.name:
        raise ValueError(f"{verb} works on pictures, and this model was trained on {signal.many}: snowmelt restore takes them")
    require_kind(inputs, PICTURES, f"{verb} works on")


@dataclass(frozen=True)
class Job:
    """One picture, or other file.

    Attributes:
        number: its place in the whole plan.
        source: where it is.
        name: its path below the input it came from.
        target: the file it becomes.
        root: the output folder; None where the result lies beside its picture.
        named: given itself, not found in a folder.
        anchor: where there is no output folder, the file that further things are called after; None is the source.
    """

    number: int
    source: Path
    name: Path
    target: Path
    root: Path | None
    named: bool = False
    anchor: Path | None = None

    @property
    def key(self) -> str:
        """What its random numbers are keyed by: the path below the input, the same on every system."""
        return unicodedata.normalize("NFC", as_text(self.name.as_posix())).encode(errors="backslashreplace").decode()

    def beside(self, what: str) -> Path:
        """Where something further goes: OUT/WHAT/NAME, or NAME-WHAT where the result lies beside its picture."""
        if self.root is not None:
            return self.root / what / self.target.relative_to(self.root)
        anchor = self.anchor or self.source
        return anchor.with_name(f"{anchor.stem}-{what}{self.target.suffix}")


@dataclass(frozen=True)
class Failure:
    """A picture that could not be restored, and why, in one line; `broken` where a file that was found in a folder is no sound picture."""

    source: Path
    reason: str
    broken: bool = False


@dataclass(frozen=True)
class Plan:
    """All jobs in order, and what is known to fail before anything is opened."""

    jobs: tuple[Job, ...]
    refused: tuple[Failure, ...]
    kind: Kind = PICTURES

    def share(self, shard: tuple[int, int]) -> "Plan":
        """The i-th of n shares: every n-th picture from the i-th on; what is refused belongs to the first."""
        i, n = shard
        return Plan(self.jobs[i - 1 :: n], self.refused if i == 1 else (), self.kind)


def shard_of(text: str) -> tuple[int, int]:
    """The (i, n) of "i/n".

    Raises:
        ValueError: it is not 1 <= i <= n.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"shard {text!r} is not i/n with 1 <= i <= n: 2/8 is the second of eight shares")
    return int(found[1]), int(found[2])


def plan(inputs: Sequence[Path], out: Path | None, kind: Kind = PICTURES) -> Plan:
    """One job per picture.

    Args:
        inputs: pictures, and folders of them.
        out: the output folder; None puts the restoration of a single picture beside it, as NAME-restored. That of a single file of another
            signal may be named itself, with a suffix of that signal.
        kind: which files are looked for.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder holds no picture, `out` is missing, is a file or, of a single recording or scan, has the suffix of no format that can be
            written, or an output would be an input.
    """
    missing = next((given for given in inputs if not given.exists()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} does not exist: give {kind.many}, or folders of {kind.many}")
    if out is None:
        return _alone(inputs, kind)
    if names_a_file(inputs, out, kind):
        return _to_file(inputs[0], out, kind)
    if kind is not PICTURES and len(inputs) == 1 and not inputs[0].is_dir() and out.suffix and not out.exists():
        raise ValueError(f'{out}: a {kind.one} cannot be written as "{out.suffix}": use one of {", ".join(kind.written)}, or a folder that exists')
    if out.is_file():
        raise ValueError(f"{out} is a file: give --out a folder")
    refused: list[Failure] = []
    found: dict[Path, tuple[Path, Path]] = {}  # by the real path: a picture that is given twice is one picture
    for source, name in (pair for given in inputs for pair in _pictures(given, out, refused, kind)):
        found.setdefault(Path(os.path.abspath(source)), (source, name))
    taken: dict[Path, Path] = {}
    # Where two would become one file, a picture that keeps its name goes before one that changes its format.
    for source, name in sorted(found.values(), key=lambda pair: _target(pair[1], kind) != pair[1]):
        taken.setdefault(_target(name, kind), source)
    named = {os.path.abspath(given) for given in inputs if not given.is_dir()}
    jobs: list[Job] = []
    for source, name in found.values():
        target = out / _target(name, kind)
        if os.path.realpath(target) == os.path.realpath(source):  # resolve() has no patience with a link that leads to itself
            raise ValueError(f"{source} would be overwritten by its own restoration: choose another --out")
        first = taken[_target(name, kind)]
        if first is not source:
            refused.append(Failure(source, f"it and {first} would both become {target}: restore them into two folders"))
        else:
            jobs.append(Job(len(jobs), source, name, target, out, os.path.abspath(source) in named))
    return Plan(tuple(jobs), tuple(refused), kind)


def sweep(jobs: Sequence[Job]) -> None:
    """Remove what a killed run left half written beside the outputs of `jobs`; those of other jobs may still be at work."""
    targets = {path for job in jobs for path in (job.target, *map(job.beside, _FURTHER))}
    targets |= {path.with_name(f"{path.name}.png") for path in targets}
    written = {path.with_name(shortened(path.name)) for path in targets}
    for folder in sorted({path.parent for path in targets}):
        if not folder.is_dir():
            continue
        for entry in list(os.scandir(folder)):
            found = _PART.fullmatch(entry.name)
            if found and folder / found["name"] in written:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def names_a_file(inputs: Sequence[Path], out: Path | None, kind: Kind) -> bool:
    """Whether `out` is the file that a single input becomes; pictures go into folders, whatever these are called."""
    if out is None or kind is PICTURES or len(inputs) != 1 or inputs[0].is_dir() or out.is_dir():
        return False
    return out.suffix.lower() in kind.written


def _to_file(source: Path, out: Path, kind: Kind) -> Plan:
    if os.path.realpath(out) == os.path.realpath(source):
        raise ValueError(f"{source} would be overwritten by its own restoration: choose another --out")
    return Plan((Job(0, source, Path(source.name), out, None, True, out),), (), kind)


def _alone(inputs: Sequence[Path], kind: Kind) -> Plan:
    if len(inputs) != 1 or inputs[0].is_dir():
        what = f"{len(inputs)} inputs" if len(inputs) != 1 else f"the folder {inputs[0]}"
        raise ValueError(f"where shall the restorations of {what} go? Give --out DIR; only that of a single {kind.one} goes beside it")
    source = inputs[0]
    name = _target(Path(source.name), kind)
    return Plan((Job(0, source, Path(source.name), source.with_name(f"{source.stem}-restored{name.suffix}"), None, True),), (), kind)


def _target(name: Path, kind: Kind) -> Path:
    """The name in a format that can be written."""
    return name if name.suffix.lower() in kind.written else name.with_suffix(kind.written[0])


def _pictures(given: Path, out: Path, refused: list[Failure], kind: Kind) -> Iterator[tuple[Path, Path]]:
    """(file, path below `given`) of an input, sorted; hidden files, and what is in `out`, are left out."""
    if not given.is_dir():
        yield given, Path(given.name)
        return
    found: list[Path] = []
    closed = _closed(out, given)
    # Results of an earlier run are inputs of this one, there and back; what was kept beside them is not.
    beside = [given / name for name in _FURTHER] if any((given / name).is_file() for name in _JOURNALS) else []
    for place, folders, names in os.walk(given, onerror=lambda error: refused.append(Failure(Path(error.filename), str(error.strerror)))):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and here / name not in beside]
        folders[:] = [name for name in folders if not (closed and (here / name).resolve() == closed)]
        found += [here / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in kind.suffixes]
    if not found:
        raise ValueError(f"{given} holds no {kind.one} ({', '.join(kind.suffixes)}){_others(given, kind)}")
    yield from ((path, path.relative_to(given)) for path in sorted(found))


def _others(given: Path, kind: Kind) -> str:
    """What a folder holds instead, if that is recordings or pictures, for a message."""
    for many, suffixes in (("recordings", DOORS["sound"]), ("pictures", SUFFIXES)):
        if suffixes != kind.suffixes and any(path.suffix.lower() in suffixes for path in given.rglob("*")):
            return f", but {many}, which this model does not know"
    return ""


def _closed(out: Path, given: Path) -> Path | None:
    """The output folder, where it lies inside an input: what is in it is no input of the next run."""
    inside = out.resolve()
    return inside if inside != given.resolve() and inside.is_relative_to(given.resolve()) else None
