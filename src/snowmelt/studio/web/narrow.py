"""Gradio's own routes, made few: what the page needs is open, all else is not there.

Gradio can also fetch addresses for a visitor, relay to other servers, show how it is doing, and be called by name. The studio has no use for that.
And a file that the page sends back to us has to be one that lies in the studio's own folder: gradio would fetch it, were it an address, and decode
it before anybody has counted its pixels, were it a ``data:`` address. So whatever looks like a file has to name one of ours by its path.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snowmelt.studio.web.doorkeeper import refusal

_log = logging.getLogger(__name__)
_OPEN = {
    "GET": re.compile(
        r"/|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt|/(assets|static|svelte)/[^\\]+"
        r"|/gradio_api/(theme\.css|startup-events|heartbeat/[\w-]{1,64}|queue/data|upload_progress|file=.+)"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|upload|cancel|reset)/?"),
}
_JSON = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
_SESSION = re.compile(r"[\w-]{1,64}")
_HANDED_OUT = re.compile(r"(https?://[^/?#\s]+)?(/[^?#\s]*)?/gradio_api/file=.+")  # the address of a file of ours, a proxy's prefix before it
_DEEP = 32
_STRANGE = "this is not what the page of the studio sends"
_SECRET = "this page of the studio does not exist"


class Narrow:
    """Passes on what the page needs.

    Args:
        app: the page; what begins with /v1/ goes to it unseen.
        folder: where its files lie for a while.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app, self._folder = app, folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path == "/v1" or path.startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        headers, method = Headers(scope=scope), scope["method"]
        allowed = _OPEN.get("GET" if method == "HEAD" else method)
        if allowed is None or not allowed.fullmatch(path) or "deep_link" in scope.get("query_string", b"").decode("latin-1"):
            await refusal(404, _SECRET, headers)(scope, receive, send)
            return
        if path.startswith("/gradio_api/file=") and not self._ours(unquote(path.removeprefix("/gradio_api/file="))):
            await refusal(404, "there is no such file here, or no longer", headers)(scope, receive, send)
            return
        if path.rstrip("/") in _JSON:
            body = await _whole(receive)
            if body is None:
                return
            if (wrong := self._wrong(body, path)) is not None:
                await refusal(400, wrong, headers)(scope, receive, send)
                return
            receive = _replayed(body, receive)
        await self._softly(scope, receive, send)

    async def _softly(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What gradio stumbles over is somebody's malformed request: what its handlers stumble over comes back as a message on the page."""
        stumbled = begun = False

        async def soft(message: Message) -> None:
            nonlocal stumbled, begun
            if message["type"] == "http.response.start" and message["status"] == 500:
                stumbled = True
                await refusal(400, _STRANGE, Headers(scope=scope))(scope, receive, send)
            elif not stumbled:
                begun = True
                await send(message)

        try:
            await self._app(scope, receive, soft)
        except Exception as error:
            if begun:
                raise
            _log.info("a request that the page of the studio does not send: %r", error)
            if not stumbled:
                await refusal(400, _STRANGE, Headers(scope=scope))(scope, receive, send)

    def _ours(self, path: str) -> bool:
        """Whether a path leads to a file in the studio's own folder, links followed."""
        try:
            found = Path(os.path.realpath(path))
            return os.path.isabs(path) and found.is_relative_to(self._folder) and found.is_file()
        except (OSError, ValueError):  # a name too long, or with a zero in it
            return False

    def _wrong(self, body: bytes, path: str) -> str | None:
        """What is wrong with what the page sent; None if nothing is."""
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            return f"{_STRANGE}: it is no JSON"
        if not isinstance(said, dict):
            return _STRANGE
        session, number = said.get("session_hash"), said.get("fn_index")
        if session is not None and not (isinstance(session, str) and _SESSION.fullmatch(session)):
            return f"{_STRANGE}: no such session"
        if path.rstrip("/") == "/gradio_api/queue/join" and (
            session is None or not isinstance(number, int) or isinstance(number, bool) or not isinstance(said.get("data"), list)
        ):
            return _STRANGE
        return self._foreign(said.get("data"), 0) or self._foreign(said.get("event_data"), 0)

    def _foreign(self, value: Any, deep: int) -> str | None:
        """The first thing in it that is no file of ours."""
        if deep > _DEEP:
            return f"{_STRANGE}: it is too deep"
        if isinstance(value, dict):
            if self._misleads(value):
                return "the picture is no longer here: drop it again"
            value = list(value.values())
        if isinstance(value, list):
            return next((wrong for one in value if (wrong := self._foreign(one, deep + 1)) is not None), None)
        return None

    def _misleads(self, value: dict[str, Any]) -> bool:
        """Whether what may be taken for a file is none of ours: gradio needs neither `meta` nor `url` to open a path, nor a path to decode a url."""
        path, url = value.get("path"), value.get("url")
        if path is None:
            return "url" in value or "meta" in value
        if url is not None and not (isinstance(url, str) and _HANDED_OUT.fullmatch(url)):
            return True
        return not (isinstance(path, str) and self._ours(path))


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request, bounded elsewhere; None if the client has gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then what the client says next."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
