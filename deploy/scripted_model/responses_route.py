"""POST /v1/responses: streamed or whole, and in the background, where an answer goes on without its caller.

Tasks: one per background response, in the world's group; cancelling the response ends it, leaving callers do not.
"""

from __future__ import annotations

import logging
import uuid

import msgspec

from deploy.scripted_model.bodies import ResponsesBody, decode, responses_request
from deploy.scripted_model.call import Call, admit
from deploy.scripted_model.endpoint import (
    FAULT_CODE,
    FAULT_MESSAGE,
    Exchange,
    break_stream,
    break_whole,
    fault_error,
    now_s,
    open_stream,
)
from deploy.scripted_model.faults import NO_FAULTS, Fault
from deploy.scripted_model.playback import Ending, play
from deploy.scripted_model.records import Record
from deploy.scripted_model.response_frames import ResponseForm, ResponseFrames, SilentFrames
from deploy.scripted_model.responses_view import follow
from deploy.scripted_model.watch import Watch
from deploy.scripted_model.world import World

logger = logging.getLogger(__name__)

# Faults of the connection; a background answer itself goes on behind them.
_OF_CONNECTION = frozenset({"reset", "eof", "malformed"})


async def serve_responses(exchange: Exchange, raw: bytes) -> str | None:
    """Answer one Responses request."""
    body = decode(raw, ResponsesBody)
    entry = exchange.entry
    entry.model, entry.stream, entry.background = body.model, bool(body.stream), bool(body.background)
    call = admit(exchange.world, entry, responses_request(body), body.max_output_tokens)
    frames = ResponseFrames(_form(body, call))
    entry.response_id = frames.response_id
    if body.background:
        await _background(exchange, call, frames, streamed=bool(body.stream))
        return None  # the entry ends with the answer, not with this request
    record = Record(frames, exchange.watch)
    if body.store is not False:
        exchange.world.records.add(record)
    try:
        return await (_stream(exchange, call, frames) if body.stream else _whole(exchange, call, frames))
    finally:
        if frames.status == "in_progress":
            frames.cancelled()  # its caller left, or a fault cut it
        record.end()


def _form(body: ResponsesBody, call: Call) -> ResponseForm:
    echo: dict[str, object] = {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_p": body.top_p,
        "truncation": "disabled",
    }
    return ResponseForm(
        response_id=f"resp_{uuid.uuid4().hex}",
        created_at=now_s(),
        model=body.model,
        input_tokens=call.prompt_tokens,
        background=bool(body.background),
        echo=echo,
    )


async def _stream(exchange: Exchange, call: Call, frames: ResponseFrames) -> str:
    outlet = exchange.outlet(call.faults)
    await open_stream(outlet, call.directives.headers_ms)
    ending = await play(call.delivery, call.tempo, frames, outlet, call.entry, call.cut)
    if exchange.watch.gone is not None:
        return exchange.watch.gone
    if ending.fault is not None:
        return await break_stream(outlet, ending.fault, _error_frames(frames, ending.fault))
    await outlet.write(frames.completed(call.delivery.cut_short))
    await outlet.end()
    return "done"


async def _whole(exchange: Exchange, call: Call, frames: ResponseFrames) -> str:
    outlet = exchange.outlet(NO_FAULTS)
    ending = await play(call.delivery, call.tempo, SilentFrames(frames), outlet, call.entry, call.cut)
    if exchange.watch.gone is not None:
        return exchange.watch.gone
    if ending.fault is not None:
        return await break_whole(exchange, outlet, ending.fault)
    frames.completed(call.delivery.cut_short)
    return await exchange.send_json(msgspec.json.encode(frames.snapshot()), outlet)


async def _background(exchange: Exchange, call: Call, frames: ResponseFrames, *, streamed: bool) -> None:
    record = Record(frames, Watch())
    exchange.world.records.add(record)
    created = msgspec.json.encode(frames.snapshot())
    of_connection = call.cut is not None and call.cut.name in _OF_CONNECTION
    own_cut, connection_cut = (None, call.cut) if of_connection else (call.cut, None)
    exchange.world.group.create_task(_generate(exchange.world, call, record, own_cut))
    if not streamed:
        await exchange.send_json(created, exchange.outlet(NO_FAULTS))
        return
    outlet = exchange.outlet(call.faults)
    await open_stream(outlet, call.directives.headers_ms)
    await follow(outlet, record, 0, connection_cut)


async def _generate(world: World, call: Call, record: Record, cut: Fault | None) -> None:
    outcome = "broken"
    try:
        with world.living(record.watch):
            ending = await play(call.delivery, call.tempo, record.frames, record, call.entry, cut)
            outcome = await _conclude(record, call, ending)
    except Exception:
        logger.exception("background response broke")
        await record.write(record.frames.failed("server_error", "The scripted model itself broke."))
    finally:
        record.end()
        world.journal.end(call.entry, outcome)


async def _conclude(record: Record, call: Call, ending: Ending) -> str:
    frames, fault = record.frames, ending.fault
    if fault is not None and fault.name == "hang":
        await record.hang()
    elif fault is not None:
        await record.write(_error_frames(frames, fault))
        return f"fault:{fault.name}"
    elif not ending.left:
        await record.write(frames.completed(call.delivery.cut_short))
        return "done"
    if record.watch.gone is None:
        await record.write(frames.failed(FAULT_CODE, "The response grew too large, or hung for too long."))
        return "too_large"
    await record.write(frames.cancelled())
    return record.watch.gone


def _error_frames(frames: ResponseFrames, fault: Fault) -> bytes:
    if fault.name == "error" and fault.at > 0:
        return frames.failed(FAULT_CODE, FAULT_MESSAGE)
    error = fault_error()
    fields = {"type": "error", "sequence_number": len(frames.tokens_at), **error, "error": error}
    return b"event: error\ndata: " + msgspec.json.encode({**fields, "type": "error"}) + b"\n\n"
