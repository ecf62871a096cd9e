"""Owns the Response object: what a message amounts to in the Responses API, running or over.

The stream's encoder and every JSON answer build it here, so that `response.completed` and a later GET say the same.
An item's id is the response's own plus its place in the output: any replica names it alike.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from gateway.protocols.openai_common import failure_code, failure_of, part_arguments
from shared.events import Failure, Usage
from shared.message import Message, Part, ReasoningPart, SourceUrlPart, StepPart, TextPart, ToolPart

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
_INCOMPLETE = {"length": "max_output_tokens", "content-filter": "content_filter"}


class ResponseOptions(Struct, frozen=True, omit_defaults=True):
    """What a Response object says of its request; kept in the log so that every event can."""

    background: bool = False
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: dict[str, Any] | None = None
    store: bool = True
    temperature: float | None = None
    text: dict[str, Any] = field(default_factory=lambda: {"format": {"type": "text"}})
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = []
    top_p: float | None = None
    truncation: str = "disabled"

    @property
    def declared(self) -> set[str]:
        """Names of the functions that the client declared; only calls of these are shown to it."""
        return {str(tool.get("name")) for tool in self.tools}

    @property
    def summarised(self) -> bool:
        """Whether reasoning is shown as a summary: who asks for one looks for it there, and nowhere else."""
        return bool((self.reasoning or {}).get("summary"))


class UrlCitation(Struct, frozen=True, tag_field="type", tag="url_citation"):
    """A page that the text cites. Where in the text is not kept: both places are 0."""

    url: str
    title: str
    start_index: int = 0
    end_index: int = 0


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of a message item."""

    text: str
    annotations: list[UrlCitation] = []
    logprobs: list[Any] = []


class Refusal(Struct, frozen=True, tag_field="type", tag="refusal"):
    """Why the model will not answer, in place of text."""

    refusal: str


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Text of a reasoning item."""

    text: str


class SummaryText(Struct, frozen=True, tag_field="type", tag="summary_text"):
    """The same as a summary."""

    text: str


class MessageItem(Struct, frozen=True, tag_field="type", tag="message"):
    """Text the model wrote."""

    id: str
    status: ItemStatus
    content: list[OutputText | Refusal]
    role: Literal["assistant"] = "assistant"


class ReasoningItem(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning the model showed: as content, or as a summary where that was asked for."""

    id: str
    status: ItemStatus
    content: list[ReasoningText]
    summary: list[SummaryText] = []


