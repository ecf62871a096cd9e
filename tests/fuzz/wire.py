"""Owns one HTTP exchange as bytes on a socket, with a deadline: also what no client library would send."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

WITHIN_S = 15.0
"""By then an answer has ended, or is a stream that has shown itself alive."""
ENOUGH = 4096
"""Bytes of a stream that show that it works."""

SHORTEST_CLOSE = 4
"""Bytes of a WebSocket's close frame with a code."""

Headers = list[tuple[bytes, bytes]]


class Hang(AssertionError):
    """Raised when a request is neither answered nor refused in time."""


@dataclass
class Answer:
    """What came back. `status` 0: the connection was closed without a word."""

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes
    whole: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0]


def request_bytes(method: bytes, target: bytes, headers: Headers, body: bytes) -> bytes:
    """Return a request that asks for the connection to be closed after it."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % header for header in headers)]
    if body or method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"connection: close", b"", body])


def exchange(port: int, sent: bytes) -> Answer:
    """Send these bytes; return what comes until the end, or until a stream has shown itself alive."""
    until = time.monotonic() + WITHIN_S
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            pass  # refused before all of it was sent; the answer may be there
        while not _enough(got):
            left = until - time.monotonic()
            if left <= 0:
                raise Hang(f"neither an end nor a heartbeat within {WITHIN_S:g} s: {bytes(got[:300])!r}")
            connection.settimeout(left)
            try:
                part = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not part:
                break
            got += part
    return _read(bytes(got))


def _enough(got: bytearray) -> bool:
    if got.startswith(b"HTTP/1.1 100"):
        del got[: got.find(b"\r\n\r\n") + 4]
    head, blank, body = got.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101"):
        return len(body) >= SHORTEST_CLOSE
    return bool(blank) and b"text/event-stream" in head and (len(body) > ENOUGH or b": ping\n" in body)


def _read(whole: bytes) -> Answer:
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Answer(int(words[1]) if len(words) > 1 else 0, headers, body, whole)


def _unchunked(body: bytes) -> bytes:
    out = b""
    while True:
        size, line, rest = body.partition(b"\r\n")
        if not line or not size or int(size, 16) == 0:
            return out
        length = int(size, 16)
        out, body = out + rest[:length], rest[length + 2 :]
