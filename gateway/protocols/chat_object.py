"""Owns the Chat Completions objects: the whole completion of a message, usage, finish reasons, the wire's options."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.protocols.openai_common import part_arguments
from shared.events import Usage
from shared.message import Message, ReasoningPart, SourceUrlPart, TextPart, ToolPart

ChatReason = Literal["stop", "length", "content_filter", "tool_calls"]
_REASONS: dict[str | None, ChatReason] = {
    "length": "length",
    "content-filter": "content_filter",
    "tool-calls": "tool_calls",
}


class ChatOptions(Struct, frozen=True, omit_defaults=True):
    """What the wire must remember of a request.

    `tools` are the names that the client declared. Only calls of these are shown: an agent's calls of its own tools
    are answered on our side, and a client that saw them would answer them too.
    """

    include_usage: bool = False
    tools: list[str] = []


class PromptDetails(Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: int


class CompletionDetails(Struct, frozen=True):
    """Of the answer's tokens."""

    reasoning_tokens: int


class ChatUsage(Struct, frozen=True):
    """Tokens, over all attempts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class FunctionText(Struct, frozen=True):
    """A function's name and its arguments as JSON text."""

    name: str
    arguments: str


class ChatToolCall(Struct, frozen=True):
    """A call that the client shall answer. `extra_content`: what the model wants back with it, as Google's sends it."""

    id: str
    function: FunctionText
    type: Literal["function"] = "function"
    extra_content: dict[str, Any] | UnsetType = UNSET


class ChatCitation(Struct, frozen=True):
    """A page that the answer cites. Where in the text is not kept: both places are 0."""

    url: str
    title: str
    start_index: int = 0
    end_index: int = 0


class Annotation(Struct, frozen=True):
    """What the answer is annotated with."""

    url_citation: ChatCitation
    type: Literal["url_citation"] = "url_citation"


class AssistantMessage(Struct, frozen=True):
    """The answer as one message."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatToolCall] | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class Choice(Struct, frozen=True):
    """The one choice."""

    message: AssistantMessage
    finish_reason: ChatReason
    index: int = 0
    logprobs: None = None


class ChatCompletion(Struct, frozen=True):
    """A whole chat completion."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage | None
    object: Literal["chat.completion"] = "chat.completion"


def chat_usage(usage: Usage | None) -> ChatUsage | None:
    """Return usage under this API's names, None where the upstream never told."""
    if usage is None:
        return None
    return ChatUsage(
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        PromptDetails(usage.cached_tokens),
        CompletionDetails(usage.reasoning_tokens),
    )


def chat_reason(reason: str | None, called: bool) -> ChatReason:
    """Return why the answer ended; `called`: whether the client was shown a tool call."""
    known = _REASONS.get(reason, "stop")
    return "stop" if known == "tool_calls" and not called else known


def assistant_message(message: Message, declared: list[str]) -> AssistantMessage:
    """Return the folded message as the assistant's."""
    calls = [
        ChatToolCall(
            part.tool_call_id,
            FunctionText(part.tool_name, part_arguments(part)),
            extra_content=part.provider_metadata or UNSET,
        )
        for part in message.parts
        if isinstance(part, ToolPart) and part.tool_name in declared
    ]
    thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    texts = [part.text for part in message.parts if isinstance(part, TextPart) and not part.refusal]
    refusal = "".join(part.text for part in message.parts if isinstance(part, TextPart) and part.refusal)
    return AssistantMessage(
        content=None if (calls or refusal) and not texts else "".join(texts),
        refusal=refusal or None,
        reasoning_content=thought or UNSET,
        tool_calls=calls or UNSET,
        annotations=[cite(part.url, part.title) for part in message.parts if isinstance(part, SourceUrlPart)] or UNSET,
    )


def cite(url: str, title: object) -> Annotation:
    """Return the annotation for a source; one without a title is called by its URL."""
    return Annotation(ChatCitation(url, title if isinstance(title, str) and title else url))


def chat_completion(message: Message, options: ChatOptions) -> ChatCompletion:
    """Return the completion that a finished message amounts to."""
    answer = assistant_message(message, options.tools)
    reason = chat_reason(message.finish_reason, answer.tool_calls is not UNSET)
    return ChatCompletion(
        id=message.message_id,
        created=message.created_at,
        model=message.model,
        choices=[Choice(answer, reason)],
        usage=chat_usage(message.usage),
    )
