"""Batches prepared ahead: the same weights, errors passed on, nothing left running."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snowmelt.data.options import DataOptions
from snowmelt.processes import Process
from snowmelt.stopping import Stopped
from snowmelt.training.ahead import Ahead
from snowmelt.training.feed import Fed, Feed
from snowmelt.training.gradient import Plan
from snowmelt.training.loop import Trainer

Small = Callable[..., Trainer]
Figure = Callable[[str, str], None]
PLAN = Plan(batch=4, accumulate=1, shards=1, steps=3)
CUT = DataOptions(path="bundled:digits", size=6, fit="crop", turn=True)


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize(("spec", "floor"), [("mask+noise", 0.02), ("snow", 0.0)])
def test_the_weights_are_the_same_to_the_bit(
    small: Small, digest: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, floor: float, figure: Figure
) -> None:
    made, inner = [], Feed.__call__

    def seen(self: Feed, numbers: range) -> Fed:
        made.append(threading.current_thread().name.startswith("ahead"))
        return inner(self, numbers)

    monkeypatch.setattr(Feed, "__call__", seen)
    for workers in (0, 1, 3):
        run = small(tmp_path / str(workers), spec=spec, floor=floor, data=CUT, workers=workers, accumulate=2, batch=8, shards=2)
        run.run()
    assert digest(tmp_path / "0") == digest(tmp_path / "1") == digest(tmp_path / "3")
    assert made == [False] * 80 + [True] * 160
    assert not running()
    figure("resume-workers", "0, 1 and 3 threads that prepare batches: the same weights, average and moments, bit for bit")


def test_a_batch_is_begun_while_the_one_before_is_worked_on_and_none_beyond_the_end() -> None:
    made: list[range] = []
    with Ahead(lambda numbers: made.append(numbers) or numbers, PLAN.following) as get:
        assert get(range(0, 4)) == range(0, 4)
        for _ in range(6000):
            if len(made) == 2:
                break
            time.sleep(0.01)
        assert made == [range(0, 4), range(4, 8)]
        assert get(range(4, 8)) == range(4, 8)
        assert get(range(8, 12)) == range(8, 12)
        assert get(range(0, 4)) == range(0, 4)  # another order costs time only
    assert made[:4] == [range(0, 4), range(4, 8), range(8, 12), range(0, 4)]


def test_what_was_begun_and_is_not_asked_for_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made, free = [], threading.Event()

    def slow(numbers: range) -> range:
        made.append(numbers)
        free.wait(60)
        return numbers

    with Ahead(slow, PLAN.following) as get:
        get._begun[range(2, 4)] = get._thread.submit(slow, range(2, 4))  # the thread is busy with it
        get._begun[range(6, 8)] = get._thread.submit(slow, range(6, 8))
        submit = get._thread.submit

        def submitted(*given: object) -> object:
            begun = submit(*given)  # what nobody asks for has been given up by now
            free.set()
            return begun

        monkeypatch.setattr(get._thread, "submit", submitted)
        assert get(range(8, 12)) == range(8, 12)
    assert range(6, 8) not in made


PLANS = [Plan(16, 1, 1, 3), Plan(16, 3, 1, 3), Plan(16, 2, 4, 3), Plan(16, 2, 4, 3, Process(0, 2)), Plan(16, 2, 4, 3, Process(1, 2))]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_follows_is_what_is_computed_next(plan: Plan) -> None:
    order = [numbers for step in range(plan.steps) for shard in plan.mine for numbers in plan.parts(step, shard)]
    assert [plan.following(numbers) for numbers in order] == [*order[1:], None]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), SystemExit(1), MemoryError()], ids=repr)
def test_a_worker_that_fails_is_an_error_in_the_loop_and_soon(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, figure: Figure
) -> None:
    run, inner, at = small(tmp_path, workers=2), Feed.__call__, []

    def broken(self: Feed, numbers: range) -> Fed:
        if numbers.start == 48:
            at.append(time.monotonic())
            raise error
        return inner(self, numbers)

    monkeypatch.setattr(Feed, "__call__", broken)
    with pytest.raises(type(error)):
        run.run()
    spent_s = time.monotonic() - at[0]
    assert run.step == 3  # all that could be trained was
    assert spent_s < 10
    assert not running()
    figure("numbers-worker", f"a worker that raises: the loop ends with its error after {spent_s:.1f} s")


def test_ctrl_c_leaves_no_thread_and_the_run_goes_on_to_the_same_weights(
    small: Small, digest: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    small(tmp_path / "whole", spec="noise").run()
    advance = Trainer._advance

    def interrupted(self: Trainer, bar: object) -> object:
        out = advance(self, bar)  # type: ignore[arg-type]
        if self.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return out

    monkeypatch.setattr(Trainer, "_advance", interrupted)
    with pytest.raises(Stopped):
        small(tmp_path / "parts", spec="noise", workers=1).run()
    assert not running()
    monkeypatch.undo()
    second = small(tmp_path / "parts", spec="noise", workers=1)
    assert second.resume()
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_on_a_cpu_there_is_no_thread_unless_asked_for(small: Small, tmp_path: Path) -> None:
    assert small(tmp_path).workers == 0
