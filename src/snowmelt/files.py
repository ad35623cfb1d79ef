"""Files that are either whole or not there: every write goes to a temporary neighbour and is renamed.

A process can be killed at any byte. Writing in place then leaves a file that no longer loads; writing
beside it, flushing to the disk and renaming leaves the old file or the new one, never half of either.
Tensors are stored as safetensors and everything else as JSON or TOML: nothing is ever unpickled.
"""

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from snowmelt._version import __version__

MAX_HEADER_BYTES = 10_000_000
MAX_JSON_BYTES = 50_000_000


class BadFile(ValueError):
    """A file that is not what its name says; the message names it and the reason."""


def read_info(path: str | Path, form: int) -> dict[str, Any]:
    """What a JSON file that describes tensors beside it says.

    Raises:
        BadFile: it is damaged, or has another format than `form`.
    """
    info = read_json(path)
    if not isinstance(info, dict) or info.get("format") != form:
        found = info.get("format") if isinstance(info, dict) else info
        raise BadFile(f"{path} has format {found}; this snowmelt ({__version__}) reads format {form}")
    return info


@contextlib.contextmanager
def described_by(path: str | Path) -> Iterator[None]:
    """What is built here from the entries of a JSON file is damaged where an entry is missing or of the wrong type.

    Raises:
        BadFile: one is.
    """
    try:
        yield
    except KeyError as error:
        raise BadFile(f"{path} lacks the entry {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise BadFile(f"{path} has an entry of the wrong type: {error}") from None


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and vanishes when not.

    Raises:
        OSError: the disk is full or the folder cannot be written; the message names the path and what is free.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error} ({_free(path)})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value stored at `path`.

    Raises:
        BadFile: not JSON, or larger than any file of ours.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadFile(f"{path} has {path.stat().st_size} bytes; a JSON file of snowmelt has at most {MAX_JSON_BYTES}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a JSONDecodeError is a ValueError, and so is a number of a million digits
        raise BadFile(f"{path} is not a JSON file: {error}") from None


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors atomically, as safetensors."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, temporary)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors stored at `path`, on the CPU.

    Raises:
        BadFile: not a safetensors file: its header is too large, names a tensor twice or does not fit the file.
        FileNotFoundError: no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    _check_header(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadFile(f"{path} is damaged: {error}") from None


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_hashed(folder: Path, group: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Store tensors under a name made from the content's hash, so that files of two writers never mix: {"file": name, "sha256": digest}."""
    temporary = folder / f"{group}.safetensors"
    write_tensors(temporary, tensors)
    digest = sha256(temporary)
    name = f"{group}-{digest[:12]}.safetensors"
    temporary.replace(folder / name)
    return {"file": name, "sha256": digest}


def read_hashed(folder: Path, entry: Mapping[str, str], named_by: str) -> dict[str, Tensor]:
    """The tensors of :func:`write_hashed`, of which the file `named_by` in the same folder holds the entry.

    Raises:
        BadFile: the file is missing, or is not the one that was written.
    """
    file = folder / Path(entry["file"]).name
    if not file.is_file():
        raise BadFile(f"{folder / named_by} names {file.name}, which is missing")
    if sha256(file) != entry["sha256"]:
        raise BadFile(f"{file} is damaged: its SHA-256 is not the one in {named_by}")
    return read_tensors(file)


def sweep_hashed(folder: Path, kept: Collection[str], group: str = "*") -> None:
    """Delete what :func:`write_hashed` wrote of a group, of all by default, but for the names kept."""
    for old in folder.glob(f"{group}-????????????.safetensors"):
        if old.name not in kept:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path`, and of what is there, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as beside:
        made, old = Path(beside) / "new", Path(beside) / "old"
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


def _check_header(path: Path) -> None:
    """Safetensors accepts duplicate names and headers of any length: look before it does."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadFile(f"{path} is damaged: its header names a tensor twice")
        return found

    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER_BYTES + 1
        if length > min(MAX_HEADER_BYTES, path.stat().st_size):
            raise BadFile(f"{path} is not a safetensors file, or is cut short")
        try:
            json.loads(file.read(length), object_pairs_hook=once)
        except BadFile:
            raise
        except (ValueError, RecursionError):
            raise BadFile(f"{path} is damaged: its header cannot be read") from None


def _umask() -> int:
    """The process's umask; mkstemp makes private files, which others could not read after the rename."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _free(path: Path) -> str:
    folder = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free in {folder}"
