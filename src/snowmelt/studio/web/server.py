"""The process that serves the studio: where it listens, what it says, and how it ends.

The port is taken before anything heavy is imported, so that what cannot work is said at once. Ctrl-C ends it within two seconds: work that is
under way stops before its next step, pages that are open lose their line, trainings are processes of their own and go on.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
import webbrowser
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from snowmelt.studio.web.doorkeeper import is_loopback

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from snowmelt.studio.gate import Gate

PORTS = 20  # so many are tried, from the one that is asked for
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")
_AT_ONCE = 512  # connections, each page with its own line for news counted
_GRACE_S = 1
_HEADER_BYTES = 32 * 2**10
_SELDOM_S = 60.0
_WARNING = ("uvicorn.error", "python_multipart.multipart")  # who warns of every request that is malformed


def token_for(host: str, token: str | None) -> str | None:
    """What visitors have to show: nothing on loopback, unless a token is given; elsewhere the one given, or a new one.

    Raises:
        ValueError: the token could be guessed, or would have to be quoted in an address.
    """
    if token is None:
        return None if is_loopback(f"[{host}]" if ":" in host else host) else secrets.token_urlsafe(24)
    if not _TOKEN.fullmatch(token):
        raise ValueError("--token (or SNOWMELT_TOKEN): 16 letters, digits or any of . _ ~ - at least; on another --host one is made without it")
    return token


def listening(host: str, port: int) -> socket.socket:
    """A socket on a port, or on the next one that is free; whoever comes early waits until the studio is open.

    Raises:
        ValueError: nobody knows the host.
        OSError: it is none of this machine, or all ports that were tried are taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise ValueError(f"--host {host} is no name or address that this machine knows: 127.0.0.1 is this machine alone") from None
    last = min(port + PORTS, 65536) if port else 1
    for number in range(port, last):
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would share the port with whoever has it
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((address[0], number, *address[2:]))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            if not _taken(error):
                raise OSError(error.errno, f"cannot listen on {host} port {number}: {error.strerror}") from None
    raise OSError(f"ports {port} to {last - 1} are all taken: give another with --port")


def address_of(found: socket.socket, host: str, token: str | None) -> str:
    """Where the studio is to be found, with its token."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{found.getsockname()[1]}/" + ("" if token is None else f"?token={token}")


def serve(app: "FastAPI", gate: "Gate", found: socket.socket, address: str, *, open_page: bool = False) -> int:
    """Serve until Ctrl-C, SIGTERM, or the end of the terminal.

    Args:
        app: what is served.
        gate: closed at the end.
        found: where; see :func:`listening`.
        address: said, and opened if `open_page`.
        open_page: whether a browser is opened.

    Returns:
        The exit code: 0, as this is how a server ends.
    """
    server = _server(app, gate, address, open_page)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has ended
        server.run(sockets=[found])
    with contextlib.suppress(OSError):  # the terminal is closed
        print("the studio has ended; trainings that it began go on", flush=True)
    return 0


def leave(code: int) -> NoReturn:
    """End this process at once, when all that is to be written was written and all that is to be removed is gone.

    To take torch and gradio apart takes the interpreter seconds, and it would wait for threads whose call of a network nothing can stop.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _server(app: "FastAPI", gate: "Gate", address: str, open_page: bool) -> "uvicorn.Server":
    import uvicorn

    from snowmelt.studio.web.connection import Connection

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                print(f"the studio is open: {address}\nCtrl-C ends it", flush=True)
                if open_page:
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            gate.close()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut off now is cut off on purpose
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=Connection,  # by h11, the one that bounds the bytes of headers
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # addresses hold the token once
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_S,
    )
    for name in _WARNING:
        logging.getLogger(name).addFilter(Seldom())
    return Server(config)


class Seldom(logging.Filter):
    """Lets each warning through once a minute: what strangers send is worth a line, but they may not fill the terminal with it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[int, float] = {}  # when, by the line of code that says it: the words may be the stranger's

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may be said: any that is no warning, and of warnings those that were not said lately."""
        if record.levelno != logging.WARNING:
            return True
        now, before = time.monotonic(), self._said.get(record.lineno)
        if before is not None and now - before < _SELDOM_S:
            return False
        self._said[record.lineno] = now
        return True


def _taken(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE or getattr(error, "winerror", None) in (10013, 10048)  # the latter two are Windows'
