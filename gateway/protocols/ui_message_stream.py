"""Owns the AI SDK's wire: UI message stream v1, as `ai` 5 to 7 read it.

One chunk is one SSE event; its `id:` is `<message>:<ordinal>:<epoch>`. The first is always `start` with the
message's id, the last always `finish` followed by `[DONE]`, also after `abort` and `error`: clients that
reconnect do so until they see `finish`.

An answer that goes on under an assistant message which the client already has (`Created.options`) begins with the
chunks that build that message (`prologue`). Whoever sent the message begins behind them; whoever reloads needs them.

A `reset` makes what was said void, and this protocol cannot say that: text once delivered stays. So the
connection breaks, and the client's next request is answered without the void part (`answers_late`). Clients
that know `reset-step` (ai 7.0.112 and later) may have it said in the stream instead: the wire `ui-steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from gateway.protocols.base import SSE_HEADERS, Breaking, Wire
from gateway.protocols.ui_parts import rebuild
from shared import events as ev
from shared.events import encode_event, encode_json
from shared.ids import quote
from shared.log.types import Entry
from shared.log.usage import usage_metadata
from shared.outline import Outline

DONE = b"data: [DONE]\n\n"
NOTHING = b'{"type":"finish-step"}'
"""A chunk that changes nothing in any client: keeps ordinals where they are."""
START_STEP = b'{"type":"start-step"}'
_DELTAS = (b'{"type":"text-delta"', b'{"type":"reasoning-delta"', b'{"type":"tool-input-delta"')
_PASSED = (
    ev.FinishStep, ev.TextStart, ev.TextEnd, ev.ReasoningStart, ev.ReasoningEnd, ev.ToolInputStart,
    ev.ToolInputAvailable, ev.ToolInputError, ev.ToolOutputAvailable, ev.ToolOutputError, ev.SourceUrl,
    ev.SourceDocument, ev.File, ev.Data, ev.MessageMetadata, ev.Abort, ev.Error,
)  # fmt: skip
_PARTS = (
    ev.TextStart, ev.ReasoningStart, ev.ToolInputStart, ev.ToolInputAvailable, ev.ToolInputError, ev.SourceUrl,
    ev.SourceDocument, ev.File, ev.Data,
)  # fmt: skip


def prologue(message_id: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the first entry's chunks: `start`, and for a continued message what it has so far and `start` again."""
    start = {"type": "start", "messageId": ui_message_id(message_id, options)}
    parts = options.get("parts")
    before = rebuild(parts) if isinstance(parts, list) else []
    return [start, *before, start] if before else [start]


def ui_message_id(message_id: str, options: Mapping[str, Any]) -> str:
    """Return the id under which clients know the message: that of the assistant message it continues, or its own."""
    continued = options.get("message_id")
    return continued if isinstance(continued, str) and continued else message_id


