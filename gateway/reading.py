"""Owns what a caller can read about messages: how they stand, and what they amount to so far."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from msgspec import Meta as Describe
from msgspec import Struct

from gateway.access.principal import Principal
from gateway.services import Services
from shared.cursor import Cursor
from shared.errors import Gone, NotFound, TailraceError
from shared.ids import MessageRef
from shared.log.so_far import read_so_far
from shared.log.types import Meta
from shared.message import Message, MessageState, decode_message

Phase = Literal["waiting", "generating", "recovering", "stopping", "over"]

CursorText = Annotated[str | None, Describe(description="Where in the log this is; null once the log is not kept.")]


class MessageStatus(Struct, frozen=True):
    """How a message stands."""

    chat_id: str
    message_id: str
    state: MessageState
    phase: Annotated[
        Phase,
        Describe(description="waiting: for its first worker; recovering: for another, after one was lost or left."),
    ]
    attempt: Annotated[int, Describe(description="How many workers have taken it so far.")]
    can_stop: Annotated[bool, Describe(description="Whether it is in flight and has not been asked to stop.")]
    since: Annotated[int, Describe(description="When it was started, in Unix seconds.")]
    cursor: Annotated[str, Describe(description="Its latest entry.")]
    stream_url: str


class ChatView(Struct, frozen=True):
    """What is in flight in a chat. A chat that does not exist looks like one in which nothing is."""

    chat_id: str
    messages: list[MessageStatus]
    last_message_id: Annotated[
        str | None, Describe(description="Its latest message, in flight or over; null once that is not known any more.")
    ]


class ActiveView(Struct, frozen=True):
    """The caller's messages in flight, oldest first."""

    messages: list[MessageStatus]


class MessageView(Struct, frozen=True):
    """A message as its log tells it up to `cursor`; with `?after=<cursor>` the stream goes on from there."""

    status: MessageStatus
    cursor: CursorText
    message: Message


def stream_url(ref: MessageRef) -> str:
    """Return the path of a message's stream."""
    return f"/chats/{quote(ref.chat_id, safe='')}/messages/{quote(ref.message_id, safe='')}/stream"


def phase_of(meta: Meta) -> Phase:
    """Return what is going on with a message."""
    if meta.terminal:
        return "over"
    if meta.stop is not None:
        return "stopping"
    if meta.leased:
        return "generating"
    return "recovering" if meta.begun else "waiting"


def status_of(meta: Meta) -> MessageStatus:
    """Return how a message stands, for its user."""
    state = meta.state
    if state == "deleted":
        raise Gone("the message was deleted")
    return MessageStatus(
        chat_id=meta.ref.chat_id,
        message_id=meta.ref.message_id,
        state=state,
        phase=phase_of(meta),
        attempt=meta.attempts,
        can_stop=not meta.terminal and meta.stop is None,
        since=meta.born // 1000,
        cursor=str(meta.cursor),
        stream_url=stream_url(meta.ref),
    )


async def find(services: Services, who: Principal, ref: MessageRef) -> Meta:
    """Return the message's record; raise `NotFound` or `Gone`."""
    meta = await services.log.meta(ref)
    # The scope in `ref` keeps users apart already; the record says it once more.
    if meta is None or meta.state == "deleted" or meta.user != who.user:
        raise await why_missing(services, who, ref)
    return meta


async def why_missing(services: Services, who: Principal, ref: MessageRef) -> TailraceError:
    """Return `Gone` if this was once the caller's message, `NotFound` otherwise."""
    if await services.log.tombstone(ref) == who.user:
        return Gone("the message is over and no longer kept")
    return NotFound("not found")


async def read_message(services: Services, who: Principal, ref: MessageRef) -> MessageView:
    """Return the message, running or final."""
    meta = await find(services, who, ref)
    if meta.terminal:
        final = await services.log.final(ref)
        if final is not None:
            return MessageView(status_of(meta), str(meta.cursor), decode_message(final))
    so_far = await read_so_far(services.log, ref)
    # Of a log that Redis has lost nothing but its name is known.
    message = await so_far.fold(Message(chat_id=ref.chat_id, message_id=ref.message_id))
    return MessageView(status_of(meta), None if so_far.last is None else str(so_far.last.cursor), message)


async def read_chat(services: Services, who: Principal, chat_id: str) -> ChatView:
    """Return what is in flight in the chat."""
    found = []
    for message_id in await services.log.in_flight(who.scope, chat_id):
        meta = await services.log.meta(who.ref(chat_id, message_id))
        if meta is not None and not meta.terminal and meta.user == who.user:
            found.append(status_of(meta))
    latest = await latest_message(services, who, chat_id)
    return ChatView(chat_id, found, None if latest is None else latest.message_id)


async def latest_message(services: Services, who: Principal, chat_id: str) -> MessageRef | None:
    """Return the chat's latest message, running or over, None if it is not known (any more)."""
    message_id = await services.log.latest(who.scope, chat_id)
    return None if message_id is None else who.ref(chat_id, message_id)


async def read_active(services: Services, who: Principal) -> ActiveView:
    """Return what is in flight of the caller's."""
    return ActiveView([status_of(meta) for meta in await services.index.in_flight(who)])


async def chat_stream(services: Services, who: Principal, chat_id: str, after: Cursor | None) -> MessageRef | None:
    """Return the message whose stream a viewer of the chat should get, None if there is nothing more to deliver.

    The one that its cursor is in, if that is in flight or the latest: whoever was cut off shortly before the end must
    still learn of it. Otherwise the active one, where a cursor of another message is like one that was lost.
    """
    active = await services.log.active(who.scope, chat_id)
    # The pointer may outlive a record that nobody renewed any more; there is no owner then who could restore it.
    if active is not None and await services.log.meta(who.ref(chat_id, active)) is not None:
        followed = who.ref(chat_id, active)
        return followed if after is None else await _holder(services, who, followed, after) or followed
    if after is None or (ref := await latest_message(services, who, chat_id)) is None:
        return None
    return ref if await _goes_on(services, ref, after) else None


async def _holder(services: Services, who: Principal, active: MessageRef, after: Cursor) -> MessageRef | None:
    """Return the message whose cursor this is: active, in flight beside it, or the latest; None if none."""
    if await _goes_on(services, active, after):
        return active
    others = [who.ref(active.chat_id, other) for other in await services.log.in_flight(who.scope, active.chat_id)]
    latest = await latest_message(services, who, active.chat_id)
    for ref in (*others, latest):
        if ref is not None and ref != active and await _goes_on(services, ref, after):
            return ref
    return None


async def _goes_on(services: Services, ref: MessageRef, cursor: Cursor) -> bool:
    """Whether the cursor is in the message and not its end."""
    entries = await services.log.read(ref, cursor, 1)
    return bool(entries) and entries[0].cursor == cursor and not entries[0].is_end
