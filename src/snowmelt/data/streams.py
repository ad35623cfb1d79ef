"""The bytes of a stranger's file, before any decoder sees them: only of what is a file, and never more than are there.

A name that ends in .png may be a pipe, which would be waited for, a device without end, or a link that leads to itself. A number in a header may ask
for gigabytes; Python makes such a buffer before it reads, so that a file of a hundred bytes ends in a MemoryError. And Pillow asks for the memory
of a whole WebP before it says how large that is.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

_SMALL = 1 << 16  # bytes that may always be asked for; where the file stands is asked only for more: decoders read in small pieces
_NAMES = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Bounded(io.BufferedReader):
    """A file of which no more is asked for than is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, or all that are left."""
        if size is not None and 0 <= size <= _SMALL:
            return super().read(size)
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def opened(path: Path) -> BinaryIO:
    """A file, for reading.

    Raises:
        FileNotFoundError: nothing has that name.
        OSError: it is no file, or may not be read; its `strerror` says why.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(errno.EINVAL, f"a link to {os.readlink(path)}, which does not exist") from None
        raise
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, f"{_NAMES.get(stat.S_IFMT(kind), 'something else')}, not a file")
    return Bounded(path)


def webp_size(stream: BinaryIO) -> tuple[int, int]:
    """What the header of a WebP file promises, (w, h) in px; (0, 0) of any other file."""
    head = stream.read(30)
    stream.seek(0)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return 0, 0
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        both = int.from_bytes(head[21:25], "little")
        return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