class UiEncoder:
    """Holds what is open, and how many chunks there were.

    in_band: say `reset-step` where that undoes all of it. void_until: the sequence number of a `reset` that is known
    beforehand; of what it voids only the prologue is given, or (`fill`) as many chunks that change nothing.
    """

    def __init__(self, *, in_band: bool = False, void_until: int = 0, fill: bool = False) -> None:
        self._in_band = in_band
        self._void_until = void_until
        self._fill = fill
        self._hidden = False
        self._bordered = False
        self._next = 0
        self._message = b""
        self._epoch = 0
        self._outline = Outline()
        self._begin()

    def _begin(self) -> None:
        """An attempt begins: nothing was said."""
        self._outline.clear()
        self._steps = 0
        self._spoke = False
        self._loose = False
        self._step_stands = False
        self._finish: ev.Finish | None = None
        self._said: set[str] = set()

    def encode(self, entry: Entry) -> Sequence[bytes]:
        self._epoch = entry.cursor.epoch
        self._hidden = entry.cursor.seq <= self._void_until and not entry.raw.startswith(b'{"type":"created"')
        if entry.raw.startswith(_DELTAS):
            frames = [self._frame(entry.raw)]
        else:
            frames = self._event(entry.event)
        if not self._hidden:
            return frames
        if not self._fill:
            return ()
        # One step border is given for real: the attempt that counts then draws none, as for whoever saw it live.
        border = not self._bordered and entry.raw == START_STEP
        self._bordered = self._bordered or border
        self._next -= len(frames)
        return [self._frame(START_STEP if border else NOTHING) for _ in frames]

    def _frame(self, chunk: bytes) -> bytes:
        number, self._next = self._next, self._next + 1
        return b"id: %b:%d:%d\ndata: %b\n\n" % (self._message, number, self._epoch, chunk)

    def _event(self, event: ev.Event) -> list[bytes]:
        match event:
            case ev.Created(message_id=message_id, options=options, wire=wire):
                self._message = quote(message_id).encode()
                own = options if wire == NAME else {}
                return [self._frame(encode_json(chunk)) for chunk in prologue(message_id, own)]
            case ev.Start(message_metadata=metadata):
                # Clients know since the first entry that it begins, and under which id.
                return [self._frame(encode_event(ev.MessageMetadata(metadata)))] if isinstance(metadata, dict) else []
            case ev.StartStep():
                return self._start_step(event)
            case ev.Reset():
                return [self._reset()]
            case ev.Finish():
                self._finish = event
                return []
            case ev.End():
                return self._end(event)
            case _ if isinstance(event, _PASSED):
                return [self._passed(event)]
            case _:
                return []  # control entries, and what a newer release writes: clients die of chunks they do not know

    def _passed(self, event: Any) -> bytes:
        self._outline.apply(event)
        if isinstance(event, _PARTS):
            self._spoke = True
            self._loose = self._loose or self._steps == 0
        if isinstance(event, ev.Abort | ev.Error):
            self._said.add(type(event).__name__)
        # Some releases die of a member that they do not know.
        if isinstance(event, ev.TextStart) and event.refusal:
            event = ev.TextStart(event.id)
        if isinstance(event, ev.ToolInputStart):
            event = ev.ToolInputStart(event.tool_call_id, event.tool_name)
        return self._frame(encode_event(event))

    def _start_step(self, event: ev.StartStep) -> list[bytes]:
        self._outline.apply(event)
        self._steps += 1
        stands, self._step_stands = self._step_stands, False
        return [self._frame(NOTHING if stands else START_STEP)]

    def _reset(self) -> bytes:
        """Say that everything of this attempt is void, as well as this wire can."""
        spoke, steps = self._spoke, self._steps
        undone_by_step = self._in_band and steps == 1 and not self._loose
        self._begin()
        # `reset-step` leaves the step's border standing, which the next attempt would draw again.
        self._step_stands = self._bordered if self._hidden else undone_by_step
        if steps == 0 and not spoke:
            return self._frame(NOTHING)
        return self._frame(b'{"type":"reset-step"}') if undone_by_step else Breaking(self._frame(NOTHING))

    def _end(self, end: ev.End) -> list[bytes]:
        closing: list[ev.Event] = [*self._outline.part_ends()]
        if self._outline.in_step:
            closing.append(ev.FinishStep())
        reason: Literal["other", "error"] = "other"
        if end.state == "aborted" and "Abort" not in self._said:
            closing.append(ev.Abort())
        if end.state == "failed":
            reason = "error"
            if "Error" not in self._said:
                closing.append(ev.Error("" if end.error is None else end.error.message))
        finish = self._finish
        if finish is None:
            finish = ev.Finish(reason) if end.usage is None else ev.Finish(reason, usage_metadata(end.usage))
        return [*(self._frame(encode_event(event)) for event in closing), self._frame(encode_event(finish)) + DONE]


NAME = "ui"
_HEADERS = {**SSE_HEADERS, "x-vercel-ai-ui-message-stream": "v1"}

UI = Wire(
    name=NAME,
    make_encoder=UiEncoder,
    prologue=lambda retry_ms: b"retry: %d\n" % retry_ms,
    headers=_HEADERS,
    settles=True,
)
"""For every client. A `reset` breaks the connection."""
UI_STEPS = replace(UI, name="ui-steps", make_encoder=partial(UiEncoder, in_band=True))
"""For clients that know `reset-step`. Has the same ordinals."""


def answers_late(wire: Wire, void_until: int, *, fill: bool) -> Wire:
    """Return `wire` for a viewer that comes after the `reset` at `void_until` and has nothing of what it voids."""
    return replace(
        wire,
        make_encoder=partial(UiEncoder, in_band=wire.name == UI_STEPS.name, void_until=void_until, fill=fill),
    )
