"""Kept responses seen from outside: GET (as an object or followed as a stream), cancel and DELETE."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.datastructures import QueryParams

from deploy.scripted_model.endpoint import Exchange, break_stream
from deploy.scripted_model.faults import NO_FAULTS, Fault
from deploy.scripted_model.outlet import Outlet
from deploy.scripted_model.records import Record
from deploy.scripted_model.refusal import Refused

_BATCH = 64
_RECHECK_S = 15.0
_CANCEL_S = 5.0


async def follow(outlet: Outlet, record: Record, position: int, cut: Fault | None = None) -> str:
    """Send the events from number `position` on, kept ones and then live ones, until the last; return the outcome.

    With `cut`, the connection breaks behind the event that carries its token; the response itself goes on.
    """
    record.attach(outlet.watch)
    try:
        while outlet.watch.gone is None:
            last = position + _BATCH if cut is None else _cut_position(record, position, cut.at)
            batch = record.events[position:last]
            await outlet.write(b"".join(batch))
            position += len(batch)
            if cut is not None and _is_reached(record, position, cut.at):
                return await break_stream(outlet, cut, b"")
            if record.ended and position >= len(record.events):
                await outlet.end()
                return "done"
            # No await lies between the look at the events and this wait, so no nudge is lost.
            waits = position >= len(record.events)
            await outlet.pause_until(asyncio.get_running_loop().time() + (_RECHECK_S if waits else 0.0))
        return outlet.watch.gone
    finally:
        record.detach(outlet.watch)


def _is_reached(record: Record, position: int, tokens: int) -> bool:
    return tokens == 0 or (position > 0 and record.frames.tokens_at[position - 1] >= tokens)


def _cut_position(record: Record, position: int, tokens: int) -> int:
    """Return the number behind the first event that completes `tokens`, at most a batch ahead."""
    if tokens == 0:
        return position
    ahead = range(position, min(position + _BATCH, len(record.events)))
    return next((number + 1 for number in ahead if record.frames.tokens_at[number] >= tokens), position + _BATCH)


async def serve_retrieve(exchange: Exchange, _: bytes) -> str:
    """Answer GET /v1/responses/{id}, with ?stream=true as events after ?starting_after."""
    record = _find(exchange)
    outlet = exchange.outlet(NO_FAULTS)
    query = QueryParams(exchange.scope["query_string"])
    if query.get("stream", "").lower() not in ("true", "1"):
        return await exchange.send_json(msgspec.json.encode(record.frames.snapshot()), outlet)
    exchange.entry.stream = True
    if not record.frames.form.background:
        raise Refused(400, "This response cannot be streamed because it was not created with background=true.")
    after = query.get("starting_after", "-1")
    if after != "-1" and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise Refused(400, "starting_after must be a sequence number.", param="starting_after")
    await outlet.open()
    return await follow(outlet, record, int(after) + 1)


async def serve_cancel(exchange: Exchange, _: bytes) -> str:
    """Answer POST /v1/responses/{id}/cancel with the cancelled response."""
    record = _find(exchange)
    if not record.frames.form.background:
        raise Refused(400, "Cannot cancel a synchronous response.")
    if record.ended and record.frames.status != "cancelled":
        raise Refused(400, "Cannot cancel a completed response.")
    record.watch.leave("cancelled")
    await _wait_ended(exchange, record)
    return await exchange.send_json(msgspec.json.encode(record.frames.snapshot()), exchange.outlet(NO_FAULTS))


async def serve_delete(exchange: Exchange, _: bytes) -> str:
    """Answer DELETE /v1/responses/{id}; a background response that still runs is cancelled first."""
    record = _find(exchange)
    if record.frames.form.background:
        record.watch.leave("cancelled")
    exchange.world.records.drop(record.frames.response_id)
    deleted = {"id": record.frames.response_id, "object": "response", "deleted": True}
    return await exchange.send_json(msgspec.json.encode(deleted), exchange.outlet(NO_FAULTS))


def _find(exchange: Exchange) -> Record:
    response_id = str(exchange.scope["path_params"]["response_id"])
    exchange.entry.response_id = response_id[:200]
    exchange.world.journal.announce(exchange.entry)
    record = exchange.world.records.get(response_id)
    if record is None:
        raise Refused(404, f"Response with id '{response_id[:200]}' not found.", param="id")
    return record


async def _wait_ended(exchange: Exchange, record: Record) -> None:
    deadline = asyncio.get_running_loop().time() + _CANCEL_S
    record.attach(exchange.watch)
    try:
        while not record.ended and asyncio.get_running_loop().time() < deadline:
            if not await exchange.watch.wait_until(deadline):
                return
    finally:
        record.detach(exchange.watch)
