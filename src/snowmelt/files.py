"""Tensors as safetensors, everything else as JSON or TOML: nothing is ever unpickled, and no file is believed before it is looked at.

Every file is whole or not there (see :mod:`snowmelt.disk`). What matters has its SHA-256: files of tensors in the JSON file that names them,
and that file in itself, as its *seal*.
"""

import contextlib
import hashlib
import json
import math
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt._version import __version__
from snowmelt.disk import replacing

MAX_HEADER_BYTES = 10_000_000
MAX_JSON_BYTES = 10_000_000
MAX_VALUES = 300_000  # of a JSON text: a list of empty lists takes 30 times the memory of its text
_LONGEST_NAME, _DIGITS, _WIDEST = 255, 40, 8  # letters of a file's name, digits of a whole number, bytes of one in a tensor
SEAL = "seal"
_OURS = Path(__file__).parent.resolve()


class BadFile(ValueError):
    """A file that is not what its name says; the message names it and the reason."""


def read_info(path: str | Path, form: int) -> dict[str, Any]:
    """What a JSON file that describes tensors beside it says.

    Raises:
        BadFile: it is damaged, or has another format than `form`.
    """
    return _of_format(read_json(path), path, form)


@contextlib.contextmanager
def described_by(path: str | Path) -> Iterator[None]:
    """What is built here from the entries of a JSON file is damaged where an entry is missing or of the wrong type.

    Raises:
        BadFile: one is, or what the entries say was refused.
        SpecError: what a part was to be was refused.
    """
    try:
        yield
    except BadFile:
        raise
    except ValueError as error:
        if type(error) is ValueError:
            raise BadFile(f"{path}: {error}") from None
        error.args = (f"{path}: {error}",)
        raise
    except KeyError as error:
        raise BadFile(f"{path} lacks the entry {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise BadFile(f"{path} has an entry of the wrong type: {error}") from None


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` atomically."""
    with replacing(path, wanted=len(data), lasting=True) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically, as UTF-8; bytes of a file name that are no text are written as their numbers."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value stored at `path`.

    Raises:
        BadFile: not JSON, larger than any file of ours, or an object in it says one thing twice.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadFile(f"{path} has {path.stat().st_size} bytes; a JSON file of snowmelt has at most {MAX_JSON_BYTES}")
    try:
        return _parsed(path.read_bytes())
    except (ValueError, RecursionError) as error:  # a JSONDecodeError is a ValueError, and so is a number of a million digits
        raise BadFile(f"{path} is not a JSON file: {error}") from None


def write_sealed(path: str | Path, table: Mapping[str, Any]) -> None:
    """Write a table as JSON with its own SHA-256, so that :func:`read_sealed` notices when it was changed.

    The seal is over the values, not over the text: written anew by another program, with other blanks or in another order, it still fits.
    """
    plain = json.loads(json.dumps({name: value for name, value in table.items() if name != SEAL}, allow_nan=False))
    (first, *others), seal = plain.items(), _seal(plain)
    write_json(path, dict([first, (SEAL, seal), *others]))  # not last: a line that can be taken out, and what is left is JSON


def read_sealed(path: str | Path, form: int, *, required: bool = True) -> dict[str, Any]:
    """What :func:`write_sealed` stored, without the seal.

    Args:
        path: the file.
        form: the format it must have.
        required: whether it must have a seal; where not, one that is there must still fit.

    Raises:
        BadFile: it is damaged, was changed after it was written, or has another format.
        FileNotFoundError: no such file.
    """
    info = read_json(path)
    if isinstance(info, dict) and (required or SEAL in info):
        seal = info.pop(SEAL, None)
        try:
            sound = seal == _seal(info)
        except RecursionError:
            sound = False
        if not sound:
            way = "" if required else f'; remove the line "{SEAL}" if that was meant'
            raise BadFile(f"{path} is damaged, or was changed after it was written{way}")
    return _of_format(info, path, form)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> str:
    """Write named tensors atomically, as safetensors; the SHA-256 of the file."""
    data = _stored(tensors)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors stored at `path`, on the CPU.

    Raises:
        BadFile: not a safetensors file: its header is too large, names a tensor twice or does not fit the file.
        FileNotFoundError: no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    _header(path)  # safetensors itself accepts duplicate names and headers of any length
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:  # a KeyError is a type that torch does not have
        raise BadFile(f"{path} is damaged: {error}") from None


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the named tensors stored at `path`, as its header says them: nothing else of the file is read, nor believed.

    Raises:
        BadFile: not a safetensors file.
        FileNotFoundError: no such file.
    """
    path, out = Path(path), {}
    for name, entry in _header(path).items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if name != "__metadata__":
            if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
                raise BadFile(f"{path} is damaged: its header gives a tensor no shape")
            out[name] = tuple(shape)
    return out


def shapes_of(described: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]] | None:
    """The shapes in the state of a network that is made without memory, on torch's device "meta": a description can ask for terabytes.

    None where it cannot be made so: the code of a plug-in may ask for values of its tensors, as no network of snowmelt does.
    """
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in described().state_dict().items()}
    except RuntimeError:  # a NotImplementedError is one
        return None


def require_shapes(path: Path, due: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a safetensors file of other tensors, by its header alone.

    Raises:
        BadFile: a tensor is missing, is one too many, or has another shape.
    """
    found = read_shapes(path)
    for name in sorted(due.keys() ^ found.keys()):
        raise BadFile(f"{path} does not fit the network described beside it: it {'lacks' if name in due else 'also has'} {_short(name)}")
    for name in due:
        if found[name] != due[name]:
            what = f"{name} has shape {_short(found[name])}, and should have {due[name]}"
            raise BadFile(f"{path} does not fit the network described beside it: {what}")


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_hashed(folder: Path, group: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Store tensors under a name made from the content's hash, so that files of two writers never mix: {"file": name, "sha256": digest}."""
    data = _stored(tensors)
    digest = hashlib.sha256(data).hexdigest()
    name = f"{group}-{digest[:12]}.safetensors"
    write_bytes(folder / name, data)
    return {"file": name, "sha256": digest}


def named_file(folder: Path, name: Any, named_by: str) -> Path:
    """The file of `folder` that its own file `named_by` names: a plain file that lies there when all links are followed.

    Raises:
        BadFile: what is named is no file name but a path, is missing, or leads out of the folder.
    """
    if not isinstance(name, str) or not name.isprintable() or name != Path(name).name or len(name) > _LONGEST_NAME:
        raise BadFile(f"{folder / named_by} names {_short(name)}, which is no name of a file beside it")
    require_inside(folder, folder / name)
    if not (folder / name).is_file():
        raise BadFile(f"{folder / named_by} names {name}, which is missing")
    return folder / name


def require_inside(folder: Path, path: Path) -> None:
    """Refuse a link that leads out of `folder`, which may itself be reached by one.

    What comes with the package is ours, and some installers lay it out as links to a store of theirs.

    Raises:
        BadFile: it does, or it leads in a circle.
    """
    try:
        inside = folder.resolve().is_relative_to(_OURS) or path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a circle of links
        inside = False
    if not inside:
        raise BadFile(f"{path} is a link that leads out of {folder}, and is not followed: copy the directory with its contents (cp -rL)")


def read_hashed(folder: Path, entry: Mapping[str, str], named_by: str, described: Callable[[], nn.Module] | None = None) -> dict[str, Tensor]:
    """The tensors of :func:`write_hashed`, of which the file `named_by` in the same folder holds the entry.

    Args:
        folder: where both lie.
        entry: what was returned when they were written.
        named_by: the file that holds the entry.
        described: makes the network whose tensors they are, see :func:`shapes_of`.

    Raises:
        BadFile: the file is missing or leads out of the folder, is not the one that was written, or its tensors are not the network's.
    """
    file, due = named_file(folder, entry["file"], named_by), None if described is None else shapes_of(described)
    if due is not None and file.stat().st_size > MAX_HEADER_BYTES + _WIDEST * sum(map(math.prod, due.values())):
        raise BadFile(f"{file} has {file.stat().st_size:,} bytes, more than the network described in {named_by} can fill")
    if sha256(file) != entry["sha256"]:
        raise BadFile(f"{file} is damaged: its SHA-256 is not the one in {named_by}")
    if due is not None:
        require_shapes(file, due)
    return read_tensors(file)


def sweep_hashed(folder: Path, kept: Collection[str], group: str = "*") -> None:
    """Delete what :func:`write_hashed` wrote of a group, of all by default, but for the names kept."""
    for old in folder.glob(f"{group}-????????????.safetensors"):
        if old.name not in kept:
            old.unlink(missing_ok=True)


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, held against the file's size before it is read.

    Raises:
        BadFile: it has none, it is too long, or it names a tensor twice.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER_BYTES + 1
        if length > min(MAX_HEADER_BYTES, path.stat().st_size):
            raise BadFile(f"{path} is not a safetensors file, or is cut short")
        try:
            header = _parsed(file.read(length))
        except _Twice:
            raise BadFile(f"{path} is damaged: its header names a tensor twice") from None
        except (ValueError, RecursionError):
            raise BadFile(f"{path} is damaged: its header cannot be read") from None
    if not isinstance(header, dict):
        raise BadFile(f"{path} is damaged: its header names no tensors")
    return header


class _Twice(ValueError):
    """An object of JSON that has one name twice: which of the two values counts, no two readers agree on."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(f"it says {_short(name)} twice")
        found[name] = value
    return found


def _parsed(data: bytes) -> Any:
    """The value of a JSON text, in which every object names a thing once.

    Raises:
        ValueError: it is none, or holds more values than any of ours.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    return json.loads(data.decode(), object_pairs_hook=_once, parse_int=_whole)


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it holds a whole number of {len(text):,} digits")
    return int(text)


def _short(value: Any) -> str:
    """A stranger's value as a message shows it: in one line, and not all of a long one."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _of_format(info: Any, path: str | Path, form: int) -> dict[str, Any]:
    if not isinstance(info, dict) or info.get("format") != form:
        found = info.get("format") if isinstance(info, dict) else info
        raise BadFile(f"{path} has format {found!s:.80}; this snowmelt ({__version__}) reads format {form}")
    return info


def _seal(table: Mapping[str, Any]) -> str:
    """The SHA-256 of a table's values: of its JSON without blanks, keys in order."""
    return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _stored(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file, in memory: written to the disk by the library itself, a kill leaves its temporary file, and a full disk is no OSError."""
    from safetensors.torch import save

    return save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
