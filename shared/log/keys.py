"""Owns every key and channel name of the log. One hash slot per chat: the braces hold tenant and chat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from shared.ids import MessageRef, quote

PREFIX = "tr"
DUE = f"{PREFIX}:due"
"""Zset of messages to look at again, by time; with the log, so that one server loses or keeps both together."""
WAKE = f"{PREFIX}:wake"
"""Channel that tells idle workers that a job was queued."""
SWEEP = f"{PREFIX}:sweep"
"""Taken by the worker whose turn it is to look through all records."""
META_PATTERN = f"{PREFIX}:*:meta"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of one message, in the order of every script's KEYS (CHECKPOINT has its own).

    A script is given no more of them than it touches: while a cluster moves their slot, it runs only if all of its
    keys are there, and a running message has no tombstone.
    """

    meta: str
    stream: str
    active: str
    live: str
    tomb: str
    segments: str

    @property
    def record(self) -> tuple[str]:
        """The record alone."""
        return (self.meta,)

    @property
    def hot(self) -> tuple[str, str]:
        """What every append touches."""
        return (self.meta, self.stream)

    @property
    def live_keys(self) -> tuple[str, str, str, str]:
        """Those that a message in flight has."""
        return (self.meta, self.stream, self.active, self.live)

    @property
    def with_segments(self) -> tuple[str, str, str]:
        """What a checkpoint touches."""
        return (self.meta, self.stream, self.segments)

    @property
    def whole(self) -> tuple[str, str, str, str, str, str]:
        """All six."""
        return (self.meta, self.stream, self.active, self.live, self.tomb, self.segments)


@lru_cache(maxsize=16_384)  # asked for with every append and every look at a record
def log_keys(ref: MessageRef) -> LogKeys:
    """Return the keys of `ref`'s log."""
    chat = _chat(ref.tenant, ref.chat_id)
    message = f"{chat}:{quote(ref.message_id)}"
    return LogKeys(
        f"{message}:meta",
        f"{message}:log",
        f"{chat}::active",
        f"{chat}::live",
        f"{message}:gone",
        f"{message}:seg",
    )


def chat_keys(tenant: str, chat_id: str) -> tuple[str, str]:
    """Return the keys of a chat's active pointer and of its messages in flight."""
    chat = _chat(tenant, chat_id)
    return f"{chat}::active", f"{chat}::live"


def last_key(tenant: str, chat_id: str) -> str:
    """Return the key of the chat's latest message id; unlike the active pointer it outlives the message's end."""
    return f"{_chat(tenant, chat_id)}::last"


def _chat(tenant: str, chat_id: str) -> str:
    """Return what every key of a chat begins with."""
    return f"{PREFIX}:{{{quote(tenant)}/{quote(chat_id)}}}"


def worker_channel(worker_id: str) -> str:
    """Return the channel on which a worker hears of stops of its messages."""
    return f"{PREFIX}:worker:{worker_id}"


def user_key(tenant: str) -> str:
    """Return the key of a user's index of running messages; `tenant` is that of their refs, the user's scope."""
    return f"{PREFIX}:user:{{{quote(tenant)}}}:live"


def starting_key(tenant: str) -> str:
    """Return the key of the messages that a user is starting just now, in the slot of `user_key`."""
    return f"{PREFIX}:user:{{{quote(tenant)}}}:starting"


def ref_of_meta_key(key: str) -> MessageRef:
    """Read a meta key back into its ref; raise `InvalidId` for other keys."""
    inner, _, rest = key.removeprefix(f"{PREFIX}:{{").partition("}:")
    return MessageRef.parse_member(f"{inner}/{rest.removesuffix(':meta')}")
