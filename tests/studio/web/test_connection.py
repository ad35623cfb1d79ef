"""Connections on which nobody says in time what is wanted, and those that are refused in the middle of a word."""

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("gradio")

import uvicorn

from snowmelt.studio.web import connection

HEAD_S = 0.3
WAIT_S = 120  # where a close does not come, the test fails; on no machine it takes as long
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HEAD + b"\r\n"
Connect = Callable[..., socket.socket]


@pytest.fixture
def done() -> threading.Event:
    """Set when an application has said all that it has to say."""
    return threading.Event()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, done: threading.Event) -> Iterator[Connect]:
    """connect(head) -> a line to a server whose answer takes longer than a head may, on which the head was said in time. It must not log an error."""
    monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
    monkeypatch.setattr(connection, "LINGER_S", WAIT_S)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while scope["path"] == "/reads" and (await receive())["type"] != "http.disconnect":
            pass
        begin = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
        if scope["path"] == "/begins":
            await send(begin)
        await asyncio.sleep(2 * connection.HEAD_S)
        try:
            if scope["path"] != "/begins":
                await send(begin)
            await send({"type": "http.response.body", "body": b"there"})
        finally:
            done.set()

    errors = _Kept(logging.ERROR)
    server = uvicorn.Server(uvicorn.Config(app, http=connection.Connection, ws="none", lifespan="off", log_level="error", timeout_keep_alive=WAIT_S))
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as lines:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addHandler(errors)
            lines.callback(logging.getLogger(name).removeHandler, errors)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        opened = list[socket.socket]()

        def made(head: bytes = b"") -> socket.socket:
            for _ in range(100):
                began = time.monotonic()
                line = lines.enter_context(closing(socket.create_connection(listening.getsockname(), WAIT_S)))
                opened.append(line)
                with contextlib.suppress(OSError):
                    line.sendall(head)
                    if not head or time.monotonic() - began < HEAD_S:
                        return line
                # This machine was elsewhere for longer than a head may take, so the server may have closed the line, and rightly.
            raise AssertionError(f"in 100 tries this machine never said {len(head)} bytes within {HEAD_S} s")

        yield made
        server.should_exit = True
        for line in opened:
            line.close()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    assert errors.said == []


class _Kept(logging.Handler):
    """What is logged, kept."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def ends(line: socket.socket, drip: bytes = b"") -> bool:
    """Whether the server closes a line on which one byte of `drip` comes after the other."""
    line.settimeout(0.02)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            if drip:
                line.sendall(drip[:1])
                drip = drip[1:]
            return line.recv(1) == b""
        except TimeoutError:
            continue
        except OSError:  # reset
            return True
    return False


def is_reset(line: socket.socket, drip: bytes) -> bool:
    """Whether a line is gone before all of `drip` has come, byte by byte."""
    try:
        for number in drip:
            line.sendall(bytes([number]))
            time.sleep(0.01)
    except OSError:
        return True
    return False


def answered(line: socket.socket) -> bool:
    found = b""
    while not found.endswith(b"there"):
        if not (more := line.recv(4096)):
            return False
        found += more
    return found.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("drip", [b"", b"GET /", HEAD + b"X: " + b"y" * 10_000], ids=["silence", "half a line", "headers without end"])
def test_who_does_not_say_what_is_wanted_is_not_waited_for(connect: Connect, drip: bytes) -> None:
    assert ends(connect(), drip)


def test_who_has_said_it_is_waited_for_and_may_ask_again_later(connect: Connect) -> None:
    line = connect(WHOLE)
    assert answered(line)
    line.sendall(WHOLE)
    assert answered(line)
    assert ends(line, HEAD), "the second head is bounded, too"


def test_who_was_answered_early_does_not_hold_the_line_with_the_rest(connect: Connect) -> None:
    line = connect(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
    assert answered(line)
    assert ends(line, b"y" * 4000)


HALF = {  # what has to be said in time, the rest, and what is answered
    "a head that is too long": (HEAD + b"X: " + b"y" * 100_000, b"", b"HTTP/1.1 400"),
    "no request": (b"\0" * 1000, b"", b"HTTP/1.1 400"),
    "a body that nobody reads": (HEAD + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n", b"y" * 1_000_000, b"HTTP/1.1 200"),
}


@pytest.mark.parametrize("name", HALF)
def test_who_is_answered_in_the_middle_of_a_word_gets_the_answer(connect: Connect, name: str) -> None:
    head, more, answer = HALF[name]
    line = connect(head)
    line.sendall(more)
    assert line.recv(1, socket.MSG_PEEK), "the answer is there"
    for _ in range(20):  # a connection that was closed is reset by these, and the answer lost
        line.sendall(b"y" * 100_000)
    found = b""
    while part := line.recv(4096):
        found += part
    assert found.startswith(answer)
    assert b"connection: close" in found.lower()


@pytest.mark.parametrize(("path", "answer"), [("/reads", b"HTTP/1.1 400"), ("/", b"HTTP/1.1 400"), ("/begins", b"HTTP/1.1 200")])
def test_a_body_that_is_none_is_an_end_for_whoever_reads_it_and_an_answer(connect: Connect, done: threading.Event, path: str, answer: bytes) -> None:
    line = connect(HEAD.replace(b"/", path.encode(), 1) + b"Transfer-Encoding: chunked\r\n\r\n")
    if path == "/begins":
        assert line.recv(1, socket.MSG_PEEK) == b"H"
    line.sendall(b"ZZ\r\n")
    assert done.wait(WAIT_S / 2), "nobody tells it that the sender is gone"
    found = b""
    while part := line.recv(4096):
        found += part
    assert found.startswith(answer)


def test_who_never_ends_is_not_heard_for_ever(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 0.3)
    line = connect(b"\0" * 1000)
    assert line.recv(1)
    assert is_reset(line, b"y" * 100 * WAIT_S)


def test_who_leaves_without_hearing_the_answer_does_no_harm(connect: Connect) -> None:
    left = connect()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    left.sendall(b"\0" * 1000)
    left.close()
    assert answered(connect(WHOLE))
