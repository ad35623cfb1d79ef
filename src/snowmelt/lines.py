"""Files of lines, each a JSON object: logs and journals, to which lines are added while a run goes on.

A line is added in one write, so that a reader, or the next run after a kill, sees it whole or cut off, never mixed with another. A disk that is
nearly full takes a part of it, which is cut off again: the next line would join it, and both would be lost. A file has one writer at a time. What is
read may be a stranger's: a line that is no object, or longer than any of ours, is passed over. What is written goes into the file itself, not where a
link that somebody put in its place leads.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snowmelt.disk import refused

LONGEST = 100_000  # letters


def add(path: Path, value: Mapping[str, Any]) -> None:
    """Add one line; file and folder are made where they are missing.

    Raises:
        OSError: the file cannot be written, or is a link; the message names the path, the bytes and what is free.
    """
    data = (json.dumps(value, allow_nan=False) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)  # Windows has no such flag
        try:
            _write(handle, data)
        finally:
            os.close(handle)
    except OSError as error:
        raise refused(error, path, len(data)) from error


def read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects in a file of lines, none where there is no file, and whether every line was one."""
    if not path.is_file():
        return [], True
    found, whole = [], True
    with path.open(encoding="utf-8", errors="replace") as stream:
        while text := stream.readline(LONGEST):
            try:
                value = json.loads(text) if text.endswith("\n") else None
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                found.append(value)
            else:
                whole = False
    return found, whole


def _write(handle: int, data: bytes) -> None:
    """All of `data` at the end of a file, or nothing of it: a nearly full disk takes a part."""
    before, left = os.fstat(handle).st_size, data
    try:
        while left:
            left = left[os.write(handle, left) :]
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, before)
        raise
