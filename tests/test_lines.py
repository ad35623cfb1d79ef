"""Files of lines: what a disk that takes only a part of a line leaves of it."""

import errno
import os
import re
from pathlib import Path

import pytest

from snowmelt import lines


def test_a_line_that_the_disk_takes_in_parts_is_written_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = os.write
    monkeypatch.setattr(lines.os, "write", lambda handle, data: inner(handle, data[:5]))
    values = [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.125}]
    for value in values:
        lines.add(tmp_path / "log.jsonl", value)
    assert lines.read(tmp_path / "log.jsonl") == (values, True)


def test_what_a_full_disk_took_of_a_line_is_cut_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, room, inner = tmp_path / "log.jsonl", [7], os.write

    def short(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = inner(handle, data[: room[0]])
        room[0] -= took
        return took

    lines.add(path, {"step": 1})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(lines.os, "write", short)
        told = rf"cannot write {re.escape(str(path))}: No space left on device \(12 bytes wanted, [\d,]+ bytes free in "
        with pytest.raises(OSError, match=told) as caught:
            lines.add(path, {"step": 2})
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    lines.add(path, {"step": 3})
    assert lines.read(path) == ([{"step": 1}, {"step": 3}], True)


def test_a_limit_on_the_size_of_files_is_told_and_cuts_no_line_in_two(tmp_path: Path) -> None:
    resource, path = pytest.importorskip("resource"), tmp_path / "log.jsonl"
    lines.add(path, {"step": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match=r"log\.jsonl: File too large \(12 bytes wanted, .*a file of this process may have 17 bytes"):
            lines.add(path, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
