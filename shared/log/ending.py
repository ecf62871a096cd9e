"""Owns how a message that nobody owns is ended: by a stop of a queued one, by a reaper, by a claimer that may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.errors import GENERATION_CODES
from shared.fold import Fold
from shared.log.log import Log
from shared.log.so_far import read_so_far
from shared.log.types import Ending, Meta, Reply
from shared.log.usage import Spending
from shared.message import Message, encode_message
from shared.orphans import have_cancelled, run_left_behind
from shared.outline import outline_of

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


def last_words(state: ev.TerminalState, error: ev.Failure | None) -> list[ev.ContentEvent]:
    """Return the content event that says how an unfinished answer ended."""
    if state == "aborted":
        return [ev.Abort()]
    if state == "failed":
        return [ev.Error(error.message if error is not None else GENERATION_CODES["upstream_error"])]
    return []


async def end_unowned(
    log: Log, dispatcher: Dispatcher, meta: Meta, state: Literal["aborted", "failed"], error: ev.Failure | None
) -> Reply:
    """End a message that nobody owns, if it is still as `meta` says: open parts closed, folded, stored, told.

    Replies as `Log.force`: `moved` means that somebody else acted; read the record again and decide anew. A decided
    outcome is published in place of the one asked for. Nothing is written unless the reply is `ok`; then a run that
    goes on upstream is cancelled, by a worker.
    """
    events = list((await read_so_far(log, meta.ref)).events())
    closing = [*outline_of(events).endings(meta.ref.message_id), *last_words(state, error)]
    end = ev.End(state, meta.attempts, Spending(events).known(), error)
    blank = Message(chat_id=meta.ref.chat_id, message_id=meta.ref.message_id)
    reply = await log.force(meta, make_ending(blank, events, closing, end))
    if reply.status == "ok":
        await log.watch(meta.ref, FAILOVER_WINDOW_MS)
        await have_cancelled(dispatcher, run_left_behind(meta.ref, events))
    return reply
