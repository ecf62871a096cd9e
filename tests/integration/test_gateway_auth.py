"""Default deny on every route, strangers that learn nothing, and what protects an open gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest

from gateway.access.principal import Principal
from gateway.app import OPERATIONS
from shared.log.log import Log
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway, raw_exchange
from tests.support.redis import RedisServer
from tests.support.writer import LogWriter

KEYS = "ann-key=acme/ann,bob-key=acme/bob,eve-key=other/ann"
SECRET = "a secret of the tests that is long enough"
ANN, BOB, OTHER_ANN = "ann-key", "bob-key", "eve-key"
WRONG = [
    {},
    {"authorization": "Bearer nonsense"},
    {"authorization": "Basic YW5uLWtleQ=="},
    {"x-api-key": "nonsense"},
    {"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."},
    {"authorization": "Bearer ann-key", "x-api-key": "bob-key"},
]


@pytest.fixture
async def shared(make_gateway: MakeGateway) -> AsyncIterator[LiveGateway]:
    # A reader with a cursor waits for a lease's length before it hears that there is no such message.
    async with make_gateway(api_keys=KEYS, lease_ms=2000) as live:
        yield live


def concrete(path: str) -> str:
    return path.replace("{chat_id}", "c").replace("{message_id}", "m")


OF_ITS_OWN = ("date", "x-request-id")
"""Headers that no two answers share."""


@dataclass(frozen=True)
class Answer:
    """All of an answer that could tell something."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, response: httpx.Response) -> Answer:
        headers = tuple((name, value) for name, value in response.headers.multi_items() if name not in OF_ITS_OWN)
        return cls(response.status_code, headers, response.content)


def family(path: str) -> str:
    """Paths under /v1 refuse in the shape of another API."""
    return "openai" if path.startswith("/v1/") else "native"


async def test_every_route_denies_whoever_is_not_known_and_always_alike(shared: LiveGateway) -> None:
    answers: dict[str, set[Answer]] = {}
    async with shared.client() as client:

        async def ask(method: str, path: str, headers: dict[str, str]) -> None:
            response = await client.request(method, path, headers=headers, json=ASK)
            answers.setdefault(family(path), set()).add(Answer.of(response))

        for operation in OPERATIONS:
            for headers in () if operation.public else WRONG:
                await ask(operation.method, concrete(operation.path), headers)
        for path in ("/nothing", "/static", "/chats", "/healthz/x", "/openapi.json/", "/v1/nothing"):
            await ask("GET", path, {})
        await ask("POST", "/healthz", {})
    assert answers.keys() == {"native", "openai"}
    for same in answers.values():
        assert len(same) == 1
        only = same.pop()
        assert only.status == 401
        assert ("www-authenticate", "Bearer") in only.headers


@pytest.mark.parametrize("target", ["//healthz", "/chats/../healthz", "/%68ealthz", "/healthz%2F", "*", "/healthz;x"])
async def test_no_spelling_of_a_public_path_opens_another(shared: LiveGateway, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    assert (await raw_exchange(shared.url, request)).split(b" ")[1] in (b"401", b"400")


async def test_what_is_public_is_public(shared: LiveGateway) -> None:
    async with shared.client() as client:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
            assert (await client.head(path)).status_code == 200


async def test_a_refusal_asks_nothing_of_redis(
    make_gateway: MakeGateway, start_redis: Callable[..., RedisServer]
) -> None:
    """Shown by a Redis that answers nothing."""
    redis = start_redis()
    async with (
        make_gateway(redis_url=redis.url, api_keys=KEYS, redis_deadline_s=30) as gateway,
        gateway.client() as client,
    ):
        await asyncio.to_thread(redis.pause)
        try:
            async with asyncio.timeout(5):
                for operation in OPERATIONS:
                    if not operation.public:
                        response = await client.request(operation.method, concrete(operation.path), json=ASK)
                        assert response.status_code == 401
        finally:
            await asyncio.to_thread(redis.resume)


PROBES: list[tuple[str, str]] = [
    ("GET", "/chats/{chat}/messages/{message}"),
    ("GET", "/chats/{chat}/messages/{message}/request"),
    ("GET", "/chats/{chat}/messages/{message}/stream"),
    ("GET", "/chats/{chat}/messages/{message}/stream?from=snapshot"),
    ("GET", "/chats/{chat}/messages/{message}/stream?after={cursor}"),
    ("GET", "/chats/{chat}/stream"),
    ("GET", "/chats/{chat}/stream?after={cursor}"),
    ("POST", "/chats/{chat}/messages/{message}/stop"),
    ("DELETE", "/chats/{chat}/messages/{message}"),
    ("GET", "/api/chat/{chat}/stream"),
    ("GET", "/api/chat/run.0.{chat}.{message}/stream?startIndex=0"),
    ("POST", "/api/chat/{chat}/stop"),
]
IDLE = {"/chats/{chat}/stream": 204, "/api/chat/{chat}/stream": 204, "/api/chat/{chat}/stop": 200}
"""What is said of a chat in which nothing is; all else is not found."""


@pytest.mark.parametrize("state", ["queued", "running", "done", "deleted"])
async def test_a_strangers_id_answers_exactly_like_one_that_does_not_exist(
    shared: LiveGateway, log: Log, state: str
) -> None:
    ref = Principal("acme", "ann").ref("chat-1", "msg-1")
    async with shared.client(ANN) as ann, shared.client(BOB) as bob, shared.client(OTHER_ANN) as namesake:
        started = await ann.post("/chats/chat-1/messages", json={**ASK, "message_id": "msg-1"})
        assert started.status_code == 202
        writer = LogWriter(log, ref)
        if state != "queued":
            await writer.claim()
        if state == "done":
            await writer.finish()
        if state == "deleted":
            assert (await ann.delete("/chats/chat-1/messages/msg-1")).status_code == 204
        cursor = started.json()["cursor"]
        # Together: whoever has a cursor is not told at once.
        await asyncio.gather(*(learns_nothing(stranger, cursor) for stranger in (bob, namesake)))
        assert (await log.meta(ref) is None) is False
        if state == "done":  # to its own user they say something
            theirs = [path.format(chat="chat-1", message="msg-1", cursor=cursor) for _, path in PROBES]
            answers = [await ann.get(path) for (method, _), path in zip(PROBES, theirs, strict=True) if method == "GET"]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 204, 200, 200, 200]


