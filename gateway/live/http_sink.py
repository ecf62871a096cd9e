"""Owns one HTTP response as a viewer's way out: the application's `send`, then past it where that is possible."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope, Send

from gateway.live.transport import BrokenOff, Connection, connection_of

TAKEN_WITHIN_S = 5.0
"""How long the last bytes may take to be acknowledged before we think that they were not received."""


class HttpSink:
    """One HTTP response as a viewer's sink."""

    __slots__ = ("_connection", "_detached", "_headers", "_may_write", "_prologue", "_send", "direct", "started")

    direct: Connection | None

    def __init__(
        self, scope: Scope, send: Send, headers: Mapping[str, str], prologue: bytes, *, direct: bool = True
    ) -> None:
        """`direct=False` keeps to plain ASGI, whatever the server."""
        self.started = False
        self._send = send
        self._headers = headers
        self._prologue = prologue
        self._connection = connection_of(scope)
        self._may_write = direct and self._connection is not None
        self.direct = None
        self._detached = False

    @property
    def gone(self) -> bool:
        return self._connection is not None and self._connection.gone

    @property
    def backlog(self) -> int:
        return 0 if self._connection is None else self._connection.backlog

    @property
    def taken(self) -> int:
        return 0 if self._connection is None else self._connection.taken

    @property
    def watched(self) -> bool:
        """Whether `gone` can tell; otherwise somebody must listen to the server."""
        return self._connection is not None

    def detach(self) -> bool:
        """Have the response go on when the application's call returns; False where it cannot (yet)."""
        if not self._detached and self.direct is not None and self.direct.detach():
            self._detached = True
            # Wrappers change what a response begins with; what they and the request hold is not needed any more.
            self._send, self._headers, self._prologue = self.direct.send, {}, b""
        return self._detached

    async def send(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            data = self._prologue + data
        # An empty body message still waits until the socket has room again.
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        if self._may_write and self._connection is not None and self._connection.chunked:
            self.direct = self._connection

    async def finish(self) -> None:
        """End the body cleanly: only ever after the terminal entry."""
        await self.send(b"")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def received(self) -> bool:
        """Whether the client has, as far as the network tells, taken everything; waits for it a moment."""
        return self._connection is None or await self._connection.wait_taken(TAKEN_WITHIN_S)

    def break_off(self) -> None:
        """Close the connection without a clean end of body, after what is already written."""
        if self._connection is None:
            raise BrokenOff
        self._connection.close()

    async def wait_closed(self) -> None:
        """Return once the connection is closed, after `break_off`."""
        if self._connection is not None:
            await self._connection.wait_closed()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
