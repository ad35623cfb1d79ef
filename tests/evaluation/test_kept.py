"""Pieces that are done once, whoever does them."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snowmelt import processes
from snowmelt.evaluation import evaluate, kept
from snowmelt.evaluation.kept import Kept
from snowmelt.files import read_tensors
from snowmelt.locks import InUse, locked
from snowmelt.model import Model
from snowmelt.processes import Process
from snowmelt.registry import build
from snowmelt.samplers import TACoS
from snowmelt.stopping import Stopped


def counted(calls: list[int]) -> Callable[[int], dict[str, torch.Tensor]]:
    def do(i: int) -> dict[str, torch.Tensor]:
        calls.append(i)
        return {"x": torch.full((2,), i / 3), "of": torch.tensor(i)}

    return do


def ended(out: Path, settles: dict[str, int], pieces: list[int], calls: list[int], error: type[BaseException]) -> None:
    """Work in `out` that ends before its time."""
    with Kept.at(out, settles) as one:
        one.each("a", pieces, counted(calls))
        raise error


def numbers(found: Callable[[], list[kept.Result]]) -> list[int]:
    return [int(one["of"]) for one in found()]


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(Stopped, match="^interrupted: 2 pieces of the evaluation are done and kept; the same command goes on$"):
        ended(tmp_path, {"seed": 0}, [0, 1], calls, KeyboardInterrupt)
    with Kept.at(tmp_path, {"seed": 0}) as second:
        found = second.each("a", [0, 1, 2], counted(calls))
        assert (second.done, second.found) == (1, 2)
        assert numbers(found) == [0, 1, 2]
        assert found()[1]["x"].tolist() == torch.full((2,), 1 / 3).tolist()
    assert calls == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_other_settings_find_nothing_of_it(tmp_path: Path) -> None:
    calls: list[int] = []
    for seed in (0, 1):
        with pytest.raises(Stopped):
            ended(tmp_path, {"seed": seed}, [0], calls, KeyboardInterrupt)
    assert calls == [0, 0]
    old = next(tmp_path.iterdir())
    os.utime(old, (0, time.time() - 2 * 86_400))  # nobody came back for it
    with Kept.at(tmp_path, {"seed": 2}) as one:
        one.each("a", [0], counted(calls))
    assert [path for path in tmp_path.iterdir() if path == old] == []
    assert len(list(tmp_path.iterdir())) == 1


def test_short_work_leaves_no_trace_and_an_error_loses_nothing(tmp_path: Path) -> None:
    with Kept.at(tmp_path, {}) as one:
        one.each("a", [0, 1], counted([]))
        assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError):
        ended(tmp_path, {}, [0, 1], [], ZeroDivisionError)
    assert len(list(tmp_path.glob(".evaluating-*/*.safetensors"))) == 1


def test_a_damaged_file_is_done_again(tmp_path: Path) -> None:
    one = Kept(tmp_path)
    one.each("a", [0, 1], counted([]))
    one.flush()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    calls: list[int] = []
    assert numbers(Kept(tmp_path).each("a", [0, 1], counted(calls))) == [0, 1]
    assert calls == [0, 1]
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_just_now_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Other processes may count on it."""
    one = Kept(tmp_path)
    one.each("a", [0], counted([]))
    one.flush()
    with monkeypatch.context() as full:
        full.setattr(kept, "read_tensors", lambda path: (_ for _ in ()).throw(OSError(errno.EMFILE, os.strerror(errno.EMFILE))))
        later = Kept(tmp_path)
    assert "Too many open files" in caplog.text
    assert len(list(tmp_path.iterdir())) == 1
    later._look()
    assert numbers(later.each("a", [0], counted([]))) == [0]
    assert (later.done, later.found) == (0, 1)


def test_the_same_evaluation_is_done_by_one_at_a_time(tmp_path: Path) -> None:
    """The first of two to end would delete what the other counts on."""
    with Kept.at(tmp_path, {"seed": 0}) as one:
        with pytest.raises(InUse, match=r"in use: process \d+ on .* has been evaluating there since"):
            ended(tmp_path, {"seed": 0}, [0], [], KeyboardInterrupt)
        with locked(tmp_path), Kept.at(tmp_path, {"seed": 1}) as other:  # while the run is trained, or judged by other options
            assert numbers(other.each("a", [0], counted([]))) == [0]
        assert numbers(one.each("a", [0], counted([]))) == [0]
    assert not list(tmp_path.iterdir())


def test_processes_that_have_not_met_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(RuntimeError, match="have not met"):
            ended(tmp_path, {}, [0, 1], calls, ZeroDivisionError)
    assert not calls
    assert not list(tmp_path.iterdir())


def test_processes_that_are_not_about_to_do_the_same_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "here", lambda: Process(1, 2))
    monkeypatch.setattr(processes, "any_of", lambda said: said)
    monkeypatch.setattr(processes, "barrier", lambda: None)
    monkeypatch.setattr(processes, "summed", lambda own: own + 7)
    with pytest.raises(ValueError, match="the processes are not about to evaluate the same: give all of them the same weights"):
        ended(tmp_path, {}, [0], [], ZeroDivisionError)


