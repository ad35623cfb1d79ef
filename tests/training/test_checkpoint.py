"""Checkpoints: what comes back, what is kept, and what bit flips, cuts, full disks and kill -9 leave of them."""

import ctypes
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snowmelt import disk
from snowmelt.degradations import GaussianBlur
from snowmelt.files import BadFile, read_json, read_tensors, write_json, write_sealed, write_tensors
from snowmelt.model import Model
from snowmelt.model import load as load_model
from snowmelt.model import save as save_model
from snowmelt.restorers import Backbone, Restorer, UNet
from snowmelt.training import checkpoint
from snowmelt.training.checkpoint import Held, clear, digest, load, save, there
from snowmelt.training.ema import Average
from snowmelt.training.scaling import Scaling

Figure = Callable[[str, str], None]
Rounds = Callable[[int, int], int]
LARGER = UNet(widths=(4,), patch=2, groups=2, blocks=1, attention=False)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Net(nn.Module):
    """The smallest network with weights of two layouts and a buffer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, 1, 1)
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x) * t.view(-1, 1, 1, 1))
        return out


@dataclass(frozen=True)
class Small(Backbone):
    """What builds it."""

    width: int = 4

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        return Net(in_channels, self.width).to(memory_format=torch.channels_last)


def fresh(backbone: Backbone = Small()) -> Held:
    """A tiny network after one step, so that its optimiser has moments."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        restorer = Restorer(GaussianBlur(sigma_px=2), backbone, (1, 4, 4)).requires_grad_(True)
    optimizer = torch.optim.AdamW(restorer.parameters(), lr=1e-3, fused=True)
    held = Held(restorer, Average(restorer, 100.0), optimizer, Scaling(torch.device("cpu"), enabled=False))
    at(held, 0)
    return held


def at(held: Held, step: int) -> Held:
    """Put it into the state that belongs to a step: every number in it another one."""
    generator = torch.Generator().manual_seed(step)
    for parameter in held.restorer.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    held.optimizer.step()
    with torch.no_grad():
        moments = [value for state in held.optimizer.state.values() for _, value in sorted(state.items())]
        for value in [*held.restorer.state_dict().values(), *held.average.restorer.state_dict().values(), *moments]:
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator).abs())
    return held


