"""Owns an output item of the Responses wire while it is written: its events, and the item it amounts to so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from gateway.protocols.responses_object import (
    CallItem,
    Item,
    ItemStatus,
    Kind,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
    SummaryText,
    UrlCitation,
)
from shared.events import encode_json

Said = tuple[str, dict[str, Any]]
"""An event's type and its fields, but for the number."""

Voice = Literal["output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments"]
"""What an item's text is; its events are named after it."""
_VOICES: dict[Kind, Voice] = {"msg": "output_text", "rs": "reasoning_text", "fc": "function_call_arguments"}
_INDEXES: dict[Voice, str] = {"reasoning_summary_text": "summary_index"}
"""How the place of an item's one part is called, where it is not `content_index`."""


@dataclass(slots=True)
class OpenItem:
    """One item. `head` and `tail` enclose number and text of its deltas: they are what a token costs.

    ended: the log has said that it is over; it is closed once `status` is another than `in_progress`.
    """

    kind: Kind
    voice: Voice
    item_id: str
    index: int
    name: str
    tool: str
    head: bytes
    middle: bytes
    tail: bytes
    pieces: list[str] = field(default_factory=list)
    status: ItemStatus = "in_progress"
    ended: bool = False
    cited: list[UrlCitation] = field(default_factory=list)
    extra: dict[str, Any] | UnsetType = UNSET

    @property
    def closed(self) -> bool:
        """Whether its end has been told."""
        return self.status != "in_progress"

    @property
    def text(self) -> str:
        """What it says so far."""
        return "".join(self.pieces)

    def as_item(self) -> Item:
        """Return the item as it stands."""
        text = self.text
        return self._item(self.status, text, [self._part(text)])

    def _item(self, status: ItemStatus, text: str, content: list[Any]) -> Item:
        match self.kind:
            case "msg":
                return MessageItem(self.item_id, status, content)
            case "rs" if self.voice == "reasoning_summary_text":
                return ReasoningItem(self.item_id, status, [], content)
            case "rs":
                return ReasoningItem(self.item_id, status, content)
            case "fc":
                return CallItem(self.item_id, status, self.name, self.tool, text, self.extra)

    def _part(self, text: str) -> OutputText | Refusal | ReasoningText | SummaryText:
        match self.voice:
            case "output_text":
                return OutputText(text, self.cited)
            case "refusal":
                return Refusal(text)
            case "reasoning_summary_text":
                return SummaryText(text)
            case _:
                return ReasoningText(text)

    @property
    def _part_events(self) -> str:
        """What the events are called that open and close its one part."""
        return "reasoning_summary_part" if self.voice == "reasoning_summary_text" else "content_part"

    def opening(self) -> Iterator[Said]:
        """Yield the events that begin it."""
        yield "response.output_item.added", {"output_index": self.index, "item": self._item("in_progress", "", [])}
        if self.kind != "fc":
            yield f"response.{self._part_events}.added", {**self._place(), "part": self._part("")}

    def delta(self, number: int, text: str) -> bytes:
        """Return the whole event of a piece of text."""
        return b"".join((self.head, str(number).encode(), self.middle, encode_json(text), self.tail))

    def cite(self, citation: UrlCitation) -> Said:
        """Add a citation and return the event that tells of it."""
        self.cited.append(citation)
        told = {"annotation_index": len(self.cited) - 1, "annotation": citation}
        return "response.output_text.annotation.added", {**self._place(), **told}

    def closing(self) -> Iterator[Said]:
        """Yield the events that end it; `status` is set already. Arguments that were cut off are not called done."""
        text = self.text
        if self.kind == "fc" and self.status == "incomplete":
            pass
        elif self.kind == "fc":
            yield f"response.{self.voice}.done", {**self._place(), "name": self.tool, "arguments": text}
        else:
            said = {**self._place(), "refusal" if self.voice == "refusal" else "text": text}
            yield f"response.{self.voice}.done", {**said, "logprobs": []} if self.voice == "output_text" else said
            yield f"response.{self._part_events}.done", {**self._place(), "part": self._part(text)}
        yield "response.output_item.done", {"output_index": self.index, "item": self.as_item()}

    def _place(self) -> dict[str, Any]:
        place = {"item_id": self.item_id, "output_index": self.index}
        return place if self.kind == "fc" else {**place, _INDEXES.get(self.voice, "content_index"): 0}


def voice_of(kind: Kind, *, refusal: bool, summarised: bool) -> Voice:
    """Return what the text of an item is."""
    if refusal:
        return "refusal"
    return "reasoning_summary_text" if kind == "rs" and summarised else _VOICES[kind]


def make_item(
    kind: Kind,
    voice: Voice,
    item_id: str,
    index: int,
    name: str,
    *,
    tool: str = "",
    extra: dict[str, Any] | UnsetType = UNSET,
) -> OpenItem:
    """Return a new item. `name`: the part's or the call's id in the log; `tool`, `extra`: a call's function and
    `extra_content`.
    """
    event = f"response.{voice}.delta"
    content = b'"%b":0,' % _INDEXES.get(voice, "content_index").encode() if kind != "fc" else b""
    return OpenItem(
        kind=kind,
        voice=voice,
        item_id=item_id,
        index=index,
        name=name,
        tool=tool,
        extra=extra,
        head=f'event: {event}\ndata: {{"type":"{event}","sequence_number":'.encode(),
        middle=b',"item_id":%b,"output_index":%d,%b"delta":' % (encode_json(item_id), index, content),
        tail=b',"logprobs":[]}\n\n' if voice == "output_text" else b"}\n\n",
    )
