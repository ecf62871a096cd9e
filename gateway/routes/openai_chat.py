"""Owns the operations `/v1/chat/completions` and `/v1/models`, as OpenAI's SDKs call them.

A completion is a message in a chat of its own, both named by the completion's id. No SDK can resume a completion;
but the headers `x-response-id` and `x-tailrace-stream` say where its native stream can be, and a repetition with
the same `Idempotency-Key` gets the same answer from its beginning.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.openai.chat_request import CompletionBody, read_request
from gateway.openai.openai_errors import ApiError, generation_error
from gateway.openai.openai_request import new_id, place_headers, read_json, repeatable
from gateway.openai.openai_streams import once_started, patience, stream_from, whole_message
from gateway.protocols.chat_completions import CHAT_COMPLETIONS
from gateway.protocols.chat_object import ChatCompletion, chat_completion
from gateway.protocols.openai_common import STOPPED
from gateway.routes.request import context, json_answer, path_id
from gateway.routes.streams import StartedStream, check_room
from gateway.routes.table import Operation, Parameter
from gateway.start import start

CLIENT_LEFT = 499
KEY = Parameter(
    "Idempotency-Key", "header", "Names the start: the same key again is the same answer, with another body a 409."
)


class ModelObject(Struct, frozen=True):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "tailrace"


class ModelList(Struct, frozen=True):
    """The configured models, the default first."""

    data: list[ModelObject]
    object: Literal["list"] = "list"


async def create_chat_completion(request: Request) -> Response | ASGIApp:
    services, who = context(request)
    until = patience(request, services)
    asked = read_request(await read_json(request, services))
    check_room(services)
    chat_id = new_id(request, who, "chatcmpl-")
    started = await start(services, who, chat_id, asked.generation, message_id=chat_id, repeatable=repeatable(request))
    with once_started(request, started.ref):
        if asked.stream:
            have = None if started.existed else 0
            return StartedStream(await stream_from(services, started.ref, CHAT_COMPLETIONS.name, have))
        message = await whole_message(request, services, started.ref, until)
    if message is None:
        return Response(status_code=CLIENT_LEFT)
    headers = place_headers(started.ref)
    if message.state == "aborted":
        raise generation_error(STOPPED, headers)
    return json_answer(chat_completion(message, asked.options), headers=headers)


async def list_models(request: Request) -> Response:
    services, _ = context(request)
    models = services.models
    names = sorted(models.names, key=lambda name: name != models.default)
    return json_answer(ModelList([ModelObject(name) for name in names]))


async def view_model(request: Request) -> Response:
    services, _ = context(request)
    name = path_id(request, "model")
    if services.models.get(name) is None:
        raise ApiError(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")
    return json_answer(ModelObject(name))


OPERATIONS = (
    Operation(
        name="create_chat_completion",
        method="POST",
        path="/v1/chat/completions",
        handler=create_chat_completion,
        summary="Chat Completions of OpenAI's API; leaving does not stop the answer.",
        answers={200: (ChatCompletion, "stream")},
        errors=(400, 404, 408, 409, 410, 413, 415, 422, 429, 502, 503, 504),
        body=CompletionBody,
        parameters=(KEY,),
    ),
    Operation(
        name="list_models",
        method="GET",
        path="/v1/models",
        handler=list_models,
        summary="The models that can be asked for.",
        answers={200: (ModelList,)},
    ),
    Operation(
        name="view_model",
        method="GET",
        path="/v1/models/{model:path}",
        handler=view_model,
        summary="One of them.",
        answers={200: (ModelObject,)},
        errors=(400, 404),
    ),
)
