"""What tests of a cluster share: a cluster that is this process, tables of pictures, and what a run left in its folder."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from snowmelt.restoration.cluster import Cluster, in_pieces
from snowmelt.restoration.plan import Job

pytest.importorskip("ray", reason="pip install 'snowmelt[ray]'")
pa = pytest.importorskip("pyarrow", reason="pip install 'snowmelt[ray]'")
pq = pytest.importorskip("pyarrow.parquet")

# Of Ray's own future, and of what it leaves open when it ends.
MARKS: list[Any] = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning")]
MARKS.append(pytest.mark.xdist_group("ray"))  # one process begins one Ray for all of them
MARKS.append(pytest.mark.timeout(1200))  # on a machine with much else to do, Ray alone begins for minutes


class Here(Cluster):
    """One worker that is this process: what is handed out and told, without Ray. `sizes` are the pieces that were asked for."""

    sizes: ClassVar[list[int | None]] = []

    @contextlib.contextmanager
    def met(self, device):
        self.sizes.clear()

        def handed_out(errand, tasks, size):
            self.sizes.append(size)
            for piece in in_pieces(tasks, size, 1):
                yield from errand(piece)

        yield handed_out


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pictures(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if not name.endswith(".jsonl")}


def entries(path: Path, out: Path) -> list[dict]:
    """What a journal says of pictures, in the order of their names, wherever and how fast they were made."""
    kept = [{name: value for name, value in line.items() if name != "seconds"} for line in lines(path) if "output" in line]
    return sorted((line | {"output": os.path.relpath(line["output"], out)} for line in kept), key=lambda line: line["output"])


def interrupt(job: Job, entry: dict) -> None:
    raise KeyboardInterrupt


def table(place: Path, path: Path, *, columns: str, size: int) -> list[str]:
    """The pictures of a folder in a table, with two rows that hold none; their names."""
    found = sorted(place.rglob("*.png"))
    names = [one.relative_to(place).as_posix() for one in found]
    rows = list(zip([one.read_bytes() for one in found], names, strict=True))
    rows[4:4] = [(b"no picture", "../../bad.png"), (None, "none.png")]
    made = [{"image": {"bytes": data, "path": name}} if columns == "struct" else {"image": data, columns: name} for data, name in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([one | {"label": 0} for one in made]), path, row_group_size=size)
    return [name for _, name in rows]
