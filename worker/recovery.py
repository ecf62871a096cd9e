"""Owns the decision how an answer goes on after a worker died or handed it over. Pure: the log in, a plan out.

In this order: attach to the upstream's own run again, continue by prefill, restart behind a `reset`, give up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import msgspec

from shared import events as ev
from shared.fold import Delta, fold, part_and_text
from shared.jobs import GenerationRequest
from shared.log.types import Entry
from shared.log.usage import Spending
from shared.message import Message
from shared.models import ModelSpec
from shared.outline import Outline, outline_of

LEAST_PREFILL = 64
"""Characters below which a restart is cheaper than the risk of a visible seam."""
_CHARS_PER_TOKEN = 4
_CONTROL = (ev.Created, ev.Attempt, ev.Reset, ev.Upstream, ev.UsageSoFar)
_EMPTY = (ev.Start, ev.StartStep, ev.TextStart, ev.ReasoningStart, *_CONTROL)
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the next attempt begins."""

    reason: ev.AttemptReason
    mode: ev.AttemptMode
    entries: Sequence[Entry]
    """The whole log so far."""
    content: Sequence[ev.Event]
    """What of it still counts: everything after the last reset."""
    partial: str = ""
    """continue: the text to go on from."""
    upstream_id: str = ""
    """reattach: the upstream's name for the run; restart: a run that must not go on beside the new one."""
    ended: ev.TerminalState | None = None
    """The answer is whole and only its end is missing."""

    @property
    def outline(self) -> Outline:
        """What of the content is open."""
        return outline_of(self.content)

    @property
    def parts(self) -> set[str]:
        """The ids of the text and reasoning parts that the content has had."""
        return {event.id for event in self.content if isinstance(event, ev.TextStart | ev.ReasoningStart)}

    @property
    def prior(self) -> Message | None:
        """What all earlier attempts wrote, one's parts behind another's; None before the first.

        Those of void attempts included: what a tool did stays done although the text around it is void.
        """
        if self.reason == "first":
            return None
        message = fold(self.content)
        void = [fold(attempt).parts for attempt in _void([entry.event for entry in self.entries])]
        message.parts = [*chain.from_iterable(void), *message.parts]
        return message

    def spending(self) -> Spending:
        """Return what the log knows of the cost of earlier attempts, this one begun."""
        spending = Spending(entry.event for entry in self.entries)
        spending.apply(ev.Attempt(0, self.reason, self.mode))
        return spending


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt is allowed."""

    code: str = "worker_lost"


def plan_attempt(
    spec: ModelSpec | None, request: GenerationRequest, entries: Sequence[Entry], *, released: bool, prefills: bool
) -> Plan | GiveUp:
    """Decide from the whole log. `released`: the last owner handed it over; `prefills`: nothing speaks against it."""
    events = [entry.event for entry in entries]
    if not any(isinstance(event, ev.Attempt) for event in events):
        return Plan("first", "start", entries, events)
    reason: ev.AttemptReason = "drain" if released else "worker_lost"
    content = _after_reset(events)
    ended = _ended(content)
    if ended is not None:
        return Plan(reason, "continue", entries, content, ended=ended)
    upstream_id = _upstream_id(content, spec)
    if spec is not None and not upstream_id and _is_last(spec, events):
        return GiveUp()
    if all(isinstance(event, _EMPTY) for event in content):
        # Nothing that a viewer could have read is taken back.
        mode: ev.AttemptMode = "reattach" if upstream_id else "start"
        return Plan(reason, mode, entries, content, upstream_id=upstream_id)
    if spec is None:
        return GiveUp("model_not_found")
    return _with_content(spec, request, Plan(reason, "restart", entries, content), prefills)


def _with_content(spec: ModelSpec, request: GenerationRequest, restart: Plan, prefills: bool) -> Plan | GiveUp:
    content = restart.content
    upstream_id = _upstream_id(content, spec)
    if spec.recovery == "restart":
        return replace(restart, upstream_id=upstream_id)
    if upstream_id:
        return Plan(restart.reason, "reattach", restart.entries, content, upstream_id=upstream_id)
    text = _plain_text(content)
    if spec.kind == "chat_completions" and spec.prefill and prefills and text is not None and _allows_prefill(request):
        return Plan(restart.reason, "continue", restart.entries, content, partial=text)
    return restart


def _is_last(spec: ModelSpec, events: Sequence[ev.Event]) -> bool:
    """Tell whether nothing may be called or run again after `events`, the whole log."""
    if spec.recovery != "auto":
        return spec.recovery == "fail"
    # A tool may have done something by now: one that answered, or one of an agent, which runs its own, that began.
    did: tuple[type[ev.Event], ...] = (ev.ToolOutputAvailable, ev.ToolOutputError)
    if spec.kind == "agent":
        did = (*did, ev.ToolInputAvailable)
    return any(isinstance(event, did) for event in events)


def _void(events: list[ev.Event]) -> list[list[ev.Event]]:
    """Return what each `reset` made void."""
    out: list[list[ev.Event]] = []
    start = 0
    for index, event in enumerate(events):
        if isinstance(event, ev.Reset):
            out.append(events[start:index])
            start = index + 1
    return out


def _after_reset(events: list[ev.Event]) -> list[ev.Event]:
    for index in range(len(events) - 1, -1, -1):
        if isinstance(events[index], ev.Reset):
            return events[index + 1 :]
    return events


def _ended(content: Sequence[ev.Event]) -> ev.TerminalState | None:
    for event in reversed(content):
        if not isinstance(event, ev.Attempt | ev.UsageSoFar):
            match event:
                case ev.Finish():
                    return "done"
                case ev.Abort():
                    return "aborted"
                case ev.Error():
                    return "failed"
                case _:
                    return None
    return None


def _upstream_id(content: Sequence[ev.Event], spec: ModelSpec | None) -> str:
    if spec is None or not spec.background:
        return ""
    return next((event.id for event in reversed(content) if isinstance(event, ev.Upstream)), "")


def _plain_text(content: Sequence[ev.Event]) -> str | None:
    """Return the text if it is all that was written, closed reasoning before it aside, and long enough."""
    texts: list[str] = []
    parts = 0
    outline = Outline()
    for event in content:
        match event:
            case ev.TextDelta(delta=delta):
                texts.append(delta)
            case ev.ReasoningStart() | ev.ReasoningDelta() if parts:
                return None  # text, then more reasoning: a prefill would lose the order
            case ev.TextStart(refusal=True):
                return None  # nothing that a model goes on with
            case ev.TextStart():
                parts += 1
            case _ if not isinstance(event, (*_EMPTY, ev.ReasoningDelta, ev.ReasoningEnd, ev.MessageMetadata)):
                return None
        outline.apply(event)
    text = "".join(texts)
    only_text_open = parts == 1 and list(outline.parts.values()) == [True]
    return text if only_text_open and len(text.rstrip()) >= LEAST_PREFILL else None


def _allows_prefill(request: GenerationRequest) -> bool:
    params = request.params
    form = params.get("response_format")
    plain = form is None or (isinstance(form, dict) and form.get("type") == "text")
    grammar = any(
        params.get(key) for key in ("guided_json", "guided_grammar", "guided_regex", "grammar", "json_schema")
    )
    forced_tool = params.get("tool_choice") not in (None, "auto", "none")
    return plain and not grammar and not forced_tool and params.get("n", 1) in (None, 1)


def continuation(request: GenerationRequest, spec: ModelSpec, partial: str) -> tuple[GenerationRequest, str]:
    """Return the request that makes `spec` go on from `partial`, and the white space that it does not end with.

    Many upstreams refuse or forget white space at the end of a prefill; so it is left off there and taken off the
    beginning of what comes (see `Rebase`).
    """
    text = partial.rstrip()
    messages = list(request.messages)
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant" and isinstance(last.get("content"), str):
        text = last["content"] + text  # the caller prefilled it: the answer began after that
        messages.pop()
    messages.append({"role": "assistant", "content": text, **spec.prefill_message})
    params: dict[str, Any] = {**request.params, **spec.prefill_params}
    for name in _LIMITS:
        if isinstance(params.get(name), int):
            params[name] = max(params[name] - len(partial) // _CHARS_PER_TOKEN, 1)
    return msgspec.structs.replace(request, messages=messages, params=params), partial[len(partial.rstrip()) :]


class Rebase:
    """Takes white space that viewers already have off the beginning of a continuation."""

    def __init__(self, shown: str) -> None:
        self._left = shown

    @property
    def over(self) -> bool:
        """Whether everything from now on is new."""
        return not self._left

    def feed(self, event: ev.Event) -> ev.Event:
        """Return the event without what was shown before."""
        if not self._left or not isinstance(event, ev.TextDelta):
            return event
        common = 0
        while common < min(len(self._left), len(event.delta)) and self._left[common] == event.delta[common]:
            common += 1
        # The first character that differs ends it: the upstream did not repeat the white space.
        self._left = self._left[common:] if common == len(event.delta) else ""
        return ev.TextDelta(event.id, event.delta[common:])


class Skip:
    """Takes what the log already holds off the beginning of an upstream's replay.

    The same run read again from its beginning gives the same events, cut differently at most. So text is counted by
    characters and the rest by number; nothing is guessed by comparing words.
    """

    def __init__(self, content: Sequence[ev.Event]) -> None:
        self._events = 0
        self._chars: dict[tuple[type, str], int] = {}
        for event in content:
            if isinstance(event, Delta):
                part, text = part_and_text(event)
                self._chars[type(event), part] = self._chars.get((type(event), part), 0) + len(text)
            elif not isinstance(event, _CONTROL):
                self._events += 1

    @property
    def over(self) -> bool:
        """Whether everything the log holds has come again."""
        return not self._events and not self._chars

    def feed(self, event: ev.Event) -> ev.Event | None:
        """Return what of the event is new; None if nothing is."""
        if isinstance(event, ev.Upstream):
            return None  # the name under which we attached
        if not isinstance(event, Delta):
            if not self._events:
                return event
            self._events -= 1
            return None
        part, text = part_and_text(event)
        known = self._chars.get((type(event), part), 0)
        if not known:
            return event
        left = known - len(text)
        if left > 0:
            self._chars[type(event), part] = left
            return None
        del self._chars[type(event), part]
        return type(event)(part, text[known:]) if left < 0 else None
