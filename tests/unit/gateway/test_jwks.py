"""Published keys: fetched over real HTTP, tied to their algorithm, and not fetched more often than they should be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.access.jwks import FRESH_S, PAUSE_S, STALE_S, Jwks
from gateway.access.tokens import TokenVerifier
from gateway.settings import GatewaySettings
from shared.errors import Unavailable

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())


def public(key: Any, key_id: str, **more: Any) -> dict[str, Any]:
    algorithms = jwt.algorithms
    kind = algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, **more}


class Issuer:
    """An HTTP server that publishes keys."""

    def __init__(self) -> None:
        self.body = b""
        self.status = "200 OK"
        self.fetches = 0
        self.url = ""
        self.now = 1000.0

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\nlocation: {self.url}\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode() + self.body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def jwks(self) -> Jwks:
        return Jwks(self.url, clock=lambda: self.now)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    issuer.publish(public(RSA_KEY, "r1"), public(EC_KEY, "e1"))
    yield issuer
    server.close()


def verifier(jwks: Jwks) -> TokenVerifier:
    return TokenVerifier(GatewaySettings(jwks_url="http://unused"), jwks)


def token(key: Any, algorithm: str, key_id: str | None) -> str:
    claims = {"sub": "ann", "tenant": "acme", "exp": time.time() + 60}
    return jwt.encode(claims, key, algorithm, headers={} if key_id is None else {"kid": key_id})


@pytest.mark.parametrize(("key", "algorithm", "key_id"), [(RSA_KEY, "RS256", "r1"), (EC_KEY, "ES256", "e1")])
async def test_a_token_of_a_published_key_is_good(issuer: Issuer, key: Any, algorithm: str, key_id: str) -> None:
    found = await verifier(issuer.jwks()).verify(token(key, algorithm, key_id))
    assert found is not None
    assert (found.tenant, found.user) == ("acme", "ann")
    assert await verifier(issuer.jwks()).verify(token(key, algorithm, None)) is not None


async def test_keys_work_only_with_their_own_algorithm_and_id(issuer: Issuer) -> None:
    issuer.publish(
        public(RSA_KEY, "r1"),
        public(RSA_KEY, "encrypt", use="enc"),
        public(RSA_KEY, "r512", alg="RS512"),
        public(OTHER_CURVE, "e384"),
        {"kty": "oct", "kid": "o1", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
        {"kty": "RSA", "kid": "broken"},
        {**public(EC_KEY, ""), "kid": ["e1"]},
        {**public(EC_KEY, ""), "kid": 1},
    )
    check = verifier(issuer.jwks())
    assert await check.verify(token(RSA_KEY, "RS256", "r1")) is not None
    assert await check.verify(token(RSA_KEY, "RS256", "encrypt")) is None
    assert await check.verify(token(RSA_KEY, "RS256", "r512")) is None
    assert await check.verify(token(RSA_KEY, "RS512", "r512")) is None
    assert await check.verify(token(RSA_KEY, "PS256", "r1")) is None
    assert await check.verify(token(EC_KEY, "ES256", "r1")) is None
    assert await check.verify(token(OTHER_CURVE, "ES384", "e384")) is None
    assert await check.verify(token("secretsecretsecretsecretsecretsecret", "HS256", "o1")) is None
    assert await check.verify(token(rsa.generate_private_key(65537, 2048), "RS256", "r1")) is None


async def test_an_unknown_key_id_causes_at_most_one_fetch_in_a_while(issuer: Issuer) -> None:
    jwks = issuer.jwks()
    for n in range(20):
        assert await jwks.find("RS256", f"made up {n}") is None
    await asyncio.gather(*(jwks.find("RS256", f"at once {n}") for n in range(20)))
    assert issuer.fetches == 1
    issuer.publish(public(RSA_KEY, "r2"))
    assert await jwks.find("RS256", "r2") is None
    issuer.now += PAUSE_S
    assert await jwks.find("RS256", "r2") is not None
    assert issuer.fetches == 2


async def test_a_withdrawn_key_stops_working_once_the_cache_is_old(issuer: Issuer) -> None:
    jwks = issuer.jwks()
    assert await jwks.find("RS256", "r1") is not None
    issuer.publish(public(EC_KEY, "e1"))
    assert await jwks.find("RS256", "r1") is not None
    issuer.now += FRESH_S + 1
    assert await jwks.find("RS256", "r1") is None


@pytest.mark.parametrize("how", ["error", "redirect", "garbage", "huge"])
async def test_a_failing_issuer_leaves_the_known_keys_in_use_for_a_day(issuer: Issuer, how: str) -> None:
    jwks = issuer.jwks()
    assert await jwks.find("RS256", "r1") is not None
    match how:
        case "error":
            issuer.status = "500 No"
        case "redirect":
            issuer.status = "302 Found"
        case "garbage":
            issuer.body = b"[1, 2"
        case "huge":
            issuer.body = b" " * 300_000
    issuer.now += FRESH_S + 1
    assert await jwks.find("RS256", "r1") is not None
    assert issuer.fetches == 2
    issuer.now += STALE_S
    with pytest.raises(Unavailable):
        await jwks.find("RS256", "r1")


async def test_without_any_keys_nobody_is_refused_for_good() -> None:
    nowhere = Jwks("http://127.0.0.1:9/keys")
    with pytest.raises(Unavailable):
        await nowhere.find("RS256", "r1")
    assert await nowhere.find("HS256", "r1") is None


async def test_a_slow_issuer_holds_up_one_caller_and_not_all(issuer: Issuer) -> None:
    jwks = issuer.jwks()
    assert await jwks.find("RS256", "r1") is not None
    issuer.now += FRESH_S + 1
    async with jwks._lock:  # as while somebody fetches
        assert await asyncio.wait_for(jwks.find("RS256", "r1"), 5) is not None
