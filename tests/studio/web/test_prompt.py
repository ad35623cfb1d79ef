"""Connections on which nobody says in time what is wanted."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("gradio")

import uvicorn

from snowmelt.studio.web import prompt

WAIT_S = 120  # where a close does not come, the test fails; on no machine it takes as long
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """connect() -> a line to a server whose answer takes longer than a head may."""
    monkeypatch.setattr(prompt, "HEAD_S", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        await asyncio.sleep(2 * prompt.HEAD_S)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"there"})

    server = uvicorn.Server(uvicorn.Config(app, http=prompt.Prompt, ws="none", lifespan="off", log_level="error", timeout_keep_alive=WAIT_S))
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as lines:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield lambda: lines.enter_context(closing(socket.create_connection(listening.getsockname(), WAIT_S)))
        server.should_exit = True
        lines.close()
        thread.join(WAIT_S)
    assert not thread.is_alive()


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


def answered(line: socket.socket) -> bool:
    line.sendall(HEAD + b"\r\n")
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
    line = connect()
    assert answered(line)
    assert answered(line)
    assert ends(line, HEAD), "the second head is bounded, too"
