"""The interface for programs, and servers to leave: only a real one notices who has gone."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from snowmelt.studio.desk import Desk

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def whole() -> Callable[[Desk], "FastAPI"]:
    """whole(desk) -> the interface of a desk, with the limits of its bodies."""
    from fastapi import FastAPI

    from snowmelt.studio.web.api import api
    from snowmelt.studio.web.intake import Intake

    def built(desk: Desk) -> FastAPI:
        app = FastAPI()
        app.mount("/v1", api(desk))
        app.add_middleware(Intake, limits=desk.limits)
        return app

    return built


@pytest.fixture(scope="module")
def client(desk: Callable[..., Desk], whole: Callable[[Desk], "FastAPI"]) -> Iterator["TestClient"]:
    from starlette.testclient import TestClient

    with TestClient(whole(desk())) as found:
        yield found


@pytest.fixture(scope="session")
def running() -> Callable[..., AbstractContextManager[int]]:
    """running(app) -> a context with the application on a port of its own, in a thread."""
    import uvicorn

    @contextlib.contextmanager
    def served(app: object) -> Iterator[int]:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as place:
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", http="h11", ws="none"))
            thread = threading.Thread(target=lambda: server.run(sockets=[place]), daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield place.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join(10)

    return served
