"""Writing so that a file is either whole or not there: to a temporary neighbour that is flushed to the disk and renamed.

A process can be killed at any byte, and a machine can lose its power. Writing in place then leaves a file that no longer loads. The neighbour's
bytes are flushed before it gets the name, and the name after: what is left is the old file or the new one, never half of either.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LONGEST_NAME = 200  # bytes; file systems have 255


@contextlib.contextmanager
def replacing(path: str | Path, *, wanted: int | None = None, lasting: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and vanishes when not.

    Args:
        path: what is to be written; its folder is made.
        wanted: how many bytes that will be, for the message where they cannot be had.
        lasting: whether the new name, too, must outlast a power cut. That takes longer, so it is for what others rely on, not for each of
            many pictures.

    Raises:
        OSError: the disk or a quota is full, or the folder cannot be written; the message names the path, the bytes and what is free.
    """
    path = Path(path)
    with beside(path, wanted) as temporary:
        yield temporary
        settle(temporary, path, lasting=lasting)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path`, and of what is there, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as aside:
        made, old = Path(aside) / "new", Path(aside) / "old"
        made.mkdir()
        yield made
        if path.exists():
            path.rename(old)
        try:
            made.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


def sweep_parts(folder: Path, *names: str) -> None:
    """Delete the temporary files that killed processes left of files with these names; only where nobody else is writing them."""
    for name in names:
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def beside(path: Path, wanted: int | None) -> Iterator[Path]:
    """A temporary file in the folder of `path`, gone at the end; what the system refuses is told with the path and what is free."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{shortened(path.name)}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
    except OSError as error:
        raise refused(error, path, wanted) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def refused(error: OSError, path: Path, wanted: int | None) -> OSError:
    """What the system refused, as it is told: with the path, the bytes wanted and what is free."""
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error} ({_room(path, wanted, error.errno)})")


def as_text(path: str) -> str:
    """A path as text for a file: what a locale without such signs has kept as bytes is read as the UTF-8 that it is; what is none stays as it is."""
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return path


def as_path(text: str) -> Path:
    """The path that a text from a file names, in any locale; ~ is the home folder, if there is one."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        text = os.fsdecode(text.encode())
    with contextlib.suppress(RuntimeError):  # no home
        return Path(text).expanduser()
    return Path(text)


def shortened(name: str) -> str:
    """What a temporary neighbour is called after: the name itself, or of one so long that nothing can be added, its beginning and a hash."""
    whole = os.fsencode(name)
    return name if len(whole) <= _LONGEST_NAME else f"{name[:24]}-{hashlib.sha256(whole).hexdigest()[:16]}"


def settle(temporary: Path, path: Path, *, lasting: bool = True) -> None:
    """Flush a temporary file to the disk and give it its name; where it must last, flush that too."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o666 & ~_umask())
    temporary.replace(path)
    if lasting:
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder last. Windows opens no folders, and some network disks flush none: there it is as it was."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask; mkstemp makes private files, which others could not read after the rename."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _room(path: Path, wanted: int | None, number: int | None) -> str:
    """What was wanted and what there is, for a message."""
    folder = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
    said = [f"{wanted:,} bytes wanted"] if wanted is not None else []
    said.append(f"{shutil.disk_usage(folder).free:,} bytes free in {folder}")
    if number == errno.EFBIG and resource is not None and (most := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) != resource.RLIM_INFINITY:
        said.append(f"a file of this process may have {most:,} bytes (ulimit -f)")
    return ", ".join(said)
