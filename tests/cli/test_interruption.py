"""A signal that comes while a command runs: whatever goes wrong of it is an interruption, and nothing else is."""

import signal
from collections.abc import Iterator

import pytest

from snowmelt import cli
from snowmelt.cli import main


@pytest.fixture
def handlers() -> Iterator[dict[int, object]]:
    """Those of a command that was started by hand: who started the tests may have had Ctrl-C ignored, as a job in the background has."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield dict(usual)
    for number, handler in before.items():
        signal.signal(number, handler)


def swallowing(number: int) -> None:
    """What torch did once: the interrupt is swallowed, and what it broke into complains."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise RuntimeError("could not determine the shape of object type 'torch.storage.UntypedStorage'") from None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_breaks_is_an_interruption(number: int, handlers, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(cli, "app", lambda *given, **options: swallowing(number))
    assert main(["list"]) == 130
    assert capsys.readouterr().err.startswith("snowmelt: interrupted")
    assert {one: signal.getsignal(one) for one in handlers} == handlers


def test_an_error_long_after_a_signal_that_was_granted_is_an_error(handlers, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(cli, "app", lambda *given, **options: swallowing(signal.SIGTERM))
    monkeypatch.setattr(cli, "_MOMENT_S", 0.0)
    assert main(["list"]) == 1
    assert "this is a bug" in capsys.readouterr().err


def test_a_process_that_leaves_interrupted_hears_no_more(handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snowmelt", "list"])
    monkeypatch.setattr(cli, "app", lambda *given, **options: signal.raise_signal(signal.SIGTERM))
    assert main() == 130
    assert {signal.getsignal(one) for one in handlers} == {signal.SIG_IGN}


def test_one_that_ends_well_leaves_the_handlers_as_they_were(handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snowmelt", "list"])
    monkeypatch.setattr(cli, "app", lambda *given, **options: 0)
    assert main() == 0
    assert {one: signal.getsignal(one) for one in handlers} == handlers
