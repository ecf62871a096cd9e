"""Owns identity: which ids are accepted, how they become safe Redis key parts, and `MessageRef`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from shared.errors import InvalidId

MAX_ID_BYTES = 256
"""Longest accepted tenant, user, chat or message id, in UTF-8 bytes."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")


def check_id(kind: str, value: str) -> str:
    """Return `value` if it may name a `kind` ("chat", "message", ...); raise `InvalidId` otherwise.

    Any Unicode text of 1 to `MAX_ID_BYTES` UTF-8 bytes is an id; two ids are equal only if their
    bytes are (no Unicode normalisation). Lone surrogates are not text and are refused.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidId(f"{kind} id is not valid Unicode text") from None
    if not 0 < size <= MAX_ID_BYTES:
        raise InvalidId(f"{kind} id must have 1 to {MAX_ID_BYTES} bytes, not {size}")
    return value


def quote(value: str) -> str:
    """Write any id in `[A-Za-z0-9_=-]`, reversibly: other bytes become `=` and two hex digits.

    So `{`, `}`, `/`, `:`, `*` and control characters can never change a key's meaning, hash slot
    or a SCAN pattern.
    """
    return _UNSAFE.sub(lambda match: f"={match[0][0]:02X}".encode(), value.encode()).decode()


def unquote(part: str) -> str:
    """Undo `quote`; raise `InvalidId` for text that `quote` cannot have written."""
    out = bytearray()
    position = 0
    try:
        while position < len(part):
            if part[position] == "=":
                out.append(int(part[position + 1 : position + 3], 16))
                position += 3
            else:
                out += part[position].encode("ascii")
                position += 1
        value = out.decode()
    except ValueError:
        raise InvalidId("not a quoted id") from None
    if quote(value) != part:  # int() also reads "+1", " 1" and "a"; and a safe byte is never written as hex
        raise InvalidId("not a quoted id")
    return value


@dataclass(frozen=True, slots=True)
class MessageRef:
    """One message of one chat of one tenant: the address of a log.

    A gateway's `tenant` is the principal's scope: `tenant/user`, or `~` and a hash where that is too long.
    """

    tenant: str
    chat_id: str
    message_id: str

    def __post_init__(self) -> None:
        check_id("tenant", self.tenant)
        check_id("chat", self.chat_id)
        check_id("message", self.message_id)

    @property
    def member(self) -> str:
        """The ref as one string, for index members and jobs; `parse_member` reads it back."""
        return f"{quote(self.tenant)}/{quote(self.chat_id)}/{quote(self.message_id)}"

    @property
    def fields(self) -> dict[str, str]:
        """What every log line about the message says, so that one search finds them all."""
        return {"tenant": self.tenant, "chat_id": self.chat_id, "message_id": self.message_id}

    @classmethod
    def parse_member(cls, text: str) -> MessageRef:
        parts = text.split("/")
        if len(parts) != 3:
            raise InvalidId("a message reference has three parts")
        return cls(*(unquote(part) for part in parts))


def new_message_id() -> str:
    """Return a fresh random message id."""
    return f"msg_{secrets.token_hex(12)}"


def derived_id(prefix: str, *parts: str) -> str:
    """Return the id that the same `parts` always give, so that a retried start names one message."""
    digest = sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return f"{prefix}_{digest.hexdigest()[:32]}"
