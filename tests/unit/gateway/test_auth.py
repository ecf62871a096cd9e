"""Who is asking: keys, tokens, and every way in which a token can be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.datastructures import Headers

from gateway.access.auth import ApiKeys, make_identify
from gateway.access.principal import LOCAL, Principal
from gateway.access.tokens import TokenVerifier
from gateway.settings import GatewaySettings, is_loopback
from shared.errors import InvalidId, NotAuthenticated
from shared.ids import MAX_ID_BYTES

SECRET = "a secret of the tests that is long enough"


def verifier(**more: Any) -> TokenVerifier:
    return TokenVerifier(GatewaySettings(jwt_secret=SECRET, **more), None)


def token(claims: dict[str, Any] | None = None, *, key: Any = SECRET, algorithm: str = "HS256", **more: Any) -> str:
    body = {"sub": "ann", "tenant": "acme", "exp": time.time() + 60, **(claims or {}), **more}
    return jwt.encode({k: v for k, v in body.items() if v is not None}, key, algorithm=algorithm)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return ".".join((part(json.dumps(header).encode()), part(json.dumps(claims).encode()), part(signature)))


# -- static keys


def test_a_key_names_its_tenant_and_user() -> None:
    keys = ApiKeys("k1=acme/ann, k2=acme/bob\n# nobody\nYmFzZTY0==t/u@example.org # in base64")
    assert keys.find("k1") == Principal("acme", "ann")
    assert keys.find("k2") == Principal("acme", "bob")
    assert keys.find("YmFzZTY0=") == Principal("t", "u@example.org")
    assert keys.find("k3") is None
    assert keys.find("") is None


def test_keys_can_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nk1=acme/ann\n\nk2=acme/bob\n")
    assert ApiKeys(str(file)).find("k2") == Principal("acme", "bob")


@pytest.mark.parametrize("text", ["k1=acme", "=acme/ann", "k1=acme/", "k1=/ann", "/no/such/file"])
def test_keys_that_cannot_be_right_stop_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="TAILRACE_API_KEYS"):
        ApiKeys(text)


# -- settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org"])
def test_an_open_gateway_refuses_to_listen_beyond_loopback(host: str) -> None:
    with pytest.raises(ValidationError, match="TAILRACE_API_KEYS"):
        GatewaySettings(host=host)
    assert not GatewaySettings(host=host, api_keys="k=t/u").open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    assert is_loopback(host)
    assert GatewaySettings(host=host).open


def test_a_short_secret_stops_the_start_and_no_secret_shows() -> None:
    with pytest.raises(ValidationError, match="32 bytes"):
        GatewaySettings(jwt_secret="short")
    assert "canary" not in repr(GatewaySettings(api_keys="canary=t/u", jwt_secret="canary" * 10))


# -- tokens


async def test_a_token_names_its_tenant_user_and_end() -> None:
    expiry = time.time() + 60
    assert await verifier().verify(token(exp=expiry)) == Principal("acme", "ann", expiry)
    assert await verifier().verify(token(tenant=None, exp=expiry)) == Principal("default", "ann", expiry)
    custom = verifier(jwt_user_claim="uid", jwt_tenant_claim="org")
    found = await custom.verify(token(uid="u", org="o"))
    assert found is not None
    assert (found.tenant, found.user) == ("o", "u")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": time.time() - 1},
        {"exp": None},
        {"exp": "soon"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": {}},
        {"nbf": time.time() + 3600},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "x" * 300},
        {"tenant": 7},
        {"tenant": ["acme"]},
        {"tenant": ""},
        {"aud": "somebody-else"},
    ],
)
async def test_claims_that_are_not_good_are_refused(claims: dict[str, Any]) -> None:
    assert await verifier().verify(token(claims)) is None


async def test_a_default_tenant_can_be_switched_off() -> None:
    assert await verifier(jwt_default_tenant="").verify(token(tenant=None)) is None


async def test_issuer_and_audience_must_be_the_configured_ones() -> None:
    strict = verifier(jwt_issuer="https://issuer", jwt_audience="tailrace")
    assert await strict.verify(token(iss="https://issuer", aud="tailrace")) is not None
    assert await strict.verify(token(iss="https://issuer", aud=["x", "tailrace"])) is not None
    for wrong in ({"iss": "https://issuer"}, {"aud": "tailrace"}, {"iss": "https://other", "aud": "tailrace"}):
        assert await strict.verify(token(wrong)) is None


async def test_an_expired_token_has_no_grace() -> None:
    late = TokenVerifier(GatewaySettings(jwt_secret=SECRET), None, clock=lambda: time.time() + 61)
    assert await late.verify(token()) is None


@pytest.mark.parametrize("name", ["none", "None", "HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "", 7, None])
async def test_no_other_algorithm_is_accepted_for_the_secret(name: object) -> None:
    claims = {"sub": "ann", "tenant": "acme", "exp": time.time() + 60}
    assert await verifier().verify(forged({"alg": name, "typ": "JWT"}, claims)) is None
    if name in ("HS384", "HS512"):
        assert await verifier().verify(token(key=SECRET * 2, algorithm=str(name))) is None


@given(
    st.text(max_size=200) | st.tuples(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40)).map(".".join)
)
async def test_whatever_is_no_token_is_refused_without_an_exception(text: str) -> None:
    assert await verifier().verify(text) is None


async def test_a_changed_token_is_refused() -> None:
    good = token()
    head, body, signature = good.split(".")
    assert await verifier().verify(good) is not None
    assert await verifier().verify(token(key=SECRET + "!")) is None
    assert await verifier().verify(f"{head}.{body}.") is None
    other = token(sub="eve").split(".")[1]
    assert await verifier().verify(f"{head}.{other}.{signature}") is None


@pytest.mark.parametrize("private", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())])
async def test_a_public_key_is_never_an_hmac_secret(private: Any) -> None:
    """The algorithm confusion: a token signed with HMAC under the issuer's public key."""
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = forged({"alg": "HS256", "typ": "JWT"}, {"sub": "eve", "exp": time.time() + 60}).rpartition(".")[0]
    mac = base64.urlsafe_b64encode(hmac.new(pem, unsigned.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    only_jwks = TokenVerifier(GatewaySettings(jwks_url="http://127.0.0.1:9/keys"), None)
    assert await only_jwks.verify(f"{unsigned}.{mac}") is None


# -- requests


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "k1")],
        [("authorization", "Basic k1")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer k2")],
        [("x-api-key", "")],
        [("x-api-key", "k2")],
        [("authorization", "Bearer k1"), ("authorization", "Bearer k1")],
        [("authorization", "Bearer k1"), ("x-api-key", "k2")],
    ],
)
async def test_a_request_without_exactly_one_good_credential_is_refused(headers: list[tuple[str, str]]) -> None:
    identify = make_identify(GatewaySettings(api_keys="k1=acme/ann"))
    raw = [(name.encode(), value.encode()) for name, value in headers]
    with pytest.raises(NotAuthenticated):
        await identify(Headers(raw=raw))


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer k1"), ("authorization", "bearer  k1 "), ("x-api-key", "k1")]
)
async def test_a_key_comes_as_bearer_or_as_x_api_key(header: tuple[str, str]) -> None:
    identify = make_identify(GatewaySettings(api_keys="k1=acme/ann"))
    assert await identify(Headers({header[0]: header[1]})) == Principal("acme", "ann")


async def test_an_open_gateway_takes_any_credential_for_its_one_user() -> None:
    identify = make_identify(GatewaySettings())
    assert await identify(Headers({})) == LOCAL
    assert await identify(Headers({"authorization": "Bearer whatever"})) == LOCAL


# -- scopes


def encodable(text: str) -> bool:
    try:
        return 0 < len(text.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


names = st.one_of(st.text(alphabet="a/%2F~", min_size=1, max_size=6), st.text(min_size=1, max_size=60)).filter(
    encodable
)


@given(names, names, names, names)
def test_two_users_never_share_a_scope(tenant: str, user: str, other_tenant: str, other_user: str) -> None:
    one, other = Principal(tenant, user), Principal(other_tenant, other_user)
    assert (one.scope == other.scope) == ((tenant, user) == (other_tenant, other_user))


def test_a_scope_fits_into_an_id_however_long_the_names_are() -> None:
    long = Principal("t" * 256, "u" * 256)
    assert len(long.scope.encode()) <= MAX_ID_BYTES
    assert long.scope != Principal("t" * 256, "u" * 255).scope
    long.ref("chat", "message")
    with pytest.raises(InvalidId):
        Principal("t" * 257, "u")
