"""Owns what a generation is asked to do: the request as stored with the message, and the thin queue job."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

JOB_NAME = "generate"
CANCEL_NAME = "cancel"
QUEUE_NAME = "tr:queue"
CANCELS = "tr:cancels"
"""The queue of runs to cancel: apart, so that none of them waits for a slot behind messages that do."""


class GenerationRequest(Struct, frozen=True, omit_defaults=True):
    """What to generate. Stored in the message's record until retention ends; never holds a credential.

    `messages` are Chat Completions messages (role, content, tool_calls, ...), passed on as they came;
    `params` are further parameters for the upstream (temperature, tools, max_tokens, ...).
    `wire` and `options` tell the protocol that started it and what that protocol must remember.
    """

    model: str
    messages: list[dict[str, Any]]
    params: dict[str, Any] = {}
    wire: str = "native"
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    @property
    def called(self) -> set[str]:
        """The ids of the tool calls that the conversation has."""
        given = (message.get("tool_calls") for message in self.messages)
        calls = (call for listed in given if isinstance(listed, list) for call in listed if isinstance(call, dict))
        return {call_id for call in calls if isinstance(call_id := call.get("id"), str)}


_decoder: msgspec.json.Decoder[GenerationRequest] = msgspec.json.Decoder(GenerationRequest)


def encode_request(request: GenerationRequest) -> bytes:
    """Return the request as JSON, the same bytes for equal requests (keys of free-form objects sorted)."""
    return msgspec.json.encode(request, order="deterministic")


def decode_request(raw: bytes) -> GenerationRequest:
    """Read what `encode_request` wrote; raise `msgspec.ValidationError` otherwise."""
    return _decoder.decode(raw)


class Run(Struct, frozen=True):
    """A run upstream that goes on without a connection: whose answer it is, and the upstream's name for it."""

    member: str
    model: str
    id: str
    attempt: int = 0


def encode_job_value(value: object) -> bytes:
    """The queue's codec, out: JSON, so that no Python path is baked into Redis."""
    return msgspec.json.encode(value)


def decode_job_value(raw: bytes) -> Any:
    """The queue's codec, in."""
    return msgspec.json.decode(raw)
