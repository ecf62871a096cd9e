"""Owns the meaning of Responses stream events: data of one server-sent event in, events out. No I/O.

Servers leave out numbers and indexes, tell things only at the end, or both forms of reasoning at once; each text is
told once. The answer counts as finished only if the response said that it is completed or incomplete.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared import events as ev
from worker.upstreams.base import UpstreamError
from worker.upstreams.chat_events import read_usage
from worker.upstreams.failures import from_event
from worker.upstreams.refusals import Refusal
from worker.upstreams.responses_calls import Calls
from worker.upstreams.responses_output import Texts, as_events, text_of

_INCOMPLETE: dict[str, ev.FinishReason] = {"max_output_tokens": "length", "content_filter": "content-filter"}

_ASIDE = ("", "error", "keepalive", "created", "queued", "in_progress")
"""Kinds that may be read any number of times; where they stand among the others says nothing."""


class ResponsesEvents:
    """Reads the events of one response. The same events give the same result, so that a replay can be matched."""

    def __init__(self, response_id: str, *, tells_id: bool) -> None:
        """`response_id`: known from before, or empty; `tells_id`: whether one that was not is worth an event."""
        self.response_id = response_id
        self._tells_id = tells_id
        self._number = -1
        self._numbered = True
        """Whether every event so far had a number of its own, each higher than the one before."""
        self._taken = 0
        self._to_drop = 0
        self._attached_again = False
        self.reason: ev.FinishReason | None = None
        self.usage: ev.Usage | None = None
        self._calls = Calls()
        self._reasoning = ""
        self._texts = Texts()
        self._sources = 0
        self._refusal = Refusal()

    @property
    def finished(self) -> bool:
        return self.reason is not None

    @property
    def number(self) -> int:
        """The sequence number after which to go on; -1: from the beginning."""
        return self._number if self._numbered else -1

    def attach_again(self) -> None:
        """Expect the run after `number`, or from its beginning: what was taken of it is not told again."""
        self._attached_again = True
        self._to_drop = 0 if self.number >= 0 else self._taken

    def feed(self, data: bytes) -> list[ev.Event]:
        """Return what one event says; raise `UpstreamError` if it is an error or no event at all."""
        if data.startswith(b"[DONE]") or not data.strip():
            return []
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise UpstreamError("upstream_error", "The model's stream is not in the form expected.", retryable=True)
        kind = str(event.get("type", ""))
        return self._read(kind, event) if self._is_new(kind, event.get("sequence_number")) else []

    def close(self) -> list[ev.Event]:
        """Return the events of the end; raise `UpstreamError` if the response never came to one."""
        if self.reason is None:
            raise UpstreamError("upstream_interrupted", retryable=True)
        reason = "tool-calls" if self.reason == "stop" and self._calls.told else self.reason
        return [ev.Finish(reason)]

    def _is_new(self, kind: str, number: object) -> bool:
        """Take note of an event; tell whether it is another than those taken before the run was attached to again."""
        if kind.removeprefix("response.") in _ASIDE:
            return True
        if self._numbered:
            if isinstance(number, int) and number > self._number:
                self._number = number
            elif isinstance(number, int) and self._attached_again:
                return False
            else:
                self._numbered = False
        if self._to_drop:
            self._to_drop -= 1
            return False
        self._taken += 1
        return True

    def _read(self, kind: str, event: dict[str, Any]) -> list[ev.Event]:
        match kind.removeprefix("response."):
            case "output_text.delta" | "refusal.delta":
                return self._text(kind, event)
            case "output_text.done" | "refusal.done":
                whole = text_of(event, "text") or text_of(event, "refusal")
                return self._say(kind, self._texts.rest(_place(event), whole))
            case "reasoning_text.delta" | "reasoning_summary_text.delta":
                return self._thought(kind, event)
            case "reasoning_summary_part.added" if event.get("summary_index"):
                return self._thought("response.reasoning_summary_text.delta", {"delta": "\n\n"})
            case (
                "output_item.added"
                | "output_item.done"
                | "function_call_arguments.delta"
                | "function_call_arguments.done"
            ):
                return self._calls.read(kind, event)
            case "output_text.annotation.added":
                return self._source(event.get("annotation"))
            case "created" | "queued" | "in_progress":
                return self._opening(event)
            case "completed" | "incomplete" | "failed":
                return self._ending(kind, event.get("response"))
            case "error":
                raise from_event(event.get("error") or event)
            case "":
                return self._no_event(event)
            case _:
                pass  # parts opening and closing say nothing new; keepalives nothing at all
        return []

    def _opening(self, event: dict[str, Any]) -> list[ev.Event]:
        response = event.get("response")
        known, self.response_id = self.response_id, text_of(response, "id") or self.response_id
        return [ev.Upstream(self.response_id)] if self._tells_id and self.response_id and not known else []

    def _no_event(self, body: dict[str, Any]) -> list[ev.Event]:
        if body.get("error"):
            raise from_event(body["error"])
        if body.get("object") != "response":
            return []
        if body.get("status") not in ("completed", "incomplete", "failed", "cancelled"):
            raise UpstreamError("upstream_error", "The model's answer is not a stream.")
        return self._ending(str(body["status"]), body)  # all at once, from a server that does not stream

    def _text(self, kind: str, event: dict[str, Any]) -> list[ev.Event]:
        delta = text_of(event, "delta")
        if delta:
            self._texts.piece(_place(event), delta)
        return self._say(kind, delta)

    def _say(self, kind: str, text: str) -> list[ev.Event]:
        if not text:
            return []
        return self._refusal.feed(text) if kind.startswith("response.refusal.") else [ev.TextDelta("", text)]

    def _thought(self, kind: str, event: dict[str, Any]) -> list[ev.Event]:
        self._reasoning = self._reasoning or kind
        delta = event.get("delta")
        if kind != self._reasoning or not isinstance(delta, str) or not delta:
            return []  # the summary of what is told in full, or the other way round
        return [ev.ReasoningDelta("", delta)]

    def _source(self, annotation: object) -> list[ev.Event]:
        url = text_of(annotation, "url")
        if not url:
            return []
        self._sources += 1
        return [ev.SourceUrl(f"source-{self._sources}", url, text_of(annotation, "title") or msgspec.UNSET)]

    def _ending(self, kind: str, response: object) -> list[ev.Event]:
        body: dict[str, Any] = response if isinstance(response, dict) else {}
        self.usage = read_usage(body.get("usage")) or self.usage
        status = body.get("status") or kind.removeprefix("response.")
        if status == "failed":
            raise from_event(body.get("error"))
        if status == "cancelled":
            raise UpstreamError("upstream_interrupted", "The model's run was cancelled upstream.")
        out = self._untold(body.get("output"))
        details = body.get("incomplete_details")
        if status == "incomplete":
            # Whatever the reason, it is not whole: of all that wires can say, `length` says that to every client.
            self.reason = _INCOMPLETE.get(text_of(details, "reason"), "length")
        else:
            self.reason = "stop"
        return out

    def _untold(self, output: object) -> list[ev.Event]:
        """Return what of an output nothing has told before: some servers tell of calls, or of everything, only there.

        By kind, not by name: an item may have other names there than it had before.
        """
        begun = self._calls.begun
        spoken, thought = self._texts.begun, bool(self._texts.begun or self._reasoning)
        out: list[ev.Event] = []
        for kind, event in as_events(output):
            if kind == "response.output_item.done":
                told = bool(begun) and text_of(event["item"], "call_id") not in begun
            else:
                told = thought if kind.startswith("response.reasoning") else spoken
            out += [] if told else self._read(kind, event)
        return [*out, *self._calls.close()]


def _place(event: dict[str, Any]) -> tuple[object, object]:
    return event.get("item_id"), event.get("content_index")
