"""Owns tickets: what lets an EventSource or a WebSocket in where no header can be sent.

A ticket stands in a URL, and URLs end up in logs. So it is short-lived, good for one thing only (one message's stream,
the feed, or the socket), and no credential: it cannot be used to get another. It is signed, not stored; every gateway
of a group must know the secret. If none is configured they share one through Redis, made by whoever needs it first.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec
from msgspec import Struct
from starlette.types import Scope

from gateway.access.principal import Principal
from shared.commands import Commands
from shared.errors import InvalidId, InvalidRequest
from shared.ids import check_id
from shared.log.keys import PREFIX

Use = Literal["stream", "feed", "socket"]

SECRET_KEY = f"{PREFIX}:ticket-secret"
LONGEST = 4096
KEEP_S = 60.0
"""How long a secret from Redis is used without asking again: after Redis lost it, groups agree anew within this."""
ASK_EVERY_S = 1.0
"""Forged tickets must not become reads of Redis."""


class Ticket(Struct, frozen=True, array_like=True):
    """What a ticket says. `until` is its own end, `credential_until` that of the credential it was given for."""

    use: Use
    tenant: str
    user: str
    chat_id: str
    message_id: str
    until: int
    credential_until: float | None

    def opens(self, scope: Scope) -> bool:
        """Whether the ticket is for this request."""
        if scope["type"] == "websocket":
            return self.use == "socket" and scope["path"] == "/ws"
        if scope["method"] != "GET":
            return False
        if self.use == "feed":
            return bool(scope["path"] == "/feed")
        wanted = [b"", b"chats", self.chat_id.encode(), b"messages", self.message_id.encode(), b"stream"]
        path: str = scope["path"]
        return self.use == "stream" and [unquote_to_bytes(part) for part in path.split("/")] == wanted

    @property
    def principal(self) -> Principal:
        """Whom it lets in. What it opens may stay open until the credential ends, the ticket's own end included."""
        return Principal(self.tenant, self.user, self.credential_until)


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Ticket] = msgspec.json.Decoder(Ticket)


class Tickets:
    """Issues and checks tickets."""

    def __init__(
        self, link: Commands, *, secret: str, last_s: int, deadline_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        """`secret`: the configured one, or empty; `last_s`: how long a ticket is good."""
        self._link = link
        self._configured = secret.encode()
        self._last_s = last_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._shared = b""
        self._asked_at = -1e9

    async def issue(self, who: Principal, use: Use, chat_id: str = "", message_id: str = "") -> tuple[str, int]:
        """Return a ticket and the Unix time at which it ends; raise `Unavailable` without Redis or a secret."""
        if use == "stream":
            check_id("chat", chat_id)
            check_id("message", message_id)
        elif chat_id or message_id:
            raise InvalidRequest("only a ticket for a stream names a chat and a message")
        until = int(self._clock()) + self._last_s
        if who.expires_at is not None:
            until = min(until, int(who.expires_at))
        ticket = Ticket(use, who.tenant, who.user, chat_id, message_id, until, who.expires_at)
        body = _encoder.encode(ticket)
        return f"{_text(body)}.{_text(_sign(await self._secret(KEEP_S), body))}", until

    async def check(self, text: str, scope: Scope) -> Principal | None:
        """Return whom the ticket lets in for this request, None if it is no good for any reason."""
        body, dot, signature = text.partition(".")
        if not dot or len(text) > LONGEST:
            return None
        try:
            raw, signed = _bytes(body), _bytes(signature)
        except ValueError:
            return None
        if not (await self._signed(raw, signed)):
            return None
        try:
            ticket = _decoder.decode(raw)
            return ticket.principal if ticket.until > self._clock() and ticket.opens(scope) else None
        except (msgspec.DecodeError, InvalidId):
            return None

    async def _signed(self, body: bytes, signature: bytes) -> bool:
        if hmac.compare_digest(_sign(await self._secret(KEEP_S), body), signature):
            return True
        if self._configured:
            return False
        # Another gateway may have made a new secret since we asked.
        return hmac.compare_digest(_sign(await self._secret(ASK_EVERY_S), body), signature)

    async def _secret(self, newer_than_s: float) -> bytes:
        now = asyncio.get_running_loop().time()
        if self._configured or (self._shared and now - self._asked_at < newer_than_s):
            return self._configured or self._shared
        await self._link.call("SET", SECRET_KEY, secrets.token_hex(32), "NX", deadline_s=self._deadline_s)
        self._shared = await self._link.call("GET", SECRET_KEY, deadline_s=self._deadline_s) or secrets.token_bytes(32)
        self._asked_at = now
        return self._shared


def ticket_in(scope: Scope) -> str | None:
    """Return the ticket in a request's query, None if there is none or more than one."""
    try:
        found = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=20).get("ticket", [])
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None


def _sign(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, b"tailrace ticket 1\n" + body, "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
