"""What became of the pictures of a collection, in numbers and names."""

from dataclasses import dataclass, field
from pathlib import Path

from snowmelt.restoration.plan import PICTURES, Failure, Kind
from snowmelt.restoration.preview import Preview
from snowmelt.restoration.throughput import Pace


@dataclass
class Tally:
    """What became of the pictures of a collection, or of a shard of it.

    Attributes:
        total: how many there were.
        done: restored now.
        kept: there already, and left alone.
        failed: could not be restored.
        how: the walk and where it starts, in words.
        greyed: in colour, but restored in grey, because the model knows no other.
        elsewise: of `kept`, made with other settings.
        clean: left as they are, because nothing seems to be wrong with them.
        unsure: left as they are, because the model cannot judge them.
        last: the file that was written last.
        errors: the file that lists what could not be restored.
        preview: the sheet and the estimate, if that was all that was asked for.
        megapixels: of what was restored, or looked at and left.
        pace: how fast that was, and how much of the time the network took; None where there was nothing to do.
        kind: of the files; of others than pictures, "megapixels" holds what :class:`Pace` says they are measured in.
        sentences: what may be worth saying of some of them, with {n} of them.
        remarks: of how many each of the sentences is true.
        measured: what the files are called, and what they are measured in.
    """

    total: int
    how: str = ""
    done: int = 0
    kept: int = 0
    failed: list[Failure] = field(default_factory=list)
    greyed: int = 0
    elsewise: int = 0
    clean: list[Path] = field(default_factory=list)
    unsure: list[Path] = field(default_factory=list)
    last: Path | None = None
    errors: Path | None = None
    preview: Preview | None = None
    megapixels: float = 0.0
    pace: Pace | None = None
    kind: Kind = PICTURES
    sentences: tuple[str, ...] = ()
    remarks: list[int] = field(default_factory=list)
    measured: tuple[str, str] = ("pictures", "megapixels")
