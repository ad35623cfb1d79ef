import threading
import time

import pytest
import torch

from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Busy, Late, Left, Limits
from snowmelt.studio.work import looking


def test_one_at_a_time_and_in_order():
    gate, order, inside = Gate(Limits()), [], []
    first = gate.turn()
    first.__enter__()

    def work(name: int) -> None:
        with gate.turn():
            inside.append(name)
            assert len(inside) == 1
            order.append(name)
            inside.remove(name)

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=work, args=(name,)))
        threads[-1].start()
        while gate.waiting <= name:
            time.sleep(0.005)
    assert not order
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2, 3, 4]


def test_who_comes_when_the_queue_is_full_is_told():
    gate = Gate(Limits(queue=1))
    with gate.turn():
        waiting = threading.Thread(target=lambda: gate.turn().__enter__(), daemon=True)
        waiting.start()
        while gate.waiting < 1:
            time.sleep(0.005)
        with pytest.raises(Busy, match="1 others wait"), gate.turn():
            pass


def test_who_leaves_while_waiting_frees_the_place():
    gate, left, said = Gate(Limits(queue=1)), threading.Event(), []

    def wait() -> None:
        try:
            with gate.turn(left):
                said.append("in")
        except Left:
            said.append("left")

    with gate.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        while gate.waiting < 1:
            time.sleep(0.005)
        left.set()
        thread.join(60)
        assert said == ["left"]
        assert gate.waiting == 0


def test_work_ends_when_its_page_is_closed_or_its_time_is_over():
    gate = Gate(Limits())
    with gate.turn(gate.leaving("page")) as turn:
        turn.check()
        gate.leave("page")
        with pytest.raises(Left):
            turn.check()
    assert not gate.leaving("page").is_set()  # a new page of that name is another one
    with Gate(Limits(seconds=0.05)).turn() as turn:
        time.sleep(0.06)
        with pytest.raises(Late, match=r"0\.05 s"):
            turn.check()


def test_an_error_in_the_work_lets_the_next_one_in():
    gate = Gate(Limits())
    with pytest.raises(RuntimeError, match="broken"), gate.turn():
        raise RuntimeError("broken")
    with gate.turn() as turn:
        turn.check()


def test_sessions_that_never_said_goodbye_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("snowmelt.studio.gate._MOST_SESSIONS", 3)
    gate = Gate(Limits())
    for name in range(10):
        gate.leaving(str(name))
    assert len(gate._sessions) == 3


@pytest.mark.parametrize("name", ["megabytes", "megapixels", "seconds", "queue", "samples"])
def test_limits_are_positive(name: str):
    with pytest.raises(ValueError, match=f"limits.{name} = 0"):
        Limits(**{name: 0})


def in_a_thread(do) -> None:
    thread = threading.Thread(target=do)
    thread.start()
    thread.join(60)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_every_turn_has_all_threads_of_torch_whatever_another_thread_did_meanwhile(three_threads: None):
    gate, counts, born, go = Gate(Limits()), [], threading.Event(), threading.Event()

    def late() -> None:
        counts.append(torch.get_num_threads())  # its first word with torch, while another one works alone
        born.set()
        go.wait(60)
        with gate.turn():
            counts.append(torch.get_num_threads())
            with looking._alone():
                counts.append(torch.get_num_threads())
            counts.append(torch.get_num_threads())

    thread = threading.Thread(target=late)

    def first() -> None:
        with gate.turn(), looking._alone():
            thread.start()
            born.wait(60)

    in_a_thread(first)
    go.set()
    thread.join(60)
    assert counts == [1, 3, 1, 3]
    in_a_thread(lambda: counts.append(torch.get_num_threads()))
    assert counts[-1] == 3  # nor does a thread of tomorrow begin with one
