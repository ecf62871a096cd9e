"""Responses on the wire: the numbered events of one answer and its response object. Pure; no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from deploy.scripted_model.gathered import Gathered
from deploy.scripted_model.script import Part, Piece

_encode = msgspec.json.encode
JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseForm:
    """What one response object repeats from its request."""

    response_id: str
    created_at: int
    model: str
    input_tokens: int
    background: bool = False
    echo: JsonObject = field(default_factory=dict)  # instructions, metadata, tools and their like


@dataclass(frozen=True, slots=True)
class _Wording:
    """How one kind of part names its events."""

    prefix: str
    delta: str
    content_type: str | None


_WORDINGS = {
    "reasoning": _Wording("rs", "response.reasoning_text", "reasoning_text"),
    "text": _Wording("msg", "response.output_text", "output_text"),
    "tool": _Wording("fc", "response.function_call_arguments", None),
}


class ResponseFrames:
    """Encodes one answer as Responses events; sequence numbers start at 0 and leave none out."""

    def __init__(self, form: ResponseForm) -> None:
        self.form = form
        self.status = "queued" if form.background else "in_progress"
        self.tokens_at: list[int] = []  # per event: tokens said up to and including it
        self._gathered = Gathered()
        self._error: JsonObject | None = None
        self._incomplete: JsonObject | None = None
        self._open: Part | None = None
        self._index = -1  # of the latest output item
        self._delta_head = b""
        self._delta_middle = b""
        self._delta_tail = b""

    @property
    def response_id(self) -> str:
        """The id of the response."""
        return self.form.response_id

    def opening(self) -> bytes:
        """Return the lifecycle events before any output."""
        frames = self._lifecycle("response.created")
        if self.form.background:
            frames += self._lifecycle("response.queued")
        self.status = "in_progress"
        return frames + self._lifecycle("response.in_progress")

    def piece(self, piece: Piece) -> bytes:
        """Return the events of one piece: those that open its item first, if it is the item's first."""
        frames = b""
        if piece.part is not self._open:
            frames = self._close_item() + self._open_item(piece.part)
        self._gathered.add(piece)
        number = b"%d" % self._next_number()
        return frames + self._delta_head + number + self._delta_middle + _encode(piece.text) + self._delta_tail

    def completed(self, cut_short: bool) -> bytes:
        """Return the events that end a response that said all it may."""
        frames = self._close_item()
        self.status = "incomplete" if cut_short else "completed"
        if cut_short:
            self._incomplete = {"reason": "max_output_tokens"}
        return frames + self._lifecycle(f"response.{self.status}")

    def cancelled(self) -> bytes:
        """Return the event that ends a cancelled response; there is no event of that name, so it is an incomplete."""
        self.status = "cancelled"
        return self._lifecycle("response.incomplete")

    def failed(self, code: str, message: str) -> bytes:
        """Return the event that ends a failed response."""
        self.status = "failed"
        self._error = {"code": code, "message": message}
        return self._lifecycle("response.failed")

    def snapshot(self) -> JsonObject:
        """Return the response object as it is now."""
        usage = None if self.status in ("queued", "in_progress") else self._usage()
        return {
            "id": self.form.response_id,
            "object": "response",
            "created_at": self.form.created_at,
            "status": self.status,
            "background": self.form.background,
            "error": self._error,
            "incomplete_details": self._incomplete,
            "model": self.form.model,
            "output": [self._item(index, part, text) for index, (part, text) in enumerate(self._gathered.parts())],
            "usage": usage,
            **self.form.echo,
        }

    def _event(self, kind: str, fields: JsonObject) -> bytes:
        number = self._next_number()
        return b"event: %b\ndata: %b\n\n" % (
            kind.encode(),
            _encode({"type": kind, "sequence_number": number, **fields}),
        )

    def _next_number(self) -> int:
        self.tokens_at.append(self._gathered.tokens)
        return len(self.tokens_at) - 1

    def _lifecycle(self, kind: str) -> bytes:
        return self._event(kind, {"response": self.snapshot()})

    def _open_item(self, part: Part) -> bytes:
        self._open = part
        self._index += 1
        wording = _WORDINGS[part.kind]
        item = self._item(self._index, part, None)
        frames = self._event("response.output_item.added", {"output_index": self._index, "item": item})
        place: JsonObject = {"item_id": item["id"], "output_index": self._index}
        if wording.content_type:
            place["content_index"] = 0
            frames += self._event("response.content_part.added", {**place, "part": _content(wording.content_type, "")})
        kind = f"{wording.delta}.delta".encode()
        self._delta_head = b'event: %b\ndata: {"type":"%b","sequence_number":' % (kind, kind)
        self._delta_middle = b"," + _encode(place)[1:-1] + b',"delta":'
        self._delta_tail = b',"logprobs":[]}\n\n' if part.kind == "text" else b"}\n\n"
        return frames

    def _close_item(self) -> bytes:
        if self._open is None:
            return b""
        part, text = self._gathered.parts()[-1]
        self._open = None
        wording = _WORDINGS[part.kind]
        done = f"{wording.delta}.done"
        item = self._item(self._index, part, text)
        place: JsonObject = {"item_id": item["id"], "output_index": self._index}
        if wording.content_type is None:
            frames = self._event(done, {**place, "name": part.name, "arguments": text})
        else:
            place["content_index"] = 0
            logprobs: JsonObject = {"logprobs": []} if part.kind == "text" else {}
            frames = self._event(done, {**place, "text": text, **logprobs})
            filled = _content(wording.content_type, text)
            frames += self._event("response.content_part.done", {**place, "part": filled})
        return frames + self._event("response.output_item.done", {"output_index": self._index, "item": item})

    def _item_id(self, index: int, part: Part) -> str:
        return f"{_WORDINGS[part.kind].prefix}_{self.form.response_id.removeprefix('resp_')}{index}"

    def _item(self, index: int, part: Part, text: str | None) -> JsonObject:
        item: JsonObject = {"id": self._item_id(index, part), "status": self._item_status(part, text)}
        content = [] if text is None else [_content(_WORDINGS[part.kind].content_type or "", text)]
        match part.kind:
            case "text":
                return {**item, "type": "message", "role": "assistant", "content": content}
            case "reasoning":
                return {**item, "type": "reasoning", "summary": [], "content": content}
            case "tool":
                call = {"call_id": part.call_id, "name": part.name, "arguments": text or ""}
                return {**item, "type": "function_call", **call}

    def _item_status(self, part: Part, text: str | None) -> str:
        if text is not None and part is not self._open:
            return "completed"
        return "in_progress" if self.status in ("queued", "in_progress") else "incomplete"

    def _usage(self) -> JsonObject:
        said = self._gathered
        return {
            "input_tokens": self.form.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said.tokens,
            "output_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
            "total_tokens": self.form.input_tokens + said.tokens,
        }


def _content(kind: str, text: str) -> JsonObject:
    if kind == "output_text":
        return {"type": kind, "text": text, "annotations": [], "logprobs": []}
    return {"type": kind, "text": text}


class SilentFrames:
    """Lets `frames` keep count of an answer that is sent as one object in the end."""

    def __init__(self, frames: ResponseFrames) -> None:
        self._frames = frames

    def opening(self) -> bytes:
        """Open the response and return nothing."""
        self._frames.opening()
        return b""

    def piece(self, piece: Piece) -> bytes:
        """Keep the piece and return nothing."""
        self._frames.piece(piece)
        return b""
