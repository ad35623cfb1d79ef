"""Checkpoints: everything a run needs to go on, in pairs of files of which each is whole or not there.

Randomness is counter-based, so the state of a run is its step number and tensors: weights, their average, the optimiser's moments, the scale of
the gradients and its counters. After step n they go into ``checkpoint-<n>.safetensors``; what the loop wants to remember besides, such as the time,
goes into ``checkpoint-<n>.json``, which also holds the SHA-256 of the tensors' file and its own. So two runs in the same state have the same
tensors' file, to the bit, and a flipped bit anywhere is noticed.

The JSON is written last: without it there is no checkpoint. A process that is killed at any byte leaves the checkpoints that were there. Where the
newest is damaged, by the disk or by a hand, the one before it is taken, and a line says so.

Format 1 was the single file ``checkpoint.safetensors``, with step and time inside and no hash. It is still read, and goes when the run saves next.
"""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snowmelt.disk import sweep_parts
from snowmelt.files import BadFile, described_by, named_file, read_sealed, read_tensors, sha256, write_sealed, write_tensors
from snowmelt.restorers import Restorer
from snowmelt.training.ema import Average
from snowmelt.training.scaling import Scaling

FORMAT = 2
_OLD = "checkpoint.safetensors"  # format 1
_NAMED = re.compile(r"checkpoint-(\d{12,15})\.json")
_TENSORS = re.compile(r"checkpoint-\d{12,15}(-again)?\.safetensors")
_OF_THE_MODEL = ("model.json", "weights-*", "ema-*", "prior-*", "estimator-*")  # saved by the same process
_log = logging.getLogger(__name__)
_FRESH = "start over with --fresh, or choose another --out"


class Held(NamedTuple):
    """Whose tensors a checkpoint holds."""

    restorer: Restorer
    average: Average
    optimizer: torch.optim.Optimizer
    scaling: Scaling


def save(run: Path, held: Held, said: Mapping[str, Any], *, keep: int = 2) -> None:
    """Write a checkpoint to the run directory, and delete those that it makes superfluous.

    The newest `keep` regular ones stay; so does this one if it is not regular, until the next. What was saved after a later step goes: the run has
    been rolled back behind it.

    Args:
        run: the run directory, of which this process is the only writer.
        held: what is saved.
        said: what :func:`load` returns, as JSON: "step" (int), "regular" (bool), and what else the loop wants to know.
        keep: how many regular ones stay, at least 1.

    Raises:
        OSError: disk or quota is full, or the directory cannot be written. The checkpoints that were there stay.
    """
    step = int(said["step"])
    described = run / f"checkpoint-{step:012d}.json"
    sweep_parts(run, "checkpoint-*", *_OF_THE_MODEL)
    file = described.with_suffix(".safetensors")
    if described.is_file() and _file_of(described) == file.name:  # saved again after a step: the pair that is there stays whole until the new one is
        file = file.with_name(f"{file.stem}-again.safetensors")
    try:
        digest = write_tensors(file, _tensors(held, step))
        write_sealed(described, {"format": FORMAT, "file": file.name, "sha256": digest, "bytes": file.stat().st_size, "said": dict(said)})
    except OSError:
        _sweep(run)  # tensors without a description are no checkpoint, and take room where there is none
        raise
    _thin(run, step, keep)


def load(run: Path, held: Held, *, regular: bool = False, tell: Callable[[str], None] = _log.warning) -> dict[str, Any] | None:
    """Put the newest sound checkpoint back into what is held. A run saved without a scale begins with a new one.

    Args:
        run: the run directory.
        held: what is restored; untouched where nothing is found.
        regular: whether to look at regular ones only.
        tell: gets a line where one was passed over because it is damaged.

    Returns:
        What was `said` when it was saved; None where there is none.

    Raises:
        BadFile: all of them are damaged, or the newest sound one is of another network.
    """
    passed: list[str] = []
    for path in _newest_first(run):
        try:
            said, read = _described(path)
            if regular and not said["regular"]:
                continue
            tensors = read()
        except (BadFile, OSError) as error:
            passed.append(str(error))
            continue
        _restore(path, held, tensors)
        if passed:
            tell(f"{passed[0]}{_more(passed)}; {path.name}, after step {said['step']:,}, is taken instead")
        return said
    if passed:
        raise BadFile(f"{passed[0]}{_more(passed)}, and {run} holds no other checkpoint; {_FRESH}")
    return None


def there(run: Path) -> bool:
    """Whether a run directory holds a checkpoint, sound or not."""
    return bool(_newest_first(run))


def step(run: Path) -> int:
    """The optimiser steps of the newest checkpoint, as its file name has them; 0 if there is none. Nothing is opened."""
    return max([0, *(_step(path) for path in _newest_first(run)[:1])])  # the file of format 1 does not say


def clear(run: Path) -> None:
    """Delete all checkpoints of a run directory."""
    for path in _newest_first(run):
        path.unlink(missing_ok=True)
    _sweep(run)
    sweep_parts(run, "checkpoint-*")


