"""Batches prepared ahead: the same weights, errors passed on, nothing left running."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snowmelt.data.options import DataOptions
from snowmelt.training.ahead import Ahead
from snowmelt.training.loop import Fed, Stopped, Trainer

Small = Callable[..., Trainer]
CUT = DataOptions(path="bundled:digits", size=6, fit="crop", turn=True)


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize(("spec", "floor"), [("mask+noise", 0.02), ("snow", 0.0)])
def test_the_weights_are_the_same_to_the_bit(small: Small, digest: Callable[[Path], str], tmp_path: Path, spec: str, floor: float) -> None:
    made = []
    for ahead in (False, True):
        run = small(tmp_path / str(ahead), spec=spec, floor=floor, data=CUT, ahead=ahead, accumulate=2, batch=8)
        inner = run._fed
        run._fed = lambda numbers, inner=inner: made.append(threading.current_thread().name) or inner(numbers)  # type: ignore[method-assign]
        run._next = run._fed
        run.run()
    assert digest(tmp_path / "False") == digest(tmp_path / "True")
    assert [name.startswith("ahead") for name in made] == [False] * 40 + [True] * 40
    assert not running()


def test_a_batch_is_begun_while_the_one_before_is_worked_on_and_none_beyond_the_end() -> None:
    made: list[range] = []
    with Ahead(lambda numbers: made.append(numbers) or numbers, 9) as get:
        assert get(range(0, 4)) == range(0, 4)
        for _ in range(100):
            if len(made) == 2:
                break
            time.sleep(0.01)
        assert made == [range(0, 4), range(4, 8)]
        assert get(range(4, 8)) == range(4, 8)
        assert get(range(8, 9)) == range(8, 9)
        assert get(range(2, 4)) == range(2, 4)  # another order costs time only
    assert made[:4] == [range(0, 4), range(4, 8), range(8, 9), range(2, 4)]


def test_what_was_begun_and_is_not_asked_for_is_not_made() -> None:
    made, free = [], threading.Event()

    def slow(numbers: range) -> range:
        made.append(numbers)
        free.wait(5)
        return numbers

    with Ahead(slow, 12) as get:
        get._begun[range(2, 4)] = get._thread.submit(slow, range(2, 4))  # the thread is busy with it
        get._begun[range(4, 6)] = get._thread.submit(slow, range(4, 6))
        threading.Timer(0.1, free.set).start()
        assert get(range(8, 10)) == range(8, 10)
    assert range(4, 6) not in made


def test_an_error_is_raised_in_the_loop_and_soon(small: Small, tmp_path: Path) -> None:
    run = small(tmp_path, ahead=True)
    inner = run._fed

    def broken(numbers: range) -> Fed:
        if numbers.start == 48:
            raise OSError("the disk is gone")
        return inner(numbers)

    run._fed = broken  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(OSError, match="the disk is gone"):
        run.run()
    assert run.step == 3  # all that could be trained was
    assert time.monotonic() - begun < 60
    assert not running()
    with Ahead(lambda numbers: 1 / 0, 10) as get:
        begun = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            get(range(1))
        assert time.monotonic() - begun < 3


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
        small(tmp_path / "parts", spec="noise", ahead=True).run()
    assert not running()
    monkeypatch.undo()
    second = small(tmp_path / "parts", spec="noise", ahead=True)
    assert second.resume()
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_on_a_cpu_there_is_no_thread_unless_asked_for(small: Small, tmp_path: Path) -> None:
    assert not small(tmp_path).ahead
