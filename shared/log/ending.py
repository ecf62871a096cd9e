"""Owns how a message that nobody owns is ended: by a stop of a queued one, by a reaper, by a claimer that may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from shared import events as ev
from shared.errors import GENERATION_CODES
from shared.fold import Fold
from shared.log.log import Log
from shared.log.so_far import read_so_far
from shared.log.types import Ending, Meta, Reply
from shared.message import Message, encode_message
from shared.outline import outline_of

EndState = Literal["done", "failed", "aborted"]

FAILOVER_WINDOW_MS = 30_000
"""How long an ended message is looked at once more, in case a failover loses its end."""


def failure(code: str, message: str = "") -> ev.Failure:
    """Return the failure of that code, with the code's own sentence unless another is given."""
    return ev.Failure(code, message or GENERATION_CODES[code])


def make_ending(
    message: Message, events: Iterable[ev.Event], closing: Sequence[ev.ContentEvent], end: ev.End
) -> Ending:
    """Return what ends a log of `events` with `closing` and `end`; `message` is an empty one to fold into."""
    final = Fold(message).extend([*events, *closing, end])
    before = tuple(ev.encode_event(event) for event in closing)
    return Ending(end.state, encode_message(final), ev.encode_event(end), before)


def last_words(state: EndState, error: ev.Failure | None) -> list[ev.ContentEvent]:
    """Return the content event that says how an unfinished answer ended."""
    if state == "aborted":
        return [ev.Abort()]
    if state == "failed":
        return [ev.Error(error.message if error is not None else GENERATION_CODES["upstream_error"])]
    return []


def logged_usage(events: Iterable[ev.Event]) -> ev.Usage | None:
    """Return the usage that the log knows of: a running total over the attempts, resets included."""
    found = None
    for event in events:
        if isinstance(event, ev.MessageMetadata | ev.Finish) and isinstance(event.message_metadata, dict):
            raw = event.message_metadata.get("usage")
            if isinstance(raw, dict):
                found = usage_from_metadata(raw)
    return found


def usage_metadata(usage: ev.Usage) -> dict[str, object]:
    """Return usage in the form of message metadata, under the AI SDK's names."""
    return {
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "reasoningTokens": usage.reasoning_tokens,
            "cachedInputTokens": usage.cached_tokens,
        }
    }


def usage_from_metadata(raw: dict[str, object]) -> ev.Usage:
    """Read what `usage_metadata` wrote; whatever is not a number counts as none."""
    names = ("inputTokens", "outputTokens", "totalTokens", "reasoningTokens", "cachedInputTokens")
    return ev.Usage(*(value if isinstance(value := raw.get(name), int) else 0 for name in names))


async def end_unowned(log: Log, meta: Meta, state: Literal["aborted", "failed"], error: ev.Failure | None) -> Reply:
    """End a message that nobody owns, if it is still as `meta` says: open parts closed, folded, stored, told.

    Replies as `Log.force`: `moved` means that somebody else acted; read the record again and decide anew. A decided
    outcome is published in place of the one asked for. Nothing is written unless the reply is `ok`.
    """
    events = list((await read_so_far(log, meta.ref)).events())
    closing = [*outline_of(events).endings(meta.ref.message_id), *last_words(state, error)]
    end = ev.End(state, meta.attempts, logged_usage(events), error)
    blank = Message(chat_id=meta.ref.chat_id, message_id=meta.ref.message_id)
    reply = await log.force(meta, make_ending(blank, events, closing, end))
    if reply.status == "ok":
        await log.watch(meta.ref, FAILOVER_WINDOW_MS)
    return reply