class CallItem(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call that the client shall answer. `extra_content`: what the model wants back with it."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | UnsetType = UNSET


Item = MessageItem | ReasoningItem | CallItem
Kind = Literal["msg", "rs", "fc"]


class InputDetails(Struct, frozen=True):
    """Of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    """Of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens, over all attempts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(Struct, frozen=True):
    """Why a response is not whole. `cancelled` is ours: OpenAI gives no reason there."""

    reason: str


class ResponseError(Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class ResponseObject(Struct, frozen=True):
    """A response."""

    id: str
    created_at: int
    status: ResponseStatus
    background: bool
    error: ResponseError | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, Any] | None
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: str
    usage: ResponseUsage | None
    object: Literal["response"] = "response"


class Identity(Struct, frozen=True):
    """What never changes about a response."""

    id: str
    created_at: int
    model: str
    options: ResponseOptions

    def item_id(self, kind: Kind, index: int) -> str:
        """Return the id of the item at `index` of the output."""
        return f"{kind}_{self.id.removeprefix('resp_')}_{index}"


class Outcome(Struct, frozen=True):
    """How a response stands, and why."""

    status: ResponseStatus
    error: Failure | None = None
    incomplete: str | None = None


def outcome_of(message: Message) -> Outcome:
    """Return how a folded message stands."""
    failure = failure_of(message)
    if failure is not None:
        return Outcome("failed", error=failure)
    match message.state:
        case "queued":
            return Outcome("queued")
        case "done":
            reason = _INCOMPLETE.get(message.finish_reason or "")
            return Outcome("completed") if reason is None else Outcome("incomplete", incomplete=reason)
        case "aborted":
            return Outcome("cancelled", incomplete="cancelled")
        case _:
            return Outcome("in_progress")


def build(identity: Identity, outcome: Outcome, output: list[Item], usage: Usage | None) -> ResponseObject:
    """Put a Response object together."""
    options, failure = identity.options, outcome.error
    return ResponseObject(
        id=identity.id,
        created_at=identity.created_at,
        status=outcome.status,
        background=options.background,
        error=None if failure is None else ResponseError(failure_code(failure), failure.message),
        incomplete_details=None if outcome.incomplete is None else Incomplete(outcome.incomplete),
        instructions=options.instructions,
        max_output_tokens=options.max_output_tokens,
        metadata=options.metadata,
        model=identity.model,
        output=output,
        parallel_tool_calls=options.parallel_tool_calls,
        previous_response_id=options.previous_response_id,
        reasoning=options.reasoning,
        store=options.store,
        temperature=options.temperature,
        text=options.text,
        tool_choice=options.tool_choice,
        tools=options.tools,
        top_p=options.top_p,
        truncation=options.truncation,
        usage=None if usage is None else _usage(usage),
    )


def response_of(message: Message, options: ResponseOptions) -> ResponseObject:
    """Return the response that a folded message amounts to so far."""
    identity = Identity(message.message_id, message.created_at, message.model, options)
    return build(identity, outcome_of(message), items_of(message, identity), message.usage)


def items_of(message: Message, identity: Identity) -> list[Item]:
    """Return a message's output items, in the order in which they were begun."""
    out: list[Item] = []
    declared = identity.options.declared
    over = message.state in ("done", "failed", "aborted")
    cut = _last_part(message) if over and outcome_of(message).status != "completed" else None
    cited = _citations(message)
    for at, part in enumerate(message.parts):
        item = _item(part, identity, len(out), declared, _status(part, over, part is cut), cited.get(at, []))
        if item is not None:
            out.append(item)
    return out


def _last_part(message: Message) -> Part | None:
    """Return what the model wrote last: where an answer is cut off, this is what was."""
    written = (TextPart, ReasoningPart, ToolPart, StepPart)
    return next((part for part in reversed(message.parts) if isinstance(part, written)), None)


def _citations(message: Message) -> dict[int, list[UrlCitation]]:
    """Return what the text part at each place cites: what comes in it or right behind it, else the next one does."""
    out: dict[int, list[UrlCitation]] = {}
    waiting: list[UrlCitation] = []
    current = waiting
    for at, part in enumerate(message.parts):
        match part:
            case SourceUrlPart(url=url, title=title):
                current.append(UrlCitation(url, title or url))
            case TextPart(refusal=False):
                out[at] = current = waiting
                waiting = []
            case TextPart() | ReasoningPart() | ToolPart() | StepPart():
                current = waiting
            case _:
                pass
    return out


def _item(
    part: Part, identity: Identity, index: int, declared: set[str], status: ItemStatus, cited: list[UrlCitation]
) -> Item | None:
    match part:
        case TextPart(text=text, refusal=refusal):
            content = Refusal(text) if refusal else OutputText(text, cited)
            return MessageItem(identity.item_id("msg", index), status, [content])
        case ReasoningPart(text=text) if identity.options.summarised:
            return ReasoningItem(identity.item_id("rs", index), status, [], [SummaryText(text)])
        case ReasoningPart(text=text):
            return ReasoningItem(identity.item_id("rs", index), status, [ReasoningText(text)])
        case ToolPart(tool_name=name) if name in declared:
            item_id, extra = identity.item_id("fc", index), part.provider_metadata or UNSET
            return CallItem(item_id, status, part.tool_call_id, name, part_arguments(part), extra)
        case _:
            return None


def _status(part: Part, over: bool, cut: bool) -> ItemStatus:
    """Return an item's status. `over`: the message is; `cut`: this is where it was cut off."""
    match part:
        case ToolPart(state="input-streaming") | TextPart(state="streaming") | ReasoningPart(state="streaming"):
            return "incomplete" if over else "in_progress"
        case ToolPart(state="input-error") | TextPart() | ReasoningPart():
            return "incomplete" if cut else "completed"
        case _:
            return "completed"


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        usage.input_tokens,
        InputDetails(usage.cached_tokens),
        usage.output_tokens,
        OutputDetails(usage.reasoning_tokens),
        usage.total_tokens,
    )