def test_what_another_process_has_done_is_waited_for_and_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk lists late what another machine has written; two folders of one name never do."""
    first, second = (Kept(tmp_path, Process(rank, 2), meet=lambda: None) for rank in range(2))
    found = second.each("a", [0, 1], counted([]))
    second.meet()
    monkeypatch.setattr(kept, "_LISTED_S", 0.05)
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path} lacks what another process has done: it must be in a folder that all processes see$"):
        found()
    monkeypatch.setattr(kept, "_LISTED_S", 60.0)
    monkeypatch.setattr(kept.time, "sleep", lambda seconds: first.flush())
    first.each("a", [0, 1], counted([]))
    assert numbers(found) == [0, 1]


def test_pieces_that_are_dealt_in_turn_are_read_a_file_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(kept, "read_tensors", lambda path: (read.append(path), read_tensors(path))[1])  # type: ignore[func-returns-value]
    many = [Kept(tmp_path, Process(rank, 4), meet=lambda: None) for rank in range(4)]
    found = [one.each("a", list(range(40)), counted([])) for one in many]
    for one in many:
        one.flush()
    many[0].meet()
    assert numbers(found[0]) == list(range(40))
    assert len(read) <= 4


def test_processes_share_the_pieces_and_find_those_of_the_others(tmp_path: Path) -> None:
    calls: list[list[int]] = [[], [], []]
    many = [Kept(tmp_path, Process(rank, 3), meet=lambda: None) for rank in range(3)]
    found = [(one.each("a", [0], counted(did)), one.each("b", [0, 1, 2, 3], counted(did))) for one, did in zip(many, calls, strict=True)]
    assert sorted(sum(calls, [])) == [0, 0, 1, 2, 3]
    assert all(len(did) <= 2 for did in calls)
    for one in many:
        one.flush()
    for one, (a, b) in zip(many, found, strict=True):
        one.meet()
        assert (numbers(a), numbers(b)) == ([0], [0, 1, 2, 3])
    made: list[int] = []
    rows = [one.later("row", lambda: (made.append(1), {"of": 1 / 3})[1]) for one in many]  # type: ignore[func-returns-value]
    assert not made, "before they have met, nothing can be made of results"
    told = [one.told("rows", [row]) for one, row in reversed(list(zip(many, rows, strict=True)))]  # piece 5 is the third one's
    assert (told, made) == ([[{"of": 1 / 3}]] * 3, [1])


def test_processes_need_a_folder_to_share(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="through a folder"):
        Kept(None, Process(0, 2))


def test_a_full_disk_ends_nothing_but_the_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(path: Path, tensors: object) -> None:
        raise OSError("cannot write: no space left")

    monkeypatch.setattr(kept, "write_tensors", full)
    one = Kept(tmp_path)
    found = one.each("a", [0, 1], counted([]))
    one.flush()
    assert "no space left: an interruption would lose what is done" in caplog.text
    assert numbers(found) == [0, 1]
    assert str(one._stopped()) == "interrupted: 2 pieces of the evaluation are done and could not be kept; the same command begins again"
    shared = Kept(tmp_path, Process(0, 2), meet=lambda: None)
    shared.each("a", [0, 1], counted([]))
    with pytest.raises(OSError, match="no space left"):
        shared.flush()


def test_an_evaluation_from_kept_pieces_is_the_same_to_the_last_bit(splits, blocks, tmp_path: Path) -> None:
    model = Model(build("gaussian-blur:sigma_px=2"), lambda x, t: x * 0.9, noise_floor=0.02)
    asked = {"samplers": [TACoS(3)], "images": 10, "batch": 4, "features": blocks, "severities": 2}
    data = (splits["test"], splits["validation"], splits["train"])
    alone = evaluate(model, *data, **asked)
    first = Kept(tmp_path)
    evaluate(model, *data, **asked, kept=first)
    first.flush()
    assert len(read_tensors(next(tmp_path.iterdir()))) > 100
    seen, again = blocks.seen, Kept(tmp_path)
    report = evaluate(model, *data, **asked, kept=again)
    assert (again.done, blocks.seen) == (0, seen)
    for name in ("rows", "severities"):
        for a, b in zip(getattr(alone, name), getattr(report, name), strict=True):
            assert a == {key: tuple(v) if isinstance(v, list) else _tuples(v) for key, v in b.items()}
    assert (alone.facts, alone.verdict, alone.extremes, alone.markdown()) == (report.facts, report.verdict, report.extremes, report.markdown())


def _tuples(value: object) -> object:
    """JSON knows no tuples."""
    return {name: tuple(v) if isinstance(v, list) else _tuples(v) for name, v in value.items()} if isinstance(value, dict) else value
