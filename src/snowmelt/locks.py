"""One writer for each directory: a lock that names who holds it, and that the system lets go of with the process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class InUse(ValueError):
    """Another process works on the directory; the message names it and the way out."""


@contextlib.contextmanager
def locked(folder: str | Path, *, what: str = "training") -> Iterator[None]:
    """While this lasts, `folder` is ours. (Not written yet.)"""
    yield