async def learns_nothing(stranger: httpx.AsyncClient, cursor: str) -> None:
    """Ask for a message that there is, and for one that there is not; assert that all is answered alike."""
    theirs = {"chat": "chat-1", "message": "msg-1", "cursor": cursor}
    nobodys = {"chat": "chat-0", "message": "msg-0", "cursor": cursor}
    asked = [(method, path.format(**ids)) for method, path in PROBES for ids in (theirs, nobodys)]
    answers = [Answer.of(response) for response in await asyncio.gather(*(stranger.request(*ask) for ask in asked))]
    assert answers[0::2] == answers[1::2]
    for (_, path), answer in zip(PROBES, answers[0::2], strict=True):
        assert answer.status == IDLE.get(path.partition("?")[0], 404), path
    chats = [(await stranger.get(f"/chats/{chat}")).json() for chat in ("chat-1", "chat-0")]
    assert chats[0] == {**chats[1], "chat_id": "chat-1"}
    assert chats[0]["messages"] == []
    assert (await stranger.get("/active")).json() == {"messages": []}


async def test_two_users_may_use_the_same_chat_and_message_ids(shared: LiveGateway) -> None:
    async with shared.client(ANN) as ann, shared.client(BOB) as bob, shared.client(OTHER_ANN) as eve:
        ask: dict[str, Any] = {**ASK, "message_id": "msg-1"}
        for n, client in enumerate((ann, bob, eve)):
            body = {**ask, "metadata": {"n": n}}
            assert (await client.post("/chats/chat-1/messages", json=body)).status_code == 202
            assert (await client.post("/chats/chat-1/messages", json={**ASK})).json()["error"]["code"] == "chat_busy"
        assert (await bob.post("/chats/chat-1/messages/msg-1/stop")).json()["state"] == "aborted"
        assert (await ann.get("/chats/chat-1/messages/msg-1")).json()["status"]["state"] == "queued"
        assert len((await eve.get("/active")).json()["messages"]) == 1


async def test_the_record_names_its_user(shared: LiveGateway, log: Log) -> None:
    async with shared.client(ANN) as ann:
        await ann.post("/chats/c/messages", json={**ASK, "message_id": "m"})
    meta = await log.meta(Principal("acme", "ann").ref("c", "m"))
    assert meta is not None
    assert meta.user == "ann"


@pytest.mark.parametrize("access", [{"api_keys": KEYS}, {"jwt_secret": SECRET}, {}], ids=["keys", "tokens", "open"])
async def test_metrics_may_have_a_token_of_their_own(make_gateway: MakeGateway, access: dict[str, str]) -> None:
    known = jwt.encode({"sub": "ann", "exp": time.time() + 60}, SECRET, "HS256")
    async with make_gateway(**access, metrics_token="mtok") as gateway:
        for credential, status in ((None, 401), (ANN, 401), (known, 401), ("mto", 401), ("mtok", 200)):
            async with gateway.client(credential) as client:
                assert (await client.get("/metrics")).status_code == status
                assert (await client.head("/metrics")).status_code == status
        async with gateway.client("mtok") as client:
            for method, path in (("GET", "/active"), ("POST", "/metrics"), ("GET", "/metrics/")) if access else ():
                assert (await client.request(method, path)).status_code == 401, f"{method} {path}"
        async with gateway.client("mtok") as client, gateway.client() as stranger:
            assert Answer.of(await stranger.get("/metrics")) == Answer.of(
                await stranger.get("/metrics", headers=WRONG[1])
            )
            assert (await client.get("/metrics", headers={"x-api-key": "mtok"})).status_code == 401  # two credentials


