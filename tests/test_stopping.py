"""Being asked to stop: once, twice, and by a launcher that repeats itself."""

import os
import signal
import threading
import time

import pytest

from snowmelt.stopping import until_asked


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_wish_and_the_second_of_its_kind_interrupts(number: int) -> None:
    before = signal.getsignal(number)
    with until_asked() as asked:
        assert not asked.is_set()
        send(number)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert signal.getsignal(number) is before


def test_one_of_each_kind_is_one_wish() -> None:
    with until_asked() as asked:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert asked.is_set()


def test_under_torchrun_sigterm_may_come_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with until_asked() as asked:
        for _ in range(3):
            send(signal.SIGTERM)
        send(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def send_and_wait(number: int) -> None:
    """On a machine that is elsewhere meanwhile, the interruption may come at any moment of this."""
    send(number)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(10 if hasattr(signal, "pthread_kill") else 0.01)


@pytest.mark.parametrize("launched", [False, True])
def test_a_wish_that_is_not_granted_in_time_interrupts(monkeypatch: pytest.MonkeyPatch, launched: bool) -> None:
    if launched:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    begun = time.monotonic()
    with until_asked(patience=0.2) as asked:
        with pytest.raises(KeyboardInterrupt):
            send_and_wait(signal.SIGTERM)
        assert asked.is_set()
    assert 0.2 <= time.monotonic() - begun < 5


def test_a_wish_interrupts_in_time_where_no_thread_can_be_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_kill")  # Windows has none
    begun = time.monotonic()
    with until_asked(patience=0.2), pytest.raises(KeyboardInterrupt):
        send_and_wait(signal.SIGINT)
    assert 0.2 <= time.monotonic() - begun < 5


def test_outside_the_main_thread_nobody_is_asked() -> None:
    found: list[bool] = []

    def work() -> None:
        with until_asked() as asked:
            found.append(asked.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
