"""The log of a run, metrics.jsonl: one object a line, for losses and for validations, in the order of the steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snowmelt import lines
from snowmelt.files import write_text

NAME = "metrics.jsonl"


def read(run: Path) -> list[dict[str, Any]]:
    """The lines of a run; a last line that was cut off is left out."""
    return lines.read(run / NAME)[0]


def add(run: Path, line: Mapping[str, Any]) -> None:
    """One line more."""
    lines.add(run / NAME, line)


def keep(run: Path, count: int) -> None:
    """Keep the first lines and drop all that follow: a run that goes on from a checkpoint makes them again."""
    if (run / NAME).is_file():
        write_text(run / NAME, "".join(f"{json.dumps(line)}\n" for line in read(run)[:count]))
