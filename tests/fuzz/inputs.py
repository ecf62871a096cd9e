"""Owns what is said to a gateway: mostly nearly right, because what is wholly wrong is refused at the door."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_from_bytes

from hypothesis import strategies as st

from tests.fuzz.rig import ALICE, BOB, CHAT, DONE, KEYS, LIVE, STRANGER, Rig

NASTY = (
    *("", ".", "..", "...", "/", "//", "%", "%2", "%zz", "%00", "%2F", "%2e%2e", "%C0%AF", "%ED%A0%80", "%FF"),
    *("{}", "a{b}c", ":", "*", "a b", "a\u0000b", "\u2028", "\u202e", "\ud7ff", "\U0001f600", "é", "e\u0301", "%25"),
    *("x" * 256, "x" * 257, "\U0001f600" * 64, "\U0001f600" * 65, "null", "-1", "0", "true", "[]", "resp_", "msg_"),
)
NUMBERS = (
    "0",
    "1",
    "-1",
    "007",
    "1e3",
    "٣",
    "9" * 15,
    "9" * 16,
    "9" * 400,
    "1.5",
    "NaN",
    "inf",
    " 1",
    "0x1",
    "-0",
    "+1",
)
CURSORS = (
    *("5", "-1", "$", "0-0", "0-1", "0000000000000000-1", "9999999999999999-999999999", "9999999999999999-1"),
    *(
        "1-1",
        "١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦-1",
        "1700000000000000-0",
        "1700000000000000-1000000000",
        "a-b",
        "-",
        "1700000000000000-1 ",
    ),
)
SEGMENTS = (
    "stream",
    "messages",
    "request",
    "stop",
    "cancel",
    "input_items",
    "chats",
    "v1",
    "api",
    "chat",
    "feed",
    "ws",
)


def text_or(*known: str) -> st.SearchStrategy[str]:
    """Any text, but often one of these or what is often mishandled."""
    return st.one_of(st.sampled_from(known + NASTY), st.text(max_size=300))


def segments(rig: Rig) -> st.SearchStrategy[bytes]:
    """A path's segment as it is sent: an id, escaped or half escaped or not at all."""
    ids = text_or(CHAT, DONE, LIVE, *rig.ids.values())
    escaped = ids.map(lambda text: quote(text, safe="").encode())
    # No client would send these; a space or a line's end would end the path, and is said elsewhere.
    raw = st.binary(max_size=60).map(lambda data: bytes(byte for byte in data if byte > 32 and byte != 127))
    nasty = st.sampled_from(NASTY).map(lambda text: text.encode().replace(b" ", b"+").replace(b"\x00", b"%00"))
    escapes = st.binary(min_size=1, max_size=20).map(lambda data: quote_from_bytes(data).encode())
    return st.one_of(escaped, escaped, escapes, nasty, raw)


def paths(rig: Rig) -> st.SearchStrategy[bytes]:
    """A path: one of ours with ids in it, or any."""
    one = segments(rig)
    ours = st.sampled_from(
        (
            *("/chats/{}", "/chats/{}/stream", "/chats/{}/messages", "/chats/{}/messages/{}", "/active", "/feed"),
            *("/chats/{}/messages/{}/stream", "/chats/{}/messages/{}/request", "/chats/{}/messages/{}/stop"),
            *("/api/chat/{}/stream", "/api/chat/{}/stop", "/api/chat", "/tickets", "/metrics", "/static/{}", "/ws"),
            *("/v1/responses/{}", "/v1/responses/{}/cancel", "/v1/responses/{}/input_items", "/v1/models/{}"),
            *("/v1/models", "/v1/chat/completions", "/v1/responses", "/v1/{}", "/healthz", "/openapi.json", "/{}"),
        )
    )
    filled = st.builds(lambda form, a, b: _fill(form.encode(), a, b), ours, one, one)
    known = st.sampled_from((CHAT, DONE, LIVE, *rig.ids.values())).map(str.encode)
    alices = st.builds(lambda form, a, b: _fill(form.encode(), a, b), ours, known, known)
    any_path = st.lists(st.one_of(one, st.sampled_from([s.encode() for s in SEGMENTS])), max_size=6).map(
        lambda parts: b"/" + b"/".join(parts)
    )
    return st.one_of(filled, alices, any_path)


def _fill(form: bytes, *parts: bytes) -> bytes:
    for part in parts:
        form = form.replace(b"{}", part, 1)
    return form


def queries(rig: Rig) -> st.SearchStrategy[bytes]:
    """A query: our parameters with nearly right values, repeated, or bytes."""
    names = ("after", "from", "startIndex", "starting_after", "stream", "limit", "order", "reset", "ticket")
    values = text_or(*NUMBERS, *CURSORS, *rig.ids.values(), "true", "snapshot", "start", "step", "asc", "desc")
    pair = st.builds(lambda name, value: f"{name}={quote(value, safe='')}".encode(), st.sampled_from(names), values)
    raw = st.binary(max_size=40).map(lambda data: bytes(byte for byte in data if byte > 32 and byte != 127))
    return st.lists(st.one_of(pair, pair, pair, raw), max_size=3).map(b"&".join)


def header_values(*known: str) -> st.SearchStrategy[bytes]:
    """A header's value that a parser lets through: any byte but line ends and NUL."""
    raw = st.binary(max_size=80).map(lambda data: data.translate(None, b"\r\n\x00"))
    huge = st.integers(200, 10_000).map(lambda size: b"h" * size)
    return st.one_of(st.sampled_from(known).map(str.encode), st.sampled_from(known).map(str.encode), raw, huge)


def headers(rig: Rig) -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    """Headers that we read, with all sorts of values."""
    cursors = header_values(*CURSORS, rig.ids["cursor"], f"{DONE}:3", f"{LIVE}:1", "0")
    kinds = {
        b"last-event-id": cursors,
        b"idempotency-key": header_values("k", "", "x" * 256, "x" * 257, DONE),
        b"content-type": header_values("application/json", "text/plain", "multipart/form-data", "a/b;charset=\ud7ff"),
        b"content-encoding": header_values("identity", "gzip", "br", ""),
        b"accept": header_values("text/event-stream", "*/*", "application/json", ""),
        b"x-stainless-read-timeout": header_values(*NUMBERS[:8], "0.5", "1"),
        b"x-stainless-timeout": header_values("nan", "-inf", "1e-300", "2"),
        b"origin": header_values("http://evil.example", "null", "http://[", "http://127.0.0.1"),
        b"if-none-match": header_values("*", '"x"'),
        b"expect": header_values("100-continue", "x"),
        b"cookie": header_values("a=b", ""),
    }
    one = st.sampled_from(sorted(kinds)).flatmap(lambda name: st.tuples(st.just(name), kinds[name]))
    return st.lists(one, max_size=4)


keys = st.sampled_from((ALICE, BOB, BOB, *KEYS))
others = st.sampled_from((BOB, BOB, BOB, STRANGER, None))

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**40, -(10**400), 1e308, -0.0, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
    st.sampled_from(NASTY + CURSORS),
)
anything: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)
