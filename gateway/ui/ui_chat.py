"""Owns what `POST /api/chat` asks for: from the AI SDK's body to a generation, by its rules for a busy chat.

- a new message while the chat is busy is refused (409), unless it is the very request that runs: then it is joined,
  so that a page that sends twice (React's StrictMode does) has one answer
- a message whose sender shows a part of the running answer (it called `stop()`), a regeneration and an edited
  message stop what is in flight and win
- with an assistant message at the end (its tool calls have results now) the answer goes on under that message's id
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.access.principal import Principal
from gateway.bodies import check_grown
from gateway.protocols.ui_message_stream import NAME
from gateway.services import Services
from gateway.start import Started, start
from gateway.thoughts import with_wanted_thoughts
from gateway.ui.ui_history import Turn, complete, latest_turn
from gateway.ui.ui_messages import ChatMessage, UiMessage, to_chat_messages
from shared import events as ev
from shared.errors import ChatBusy, InvalidRequest
from shared.ids import derived_id, new_message_id
from shared.jobs import GenerationRequest
from shared.log.types import Policy


class UiChatBody(Struct, rename={"message_id": "messageId"}):
    """What `useChat` sends, and what its `body` option may add. Other fields are ignored."""

    messages: Annotated[list[UiMessage] | None, Meta(description="The conversation.")] = None
    message: Annotated[UiMessage | None, Meta(description="Or its last message alone.")] = None
    id: Annotated[str | None, Meta(description="The chat; without one a new one, named by an Idempotency-Key.")] = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: Annotated[str | None, Meta(description="The message to edit, regenerate or continue.")] = None
    model: Annotated[str | None, Meta(description="Empty: the default model.")] = None
    system: Annotated[str | None, Meta(description="Put before the conversation.")] = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None


PARAMS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty"),
    *("frequency_penalty", "logit_bias", "tools", "tool_choice", "parallel_tool_calls", "response_format"),
    "reasoning_effort",
)
"""Fields that go to the model as they are."""


async def begin(services: Services, who: Principal, body: UiChatBody, *, idempotency_key: str | None) -> Started:
    """Start what `body` asks for, or join it where it runs already; raises as `start`."""
    chat_id = _new_chat_id(who, idempotency_key) if body.id is None else body.id
    request = await _request(services, who, chat_id, body)
    try:
        return await start(
            services, who, chat_id, request, idempotency_key=idempotency_key, policy=_policy(services, body)
        )
    except ChatBusy as busy:
        joined = await _join(services, who, chat_id, busy.active, request)
        if joined is not None:
            return joined
        if not services.settings.allow_replace or not await _left(services, who, chat_id, busy.active, body):
            raise
    return await start(services, who, chat_id, request, idempotency_key=idempotency_key, policy="replace")


def _new_chat_id(who: Principal, key: str | None) -> str:
    """Return the id of a chat that the sender did not name: one key, one chat, or it would mean nothing."""
    return new_message_id().replace("msg_", "chat_") if key is None else derived_id("chat", who.scope, key)


async def _left(services: Services, who: Principal, chat_id: str, active: str, body: UiChatBody) -> bool:
    """Whether the sender has a part of the running answer in its conversation, and speaks again: `stop()` was called.

    Not known of an answer that goes on under an older message's id: the sender may have that from before.
    """
    seen = {message.id for message in (body.messages or [])[:-1] if message.role == "assistant"}
    entries = await services.log.read(who.ref(chat_id, active), None, 1) if active in seen else []
    created = entries[0].event if entries else None
    return isinstance(created, ev.Created) and "message_id" not in created.options


def _policy(services: Services, body: UiChatBody) -> Policy | None:
    last = body.messages[-1] if body.messages else body.message
    edits = body.message_id is not None and (last is None or last.role != "assistant")
    wins = body.trigger == "regenerate-message" or edits
    return "replace" if wins and services.settings.allow_replace else None


async def _request(services: Services, who: Principal, chat_id: str, body: UiChatBody) -> GenerationRequest:
    last = body.messages[-1] if body.messages else body.message
    turn = None
    if body.messages:
        messages = to_chat_messages(body.messages)
    else:
        # A chat without a name is new, though its request may be a repetition.
        turn = None if body.id is None else await latest_turn(services, who, chat_id)
        messages = complete(turn, body.message, body.trigger, body.message_id)
    messages = with_wanted_thoughts(messages)
    instructed = turn is not None and turn.instructed
    system = {"role": "system", "content": body.system}
    if body.system and messages[:1] != [system]:
        messages[: int(instructed)] = [system]  # many models take one only
        instructed = True
    if not messages:
        raise InvalidRequest("there is nothing in messages for a model to answer")
    if turn is not None:
        check_grown(messages, services.settings)
    params = {name: value for name in PARAMS if (value := getattr(body, name)) is not None}
    options = {**_options(messages, last, _asked_id(body, turn)), "instructed": instructed}
    return GenerationRequest(body.model or "", messages, params, wire=NAME, options=options)


def _asked_id(body: UiChatBody, turn: Turn | None) -> str:
    """Return the id of the message that is answered, also by an answer that goes on or is given anew."""
    sent = body.messages or ([] if body.message is None else [body.message])
    known = "" if turn is None else turn.asked_id
    return next((message.id for message in reversed(sent) if message.role != "assistant"), known)


def _options(messages: list[ChatMessage], last: UiMessage | None, asked_id: str) -> dict[str, Any]:
    """Return what the wire must remember: the request's digest, the asker's id, and a message that goes on."""
    # In one order: what was kept of the conversation comes back with its keys in another.
    asked = msgspec.json.encode([messages, None if last is None else last.id], order="deterministic")
    options: dict[str, Any] = {
        "asked": sha256(asked).hexdigest()[:16],
        "asked_id": asked_id,
        "before": len(messages),
    }
    if last is None or last.role != "assistant":
        return options
    options["before"] = len(messages) - len(to_chat_messages([last]))
    if last.id:
        options |= {"message_id": last.id, "parts": last.parts}
    return options


async def _join(
    services: Services, who: Principal, chat_id: str, active: str, request: GenerationRequest
) -> Started | None:
    """Return the running message if it is what `request` asks for."""
    ref = who.ref(chat_id, active)
    entries = await services.log.read(ref, None, 1)
    created = entries[0].event if entries else None
    meta = await services.log.meta(ref)
    if meta is None or not isinstance(created, ev.Created) or created.wire != request.wire:
        return None
    if created.options.get("asked") != request.options["asked"]:
        return None
    return Started(ref, entries[0].cursor, meta.state, existed=True)
