"""One visitor's connection: how long its first words may take, and how it ends without losing the last ones.

uvicorn bounds how long a connection may be silent between two requests, but not how long a request line and its headers may take. Whoever sends one
byte now and then would hold a connection for ever, and enough of them would hold all there are.

It also closes as soon as it has refused something, though the rest may be on its way. A socket that is closed with bytes unread resets the
connection, and the reset overtakes the refusal: instead of why, the visitor gets "connection reset by peer" (RFC 9112, 9.6).
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0
LINGER_S = 5.0


class Connection(H11Protocol):
    """uvicorn's own connection, with two bounds.

    It is closed where the head of a request is not there :data:`HEAD_S` after it could begin, or did, and where the rest of one that was answered
    before its end is not; and one that is refused in the middle of what it says is heard out first, for :data:`LINGER_S` at most.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody has come."""
        super().connection_made(_Lingering(transport, self.loop, lambda: self.conn.their_state in (h11.SEND_BODY, h11.ERROR)))  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something was said. More of a head that is not whole wins no time."""
        if not self.transport.is_closing():  # else it is heard out
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has left."""
        super().connection_lost(exc)
        self._forget()

    def send_400_response(self, msg: str) -> None:
        """What comes is no request. Who works on what came before it is told at once that the client is gone, and says no more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # an answer has begun, or was given
            self.transport.close()

    @property
    def _awaits(self) -> bool:
        """Whether it is for the visitor to speak, and nobody else bounds how long that takes: not a body that is asked for, or an answer."""
        return self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE)

    def _watch(self) -> None:
        if not self._awaits or self.transport.is_closing():
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self._late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._awaits:
            self.transport.close()


class _Lingering:
    """A transport that ends its own side first while the other is still speaking, and closes when that has ended, too, or :data:`LINGER_S` later."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, speaking: Callable[[], bool]) -> None:
        self._transport, self._loop, self._speaking = transport, loop, speaking
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = True
        if self._speaking():
            with contextlib.suppress(OSError):  # the visitor has left without a word
                self._transport.write_eof()
                self._transport.resume_reading()
                self._loop.call_later(LINGER_S, self._transport.close)
                return
        self._transport.close()
