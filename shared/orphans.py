"""Owns the runs that would go on upstream, and be paid for, although their message is over.

A run in the background outlives its connection and its worker. Whoever ends or deletes a message that nobody owns
leaves such a run to nobody: it has a worker cancel it, since only workers can call upstream.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shared import events as ev
from shared.dispatch import Dispatcher
from shared.errors import Unavailable
from shared.ids import MessageRef
from shared.jobs import Run

log = logging.getLogger(__name__)


def run_left_behind(ref: MessageRef, events: Iterable[ev.Event]) -> Run | None:
    """Return the run that goes on upstream as far as `events`, the log of `ref`, tell; None if there is none."""
    model, attempt, run_id = "", 0, ""
    for event in events:
        match event:
            case ev.Created():
                model = event.model
            case ev.Attempt():
                attempt = event.n
            case ev.Upstream():
                run_id = event.id
            case ev.Finish() | ev.Abort() | ev.Error() | ev.Reset():
                run_id = ""  # over, cancelled, or unknown to the upstream
            case _:
                pass
    return Run(ref.member, model, run_id, attempt) if run_id else None


async def have_cancelled(dispatcher: Dispatcher, run: Run | None) -> None:
    """Have a worker cancel `run`. What fails here fails nothing: the message is over all the same."""
    if run is None:
        return
    try:
        await dispatcher.cancel(run)
    except Unavailable:
        ref = MessageRef.parse_member(run.member)
        log.warning("upstream's run left to itself, the queue is away", extra=ref.fields)
