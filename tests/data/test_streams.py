"""A stranger's file is never asked for more than it has; and small pieces of it are read as from any other file."""

from pathlib import Path

import pytest

from snowmelt.data import streams

SIZE = 256_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(bytes(range(256)) * (SIZE // 256))
    return tmp_path / "x"


def test_no_more_is_asked_for_than_is_there(path: Path) -> None:
    with streams.opened(path) as stream:
        assert (stream.read(3), stream.read(0)) == (b"\0\1\2", b"")
        for size in (1 << 60, 100, -1, None):  # a buffer of the first would be more than any machine has
            stream.seek(SIZE - 3)
            assert stream.read(size) == b"\xfd\xfe\xff"
            assert stream.read(size) == b""
        stream.seek(0)
        assert len(stream.read()) == SIZE


def test_small_pieces_do_not_ask_where_the_file_stands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(streams.Bounded, "tell", lambda self: asked.append(1) or 0)
    with streams.opened(path) as stream:
        for size in (0, 1, 8, 1 << 16):
            assert len(stream.read(size)) == size
        assert not asked
        stream.read(1 << 20)
        assert asked