async def test_a_metrics_token_counts_without_the_end_of_its_file(make_gateway: MakeGateway) -> None:
    """No client can send that in a header."""
    async with make_gateway(api_keys=KEYS, metrics_token="mtok\n") as gateway, gateway.client("mtok") as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_metrics_without_a_token_of_their_own_are_for_whoever_is_known(shared: LiveGateway) -> None:
    for credential, status in ((None, 401), ("mtok", 401), (ANN, 200)):
        async with shared.client(credential) as client:
            assert (await client.get("/metrics")).status_code == status


# -- without authentication


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1234"}, 200),
        ({"host": "[::1]:80"}, 200),
        ({"host": "LOCALHOST"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "127.0.0.1@evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"authorization": "Bearer sk-anything"}, 200),
    ],
)
async def test_an_open_gateway_answers_only_this_machines_pages(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.get("/active", headers=headers)).status_code == status
    started = await client.post("/chats/c/messages", json=ASK, headers={**headers, "content-type": "text/plain"})
    assert started.status_code == (202 if status == 200 else 403)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1"])
async def test_a_name_pointed_at_this_machine_opens_no_socket(gateway: LiveGateway, host: str) -> None:
    """DNS rebinding: the page is its own origin then, so that `Host` alone gives it away."""
    lines = ("GET /ws HTTP/1.1", f"host: {host}", "connection: upgrade", "upgrade: websocket")
    key = ("sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "", "")
    answer = await raw_exchange(gateway.url, "\r\n".join((*lines, *key)).encode())
    assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400")), answer


async def test_probes_work_under_any_host(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await client.get(path, headers={"host": "10.1.2.3:8000"})).status_code == 200


async def test_trusted_hosts_bind_a_gateway_with_authentication_too(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS, trusted_hosts="api.example.org") as gateway, gateway.client(ANN) as client:
        assert (await client.get("/active", headers={"host": "api.example.org"})).status_code == 200
        assert (await client.get("/active", headers={"host": "other.example.org"})).status_code == 403


@pytest.mark.parametrize("own", [{"api_keys": KEYS}, {"metrics_token": ANN}, {"api_keys": KEYS, "metrics_token": ANN}])
async def test_metrics_with_a_credential_are_scraped_under_any_host(
    make_gateway: MakeGateway, own: dict[str, str]
) -> None:
    """Prometheus asks a pod by its address; a page that points its own name here has no credential to send."""
    async with make_gateway(**own, trusted_hosts="api.example.org") as gateway, gateway.client() as client:
        for headers, status in (({}, 401), ({"authorization": f"Bearer {ANN}"}, 200)):
            answer = await client.get("/metrics", headers={**headers, "host": "10.1.2.3:8000"})
            assert answer.status_code == status
        for method, path in (("GET", "/active"), ("GET", "/metrics/x"), ("POST", "/metrics")):
            answer = await client.request(method, path, headers={"host": "10.1.2.3:8000"})
            assert answer.status_code == 403, f"{method} {path}"


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
async def test_metrics_that_ask_for_nothing_are_for_this_machines_pages(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.get("/metrics", headers=headers)).status_code == 403


# -- other origins


async def test_cors_lets_a_configured_page_send_what_clients_send(make_gateway: MakeGateway) -> None:
    async with (
        make_gateway(api_keys=KEYS, cors_origins="https://app.example.org") as gateway,
        gateway.client() as client,
    ):
        wanted = "authorization, content-type, last-event-id, idempotency-key"
        ask = {"access-control-request-method": "POST", "access-control-request-headers": wanted}
        good = await client.options("/chats/c/messages", headers={**ask, "origin": "https://app.example.org"})
        assert good.status_code == 200
        assert good.headers["access-control-allow-origin"] == "https://app.example.org"
        assert set(wanted.split(", ")) <= set(good.headers["access-control-allow-headers"].lower().split(", "))
        bad = await client.options("/chats/c/messages", headers={**ask, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in bad.headers
        denied = await client.get("/active", headers={"origin": "https://app.example.org"})
        assert denied.status_code == 401
        assert denied.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "x-workflow-run-id" in denied.headers["access-control-expose-headers"]
