"""The HTTP surface itself: bodies of every size and shape, one shape of error, and a document that tells the truth."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import re
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.app import OPERATIONS
from gateway.connection import MOST_AHEAD, GuardedProtocol
from shared.errors import TailraceError
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway, code_of, raw_exchange, running, started, unread
from tests.support.wait import wait_until

START = "/chats/c/messages"
JSON = b'{"messages":[{"role":"user","content":"hi"}]}'


def only_connection(gateway: LiveGateway) -> GuardedProtocol:
    (connection,) = gateway.server.server_state.connections
    assert isinstance(connection, GuardedProtocol)
    return connection


# -- bodies


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "", "garbage"])
async def test_json_is_read_whatever_it_is_called(client: httpx.AsyncClient, kind: str) -> None:
    assert (await client.post(START, content=JSON, headers={"content-type": kind})).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "gzip, gzip"])
async def test_compressed_bodies_are_refused_unread(client: httpx.AsyncClient, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    response = await client.post(START, content=bomb, headers={"content-encoding": encoding})
    assert (response.status_code, code_of(response)) == (415, "unsupported_media_type")


async def test_a_body_is_bounded_with_and_without_a_length(make_gateway: MakeGateway) -> None:
    async with make_gateway(max_body_bytes=2000) as gateway, gateway.client() as client:

        async def chunks() -> AsyncIterator[bytes]:
            yield JSON[:-2]
            for _ in range(1000):
                yield b" " * 1000
            yield JSON[-2:]

        for content in (JSON + b" " * 2000, chunks()):
            response = await client.post(START, content=content)
            assert (response.status_code, code_of(response)) == (413, "request_too_large")
        assert (await client.post(START, content=JSON + b" " * (2000 - len(JSON)))).status_code == 202
        lying = f"POST {START} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {10**30}\r\n\r\n".encode()
        assert (await raw_exchange(gateway.url, lying)).split(b" ")[1] in (b"400", b"413")


async def test_a_body_that_does_not_arrive_is_given_up(make_gateway: MakeGateway) -> None:
    async with make_gateway(body_deadline_s=0.2) as gateway:
        begun = f"POST {START} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{".encode()
        answer = await raw_exchange(gateway.url, begun)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b'{"messages":[]}', b'{"messages":"x"}']
)
async def test_broken_bodies_are_the_callers_fault(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post(START, content=content)
    assert (response.status_code, code_of(response)) == (400, "invalid_request")


async def test_a_client_that_leaves_in_the_middle_of_its_request_hurts_nobody(gateway: LiveGateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {START} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
    async with gateway.client() as client:
        assert (await client.post(START, json=ASK)).status_code == 202


async def test_a_head_that_is_not_completed_is_given_up(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedProtocol, "within_s", 0.2)
    whole = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for begun in (b"", b"G", whole[:-2], whole + whole[:-10]):
        with contextlib.suppress(ConnectionResetError):
            assert (await raw_exchange(gateway.url, begun)).count(b"HTTP/1.1 200") == begun.count(b"\r\n\r\n")


async def test_the_rest_of_a_request_that_was_refused_is_not_waited_for_for_ever(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedProtocol, "within_s", 0.2)
    begun = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{"
    assert (await raw_exchange(gateway.url, begun)).startswith(b"HTTP/1.1 404 ")


async def test_a_head_without_end_is_given_up(gateway: LiveGateway) -> None:
    endless = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 100_000
    with contextlib.suppress(ConnectionError):
        assert await raw_exchange(gateway.url, endless) == b""
    async with gateway.client() as client:
        assert (await client.get("/healthz", headers={"x-large": "y" * 10_000})).status_code == 200


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"x: y\r\n" * 100_000, b"0\r\nx: " + b"y" * 600_000, b"1;" + b"y" * 600_000],
    ids=["trailers", "one trailer", "chunk extension"],
)
async def test_what_comes_with_a_body_has_an_end_too(gateway: LiveGateway, endless: bytes) -> None:
    head = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404 ")
        connection = only_connection(gateway)
        headers = len(connection.headers)
        writer.write(endless)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):  # closed long before the time for the rest of a refused request is over
                await reader.read()
        assert len(connection.headers) == headers
    finally:
        writer.close()


@pytest.mark.parametrize("late", [b"{}", b"\r\n"], ids=["the end of a refused body", "an empty line"])
async def test_a_connection_always_has_a_deadline(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch, late: bytes
) -> None:
    monkeypatch.setattr("gateway.server.KEEP_ALIVE_S", 1)
    async with make_gateway() as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            length = len(late) if late.strip() else 0
            writer.write(b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % length)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404 ")
            connection = only_connection(gateway)
            await wait_until(lambda: connection.cycle.response_complete)
            writer.write(late)
            async with asyncio.timeout(10):
                await reader.read()
        finally:
            writer.close()


async def test_requests_that_are_sent_ahead_without_end_are_given_up(gateway: LiveGateway) -> None:
    """Whoever sends them need not be known, and each takes kilobytes until it is answered."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    most = 0

    async def ask(count: int) -> None:
        writer.write(b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nx" * count)
        await writer.drain()

    try:
        await ask(20)
        for _ in range(20):
            assert (await reader.readuntil(b'not found"}}')).startswith(b"HTTP/1.1 404 ")
        connections = gateway.server.server_state.connections
        connection = only_connection(gateway)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while connection in connections:
                    await ask(1000)
                    await asyncio.sleep(0)  # it is in the same loop
                    most = max(most, len(connection.pipeline))
        assert most <= MOST_AHEAD
    finally:
        writer.close()


async def test_a_connection_that_was_reset_has_no_deadline_any_more(gateway: LiveGateway) -> None:
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        connections = gateway.server.server_state.connections
        await wait_until(lambda: len(connections) == 1)
        connection = only_connection(gateway)
        await wait_until(lambda: connection.timeout_keep_alive_task is not None)
        timer = connection.timeout_keep_alive_task
        assert timer is not None
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await wait_until(lambda: not connections)
    assert timer.cancelled()


@pytest.mark.parametrize("more", ["", "connection: close\r\n"], ids=["kept", "closing"])
async def test_who_does_not_take_an_answer_does_not_keep_it_for_ever(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setattr("gateway.server.KEEP_ALIVE_S", 1)
    monkeypatch.setattr(GuardedProtocol, "within_s", 0.5)
    async with make_gateway() as gateway:
        async with gateway.client() as client:
            large = {"message_id": "m", "messages": [{"role": "user", "content": "x" * 3_900_000}]}
            assert (await client.post(START, json=large)).status_code == 202
        with unread(gateway.url, "/chats/c/messages/m/request", more=more):
            connections = gateway.server.server_state.connections
            await wait_until(lambda: len(connections) == 1)
            await wait_until(lambda: only_connection(gateway).transport.get_write_buffer_size() > 0)
            await wait_until(lambda: not connections)


async def test_answers_of_which_nothing_is_taken_keep_no_others_waiting_for_ever(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no credential to ask for these."""
    monkeypatch.setattr(GuardedProtocol, "within_s", 0.5)
    with unread(gateway.url, "/openapi.json", times=40):
        state = gateway.server.server_state
        await wait_until(lambda: len(state.connections) == 1)
        await wait_until(lambda: only_connection(gateway).flow.write_paused)
        await wait_until(lambda: not state.connections and not state.tasks)


# -- errors


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/chats", 404, "not_found"),
        ("GET", "/chats/c/", 404, "not_found"),
        ("GET", "/chats//messages", 404, "not_found"),
        ("PUT", START, 405, "method_not_allowed"),
        ("GET", "/chats/c/messages", 405, "method_not_allowed"),
        ("PATCH", "/chats/c/messages/m", 405, "method_not_allowed"),
        ("HEAD", "/chats/c/messages/m/stream", 405, ""),
    ],
)
async def test_unknown_paths_and_methods_answer_in_the_same_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, name: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    if name:
        assert code_of(response) == name
    assert ("allow" in response.headers) == (status == 405)


async def test_allow_names_every_method_of_the_path(client: httpx.AsyncClient) -> None:
    assert (await client.put("/chats/c/messages/m")).headers["allow"] == "DELETE, GET, HEAD"


async def test_answers_name_no_server_and_are_not_to_be_stored(client: httpx.AsyncClient) -> None:
    await started(client)
    for path in ("/chats/c", "/chats/c/messages/m", "/active", "/nothing"):
        response = await client.get(path)
        assert "server" not in response.headers
        assert response.headers["cache-control"] == "no-store"


# -- the document


def resolve(document: dict[str, Any], reference: str) -> Any:
    value: Any = document
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    return []


async def test_the_document_holds_every_operation_and_every_reference_leads_somewhere(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    # OpenAPI knows no parameter that spans segments, as routes do.
    assert described == {(op.method, re.sub(r":path}", "}", op.path)) for op in OPERATIONS}
    for reference in references(document):
        resolve(document, reference)
    names = [method["operationId"] for methods in document["paths"].values() for method in methods.values()]
    assert len(names) == len(set(names))


async def test_no_schema_is_named_after_a_module(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert not [name for name in schemas if "." in name]


async def test_only_what_is_public_is_described_without_security(
    client: httpx.AsyncClient, make_gateway: MakeGateway
) -> None:
    assert (await client.get("/openapi.json")).json()["security"] == []
    async with make_gateway(api_keys="k=t/u") as gateway, gateway.client() as stranger:
        document = (await stranger.get("/openapi.json")).json()
    assert document["security"] == [{"bearer": []}, {"key": []}]
    operations = [(path, op) for path, methods in document["paths"].items() for op in methods.values()]
    open_paths = {path for path, op in operations if op.get("security") == []}
    assert open_paths == {op.path for op in OPERATIONS if op.public}


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_websocket_on_a_connection_that_served_before_has_no_keep_alive_deadline(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy takes one from its pool for it."""
    monkeypatch.setattr("gateway.server.KEEP_ALIVE_S", 0.3)
    async with make_gateway(heartbeat_s=0.5) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            async with asyncio.timeout(10):
                await reader.readuntil(b"}")
                writer.write(UPGRADE)
                await reader.readuntil(b'"ready"')
                await reader.readuntil(b'"ping"')
                await reader.readuntil(b'"ping"')
        finally:
            writer.close()


async def _served(gateway: LiveGateway, request: bytes, until: bytes) -> weakref.ref[GuardedProtocol]:
    """Have a request answered on a connection of its own, and return what the server had for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    try:
        await wait_until(lambda: len(gateway.server.server_state.connections) == 1)
        kept = weakref.ref(only_connection(gateway))
        writer.write(request)
        async with asyncio.timeout(10):
            await reader.readuntil(until)
    finally:
        writer.close()
    return kept


@pytest.mark.parametrize(
    ("request_", "until"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", b"}"),
        (b"GET /chats/c/messages/m/stream HTTP/1.1\r\nhost: localhost\r\n\r\n", b"attempt"),
        (UPGRADE, b'"ready"'),
    ],
    ids=["plain", "stream", "websocket"],
)
async def test_a_connection_that_is_over_does_not_wait_for_the_garbage_collector(
    gateway: LiveGateway, client: httpx.AsyncClient, log: Log, request_: bytes, until: bytes
) -> None:
    """Which comes rarely, and hardly ever to what has been there for long, as streams are."""
    await running(client, log)
    await client.aclose()
    await wait_until(lambda: not gateway.server.server_state.connections)
    gc.disable()
    try:
        kept = await _served(gateway, request_, until)
        await wait_until(lambda: kept() is None, 3, "the connection is kept")
    finally:
        gc.enable()


def errors() -> list[TailraceError]:
    """Return those of ours that this process holds, those of other tests among them."""
    return [kept for kept in gc.get_objects() if isinstance(kept, TailraceError)]


async def test_a_request_that_was_refused_keeps_nothing_of_what_it_brought(make_gateway: MakeGateway) -> None:
    """An error that its own frame knows keeps all that is in the frames below until the garbage collector comes."""

    async def too_much() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    reference = {"model": "scripted", "input": [{"type": "item_reference", "id": "msg_0"}]}
    async with make_gateway(max_body_bytes=1_000_000) as gateway, gateway.client() as client:
        gc.collect()
        gc.disable()
        before = errors()
        try:
            assert (await client.post(START, content=too_much())).status_code == 413
            assert (await client.post("/v1/responses", json=reference)).status_code == 404
            assert (await client.delete("/chats/c/messages/none")).status_code == 404
            await asyncio.sleep(0)  # the turn of the loop in which the last of it came
            assert [kept for kept in errors() if not any(kept is other for other in before)] == []
        finally:
            gc.enable()
