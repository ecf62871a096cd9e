"""Fuzzes paths, queries, headers, credentials and bodies, over raw sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import inputs
from tests.fuzz.effort import examples
from tests.fuzz.properties import check, seen
from tests.fuzz.rig import ALICE, BOB, CHAT, DONE, LIVE, Rig
from tests.fuzz.wire import Answer, Headers, exchange, request_bytes

METHODS = (b"GET", b"GET", b"GET", b"POST", b"DELETE", b"HEAD", b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"FOO")


def _ask(
    rig: Rig, key: str | None, method: bytes, target: bytes, headers: Headers | None = None, body: bytes = b""
) -> Answer:
    credential = [] if key is None else [(b"authorization", b"Bearer " + key.encode())]
    host = (b"host", b"127.0.0.1:%d" % rig.port)
    answer = exchange(rig.port, request_bytes(method, target, [host, *credential, *(headers or [])], body))
    if method != b"HEAD":
        check(answer, target, key)
    assert answer.status, f"no answer to {method!r} {target!r} {headers!r}"
    return answer


def test_paths_and_queries(rig: Rig) -> None:
    @examples(130)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        key, method = data.draw(inputs.keys), data.draw(st.sampled_from(METHODS))
        path, query = data.draw(inputs.paths(rig)), data.draw(inputs.queries(rig))
        if (key, method) == (ALICE, b"DELETE") or (method == b"POST" and key == ALICE):
            key = BOB  # her things must last
        _ask(rig, key, method, path + (b"?" + query if query else b""), body=b"" if method == b"GET" else b"{}")

    run()


def test_positions_in_streams(rig: Rig) -> None:
    targets = [
        f"/chats/{CHAT}/messages/{DONE}/stream",
        f"/chats/{CHAT}/messages/{LIVE}/stream",
        f"/chats/{CHAT}/stream",
        "/feed",
        f"/api/chat/{CHAT}/stream",
        f"/v1/responses/{rig.ids['response']}",
        f"/v1/responses/{rig.ids['response']}/input_items",
    ]

    @examples(80)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        key = data.draw(st.sampled_from((ALICE, ALICE, BOB)))
        query = data.draw(inputs.queries(rig))
        if data.draw(st.booleans()):
            query += b"&stream=true"
        target = data.draw(st.sampled_from(targets)).encode() + (b"?" + query)
        _ask(rig, key, b"GET", target, data.draw(inputs.headers(rig)))

    run()


def test_headers_and_credentials(rig: Rig) -> None:
    credential = st.one_of(
        inputs.header_values(
            f"Bearer {ALICE}x", "Bearer", "Bearer  ", "Basic YTpi", f"bearer {BOB}", "Bearer e30.e30."
        ),
        st.binary(max_size=40).map(lambda raw: b"Bearer " + raw.translate(None, b"\r\n\x00")),
    )

    @examples(70)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        given_headers = data.draw(inputs.headers(rig))
        names = st.sampled_from((b"authorization", b"x-api-key"))
        given_headers += data.draw(st.lists(st.tuples(names, credential), max_size=2))
        target = data.draw(st.sampled_from((b"/active", b"/feed", b"/v1/models", b"/tickets", b"/v1/responses")))
        method = data.draw(st.sampled_from((b"GET", b"POST")))
        _ask(rig, None, method, target, given_headers, b"" if method == b"GET" else b"{}")

    run()


def test_bytes_that_are_no_request(rig: Rig) -> None:
    lines = st.sampled_from((b"\r\n", b"\n", b"\r", b"\r\n ", b"\x00", b"\r\n\r\n"))

    @examples(60)
    @given(st.binary(max_size=40), lines, st.binary(max_size=40), inputs.paths(rig), st.booleans())
    def run(before: bytes, line: bytes, after: bytes, path: bytes, head: bool) -> None:
        start = b"GET " + path + (before if head else b"") + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-a: "
        answer = exchange(rig.port, start + before + line + after + b"\r\n\r\n")
        if answer.status:
            check(answer, path, None)

    run()


BODIES: dict[bytes, dict[str, Any]] = {
    b"/chats/fuzz/messages": {"messages": [{"role": "user", "content": "x"}], "params": {"temperature": 1}},
    b"/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "stream": True, "n": 1},
    b"/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "stream": True},
    b"/api/chat": {"id": "f", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}]},
    b"/api/chat/f/stop": {"activeStreamId": "x"},
    b"/tickets": {"use": "stream", "chat_id": CHAT, "message_id": DONE},
}
MORE_FIELDS = (
    *("model", "message_id", "policy", "metadata", "params", "tools", "tool_choice", "stream_options", "background"),
    *(
        "previous_response_id",
        "instructions",
        "store",
        "message",
        "messageId",
        "trigger",
        "system",
        "text",
        "reasoning",
    ),
    *("input", "include", "max_output_tokens", "temperature", "stop", "logit_bias", "response_format", "api_key"),
)


def _mutate(draw: Any, body: Any, values: st.SearchStrategy[Any]) -> Any:
    """Return the body with one place of it replaced, at any depth."""
    if isinstance(body, dict) and body and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(body)))
        return {**body, name: _mutate(draw, body[name], values)}
    if isinstance(body, list) and body and draw(st.integers(0, 3)):
        return [_mutate(draw, body[0], values), *body[1:]]
    return draw(values)


def test_json_bodies(rig: Rig) -> None:
    values = st.one_of(
        inputs.anything,
        st.sampled_from([rig.ids["response"], f"msg_{rig.ids['response'][5:]}_0", rig.ids["completion"], ALICE]),
        st.sampled_from(
            [{"type": "item_reference", "id": f"msg_{rig.ids['response'][5:]}_0"}, {"type": []}, {"role": 1}]
        ),
    )

    @examples(170)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(sorted(BODIES)))
        body: Any = BODIES[target]
        for _ in range(data.draw(st.integers(0, 2))):
            body = _mutate(data.draw, body, values)
        if isinstance(body, dict) and data.draw(st.booleans()):
            body = {**body, data.draw(st.sampled_from(MORE_FIELDS)): data.draw(values)}
        # ascii escapes can say lone surrogates, and Python also writes NaN
        raw = json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
        key = data.draw(inputs.others)
        _ask(rig, key, b"POST", target, data.draw(inputs.headers(rig)) if data.draw(st.booleans()) else [], raw)

    run()


def test_bodies_that_are_hardly_json(rig: Rig) -> None:
    deep = st.integers(1, 20_000).map(lambda n: b"[" * n + b"]" * n)
    objects = st.integers(1, 5_000).map(lambda n: b'{"a":' * n + b"1" + b"}" * n)
    numbers = st.sampled_from(
        (b"1e999", b"-1e999", b"9" * 5000, b"NaN", b"Infinity", b"0x1", b"1" + b"0" * 400, b".5", b"01")
    )
    texts = st.sampled_from(
        (b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\u0000"', b'"\x00"', b'"\\x"')
    )
    one = st.one_of(deep, objects, numbers, texts, st.binary(max_size=20))
    forms = st.sampled_from(
        (
            b"%b",
            b'{"messages":%b}',
            b'{"input":%b}',
            b'{"messages":[{"role":"user","content":%b}]}',
            b'{"messages":[{"role":"user","content":"x"}],"temperature":%b}',
            b'{"messages":[{"role":"user","content":"x"}],"params":{"seed":%b}}',
            b'{"messages":[{"role":"user","content":"x"}],"metadata":{"seed":%b},"metadata":{"seed":%b}}',
            b'{"input":"x","seed":%b}',
            b'{"id":%b,"messages":[{"role":"user","parts":[{"type":"text","text":"x"}]}]}',
            b'{"use":"feed","use":%b}',
            b"\xef\xbb\xbf%b",
        )
    )

    @examples(110)
    @given(st.sampled_from(sorted(BODIES)), forms, one, inputs.others)
    def run(target: bytes, form: bytes, value: bytes, key: str | None) -> None:
        _ask(rig, key, b"POST", target, [], form.replace(b"%b", value))

    run()


REACHED = (200, 202, 204, 400, 401, 404, 405, 415)


def test_the_gateway_was_reached(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    before = {item.name for item in items[: items.index(request.node)] if item.path == request.path}
    if not {name for name in globals() if name.startswith("test_")} - {request.node.name} <= before:
        pytest.skip("the tests above were not all to run before")
    missing = [status for status in REACHED if not seen[status]]
    assert not missing, f"never answered: {missing}; {seen}"
