"""Tickets: good on every gateway, for one thing, for a while; and for nothing else."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import httpx
import jwt
import pytest

from gateway.access.tickets import SECRET_KEY
from shared.link import Link
from tests.integration.conftest import MakeGateway
from tests.support.gateway import ASK, LiveGateway
from tests.support.sockets import open_socket
from tests.support.wait import wait_until

KEYS = "a=acme/ann,b=acme/bob"
CHAT = "a/b c\u00e9"
PATH = f"/chats/{quote(CHAT, safe='')}/messages"
STREAM = {"use": "stream", "chat_id": CHAT, "message_id": "m"}


async def begun(gateway: LiveGateway, key: str = "a", message: str = "m") -> None:
    """Start and stop a message, so that its stream has an end."""
    async with gateway.client(key) as client:
        assert (await client.post(PATH, json={**ASK, "message_id": message})).status_code == 202
        assert (await client.post(f"{PATH}/{message}/stop")).status_code == 200


async def ticket(gateway: LiveGateway, body: dict[str, str] | None = None, key: str = "a") -> str:
    async with gateway.client(key) as client:
        response = await client.post("/tickets", json=STREAM if body is None else body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["url"].endswith(f"?ticket={answer['ticket']}")
        return str(answer["ticket"])


async def status(gateway: LiveGateway, path: str, ticket: str, method: str = "GET") -> int:
    async with gateway.client() as client:
        return (await client.request(method, path, params={"ticket": ticket})).status_code


async def test_a_ticket_opens_its_stream_on_every_gateway_and_as_often_as_needed(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS) as one, make_gateway(api_keys=KEYS) as two:
        await begun(one)
        paper = await ticket(one)
        for gateway in (one, two, two, one):
            async with gateway.client() as client:
                response = await client.get(f"{PATH}/m/stream", params={"ticket": paper})
                assert response.status_code == 200
                assert '"type":"end"' in response.text


async def test_a_ticket_opens_nothing_else(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS) as gateway:
        await begun(gateway)
        await begun(gateway, message="n")
        paper = await ticket(gateway)
        others = [f"{PATH}/n/stream", f"{PATH}/m", f"{PATH}/m/request", PATH.removesuffix("/messages"), "/active"]
        for path in (*others, "/feed", f"{PATH}/m/stream/", "/chats/a/b%20c%C3%A9/messages/m/stream"):
            assert await status(gateway, path, paper) == 401, path
        for method, path in (("POST", f"{PATH}/m/stop"), ("DELETE", f"{PATH}/m"), ("POST", "/tickets")):
            assert await status(gateway, path, paper, method) == 401, path
        async with open_socket(gateway.url, path=f"/ws?ticket={paper}") as socket:
            assert await socket.closed() == (4401, "not_authenticated")


async def test_tickets_for_the_feed_and_the_socket(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS) as gateway:
        feed, socket_ticket = await ticket(gateway, {"use": "feed"}), await ticket(gateway, {"use": "socket"})
        async with gateway.client() as client:
            async with client.stream("GET", "/feed", params={"ticket": feed}) as response:
                assert response.status_code == 200
        async with open_socket(gateway.url, path=f"/ws?ticket={socket_ticket}") as socket:
            await socket.hear_kind("ready")
        assert await status(gateway, "/feed", socket_ticket) == 401
        async with open_socket(gateway.url, path=f"/ws?ticket={feed}") as socket:
            assert await socket.closed() == (4401, "not_authenticated")


async def test_a_ticket_is_good_for_a_while(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS, ticket_s=1) as gateway:
        await begun(gateway)
        paper = await ticket(gateway)

        async def refused() -> bool:
            return await status(gateway, f"{PATH}/m/stream", paper) == 401

        await wait_until(refused)


async def test_a_ticket_does_not_outlive_the_credential_it_was_given_for(make_gateway: MakeGateway) -> None:
    secret = "a-secret-for-tests-of-32-bytes-or-more"
    expires = int(time.time()) + 30
    token = jwt.encode({"sub": "ann", "tenant": "acme", "exp": expires}, secret, "HS256")
    async with make_gateway(jwt_secret=secret) as gateway, gateway.client(token) as client:
        answer = (await client.post("/tickets", json={"use": "feed"})).json()
        assert answer["expires_at"] == expires


async def test_no_forgery_is_taken(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS) as gateway:
        await begun(gateway)
        paper = await ticket(gateway)
        body, _, signature = paper.partition(".")
        raw = base64.urlsafe_b64decode(body + "==")
        of_bob = base64.urlsafe_b64encode(raw.replace(b'"ann"', b'"bob"')).decode().rstrip("=")
        forged = [f"{of_bob}.{signature}", f"{body}.", body, f".{signature}", "", ".", "x" * 5000, "\u00e9.\u00e9"]
        forged += [f"{body}.{signature[:at]}{'B' if signature[at] != 'B' else 'C'}{signature[at + 1 :]}" for at in
                   range(0, len(signature) - 1, 7)]  # fmt: skip
        for text in forged:
            assert await status(gateway, f"{PATH}/m/stream", text) == 401, text
        async with gateway.client() as client:
            twice = await client.get(f"{PATH}/m/stream?ticket={paper}&ticket={paper}")
            assert twice.status_code == 401
        assert await status(gateway, f"{PATH}/m/stream", paper) == 200


async def test_a_configured_secret_is_what_counts(make_gateway: MakeGateway, link: Link) -> None:
    mine, other = ("one-secret-of-thirty-two-bytes-or-more", "two-secret-of-thirty-two-bytes-or-more")
    async with (
        make_gateway(api_keys=KEYS, ticket_secret=mine) as one,
        make_gateway(api_keys=KEYS, ticket_secret=mine) as same,
        make_gateway(api_keys=KEYS, ticket_secret=other) as another,
    ):
        await begun(one)
        paper = await ticket(one)
        assert await link.call("EXISTS", SECRET_KEY) == 0
        assert await status(same, f"{PATH}/m/stream", paper) == 200
        assert await status(another, f"{PATH}/m/stream", paper) == 401


async def test_a_short_secret_is_refused_at_boot(make_gateway: MakeGateway) -> None:
    with pytest.raises(ValueError, match="TAILRACE_TICKET_SECRET"):
        async with make_gateway(ticket_secret="short"):
            pass


async def test_gateways_agree_again_after_redis_lost_their_secret(make_gateway: MakeGateway, link: Link) -> None:
    async with make_gateway(api_keys=KEYS) as one:
        await begun(one)
        old = await ticket(one)
        await link.call("DEL", SECRET_KEY)
        async with make_gateway(api_keys=KEYS) as two:
            paper = await ticket(two)
            assert await status(two, f"{PATH}/m/stream", old) == 401

            async def agreed() -> bool:
                return await status(one, f"{PATH}/m/stream", paper) == 200

            await wait_until(agreed)


async def test_nobody_gets_a_ticket_for_what_is_not_theirs(make_gateway: MakeGateway) -> None:
    async with make_gateway(api_keys=KEYS) as gateway:
        await begun(gateway)
        async with gateway.client("b") as bob, gateway.client() as nobody:
            theirs = await bob.post("/tickets", json=STREAM)
            none = await bob.post("/tickets", json={**STREAM, "message_id": "none"})
            assert (theirs.status_code, none.status_code) == (404, 404)
            assert theirs.json() == none.json()
            assert (await nobody.post("/tickets", json={"use": "feed"})).status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"use": "all"}, {"use": "stream"}, {"use": "feed", "chat_id": "c"}, {**STREAM, "more": 1}]
)
async def test_a_request_for_a_ticket_is_checked(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    assert (await client.post("/tickets", json=body)).status_code == 400