def digest(run: Path) -> str:
    """The SHA-256 of the newest checkpoint's tensors: the same for two runs that are in the same state.

    Raises:
        FileNotFoundError: there is none.
        BadFile: its description is damaged.
    """
    for path in _newest_first(run):
        return sha256(path if path.name == _OLD else run / _entry(path)["file"])
    raise FileNotFoundError(f"{run} holds no checkpoint")


def _newest_first(run: Path) -> list[Path]:
    """What describes a checkpoint each: JSON files by falling step, then the file of format 1."""
    found = sorted((path for path in run.glob("checkpoint-*.json") if _NAMED.fullmatch(path.name)), key=_step, reverse=True)
    return [*found, *([run / _OLD] if (run / _OLD).is_file() else [])]


def _step(path: Path) -> int:
    found = _NAMED.fullmatch(path.name)
    return int(found[1]) if found else -1


def _entry(path: Path) -> dict[str, Any]:
    """What a checkpoint's JSON says, checked.

    Raises:
        BadFile: it is damaged.
    """
    info = read_sealed(path, FORMAT)
    with described_by(path):
        sound = _TENSORS.fullmatch(info["file"]) and type(info["said"]["step"]) is int and type(info["said"]["regular"]) is bool
        sound = sound and isinstance(info["sha256"], str) and type(info["bytes"]) is int
    if not sound:
        raise BadFile(f"{path} describes no checkpoint")
    return info


def _file_of(path: Path) -> str | None:
    """The name of the tensors' file that a description names; None where it is damaged."""
    try:
        return str(_entry(path)["file"])
    except (BadFile, OSError):
        return None


def _described(path: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Tensor]]]:
    """What was said of a checkpoint, and how to read its tensors."""
    if path.name == _OLD:
        tensors = read_tensors(path)
        try:
            return {"step": int(tensors["step"]), "wall_s": float(tensors["wall_s"]), "regular": True}, lambda: tensors
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadFile(f"{path} is no checkpoint: {error}") from None
    info = _entry(path)

    def read() -> dict[str, Tensor]:
        file = named_file(path.parent, info["file"], path.name)
        if file.stat().st_size != info["bytes"]:
            raise BadFile(f"{file} is damaged: it has {file.stat().st_size:,} bytes, {path.name} says {info['bytes']:,}")
        if sha256(file) != info["sha256"]:
            raise BadFile(f"{file} is damaged: its SHA-256 is not the one in {path.name}")
        return read_tensors(file)

    return dict(info["said"]), read


def _tensors(held: Held, step: int) -> dict[str, Tensor]:
    """All that is held, by name. Nothing in it depends on the clock."""
    tensors: dict[str, Tensor] = {"step": torch.tensor(step)}
    tensors |= {f"weights.{name}": value for name, value in held.restorer.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in held.average.restorer.state_dict().items()}
    for index, moments in held.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors | {f"scaling.{name}": value for name, value in held.scaling.tensors().items()}


def _restore(path: Path, held: Held, tensors: dict[str, Tensor]) -> None:
    """Put tensors back where :func:`_tensors` took them from.

    Raises:
        BadFile: they are those of another network.
    """
    try:
        held.restorer.load_state_dict(_under(tensors, "weights."))
        held.average.restorer.load_state_dict(_under(tensors, "ema."))
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in held.optimizer.param_groups for p in group["params"]]
        for name, value in _under(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            # A fused optimiser walks weights and moments as flat memory: a moment must lie as its weight does.
            like = parameters[int(index)]
            moments.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        held.optimizer.load_state_dict({"state": moments, "param_groups": held.optimizer.state_dict()["param_groups"]})
        held.scaling.restore(_under(tensors, "scaling."))
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        raise BadFile(f"{path} does not fit this recipe: {_first(error)}; {_FRESH}") from None


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _thin(run: Path, step: int, keep: int) -> None:
    """Delete the checkpoints that the one after `step`, just written, makes superfluous."""
    regular = 0
    for path in _newest_first(run):
        try:
            said = _described(path)[0] if path.name != _OLD else None
        except BadFile:
            said = None
        except OSError:  # it may be sound, and the disk may be again
            continue
        stays = said is not None and _step(path) <= step and ((said["regular"] and regular < max(keep, 1)) or _step(path) == step)
        regular += stays and said is not None and said["regular"]
        if not stays:
            path.unlink(missing_ok=True)  # the description first: half a checkpoint is then none, rather than a damaged one
    _sweep(run)


def _sweep(run: Path) -> None:
    """Delete the tensors that no description names. Where a description cannot be read, those it may mean stay."""
    described = [path for path in _newest_first(run) if path.name != _OLD]
    named = {_file_of(path) for path in described}
    stems = {path.stem for path in described if _file_of(path) is None}
    for path in run.glob("checkpoint-*.safetensors"):
        if _TENSORS.fullmatch(path.name) and path.name not in named and path.stem.removesuffix("-again") not in stems:
            path.unlink(missing_ok=True)


def _first(error: Exception) -> str:
    """The first of what torch says of two networks that differ, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if len(lines) < 2 else lines[1] + (f" (and {len(lines) - 2} more)" if len(lines) > 2 else "")


def _more(passed: list[str]) -> str:
    return f" (and {len(passed) - 1} before it)" if len(passed) > 1 else ""
