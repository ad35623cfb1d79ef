"""Rows of a Parquet table, restored by a worker: each as a file of that name in a folder would be, to the same pixels.

Its name is what a picture's random numbers are keyed by, and never a path to write to. Tables are strangers' files: pyarrow reads no column but the
pictures and their names, nothing is unpickled, pages are read and rows unpacked one by one, a row group that promises more than 4 GiB of them is not
begun, and a picture of more bytes than an uncompressed one of `max_pixels` is not looked at.

What :mod:`snowmelt.restoration.tables` hands out travels as text.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snowmelt.data.door import Unreadable
from snowmelt.disk import replacing, shortened
from snowmelt.restoration.errands import carried_out, line
from snowmelt.restoration.loop import NO_MORE
from snowmelt.restoration.picture import reason
from snowmelt.restoration.plan import PICTURES, Job, Plan
from snowmelt.stopping import Stopped

if TYPE_CHECKING:
    from snowmelt.restoration.work import Work

SUFFIX = ".parquet"
_IMAGE, _NAMES = "image", ("path", "name")
_LARGEST_GROUP = 4 << 30  # bytes, unpacked
_ROWS = 16  # at once
_FLUSHED = 64 << 20  # bytes of pictures that are kept: of rows that go together, and until they are written
_LONGEST = 4096  # bytes of a name; no path is longer
_BUFFER = 1 << 16  # bytes that are read ahead; left to itself, pyarrow reads all that a row group has of a column at once


@dataclass(frozen=True)
class Piece:
    """One row group of one table.

    Attributes:
        number: its place in the plan.
        source: the table.
        name: its path below the input it came from.
        group: which row group.
        first: its first row's place in the table.
        rows: how many it has.
        target: the table it becomes.
        names: the column that names pictures; "" where there is none.
    """

    number: int
    source: Path
    name: Path
    group: int
    first: int
    rows: int
    target: Path
    names: str = ""

    def row(self, i: int) -> Path:
        """What row i of it is called in messages and in lists of errors: FILE: row 12."""
        return Path(f"{self.source}: row {self.first + i}")


@dataclass
class Told:
    """What became of a piece.

    Attributes:
        number: the piece's.
        done: how many of its rows were restored.
        clean: the places in it of rows that were left as they are, because nothing seems to be wrong with them.
        unsure: of rows that the model cannot judge.
        failed: of rows that could not be restored, with the reason, and whether the picture itself is to blame.
        greyed: how many in colour were restored in grey.
        megapixels: of the pictures together.
        stop: why there is no table of it, if there is none.
        broken: whether that is its own fault.
        full: why no other table can be written either, a full disk for instance.
    """

    number: int
    done: int = 0
    clean: list[int] = field(default_factory=list)
    unsure: list[int] = field(default_factory=list)
    failed: list[tuple[int, str, bool]] = field(default_factory=list)
    greyed: int = 0
    megapixels: float = 0.0
    stop: str = ""
    broken: bool = False
    full: str = ""


class Row(NamedTuple):
    """One row of an output table."""

    path: str
    image: bytes | None
    severity: float | None
    error: str | None


@dataclass(frozen=True)
class TableErrand:
    """What a worker does with pieces that are sent to it as text."""

    work: "Work"
    batch: int | None

    def __call__(self, texts: Sequence[str]) -> Iterator[str]:
        """Restore some pieces; what became of each, as text."""
        for text in texts:
            piece = piece_of(text)
            told = Told(piece.number)
            try:
                restore_piece(self.work, self.batch, piece, told)
            except Stopped:  # who sent it sends it to another
                return
            except Exception as error:  # whatever a plug-in raises is told, or it would pass for the death of this worker
                if isinstance(error, OSError) and error.errno in NO_MORE:
                    told.full = reason(error)
                told.stop, told.broken = reason(error), isinstance(error, Unreadable) and error.broken
            yield json.dumps(vars(told))


def restore_piece(work: "Work", batch: int | None, piece: Piece, told: Told) -> None:
    """Restore a row group into a table, and count in `told` what became of its rows.

    Raises:
        Unreadable: the table cannot be read, or is no more what it was when the piece was planned.
        OSError: the other cannot be written.
    """
    pa = arrow()
    schema = pa.schema([("path", pa.string()), ("image", pa.binary()), ("severity", pa.float64()), ("error", pa.string())])
    piece.target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(piece.target) as temporary, pa.parquet.ParquetWriter(temporary, schema, compression="NONE") as writer:
        kept: list[Row] = []
        for rows in _restored(work, batch, piece, told):
            kept += rows
            if sum(len(row.path) + len(row.image or b"") for row in kept) > _FLUSHED:
                writer.write_table(pa.Table.from_pylist([row._asdict() for row in kept], schema))
                kept = []
        if kept:  # or there would be a row group without rows
            writer.write_table(pa.Table.from_pylist([row._asdict() for row in kept], schema))


def _restored(work: "Work", batch: int | None, piece: Piece, told: Told) -> Iterator[list[Row]]:
    """The rows of a piece, some at a time, restored."""
    limit = 8 * work.max_pixels + (1 << 20)  # four channels of 16 bits, and what a file says besides
    first = 0
    for names, pictures in _read(piece):
        # Beside the table, where what a killed worker leaves is found and swept.
        with tempfile.TemporaryDirectory(prefix=f".{shortened(piece.target.name)}.", suffix=".part", dir=piece.target.parent) as folder:
            jobs, why = list[Job](), dict[int, tuple[str, bool]]()
            for i, picture in enumerate(pictures):
                if picture is None or len(picture) > limit:
                    large = "" if picture is None else f"{len(picture):,} bytes are more than any picture of max_pixels = {work.max_pixels} has"
                    why[i] = (large or "there is no picture in this row", picture is None)
                    continue
                source = Path(folder, f"{i}")
                source.write_bytes(picture)
                jobs.append(Job(i, source, Path(names[i]), Path(folder, f"{i}.png"), Path(folder)))
            outcome = carried_out(work, Plan(tuple(jobs), (), PICTURES), batch)
            if outcome.stop is not None:
                raise outcome.stop
            if len(outcome.finished) + len(outcome.failed) < len(jobs):
                raise Stopped(f"asked to go amid {piece.source}")
            done = {job.number: entry for job, entry in outcome.finished}
            why |= {int(failure.source.name): (failure.reason, failure.broken) for failure in outcome.failed}
            told.clean += [first + i for i, entry in done.items() if entry.get("left as it is") == "clean"]
            told.unsure += [first + i for i, entry in done.items() if entry.get("left as it is") == "unsure"]
            told.done += sum("left as it is" not in entry for entry in done.values())
            told.failed += [(first + i, f"{names[i]}: {why[i][0]}", why[i][1]) for i in sorted(why)]
            told.greyed, told.megapixels = told.greyed + outcome.greyed, told.megapixels + outcome.megapixels
            made = {i: Path(folder, f"{i}.png").read_bytes() for i in done}
        yield [Row(name, made.get(i), done.get(i, {}).get("severity"), why[i][0] if i in why else None) for i, name in enumerate(names)]
        first += len(names)


def _read(piece: Piece) -> Iterator[tuple[list[str], list[Any]]]:
    """Names and encoded pictures (None where there is none) of a row group, some rows at a time.

    Raises:
        Unreadable: it cannot be read, or promises too much, or has another number of rows than was planned.
    """
    pa = arrow()
    wanted = [_IMAGE, *([piece.names] if piece.names and not piece.names.startswith(f"{_IMAGE}.") else [])]
    try:
        with pa.parquet.ParquetFile(piece.source, pre_buffer=False, buffer_size=_BUFFER) as table:
            _require_as_planned(piece, table.metadata, wanted)
            names, pictures = list[str](), list[Any]()
            # One by one: a dictionary promises once what all of its rows hold, so a small table may unpack to any size.
            for row, some in enumerate(table.iter_batches(1, row_groups=[piece.group], columns=wanted, use_threads=False), piece.first):
                column, name = some.column(_IMAGE), None
                if piece.names:
                    name = (column.field("path") if piece.names.startswith(f"{_IMAGE}.") else some.column(piece.names))[0]
                picture = (column.field("bytes") if column.type.num_fields else column)[0]
                names.append(_name(name, piece, row))
                pictures.append(picture.as_buffer() if picture.is_valid else None)
                if len(names) == _ROWS or sum(map(len, filter(None, pictures))) > _FLUSHED:
                    yield names, pictures
                    names, pictures = [], []
            if names:
                yield names, pictures
    except (OSError, pa.ArrowException) as error:  # pyarrow's own OSErrors, of damaged files, have no number
        numbered = isinstance(error, OSError) and error.errno is not None
        raise Unreadable(piece.source, reason(error) if numbered else line(error), broken=not numbered) from error


def _require_as_planned(piece: Piece, found: Any, wanted: Sequence[str]) -> None:
    """Refuse a row group that is not the one of the plan, or whose columns would fill the memory; `found` is what the table says of itself.

    Raises:
        Unreadable: it is.
    """
    rows = found.row_group(piece.group).num_rows if piece.group < found.num_row_groups else 0
    if rows != piece.rows:
        had = f"its row group {piece.group} had {piece.rows:,} rows when the run began, and has {rows:,}"
        raise Unreadable(piece.source, f"{had}: start the same command again", broken=False)
    parts = [found.row_group(piece.group).column(i) for i in range(found.num_columns)]
    promised = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.partition(".")[0] in wanted)
    if promised > _LARGEST_GROUP:
        raise Unreadable(piece.source, f"row group {piece.group} promises {promised:,} bytes, more than {_LARGEST_GROUP:,}: write smaller ones")


def _name(value: Any, piece: Piece, row: int) -> str:
    there = value is not None and value.is_valid and value.as_buffer().size <= _LONGEST
    text = value.as_buffer().to_pybytes().decode(errors="replace") if there else ""
    return text or f"{piece.name.with_suffix('').as_posix()}/{row:06d}"


def columns(schema: Any) -> str:
    """The column of names of a table, if it has one.

    Raises:
        ValueError: it has no column of pictures.
    """
    pa = arrow()
    types = pa.types

    def of_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def of_text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    if schema.names.count(_IMAGE) != 1:
        raise ValueError(f"it has {schema.names.count(_IMAGE)} columns called {_IMAGE} ({', '.join(schema.names[:20])}), and has to have one")
    kind = schema.field(_IMAGE).type
    inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)} if types.is_struct(kind) else {}
    if isinstance(kind, pa.BaseExtensionType) or not (of_bytes(kind) or of_bytes(inside.get("bytes", pa.null()))):
        raise ValueError(f"the column {_IMAGE} holds {kind}, and has to hold encoded pictures, as binary or as struct<bytes, path>")
    for name in _NAMES:
        if schema.names.count(name) == 1 and of_text(schema.field(name).type):
            return name
    return f"{_IMAGE}.path" if of_text(inside.get("path", pa.null())) else ""


def arrow() -> Any:
    """Pyarrow, with its reader of Parquet.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{SUFFIX} tables need pyarrow, which is not installed: pip install 'snowmelt[ray]' ({error})") from None
    return pyarrow


def piece_text(piece: Piece) -> str:
    """A piece as text, for a process that may be in another folder."""
    paths = {"source": os.path.abspath(piece.source), "target": os.path.abspath(piece.target), "name": str(piece.name)}
    return json.dumps(vars(piece) | paths)


def piece_of(text: str) -> Piece:
    """The piece of a text."""
    piece = Piece(**json.loads(text))
    return replace(piece, source=Path(piece.source), name=Path(piece.name), target=Path(piece.target))

