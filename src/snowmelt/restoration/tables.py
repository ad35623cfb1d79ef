"""Tables of pictures: Parquet in, Parquet out, as data sets for training are kept; restored on a cluster.

A table has a column ``image`` of encoded pictures (bytes, or the struct of bytes and path of Hugging Face's data sets) and may have one of names,
``path`` or ``name``. Each row group, the piece in which Parquet is read, becomes one table of the output with the columns ``path``, ``image`` (PNG),
``severity`` and ``error``, row for row; a row that could not be restored keeps its place, without a picture and with the reason in words. A table is
written whole or not at all, and one that is there is skipped. What happens to a row: :mod:`snowmelt.restoration.rows`.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snowmelt.data.images import MAX_PIXELS
from snowmelt.model import Model
from snowmelt.restoration.cluster import LOST, Cluster, handed_again, portable
from snowmelt.restoration.errands import line
from snowmelt.restoration.folder import agree, work_for, writable
from snowmelt.restoration.identity import Opened, opened
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.plan import PICTURES, Failure, Job, Kind, require_pictures, sweep
from snowmelt.restoration.rows import SUFFIX, Piece, TableErrand, Told, arrow, columns, piece_text
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.throughput import Pace
from snowmelt.restoration.walks import Walk
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training.progress import Bar

if TYPE_CHECKING:
    from snowmelt.restoration.work import Work

_PATIENCE_S = 2.0


def holds_tables(inputs: Sequence[Path], out: Path, kind: Kind = PICTURES, say: Callable[[str], None] | None = None) -> bool:
    """Whether the inputs are tables, or folders of them.

    A folder with a single picture is one of pictures, as it is to one process: data sets keep a table of captions beside theirs.

    Args:
        inputs: files and folders.
        out: the folder to write to; what is in it is not looked at.
        kind: the files that the model restores.
        say: told of tables that are left out.

    Raises:
        ValueError: some inputs are tables, and others are not.
    """
    found = [one.suffix.lower() == SUFFIX if not one.is_dir() else _is_of_tables(one, out, kind, say) for one in inputs]
    if any(found) and not all(found):
        other = inputs[found.index(False)]
        raise ValueError(f"{other} is no {SUFFIX} table, and {inputs[found.index(True)]} is: restore tables and pictures one after the other")
    return any(found)


def _is_of_tables(folder: Path, out: Path, kind: Kind, say: Callable[[str], None] | None) -> bool:
    if next(_below(folder, out, (SUFFIX,)), None) is None:
        return False
    if next(_below(folder, out, kind.suffixes), None) is None:
        return True
    if say:
        say(f"{folder} holds {kind.many}, which are restored, and {SUFFIX} tables, which are left out: give these by name, in a run of their own")
    return False


def restore_tables(
    inputs: Sequence[str | Path],
    *,
    out: str | Path,
    cluster: Cluster,
    model: Model | Opened | str | Path = "photo",
    severity: float | None = None,
    sampler: Walk = "default",
    seed: int = 0,
    overwrite: bool = False,
    tile: int | None = None,
    consistent: bool | None = None,
    colour: bool = False,
    enlarge: int = 1,
    anyway: bool = False,
    batch: int | None = 1,
    max_pixels: int = MAX_PIXELS,
    device: str = "cpu",
    bar: bool = False,
    say: Callable[[str], None] | None = None,
) -> Tally:
    """Restore the pictures in Parquet tables, and folders of these, into tables in `out`; options as those of :func:`restore_folder`.

    Raises:
        ValueError: an option contradicts another, a table has no column of pictures, or pyarrow or Ray is not installed.
        FileNotFoundError: an input or the model does not exist.
        OSError: the output cannot be written, or there is no cluster.
        Stopped: interrupted; tables that are finished stay.
    """
    given, root = [Path(one) for one in inputs], Path(out)
    agree(given, severity, (1, 1), None, None, 1, tile, batch, max_pixels)
    found = opened(model)
    require_pictures(found.model.signal, [], "restoring tables")
    pieces, refused = planned(given, root)
    further: dict[str, Any] = {"tile": tile, "consistent": consistent, "max_pixels": max_pixels}
    further |= {"colour": colour, "enlarge": enlarge, "anyway": anyway}
    work = work_for(found, severity, sampler, device, seed, **further)
    work.rehearse()
    writable(root)
    run = _Run(work, pieces, refused, Journal(root, (1, 1), work.settings()), say or (lambda text: None))
    return run.through(cluster, batch, overwrite=overwrite, bar=bar)


def planned(inputs: Sequence[Path], out: Path) -> tuple[list[Piece], list[Failure]]:
    """The row groups behind the inputs, in one order, and the tables that cannot be read.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: pyarrow is not installed, a table that is given by name has no pictures, or an output would be an input, now or in the next run.
    """
    missing = next((given for given in inputs if not given.exists()), None)
    if missing is not None:
        raise FileNotFoundError(f"{missing} does not exist: give {SUFFIX} tables, or folders of them")
    same = next((given for given in inputs if given.is_dir() and os.path.realpath(given) == os.path.realpath(out)), None)
    if same is not None:
        raise ValueError(f"{same} is what is restored, and the results in it would be restored by the next run: choose another --out")
    pa, pieces, refused = arrow(), list[Piece](), list[Failure]()
    named = {os.path.abspath(given) for given in inputs}
    found: dict[str, tuple[Path, Path]] = {}  # a table that is given twice is one table
    for source, name in (pair for given in inputs for pair in _tables(given, out, refused)):
        found.setdefault(os.path.abspath(source), (source, name))
    taken: dict[Path, Path] = {}
    real = {os.path.realpath(source): source for source, _ in found.values()}
    for source, name in found.values():
        first = taken.setdefault(name.with_suffix(""), source)  # x.PARQUET would become what x.parquet becomes
        if first is not source:
            refused.append(Failure(source, f"it and {first} would become tables of one name: restore them into two folders"))
            continue
        try:
            with pa.parquet.ParquetFile(source) as table:
                names, groups = columns(table.schema_arrow), [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            refused.append(Failure(source, f"no {SUFFIX} table that can be read: {line(error)}", broken=True))
            continue
        except ValueError as error:  # not ours to restore; in a folder there may be such a table beside others
            if os.path.abspath(source) in named:
                raise ValueError(f"{source}: {error}") from None
            refused.append(Failure(source, str(error)))
            continue
        begin = 0
        for group, rows in enumerate(groups):
            target = out / name.with_name(f"{name.stem}-{group:05d}{SUFFIX}")
            if (lost := real.get(os.path.realpath(target))) is not None:
                whose = "its own restoration" if lost is source else f"the restoration of {source}"
                raise ValueError(f"{lost} would be overwritten by {whose}: choose another --out")
            pieces.append(Piece(len(pieces), source, name, group, begin, rows, target, names))
            begin += rows
    return pieces, refused


class _Run:
    """One run over pieces: what is handed out, and what is counted."""

    def __init__(self, work: "Work", pieces: list[Piece], refused: list[Failure], journal: Journal, say: Callable[[str], None]) -> None:
        self.work, self.pieces, self.refused, self.journal, self.say = work, pieces, refused, journal, say
        self.tally = Tally(sum(piece.rows for piece in pieces) + len(refused), work.how(), errors=journal.errors)

    def through(self, cluster: Cluster, batch: int | None, *, overwrite: bool, bar: bool) -> Tally:
        """Go through the pieces; see :func:`restore_tables`."""
        shown = Bar("restoring", self.tally.total, unit=PICTURES.many) if bar else None
        start, left = time.perf_counter(), {}
        self._sweep()
        try:
            with until_asked(_PATIENCE_S) as asked, shown or contextlib.nullcontext():
                for failure in self.refused:
                    self._fail(failure)
                for piece in self.pieces:
                    if overwrite or not piece.target.exists():
                        left[piece.number] = piece
                    else:
                        self.tally.kept += piece.rows
                        self.tally.elsewise += piece.rows * self.journal.kept(piece.source, piece.target)
                if shown:
                    shown.advance(self.tally.kept + len(self.refused))
                for told in self._told(cluster, TableErrand(portable(self.work), batch), left):
                    self._take(told, left.pop(told.number))
                    if shown:
                        shown.advance(self.pieces[told.number].rows)
                    if asked.is_set():
                        raise KeyboardInterrupt
                self._sweep()  # what workers left that died meanwhile
        except KeyboardInterrupt:
            if left:
                through = self.tally.total - sum(piece.rows for piece in left.values())
                raise Stopped(f"interrupted: {through:,} of {self.tally.total:,} pictures are done; the same command goes on") from None
        finally:
            if n := self.tally.done + len(self.tally.clean) + len(self.tally.unsure):
                self.tally.pace = Pace(n, self.tally.megapixels, time.perf_counter() - start)
                self.journal.pace(self.tally.pace.table())
            self.journal.close()
        return self.tally

    def _sweep(self) -> None:
        sweep([Job(piece.number, piece.source, piece.name, piece.target, piece.target.parent) for piece in self.pieces])

    def _told(self, cluster: Cluster, errand: TableErrand, left: dict[int, Piece]) -> Iterator[Told]:
        if not left:
            return
        with cluster.met(self.work.device) as workers:
            for text in handed_again(workers, errand, lambda: [piece_text(piece) for piece in left.values()], 1):
                yield Told(**json.loads(text))
        for piece in list(left.values()):
            yield Told(piece.number, stop=LOST)

    def _take(self, told: Told, piece: Piece) -> None:
        if told.full:
            raise OSError(f"{piece.target}: {told.full}")
        rows = [piece.row(i) for i in range(piece.rows)]
        if told.stop:
            for row in rows:
                self._fail(Failure(row, told.stop, told.broken), silent=row is not rows[0])
            return
        for row in rows:  # what failed earlier, and does no more
            self.journal.kept(row, piece.target)
        for i, why, broken in told.failed:
            self._fail(Failure(rows[i], why, broken))
        self.tally.done += told.done
        self.tally.clean += [rows[i] for i in told.clean]
        self.tally.unsure += [rows[i] for i in told.unsure]
        self.tally.greyed += told.greyed
        self.tally.megapixels += told.megapixels
        self.tally.last = piece.target
        counts = {"rows": piece.rows, "restored": told.done, "left as they are": len(told.clean) + len(told.unsure), "failed": len(told.failed)}
        self.journal.done(piece.source, piece.target, {"row_group": piece.group, **counts})

    def _fail(self, failure: Failure, *, silent: bool = False) -> None:
        self.tally.failed.append(failure)
        self.journal.failed(failure.source, failure.reason)
        if not silent:
            self.say(f"left out {failure.source}: {failure.reason}")


def _tables(given: Path, out: Path, refused: list[Failure]) -> Iterator[tuple[Path, Path]]:
    """(table, path below `given`) of an input, sorted; folders that cannot be opened are refused."""
    if not given.is_dir():
        yield given, Path(given.name)
        return
    found = sorted(_below(given, out, (SUFFIX,), lambda error: refused.append(Failure(Path(error.filename), str(error.strerror)))))
    if not found:
        raise ValueError(f"{given} holds no {SUFFIX} table")
    yield from ((path, path.relative_to(given)) for path in found)


def _below(given: Path, out: Path, suffixes: tuple[str, ...], shut: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """The files below a folder of these suffixes, but for hidden ones and those in `out`; `shut` is told of folders that do not open."""
    for place, folders, names in os.walk(given, onerror=shut):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(place, name).resolve() != out.resolve()]
        yield from (Path(place, name) for name in names if name.lower().endswith(suffixes) and not name.startswith("."))
