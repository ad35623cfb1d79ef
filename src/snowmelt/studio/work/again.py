"""Make the same again: the command that does what the page has just done."""

import shlex
from pathlib import Path

from snowmelt.studio.shelf import Entry


def command(verb: str, *words: str, **flags: object) -> str:
    """A command line of snowmelt, quoted for a shell; flags that are None are left out, True is a switch.

    >>> command("sample", "runs/digits", number=4, seed=None, out="new pictures")
    "snowmelt sample runs/digits --number 4 --out 'new pictures'"
    """
    parts = ["snowmelt", verb, *words]
    for name, value in flags.items():
        if value is not None and value is not False:
            parts += [f"--{name.replace('_', '-')}", *([] if value is True else [f"{value:g}" if isinstance(value, float) else str(value)])]
    return shlex.join(parts)


def place(entry: Entry) -> str:
    """Where a model lies, as a command names it: from the folder the studio was started in; elsewhere on the disk its name only."""
    return entry.path if isinstance(entry.path, str) and not Path(entry.path).is_absolute() else nearby(Path(entry.path), entry.name)


def nearby(path: Path, name: str) -> str:
    """A path from the folder the studio was started in; one that lies elsewhere on the disk by its name only."""
    here = Path.cwd()
    if not path.is_absolute():
        return path.as_posix()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else name
