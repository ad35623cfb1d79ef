"""How many bytes may be on their way at once, whatever their senders say of them."""

import asyncio

import pytest

pytest.importorskip("fastapi")

from starlette.types import Message

from snowmelt.studio.limits import Limits
from snowmelt.studio.web.intake import Intake

MANY = 20


@pytest.mark.parametrize(
    ("headers", "most"),
    [
        ({"content-length": "1048576"}, 16),
        ({"transfer-encoding": "chunked"}, 15),  # of the largest size, with what a form adds to it
        ({"transfer-encoding": "chunked", "content-length": "1"}, 15),  # a length that nobody keeps to, nor has to
    ],
)
def test_uploads_beyond_what_may_be_on_its_way_are_told_to_come_again(headers: dict[str, str], most: int):
    asyncio.run(_uploaded(headers, most))


async def _uploaded(headers: dict[str, str], most: int) -> None:
    told: list[Message] = []
    inside, done = [], asyncio.Event()

    async def app(scope, receive, send):
        inside.append(scope)
        await done.wait()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": True}

    async def send(message: Message) -> None:
        told.append(message)

    intake = Intake(app, Limits(megabytes=1))
    scope = {"type": "http", "path": "/v1/restore", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    coming = [asyncio.create_task(intake(scope, receive, send)) for _ in range(MANY)]
    while len(inside) + len(refused := [one for one in told if one["type"] == "http.response.start"]) < MANY:
        await asyncio.sleep(0)
    done.set()
    await asyncio.gather(*coming)
    assert len(inside) == most
    assert {one["status"] for one in refused} == {503}
    assert all((b"retry-after", b"5") in one["headers"] for one in refused)
    await intake(scope, receive, send)
    assert len(inside) == most + 1, "there is room again"
