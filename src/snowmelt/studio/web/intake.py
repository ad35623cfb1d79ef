"""How much may come in: the bytes of one request, of all that are on their way, and of all that lie in the studio's own folder.

A length that is announced is held against the limit at once; but nobody has to announce it, or to tell the truth, so what comes is counted too. A
client that sends a byte a minute is not waited for.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snowmelt.studio.limits import Limits
from snowmelt.studio.surroundings import sweep
from snowmelt.studio.web.doorkeeper import refusal

_FRAME = 64 * 2**10  # what multipart adds to a file
_WORDS = 256 * 2**10  # of a request that carries no file: its JSON is read while nobody else is served
_SILENCE_S = 30.0
_WHOLE_S = 600.0
_AT_ONCE = 16  # uploads of the largest size
_CARRIERS = ("/gradio_api/upload", "/v1/restore", "/v1/degrade")


class Intake:
    """Bounds what comes in.

    Args:
        app: what lies behind.
        limits: of one upload.
        folder: where the page keeps files for a while; what is too much is removed there, the oldest first.
    """

    def __init__(self, app: ASGIApp, limits: Limits, folder: Path | None = None) -> None:
        self._app, self._limits, self._folder = app, limits, folder
        self._coming = 0  # bytes that were announced and may still come
        self._swept = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, carries = Headers(scope=scope), scope["path"].rstrip("/") in _CARRIERS
        most = self._limits.bytes + _FRAME if carries else min(_WORDS, self._limits.bytes + _FRAME)
        said = headers.get("content-length")
        announced = int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 20 else None
        chunked = "transfer-encoding" in headers  # then the length that is announced says nothing (RFC 9112, 6.3)
        if said is not None and announced is None:
            await refusal(400, "Content-Length is not a number", headers)(scope, receive, send)
            return
        if announced is not None and announced > most:
            await self._too_large(headers, most)(scope, receive, send)
            return
        if not chunked and not announced:
            await self._app(scope, receive, send)
            return
        share = most if chunked or announced is None else announced
        if carries and self._coming + share > _AT_ONCE * self._limits.bytes:
            words = "too many pictures are on their way here at once: try again in a moment"
            await refusal(503, words, headers, {"Retry-After": "5", "Connection": "close"})(scope, receive, send)
            return
        self._coming += share if carries else 0
        try:
            if carries and self._folder is not None:
                await self._sweep(self._folder)
            await _Counted(scope, receive, send, most, lambda: self._too_large(headers, most)).run(self._app)
        finally:
            self._coming -= share if carries else 0

    def _too_large(self, headers: Headers, most: int) -> ASGIApp:
        words = f"this is more than {self._limits.megabytes:g} MB, the most that one request may carry: make the picture smaller"
        if most == _WORDS:
            words = f"this is more than {_WORDS // 2**10} kB, the most that a request without a picture may carry: send less"
        return refusal(413, words, headers, {"Connection": "close"})

    async def _sweep(self, folder: Path) -> None:
        if time.monotonic() - self._swept > 1:
            self._swept = time.monotonic()
            await anyio.to_thread.run_sync(lambda: sweep(folder, self._limits.kept_bytes))


class _Counted:
    """One request whose bytes are counted as they come."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int, too_large: Callable[[], ASGIApp]) -> None:
        self._scope, self._receive, self._send, self._most, self._too_large = scope, receive, send, most, too_large
        self._count, self._whole, self._begun, self._over = 0, False, False, False
        self._until = time.monotonic() + _WHOLE_S

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._take, self._give)
        except Exception:
            if not self._over:  # else it was told that the client is gone, and said so in its own way
                raise

    async def _take(self) -> Message:
        if self._whole or self._over:
            return {"type": "http.disconnect"} if self._over else await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), min(_SILENCE_S, max(self._until - time.monotonic(), 0.01)))
        except TimeoutError:
            return await self._end(refusal(408, "the rest of this request did not come in time", Headers(scope=self._scope), {"Connection": "close"}))
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._count > self._most:
                return await self._end(self._too_large())
        return message

    async def _end(self, answer: ASGIApp) -> Message:
        """Answer in place of the application, for which the client is now gone."""
        self._over = True
        if not self._begun:
            await answer(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}

    async def _give(self, message: Message) -> None:
        if not self._over:
            self._begun = True
            await self._send(message)
