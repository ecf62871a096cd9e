"""Owns the clients' HTTP: raw sockets, so that a cut falls on any byte and a body's clean end is told from a break."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_RST = struct.pack("ii", 1, 0)
CONNECT_S = 5.0


@dataclass(slots=True)
class Reply:
    """A whole answer. Status 0: there was none."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class Stream:
    """One request whose answer is read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.clean = False
        """Whether the body has ended in order."""
        self._left = 0
        self._sized = False

    @property
    def port(self) -> int:
        """Our own port."""
        name = self._writer.get_extra_info("sockname")
        return int(name[1]) if name else 0

    async def head(self) -> int:
        """Read status and headers; raise `OSError` or `EOFError` if the connection breaks before."""
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ", 2)[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)
        }
        length = self.headers.get("content-length")
        if length is not None:
            self._sized, self._left = True, int(length)
        if self.status in (204, 304) or (self._sized and not self._left):
            self._sized, self.clean = True, True
        return self.status

    async def read(self, most: int = 65_536) -> bytes:
        """Return some of the body; b"" at its end, and then `clean` says of which kind."""
        if self.clean:
            return b""
        if not self._sized and not self._left:
            line = await self._reader.readline()
            if not line.endswith(b"\r\n"):
                return b""
            self._left = int(line, 16)
            if not self._left:
                self.clean = (await self._reader.readline()) == b"\r\n"
                return b""
        data = await self._reader.read(min(most, self._left))
        self._left -= len(data)
        if not data:
            return b""
        if not self._left:
            if self._sized:
                self.clean = True
            elif await self._reader.readexactly(2) != b"\r\n":
                raise EOFError("a chunk has no end")
        return data

    def write(self, data: bytes) -> None:
        """Send some bytes more, as on a connection that was upgraded."""
        self._writer.write(data)

    async def read_exactly(self, size: int) -> bytes:
        """Return so many bytes of an upgraded connection; raise `EOFError` if it ends before."""
        return await self._reader.readexactly(size)

    def cut(self) -> None:
        """End the connection with RST."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and not self._writer.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self._writer.transport.abort()


async def open_stream(
    port: int, method: str, path: str, headers: Mapping[str, str], body: object = None, *, small: bool = False
) -> Stream:
    """Send a request; raise `OSError` or `TimeoutError`. `small`: a receive buffer as of a poor phone."""
    sock = socket.socket()
    sock.setblocking(False)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=8192 if small else 65_536)
    except BaseException:
        sock.close()
        raise
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in headers.items())]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(payload)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + payload)
    return Stream(reader, writer)


async def ask(
    port: int, method: str, path: str, headers: Mapping[str, str], body: object = None, *, within_s: float = 10.0
) -> Reply:
    """Send a request and return the whole answer; status 0 if none came in time."""
    stream: Stream | None = None
    try:
        async with asyncio.timeout(within_s):
            stream = await open_stream(port, method, path, headers, body)
            await stream.head()
            parts = []
            while data := await stream.read():
                parts.append(data)
            if not stream.clean:
                return Reply(0)
            return Reply(stream.status, stream.headers, b"".join(parts))
    except (OSError, EOFError, TimeoutError, ValueError):
        return Reply(0)
    finally:
        if stream is not None:
            stream.cut()


class Blocks:
    """Cuts an event stream into (id, data) of whole events; comment lines and lone fields give nothing."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        events = []
        for block in blocks:
            ident, lines = "", []
            for line in block.split(b"\n"):
                if line.startswith(b"id: "):
                    ident = line[4:].decode()
                elif line.startswith(b"data: "):
                    lines.append(line[6:].decode())
            if lines:
                events.append((ident, "\n".join(lines)))
        return events
