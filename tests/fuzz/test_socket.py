"""Fuzzes what a client may say over a WebSocket: frames of ours with wrong values, and frames of no kind at all."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Data

from gateway.protocols.websocket import WHO_ARE_YOU
from tests.fuzz import inputs
from tests.fuzz.effort import examples
from tests.fuzz.rig import ALICE, BOB, CANARY, CHAT, DONE, LIVE, Rig
from tests.fuzz.wire import WITHIN_S, Hang, exchange

CLOSES = frozenset((1000, 1002, 1003, 1007, 1008, 1009, 1012, 1013, 4400, 4401))
"""1011, an error of ours, is not among them."""
KINDS = ("subscribe", "resume", "feed", "unsubscribe", "stop", "ping", "pong", "open", "", "Subscribe")

ids = inputs.text_or(CHAT, DONE, LIVE)
_sane = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "sub": inputs.text_or("s", "t"),
        "chat_id": ids,
        "message_id": ids,
        "after": inputs.text_or(*inputs.CURSORS),
        "snapshot": st.booleans(),
    },
)
_odd = st.dictionaries(st.sampled_from(("type", "sub", "chat_id", "message_id", "after", "x")), inputs.anything)
_json = st.one_of(_sane, _sane, _odd, inputs.anything).map(json.dumps)
_text = st.one_of(
    _json,
    _json,
    st.text(max_size=60),
    st.integers(1, 30_000).map(lambda depth: "[" * depth),
    st.sampled_from(("x" * 65_536, "x" * 65_537, "x" * 200_000, '{"type":"ping","type":"stop"}', "")),
)
frames: st.SearchStrategy[Data | list[str]] = st.one_of(
    _text, _text, st.binary(max_size=60), st.lists(st.text(max_size=20), min_size=2, max_size=4)
)


def _converse(rig: Rig, key: str, said: list[Data | list[str]]) -> int | None:
    """Say it all, then ask for a sign of life; return the code of the close, None if the socket stands."""
    heard = ""
    headers = {"authorization": f"Bearer {key}"}
    try:
        with connect(f"ws://127.0.0.1:{rig.port}/ws", additional_headers=headers, compression=None) as socket:
            try:
                for frame in said:
                    socket.send(frame)  # a list goes as fragments
                socket.send('{"type":"ping"}')
                heard = _until_pong(socket)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 1000
    finally:
        assert key == ALICE or CANARY not in heard, heard[:500]
    return None


def _until_pong(socket: ClientConnection) -> str:
    heard: list[str] = []
    end = time.monotonic() + WITHIN_S
    while not heard or json.loads(heard[-1])["type"] != "pong":
        try:
            heard.append(str(socket.recv(timeout=end - time.monotonic())))
        except TimeoutError:
            raise Hang(f"no answer; heard {heard[-5:]}") from None
        frame = json.loads(heard[-1])
        if frame["type"] == "error":
            assert set(frame) - {"sub"} == {"type", "code", "message", "status", "retry"}, frame
            assert frame["status"] < 500 or frame["status"] == 503, frame
    return "".join(heard)


def test_frames(rig: Rig) -> None:
    @examples(90)
    @given(st.lists(frames, min_size=1, max_size=6))
    def run(said: list[Data | list[str]]) -> None:
        code = _converse(rig, BOB, said)
        assert code is None or code in CLOSES, code

    run()


def test_a_stranger_is_not_let_in(rig: Rig) -> None:
    offers = inputs.text_or("tailrace.v1", "bearer.", "bearer.eA", f"bearer.{BOB}")

    @examples(25)
    @given(st.lists(offers, max_size=2), st.text(max_size=99))
    def run(protocols: list[str], ticket: str) -> None:
        offered = ", ".join(protocols).encode().translate(None, b"\r\n\x00")
        lines = (
            b"GET /ws?ticket=%b HTTP/1.1" % quote(ticket).encode(),
            *(b"host: x", b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
            *(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"sec-websocket-protocol: " + offered, b"", b""),
        )
        answer = exchange(rig.port, b"\r\n".join(lines))
        if answer.status == 101:
            # It opens in order to be closed with a code, since browsers tell no page why a handshake failed.
            assert answer.body[:1] == b"\x88", answer
            assert int.from_bytes(answer.body[2:4]) == WHO_ARE_YOU, answer
        else:
            assert answer.status in (400, 403), answer

    run()
