"""The way around ASGI to the socket: needed for resets and for single-byte writes, which ASGI cannot express."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "scripted_model.transport"
_LINGER_NOT = struct.pack("ii", 1, 0)
_FLUSH_S = 2.0


class TransportProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also hands its transport to the application."""

    def on_message_begin(self) -> None:
        """Start a request as uvicorn does and put the transport into its scope."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the transport of this request; raises `RuntimeError` under another server or protocol."""
    transport = scope.get("extensions", {}).get(_EXTENSION, {}).get("transport")
    if transport is None:
        raise RuntimeError("the scripted model needs TransportProtocol, see server.py")
    return cast(asyncio.Transport, transport)  # uvloop's has the methods, but not the base class


async def reset(transport: asyncio.Transport) -> None:
    """Send what is still buffered, then cut the connection with a TCP RST instead of a FIN."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _FLUSH_S
    # Only the protocol hears when a buffer drains, and that is uvicorn's, so this has to look.
    while transport.get_write_buffer_size() and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    if not transport.is_closing():
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


async def write_bytewise(transport: asyncio.Transport, body: bytes) -> None:
    """Write `body` as one HTTP chunk, each byte in its own segment."""
    for byte in b"%x\r\n%s\r\n" % (len(body), body):
        if transport.is_closing():
            return
        transport.write(bytes((byte,)))
        await asyncio.sleep(0)  # the loop joins writes of one round
