"""Owns who is asking: static keys, JWT bearers, and the wrapper that lets nothing else pass.

Default deny: every path needs a credential unless it stands in `PUBLIC`. All refusals are alike, and come
before anything is read from Redis. `/metrics` may have a token of its own, which is no caller's: its route asks for it.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import cast

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.principal import LOCAL, Principal
from gateway.access.tickets import ticket_in
from gateway.access.tokens import TokenVerifier
from gateway.protocols.websocket import COME_BACK_LATER, WHO_ARE_YOU
from gateway.settings import GatewaySettings
from shared.errors import InvalidId, NotAuthenticated, TailraceError

PUBLIC = frozenset(("/", "/healthz", "/readyz", "/openapi.json"))
PUBLIC_FOLDER = "/static/"
"""The demo page and the client: files that are the same for everybody."""
METRICS = "/metrics"

SUBPROTOCOL = "tailrace.v1"
BEARER = "bearer."
"""How a WebSocket subprotocol begins that is a credential, base64url-encoded."""

_KEY = "tailrace.principal"

Identify = Callable[[Headers], Awaitable[Principal]]
"""Says who sent these headers; raises `NotAuthenticated`."""


class ApiKeys:
    """Static keys and whom each stands for."""

    def __init__(self, text: str) -> None:
        """`text` is the list itself, or a file's path with an entry a line; raise `ValueError` if it is neither."""
        if text and "=" not in text:
            try:
                text = Path(text).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                # Without the text: it may be a key.
                why = error.strerror if isinstance(error, OSError) else "not text"
                raise ValueError(f"TAILRACE_API_KEYS is neither key=tenant/user nor a readable file: {why}") from None
        lines = (line.split("#")[0] for line in text.splitlines())
        entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
        # Digests: equal length whatever the key, and no key in a memory dump.
        self._known = [(_digest(key.encode()), who) for key, who in map(_entry, entries)]

    def find(self, key: str) -> Principal | None:
        """Return whose key it is, in a time that tells nothing about the keys."""
        digest = _digest(key.encode("latin-1", "replace"))  # a header's text is its bytes, one by one
        found = None
        for known, who in self._known:
            if hmac.compare_digest(known, digest):
                found = who
        return found


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _entry(text: str) -> tuple[str, Principal]:
    key, equals, who = text.rpartition("=")
    tenant, slash, user = who.partition("/")
    if not (key and equals and slash):
        raise ValueError("an entry of TAILRACE_API_KEYS is not of the form key=tenant/user")
    try:
        return key.strip(), Principal(tenant.strip(), user.strip())
    except InvalidId as error:
        raise ValueError(f"an entry of TAILRACE_API_KEYS names nobody: {error}") from None


def make_identify(settings: GatewaySettings) -> Identify:
    """Return the way to tell callers apart that the settings ask for."""
    if settings.open:
        return _everybody
    keys = ApiKeys(settings.api_keys.get_secret_value())
    tokens = TokenVerifier.from_settings(settings)

    async def identify(headers: Headers) -> Principal:
        credential = credential_of(headers)
        if credential is None:
            raise NotAuthenticated
        who = keys.find(credential)
        if who is None and tokens is not None:
            who = await tokens.verify(credential)
        if who is None:
            raise NotAuthenticated
        return who

    return identify


async def _everybody(headers: Headers) -> Principal:
    return LOCAL


def credential_of(headers: Headers) -> str | None:
    """Return the key or token that a request carries, None if there is none or more than one."""
    bearers = headers.getlist("authorization")
    keys = headers.getlist("x-api-key")
    if len(bearers) + len(keys) != 1:
        return None
    if keys:
        return keys[0].strip() or None
    scheme, _, token = bearers[0].strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class Authenticate:
    """Lets a request pass once it is known whose it is."""

    def __init__(self, app: ASGIApp, identify: Identify, public: frozenset[str] = PUBLIC) -> None:
        """`public` may hold paths whose routes ask for a credential of another kind themselves."""
        self._app = app
        self._identify = identify
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not is_public(scope, self._public):
            try:
                scope[_KEY] = await self._who(scope)
            except NotAuthenticated:
                if scope["type"] == "websocket":
                    return await close_at_once(scope, receive, send, WHO_ARE_YOU, "not_authenticated")
                # Anew and without its cause, so that every refusal reads the same.
                raise NotAuthenticated("no valid credential came with the request") from None
            except TailraceError as error:
                if scope["type"] == "websocket":
                    return await close_at_once(scope, receive, send, COME_BACK_LATER, error.code)
                raise
        await self._app(scope, receive, send)

    async def _who(self, scope: Scope) -> Principal:
        try:
            return await self._identify(headers_of(scope))
        except NotAuthenticated:
            ticket = ticket_in(scope)
            who = None if ticket is None else await scope["state"]["services"].tickets.check(ticket, scope)
            if who is None:
                raise
            return cast(Principal, who)


def headers_of(scope: Scope) -> Headers:
    """Return the headers; a browser's WebSocket can send a credential in one place only, among its subprotocols."""
    headers = Headers(scope=scope)
    if scope["type"] != "websocket" or "authorization" in headers:
        return headers
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(BEARER):
            with suppress(ValueError):  # also what is not ASCII or base64
                # As a header's text would be: its bytes, one by one.
                token = base64.urlsafe_b64decode(protocol[len(BEARER) :] + "==").decode("latin-1")
                return Headers({**headers, "authorization": f"Bearer {token}"})
    return headers


def subprotocol_of(scope: Scope) -> str | None:
    """Return the subprotocol to answer with: browsers that offer some want one of them back."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


async def close_at_once(scope: Scope, receive: Receive, send: Send, code: int, reason: str) -> None:
    """Close a WebSocket with a code. Accepted first: of a refused handshake a browser is not even told the status."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": subprotocol_of(scope)})
    await send({"type": "websocket.close", "code": code, "reason": reason})


def is_public(scope: Scope, public: frozenset[str]) -> bool:
    """Whether anybody may have this: one of the paths `public`, or a file."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    return path in public or path.startswith(PUBLIC_FOLDER)


def principal_of(connection: HTTPConnection) -> Principal:
    """Return who is asking; a route that forgot to be behind `Authenticate` fails here."""
    who = connection.scope.get(_KEY)
    if not isinstance(who, Principal):
        raise NotAuthenticated("no valid credential came with the request")
    return who


def expires_at_of(scope: Scope) -> float | None:
    """Return the Unix time at which the request's credential ends, None if it does not."""
    who = scope.get(_KEY)
    return who.expires_at if isinstance(who, Principal) else None