def state(held: Held) -> str:
    """One hash over all that is held."""
    found = hashlib.sha256()
    for name, value in sorted(checkpoint._tensors(held, 0).items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def said(step: int, *, regular: bool = True, **more: Any) -> dict[str, Any]:
    return {"step": step, "regular": regular, "wall_s": 1.5 * step, **more}


def steps(run: Path) -> list[int]:
    """The steps of the checkpoints in a directory; that they are pairs, and nothing else is there, is checked on the way."""
    found = sorted(run.glob("checkpoint*.json"))
    assert {read_json(path)["file"] for path in found} == {path.name for path in run.glob("checkpoint*.safetensors")}
    assert not list(run.glob(".*"))
    return [int(path.stem.split("-")[1]) for path in found]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with checkpoints after steps 10 and 20."""
    held = fresh()
    for step in (10, 20):
        save(tmp_path, at(held, step), said(step))
    return tmp_path


# --- what comes back -------------------------------------------------------------------------------------


def test_all_that_is_held_comes_back_to_the_bit(tmp_path: Path) -> None:
    assert not there(tmp_path)
    assert load(tmp_path, fresh()) is None
    held = at(fresh(), 3)
    save(tmp_path, held, said(3, note="σ 雪", rate=0.1))
    other, told = fresh(), list[str]()
    assert state(other) != state(held)
    assert load(tmp_path, other, tell=told.append) == said(3, note="σ 雪", rate=0.1)
    assert state(other) == state(held)
    assert there(tmp_path)
    assert not told
    for parameter in other.restorer.parameters():  # and goes on: a fused optimiser wants its moments where its weights are
        parameter.grad = torch.ones_like(parameter)
    other.optimizer.step()


def test_equal_states_are_equal_files_whatever_the_clock_says(tmp_path: Path) -> None:
    for name, wall_s in (("a", 1.0), ("b", 2.0)):
        save(tmp_path / name, at(fresh(), 3), {**said(3), "wall_s": wall_s})
    save(tmp_path / "c", at(fresh(), 4), said(4))
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        digest(tmp_path)


def test_a_checkpoint_of_another_network_is_refused_with_the_way_out(run: Path) -> None:
    line = r"does not fit this recipe: size mismatch for net.* more\); start over with --fresh, or choose another --out$"
    with pytest.raises(BadFile, match=line) as caught:
        load(run, fresh(Small(6)))
    assert "\n" not in str(caught.value)


def test_clear_deletes_checkpoints_of_both_formats_and_nothing_else(run: Path) -> None:
    (run / "model.json").write_text("{}")
    (run / "checkpoint-notes.json").write_text("{}")
    write_tensors(run / "checkpoint.safetensors", {})
    (run / ".checkpoint-000000000030.safetensors.abc.part").write_text("")
    clear(run)
    assert set(os.listdir(run)) == {"model.json", "checkpoint-notes.json"}
    assert not there(run)


# --- what is kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_regular_ones_stay_and_one_that_is_not_until_the_next(tmp_path: Path, keep: int, figure: Figure) -> None:
    held = fresh()
    for step in range(1, 9):
        save(tmp_path, at(held, step), said(step), keep=keep)
        assert steps(tmp_path) == list(range(max(1, step - keep + 1), step + 1))
    regular = steps(tmp_path)
    for step in (9, 10):
        save(tmp_path, at(held, step), said(step, regular=False), keep=keep)
        assert steps(tmp_path) == [*regular, step]
    assert load(tmp_path, held) == said(10, regular=False)
    assert load(tmp_path, held, regular=True) == said(8)
    assert state(held) == state(at(fresh(), 8))
    save(tmp_path, at(held, 11), said(11), keep=keep)
    assert steps(tmp_path) == [*regular, 11][-keep:]
    figure("checkpoint-keep", f"keep = {keep}: {keep} regular ones of 9 left, and one irregular while it was the newest")


def test_saving_after_a_rollback_deletes_what_lies_ahead(tmp_path: Path) -> None:
    held = fresh()
    for step in (10, 20, 30):
        save(tmp_path, at(held, step), said(step), keep=3)
    save(tmp_path, at(held, 15), said(15), keep=3)
    assert steps(tmp_path) == [10, 15]
    assert load(tmp_path, held) == said(15)


def test_saving_again_after_the_same_step_never_breaks_the_pair_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = fresh()
    save(tmp_path, at(held, 10), said(10))
    for turn in range(1, 4):

        def killed(path: Path, table: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "write_sealed", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, at(held, 100 + turn), said(10, turn=turn))
        monkeypatch.undo()
        other, told = fresh(), list[str]()
        assert load(tmp_path, other, tell=told.append) == said(10) | ({"turn": turn - 1} if turn > 1 else {})
        assert not told
        save(tmp_path, at(held, 100 + turn), said(10, turn=turn))
        assert load(tmp_path, other) == said(10, turn=turn)
        assert state(other) == state(held)
        assert steps(tmp_path) == [10]


# --- damage ----------------------------------------------------------------------------------------------


def test_a_thousand_flipped_bits_and_not_one_goes_unnoticed(run: Path, figure: Figure) -> None:
    held, good = fresh(), state(at(fresh(), 10))
    described, tensors = run / "checkpoint-000000000020.json", run / "checkpoint-000000000020.safetensors"
    draw, fallen, same = random.Random(0), 0, 0
    for number in range(1000):
        path = (described, tensors)[number % 2]
        whole, told = path.read_bytes(), list[str]()
        bit = draw.randrange(8 * len(whole))
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        found = load(run, held, tell=told.append)
        if told:
            assert found == said(10)
            assert state(held) == good
            assert re.search(r"checkpoint-0*20\..*; checkpoint-000000000010\.json, after step 10, is taken instead$", told[0])
            assert "\n" not in told[0]
            fallen += 1
        else:  # the same values in other letters: 1e-5 and 1E-5
            assert (found, path) == (said(20), described)
            same += 1
        path.write_bytes(whole)
    assert fallen + same == 1000
    assert same < 5
    figure("checkpoint-flips", f"{fallen} of 1,000 flipped bits detected, the checkpoint before loaded exactly; {same} change no value; 0 unnoticed")


def test_a_flipped_bit_in_a_saved_model_is_detected_or_changes_nothing(tmp_path: Path, rounds: Rounds, figure: Figure) -> None:
    held = fresh(LARGER)
    save_model(Model(held.restorer.degradation, held.restorer, notes={"rate": 1e-05}), tmp_path, ema=held.average.restorer.state_dict())
    before = load_model(tmp_path)
    draw, found, same, names = random.Random(1), 0, 0, list(read_json(tmp_path / "model.json")["files"].values())
    values = {name: value for name, value in read_json(tmp_path / "model.json").items() if name != "seal"}
    flips = rounds(400, 4000)
    for number in range(flips):
        path = tmp_path / ("model.json" if number % 2 else names[1]["file"])  # the averaged weights, which load takes
        whole = path.read_bytes()
        bit = draw.randrange(8 * len(whole))
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        try:
            after = load_model(tmp_path)
        except BadFile:
            found += 1
        else:  # the word "seal" itself became another, or 1e-5 became 1E-5: all values are what they were
            assert path.name == "model.json"
            assert values.items() <= read_json(path).items()
            assert all(torch.equal(a, b) for a, b in zip(before.restorer.parameters(), after.restorer.parameters(), strict=True))
            same += 1
        path.write_bytes(whole)
    assert found + same == flips
    assert same < flips / 50
    figure("model-flips", f"{found} of {flips:,} flipped bits in a saved model refused; {same} hit the word seal or an exponent's e: no value lost")


def test_a_file_cut_anywhere_is_detected(run: Path, figure: Figure) -> None:
    held, good, draw, cuts = fresh(), state(at(fresh(), 10)), random.Random(2), 0
    for path in (run / "checkpoint-000000000020.json", run / "checkpoint-000000000020.safetensors"):
        whole = path.read_bytes()
        lengths = {0, 1, 8, len(whole) - 2, *(draw.randrange(len(whole) - 1) for _ in range(200))}
        for length in lengths:
            path.write_bytes(whole[:length])
            told: list[str] = []
            assert load(run, held, tell=told.append) == said(10)
            assert state(held) == good
            assert len(told) == 1
        path.write_bytes(whole)
        cuts += len(lengths)
    path.write_bytes(whole[:-1])
    assert load(run, held, tell=lambda line: None) == said(10)
    described = run / "checkpoint-000000000020.json"
    path.write_bytes(whole)
    described.write_bytes(described.read_bytes()[:-1])  # the last line's end: no value is lost
    assert load(run, held) == said(20)
    figure("checkpoint-cut", f"{cuts + 1} of {cuts + 1} truncations, to 0 bytes included, detected; the previous checkpoint loaded exactly")


def test_where_all_are_damaged_the_way_out_is_named(run: Path) -> None:
    for path in run.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFile, match=r"20\.safetensors is damaged: it has .* \(and 1 before it\), and .* holds no other checkpoint; .*--fresh"):
        load(run, fresh())
    with pytest.raises(BadFile, match="--fresh"):
        load(run, fresh(), regular=True)


def test_a_missing_file_of_tensors_is_told_and_a_missing_description_is_no_checkpoint(run: Path) -> None:
    (run / "checkpoint-000000000020.safetensors").unlink()
    told: list[str] = []
    assert load(run, fresh(), tell=told.append) == said(10)
    assert "names checkpoint-000000000020.safetensors, which is missing" in told[0]
    (run / "checkpoint-000000000010.json").unlink()
    (run / "checkpoint-000000000020.json").unlink()
    assert not there(run)
    assert load(run, fresh()) is None


NONSENSE = [{"file": "../x.safetensors"}, {"file": "/etc/passwd"}, {"file": 3}, {"bytes": "many"}, {"sha256": None}, {"said": {}}, {"said": 3}]


@pytest.mark.parametrize("entry", NONSENSE, ids=str)
def test_a_description_that_is_sealed_and_makes_no_sense_is_damaged(run: Path, entry: dict[str, object]) -> None:
    path = run / "checkpoint-000000000020.json"
    write_sealed(path, read_json(path) | entry)
    told: list[str] = []
    assert load(run, fresh(), tell=told.append) == said(10)
    assert path.name in told[0]


def test_a_later_format_and_a_description_without_seal_are_passed_over(run: Path) -> None:
    path = run / "checkpoint-000000000020.json"
    table, told = read_json(path), list[str]()
    write_sealed(path, table | {"format": 3})
    load(run, fresh(), tell=told.append)
    assert "has format 3; this snowmelt" in told[0]
    write_json(path, {name: value for name, value in table.items() if name != "seal"})
    assert load(run, fresh(), tell=told.append) == said(10)
    assert "is damaged, or was changed after it was written;" in told[1]


# --- disks that refuse -----------------------------------------------------------------------------------


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a function finds in a forked process, which may change limits and mounts as it likes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - it is told
            found = {"failed": repr(error)}
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(data)
    assert "failed" not in found, found["failed"]
    return dict(found)


def refused(run: Path, backbone: Backbone = Small()) -> dict[str, Any]:
    """What saving after step 30 says where it is refused, and what is there after it."""
    held = fresh(backbone)
    try:
        save(run, at(held, 30), said(30))
    except OSError as error:
        message, number = str(error), error.errno
    else:
        message, number = "", 0
    found = load(run, held)
    assert found is not None
    exact = state(held) == state(at(fresh(backbone), found["step"]))
    return {"message": message, "errno": number, "step": found["step"], "exact": exact, "files": sorted(os.listdir(run))}


def mounted(folder: Path, size: int) -> bool:
    """Give this process a disk of its own of so many bytes at `folder`; it goes with the process. False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    spaces = 0x00020000 | (0 if os.geteuid() == 0 else 0x10000000)  # CLONE_NEWNS, CLONE_NEWUSER
    user, group = os.getuid(), os.getgid()
    if not hasattr(libc, "unshare") or libc.unshare(spaces):
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE: nobody else sees it
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())


