"""POST /v1/chat/completions."""

from __future__ import annotations

import uuid

import msgspec

from deploy.scripted_model.bodies import ChatBody, chat_request, decode
from deploy.scripted_model.call import Call, admit
from deploy.scripted_model.chat_frames import ChatForm, ChatFrames, WholeChat
from deploy.scripted_model.endpoint import Exchange, break_stream, break_whole, fault_error, now_s, open_stream
from deploy.scripted_model.faults import NO_FAULTS, Fault
from deploy.scripted_model.playback import play


async def serve_chat(exchange: Exchange, raw: bytes) -> str:
    """Answer one chat completion, streamed or whole."""
    body = decode(raw, ChatBody)
    exchange.entry.model, exchange.entry.stream = body.model, bool(body.stream)
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    call = admit(exchange.world, exchange.entry, chat_request(body), limit)
    form = ChatForm(
        completion_id=f"chatcmpl-{uuid.uuid4().hex}",
        created=now_s(),
        model=body.model,
        prompt_tokens=call.prompt_tokens,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        reasoning_field=call.directives.reasoning_field,
        faults=call.faults,
    )
    exchange.entry.response_id = form.completion_id
    return await (_stream(exchange, call, form) if body.stream else _whole(exchange, call, form))


async def _stream(exchange: Exchange, call: Call, form: ChatForm) -> str:
    outlet = exchange.outlet(call.faults)
    frames = ChatFrames(form)
    await open_stream(outlet, call.directives.headers_ms)
    ending = await play(call.delivery, call.tempo, frames, outlet, call.entry, call.cut)
    if exchange.watch.gone is not None:
        return exchange.watch.gone
    if ending.fault is not None:
        return await break_stream(outlet, ending.fault, _error_frames(ending.fault))
    await outlet.write(frames.closing(call.delivery.cut_short))
    await outlet.end()
    return "done"


async def _whole(exchange: Exchange, call: Call, form: ChatForm) -> str:
    outlet = exchange.outlet(NO_FAULTS)
    answer = WholeChat(form)
    ending = await play(call.delivery, call.tempo, answer, outlet, call.entry, call.cut)
    if exchange.watch.gone is not None:
        return exchange.watch.gone
    if ending.fault is not None:
        return await break_whole(exchange, outlet, ending.fault)
    return await exchange.send_json(answer.closing(call.delivery.cut_short), outlet)


def _error_frames(fault: Fault) -> bytes:
    error = "the scripted model broke" if fault.name == "string_error" else fault_error()
    return b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
