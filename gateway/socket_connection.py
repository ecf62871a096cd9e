"""Owns what a WebSocket's connection may cost, from the request on that would make it one: an answer to each handshake,
and bounds for pings, for messages in pieces and for the time after its end.

uvicorn has none of it, and would break down at the server's end over some. Knows its inside, as `connection` does.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from gateway.live.transport import CLOSED_WITHIN_S

_REFUSAL = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedSocket(WebSocketsSansIOProtocol):
    """One connection that is to become a WebSocket.

    A request that has a body, or a line or so many headers as `websockets` does not take, is answered with a 400.
    uvicorn hears nothing of it: it would keep the connection for as long as its peer does, and break down over it when
    the server stops.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # a request's head comes whole: it could not be read
            self.handshake_complete = self.close_sent = True
            self.transport.write(_REFUSAL)
            self.transport.close()

    def handle_ping(self) -> None:
        answers = self.conn.data_to_send()  # to all pings that came together, at the first of them
        if self.writable.is_set():
            self.transport.write(b"".join(answers))
        elif answers:
            self._pong = answers[-1]

    def handle_cont(self, event: Frame) -> None:
        if event.data or event.fin:  # `websockets` bounds the bytes of a message, and not of how many frames it is made
            super().handle_cont(event)

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.transport.is_closing():
            self.transport.write(pong)

    def shutdown(self) -> None:
        self.stop_keepalive()
        if not self.transport.is_closing():  # of one that its client has closed the server's own end would fail
            super().shutdown()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)
