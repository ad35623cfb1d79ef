"""A connection whose visitor has to say what it wants within a time.

uvicorn bounds how long a connection may be silent between two requests, but not how long a request line and its headers may take. Whoever sends one
byte now and then would hold a connection for ever, and enough of them would hold all there are.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0


class Prompt(H11Protocol):
    """uvicorn's own connection, closed where the head of a request is not there :data:`HEAD_S` after it could begin, or did."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody has come."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something was said. More of a head that is not whole wins no time."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has left."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():  # the head is whole; bodies and answers are bounded elsewhere
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self._late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
