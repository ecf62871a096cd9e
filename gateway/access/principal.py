"""Owns who a caller is, and the scope that keeps callers apart in the log's keys."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from shared.errors import InvalidId
from shared.ids import MAX_ID_BYTES, MessageRef, check_id

UNADDRESSABLE = frozenset((".", ".."))
"""Every client takes these out of a URL's path, percent-encoded or not, so nobody could ask for them again."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `expires_at` is the Unix time at which the credential ends."""

    tenant: str
    user: str
    expires_at: float | None = None

    def __post_init__(self) -> None:
        check_id("tenant", self.tenant)
        check_id("user", self.user)

    @property
    def scope(self) -> str:
        """The first part of every key of this user's chats.

        A chat id means something only within it. Were chats addressed by tenant alone, two users who both
        say "chat 1" would meet: the second could not start, and would learn the first one's message id
        from the refusal. So somebody else's chat cannot even be named, and what cannot be named answers
        like what does not exist, with no check that a route could forget.
        """
        # Only the tenant is escaped: the first slash ends it, so no other pair gives the same text.
        name = f"{self.tenant.replace('%', '%25').replace('/', '%2F')}/{self.user}"
        if len(name.encode()) <= MAX_ID_BYTES:
            return name
        return f"~{sha256(name.encode()).hexdigest()}"

    def ref(self, chat_id: str, message_id: str) -> MessageRef:
        """Return the address of this user's message; raise `InvalidId` for what cannot be one."""
        return MessageRef(self.scope, check_name("chat", chat_id), check_name("message", message_id))


def check_name(kind: str, value: str) -> str:
    """Return `value` if it may name a chat or a message in a URL; raise `InvalidId` otherwise."""
    if value in UNADDRESSABLE:
        raise InvalidId(f"{kind} id must not be . or .., which URLs cannot hold")
    return check_id(kind, value)


LOCAL = Principal("local", "local")
"""Everybody, where nobody is asked who they are."""