@needs_fork
def test_a_full_disk_and_a_read_only_one_keep_the_last_checkpoint(tmp_path: Path, figure: Figure) -> None:
    held, run, place = fresh(LARGER), tmp_path / "run", tmp_path / "disk"
    place.mkdir()
    for step in (10, 20):
        save(run, at(held, step), said(step))
    size, before = (run / "checkpoint-000000000020.safetensors").stat().st_size, sorted(os.listdir(run))
    libc, pages = ctypes.CDLL(None), -(-size // 4096) * 4096

    def quota(handle: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def work() -> dict[str, Any]:
        if not mounted(place, 4 * pages):
            return {"skip": True}
        shutil.copytree(run, place / "run")
        room, found = shutil.disk_usage(place).free, {}
        for name, left in (("full", 8192), ("filled", pages)):  # in the midst of the tensors, and when nothing is left for their description
            (place / "ballast").write_bytes(b"0" * (room - left))
            found[name] = refused(place / "run", LARGER)
        (place / "ballast").unlink()
        libc.mount(b"none", os.fsencode(place), None, 0x21, None)  # MS_REMOUNT | MS_RDONLY
        found["frozen"] = refused(place / "run", LARGER)
        libc.mount(b"none", os.fsencode(place), None, 0x20, None)
        flush = os.fsync
        disk.os.fsync = quota  # this process ends with it
        found["quota"] = refused(place / "run", LARGER)
        disk.os.fsync = flush
        return found | {"after": refused(place / "run", LARGER)}

    found = in_child(work)
    if "skip" in found:
        pytest.skip("this system allows no disk of one's own: full and read-only disks were NOT tried")
    where = rf"cannot write {re.escape(str(place))}/run/checkpoint-000000000030"
    assert re.search(rf"{where}\.safetensors: No space left on device \({size:,} bytes wanted, [\d,]+ bytes free in ", found["full"]["message"])
    assert re.search(rf"{where}\.json: No space left on device \(\d+ bytes wanted, 0 bytes free in ", found["filled"]["message"])
    assert re.search(rf"{where}\.safetensors: Read-only file system \({size:,} bytes wanted, ", found["frozen"]["message"])
    assert re.search(rf"{where}\.safetensors: Disk quota exceeded \({size:,} bytes wanted, ", found["quota"]["message"])
    assert [one["errno"] for one in found.values()] == [errno.ENOSPC, errno.ENOSPC, errno.EROFS, errno.EDQUOT, 0]
    after = found.pop("after")
    assert (after["step"], after["exact"]) == (30, True)  # there is room again: on it goes
    for one in found.values():
        assert (one["step"], one["exact"], one["files"]) == (20, True, before)
    figure("checkpoint-full", f"disk full twice, read-only, over quota (played): path, {size:,} bytes wanted and free named; step 20 loads exactly")


@needs_fork
def test_a_limit_on_the_size_of_files_keeps_the_last_checkpoint(run: Path) -> None:
    resource = pytest.importorskip("resource")
    size = (run / "checkpoint-000000000020.safetensors").stat().st_size
    before = sorted(os.listdir(run))

    def work() -> dict[str, Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
        return refused(run)

    found = in_child(work)
    assert found["errno"] == errno.EFBIG
    limit = rf"File too large \({size:,} bytes wanted, .* bytes free in .*, a file of this process may have {size // 2:,} bytes"
    assert re.search(limit, found["message"])
    assert (found["step"], found["exact"], found["files"]) == (20, True, before)


@needs_fork
def test_a_model_that_finds_no_room_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    held = fresh(LARGER)
    save_model(Model(held.restorer.degradation, held.restorer), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def work() -> dict[str, Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        try:
            save_model(Model(held.restorer.degradation, at(held, 1).restorer), tmp_path)
        except OSError as error:
            return {"message": str(error)}
        return {}

    assert re.search(r"cannot write .*/weights-\w+\.safetensors: File too large \([\d,]+ bytes wanted, ", in_child(work)["message"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    load_model(tmp_path)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", range(1, 7))
def test_an_error_at_any_flush_keeps_the_last_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: int) -> None:
    """Some disks notice a quota when they are flushed: file, folder, and both again for the description. Here it is only played."""
    calls, flush = [0], os.fsync

    def refusing(handle: int) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(disk.os, "fsync", refusing)
    found = refused(run)
    if call > 4:
        assert (found["errno"], found["step"]) == (0, 30)  # a save flushes four times
        return
    assert found["errno"] == number
    assert re.search(r"cannot write .*/checkpoint-0*30\.(json|safetensors): .* \([\d,]+ bytes wanted, [\d,]+ bytes free in ", found["message"])
    assert found["exact"]
    assert found["step"] == (30 if call == 4 else 20)  # the last flush is after the fact
    assert not [name for name in found["files"] if name.endswith(".part")]


def test_tensors_are_flushed_before_their_description_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        flush(handle)

    def renamed(self: Path, target: Path) -> Path:
        order.append(target.suffix)
        return rename(self, target)

    monkeypatch.setattr(disk.os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    save(run, at(fresh(), 30), said(30))
    assert order == ["file", ".safetensors", "folder", "file", ".json", "folder"]


# --- processes that are killed ---------------------------------------------------------------------------


@needs_fork
def test_kill_9_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path: Path, rounds: Rounds, figure: Figure) -> None:
    held, draw, inside, kills, last = fresh(), random.Random(3), 0, rounds(40, 400), 0
    save(tmp_path, at(held, 1), said(1))
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                found = load(tmp_path, held)
                for step in range((found or {"step": 0})["step"] + 1, 10_000):
                    at(held, step)
                    os.write(writer, f"{step} begun\n".encode())
                    save(tmp_path, held, said(step))
                    os.write(writer, f"{step} done\n".encode())
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            heard = pipe.readline()
            time.sleep(draw.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            heard += pipe.read()
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        lines = heard.decode().splitlines()
        told: list[str] = []
        found = load(tmp_path, held, tell=told.append)
        assert found is not None
        assert not told  # not even the newest is damaged
        assert state(held) == state(at(fresh(), found["step"]))
        done = max([last, *(int(line.split()[0]) for line in lines if line.endswith("done"))])
        begun = max(int(line.split()[0]) for line in lines)
        assert done <= found["step"] <= begun  # what save has returned from is there
        inside, last = inside + lines[-1].endswith("begun"), found["step"]
    assert inside > kills // 4
    save(tmp_path, at(held, last + 1), said(last + 1))
    assert steps(tmp_path)[-1] == last + 1  # and no temporary file of any of them is left
    figure("checkpoint-kills", f"{kills} kills with -9, {inside} of them inside a save: 0 unreadable checkpoints, 0 saved steps lost")


# --- format 1 --------------------------------------------------------------------------------------------


def test_format_1_is_taken_up_and_goes_with_the_next_save(tmp_path: Path) -> None:
    held = at(fresh(), 10)
    write_tensors(tmp_path / "checkpoint.safetensors", {**checkpoint._tensors(held, 10), "wall_s": torch.tensor(2.5, dtype=torch.float64)})
    assert there(tmp_path)
    assert digest(tmp_path)
    other = fresh()
    assert load(tmp_path, other) == load(tmp_path, other, regular=True) == {"step": 10, "wall_s": 2.5, "regular": True}
    assert state(other) == state(held)
    save(tmp_path, at(held, 20), said(20))
    assert steps(tmp_path) == [20]
    assert read_tensors(tmp_path / "checkpoint-000000000020.safetensors")["step"] == 20


@pytest.mark.parametrize("missing", ["step", "wall_s"])
def test_a_damaged_file_of_format_1_is_refused_with_the_way_out(tmp_path: Path, missing: str) -> None:
    tensors = {**checkpoint._tensors(fresh(), 10), "wall_s": torch.tensor(2.5)}
    write_tensors(tmp_path / "checkpoint.safetensors", {name: value for name, value in tensors.items() if name != missing})
    with pytest.raises(BadFile, match=f"is no checkpoint: '{missing}', and .* holds no other checkpoint; .*--fresh"):
        load(tmp_path, fresh())
    write_tensors(tmp_path / "checkpoint.safetensors", tensors)
    os.truncate(tmp_path / "checkpoint.safetensors", 1000)
    with pytest.raises(BadFile, match="--fresh"):
        load(tmp_path, fresh())
