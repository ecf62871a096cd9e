"""Owns what is stored of a response: finding it for its user, going on from it, showing its input.

A request is stored with its whole conversation, so that a chain (`previous_response_id`) is rebuilt from one record
however long it is: what the previous request said, then what was answered to it. Instructions belong to one request
only and are not inherited.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec import UNSET

from gateway.access.principal import Principal
from gateway.live.finding import find_message
from gateway.openai.openai_errors import ApiError
from gateway.openai.openai_request import Json
from gateway.protocols.chat_object import ChatToolCall, assistant_message
from gateway.protocols.openai_common import is_json, read_options, told_arguments
from gateway.protocols.responses import RESPONSES
from gateway.protocols.responses_object import ResponseOptions
from gateway.services import Services
from gateway.thoughts import FIELD
from shared.errors import Gone, InvalidId, NotFound
from shared.ids import MessageRef
from shared.jobs import GenerationRequest, decode_request
from shared.log.types import Meta
from shared.message import Message, decode_message

WIRE = RESPONSES.name


def options_of(request: GenerationRequest) -> ResponseOptions:
    """Return what the wire remembers of a request."""
    return read_options(request.options, ResponseOptions)


def missing(response_id: str) -> ApiError:
    """Return the one answer to ids that do not exist, are over or are somebody else's."""
    return ApiError(404, f"Response with id '{response_id[:300]}' not found.")


class Stored(msgspec.Struct, frozen=True):
    """A response's record and request. A response is a chat of its own, of which it is the one message."""

    ref: MessageRef
    meta: Meta
    request: GenerationRequest

    @property
    def options(self) -> ResponseOptions:
        """What the wire remembers of the request."""
        return options_of(self.request)


async def find_response(services: Services, who: Principal, response_id: str, *, patient: bool = False) -> Stored:
    """Return the caller's response of that id; raise `ApiError` (404).

    `patient`: the caller has a part of it, so one that Redis has lost is waited for while it may be restored.
    """
    try:
        ref = who.ref(response_id, response_id)
        meta = await find_message(services.hub, ref, patient=patient)
    except (InvalidId, NotFound, Gone):
        raise missing(response_id) from None
    raw = await services.log.request(ref)
    if meta.user != who.user or raw is None:
        raise missing(response_id)
    request = decode_request(raw)
    if request.wire != WIRE:
        raise missing(response_id)
    return Stored(ref, meta, request)


async def load(services: Services, who: Principal, response_id: str) -> tuple[GenerationRequest, Message]:
    """Return a finished response's request and message; raise `ApiError`: 404, or 400 while it is being written."""
    stored = await find_response(services, who, response_id)
    if not stored.options.store:
        raise missing(response_id)
    if not stored.meta.terminal:
        raise ApiError(400, f"Response with id '{response_id}' is not finished.", code="response_in_progress")
    final = await services.log.final(stored.ref)
    if final is None:
        raise missing(response_id)
    return stored.request, decode_message(final)


async def earlier_messages(
    services: Services, who: Principal, response_id: str, answered: Collection[object]
) -> list[Json]:
    """Return the conversation up to and including that response, without its instructions.

    `answered`: the ids of calls whose outputs come next.

    Raise `ApiError` (400): it is a parameter that is wrong, not the path. Clients tell by the code that it is unknown.
    """
    param = "previous_response_id"
    try:
        request, message = await load(services, who, response_id)
    except ApiError as error:
        code = error.public_code or "previous_response_not_found"
        raise ApiError(400, f"Previous response: {error}", code=code, param=param) from None
    if message.state == "failed":
        raise ApiError(400, "The previous response failed.", code="previous_response_failed", param=param)
    return [*own_messages(request), *_answer(message, options_of(request), answered)]


def own_messages(request: GenerationRequest) -> list[Json]:
    """Return a stored request's conversation without its instructions."""
    return request.messages[1:] if options_of(request).instructions is not None else request.messages


def _answer(message: Message, options: ResponseOptions, answered: Collection[object]) -> list[Json]:
    said = assistant_message(message, sorted(options.declared))
    calls = [] if said.tool_calls is UNSET else said.tool_calls
    # A call that was cut short is not one that has to be answered.
    whole = [_call(call) for call in calls if is_json(call.function.arguments) or call.id in answered]
    # As text: models whose API knows refusals are few.
    content = said.content or said.refusal
    if not content and not whole:
        return []
    answer: Json = {"role": "assistant", "content": content}
    if said.reasoning_content is not UNSET:
        answer[FIELD] = said.reasoning_content
    return [{**answer, "tool_calls": whole}] if whole else [answer]


def _call(call: ChatToolCall) -> Json:
    told: Json = msgspec.to_builtins(call)
    told["function"]["arguments"] = told_arguments(call.function.arguments)
    return told
