"""Owns cutting a byte stream into the data of its server-sent events, however the bytes arrive. No I/O."""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"
"""As numbers: looking for bytes in bytes, Python 3.11 raises an error first and throws it away, six times the cost."""


class EventTooLong(Exception):
    """Raised when one event exceeds `MAX_EVENT_BYTES`: nothing that long is a token."""


class SseSplitter:
    """Feed it bytes, get the `data` of each complete event. Comments, ids, names and empty events are dropped.

    Lines end in LF, CRLF or CR; a character may be cut anywhere, since nothing is decoded before its line is whole.
    A body that is a JSON object is no stream, though one was asked for: it is all one event, which comes with `close`.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._at_start = True
        self._after_cr = False
        self._no_stream = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes; raise `EventTooLong`."""
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.count(b"\n") == 2
            and _CR not in chunk
            and not (self._pieces or self._data or self._after_cr or len(chunk) > MAX_EVENT_BYTES)
        ):
            self._at_start = False
            return [chunk[6:-2]]  # one event, whole: how nearly all tokens come
        if self._at_start and not self._pieces:
            self._no_stream = chunk.startswith(b"{")
        if self._no_stream:
            self._keep(chunk)
            return []
        if self._after_cr:
            self._after_cr = False
            if chunk.startswith(b"\n"):  # the other half of a CRLF
                chunk = chunk[1:]
        if _CR in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if _LF not in chunk:
            # Joined only when the line is whole: a megabyte that comes byte by byte must not be copied a million times.
            self._keep(chunk)
            return []
        head, *lines = chunk.split(b"\n")
        rest = lines.pop()
        out: list[bytes] = []
        self._line(b"".join((*self._pieces, head)), out)
        self._pieces.clear()
        self._size = 0
        for line in lines:
            self._line(line, out)
        self._keep(rest)
        return out

    def close(self) -> list[bytes]:
        """Return the data of a last event whose blank line never came: some servers leave it out."""
        out: list[bytes] = []
        if self._no_stream:
            return [b"".join(self._pieces)]
        self._line(b"".join(self._pieces), out)
        self._line(b"", out)
        self._pieces.clear()
        return out

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._check()

    def _line(self, line: bytes, out: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                out.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_size = 0
        elif line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._data.append(value)
            self._data_size += len(value)
            self._check()

    def _check(self) -> None:
        if self._size + self._data_size > MAX_EVENT_BYTES:
            raise EventTooLong
