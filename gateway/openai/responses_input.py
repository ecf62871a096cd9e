"""Owns the Responses API's input as Chat Completions messages.

Items of our own answers that clients name instead of repeating (`item_reference`) are looked up.
"""

from __future__ import annotations

import re

import msgspec

from gateway.access.principal import Principal
from gateway.bodies import check_messages
from gateway.openai.openai_errors import ApiError
from gateway.openai.openai_request import Json
from gateway.openai.responses_stored import load, options_of
from gateway.protocols.openai_common import told_arguments
from gateway.protocols.responses_object import Identity, Item, items_of
from gateway.services import Services
from gateway.thoughts import FIELD, with_wanted_thoughts
from shared.errors import TooLarge
from shared.events import encode_json

_OUR_ITEM = re.compile(r"(?:msg|rs|fc)_(.+)_([0-9]{1,4})", re.ASCII)
_TEXT_PARTS = ("input_text", "output_text", "text")
MOST_RESPONSES = 256
"""Responses whose items one request may name; each costs a look into the log."""


def unsupported(what: str, param: str) -> ApiError:
    """Return the refusal of something that Chat Completions has no word for."""
    return ApiError(400, f"{what} is not supported here.", code="unsupported_value", param=param)


class Conversation:
    """Chat Completions messages in the making: calls that follow each other are one assistant message's."""

    def __init__(self, messages: list[Json]) -> None:
        self.messages = messages
        self._thought = ""
        """What the assistant's next words or calls came of."""

    def think(self, thought: str) -> None:
        self._thought += thought

    def say(self, role: str, content: str | list[Json]) -> None:
        self.messages.append({"role": role, "content": content})
        self._settle()

    def call(self, call: Json) -> None:
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        last.setdefault("tool_calls", []).append(call)
        self._settle()

    def answer(self, call_id: str, output: str | list[Json]) -> None:
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
        self._settle()

    def _settle(self) -> None:
        last, thought = self.messages[-1], self._thought
        self._thought = ""
        if thought and last["role"] == "assistant":
            last[FIELD] = last.get(FIELD, "") + thought


class InputReader:
    """Reads one request's input. `references`: how many items it has named so far, beside those that it holds."""

    def __init__(self, services: Services, who: Principal) -> None:
        self._services = services
        self._who = who
        self.references = 0
        self._found_bytes = 0
        self._looked_up = 0
        self._latest: tuple[str, list[Item]] = ("", [])
        """One response and its items, which are named one behind the other."""

    async def read(self, earlier: list[Json], instructions: str | None, given: str | list[Json]) -> list[Json]:
        """Return the whole conversation; raise `ApiError` for what cannot be said upstream or is no message at all."""
        opening = [] if instructions is None else [{"role": "system", "content": instructions}]
        conversation = Conversation([*opening, *earlier])
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        for at, item in enumerate(items):
            await self._item(conversation, item, f"input[{at}]")
        if len(conversation.messages) == len(opening):
            message = "Invalid 'input': nothing in it to answer. Expected one message or more."
            raise ApiError(400, message, code="empty_array", param="input")
        check_messages(conversation.messages)
        return with_wanted_thoughts(conversation.messages)

    async def _item(self, conversation: Conversation, item: Json, where: str) -> None:
        match item.get("type", "message"):
            case "message":
                _message(conversation, item, where)
            case "function_call":
                conversation.call(_call(item, where))
            case "function_call_output":
                output = _content(item.get("output"), f"{where}.output")
                conversation.answer(_text(item, "call_id", where), output)
            case "reasoning":
                conversation.think(_thought(item))
            case "item_reference":
                await self._reference(conversation, item, where)
            case kind:
                raise unsupported(f"An input item of type {str(kind)[:60]!r}", where)

    async def _reference(self, conversation: Conversation, item: Json, where: str) -> None:
        self.references += 1
        item_id = _text(item, "id", where)
        match = _OUR_ITEM.fullmatch(item_id)
        for found in [] if match is None else await self._items(f"resp_{match[1]}", where):
            if found.id == item_id:
                self._found_bytes += len(encode_json(found))
                if self._found_bytes > self._services.settings.max_body_bytes:
                    raise TooLarge("the items that the input names are more than a request may hold")
                await self._item(conversation, msgspec.to_builtins(found), where)
                return
        raise ApiError(404, f"Item with id '{item_id[:80]}' not found.", param=where)

    async def _items(self, response_id: str, where: str) -> list[Item]:
        """Return the items of one of our responses, none if there is no such."""
        if response_id != self._latest[0]:
            if self._looked_up == MOST_RESPONSES:
                message = f"Items of more than {MOST_RESPONSES} responses are named. Send older ones as they are."
                raise ApiError(400, message, code="too_many_references", param=where)
            self._looked_up += 1
            self._latest = (response_id, await self._load(response_id))
        return self._latest[1]

    async def _load(self, response_id: str) -> list[Item]:
        try:
            request, message = await load(self._services, self._who, response_id)
        except ApiError:
            return []
        return items_of(message, Identity(message.message_id, message.created_at, message.model, options_of(request)))


def _message(conversation: Conversation, item: Json, where: str) -> None:
    role = _text(item, "role", where)
    if role not in ("user", "assistant", "system", "developer"):
        raise ApiError(400, f"Invalid value {role[:60]!r}: not a role.", code="invalid_value", param=f"{where}.role")
    content = _content(item.get("content"), f"{where}.content")
    if role == "assistant" and isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content)
    # Every server knows "system"; "developer" is OpenAI's newer name for the same.
    conversation.say("system" if role == "developer" else role, content)


def _call(item: Json, where: str) -> Json:
    function = {"name": _text(item, "name", where), "arguments": told_arguments(_text(item, "arguments", where))}
    call: Json = {"id": _text(item, "call_id", where), "type": "function", "function": function}
    extra = item.get("extra_content")
    return {**call, "extra_content": extra} if isinstance(extra, dict) else call


def _thought(item: Json) -> str:
    """Return a reasoning item's text, or its summary where it has no other: it is never refused for what it lacks."""
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if thought := "".join(text for text in texts if isinstance(text, str)):
            return thought
    return ""


def _content(value: object, where: str) -> str | list[Json]:
    """Return content as text if it is one text, else as parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ApiError(400, "Content is a string or a list of parts.", code="invalid_type", param=where)
    parts = [_part(part, f"{where}[{at}]") for at, part in enumerate(value)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(part: object, where: str) -> Json:
    if not isinstance(part, dict):
        raise ApiError(400, "A content part is an object.", code="invalid_type", param=where)
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "text", "text": _text(part, "text", where)}
    if kind == "refusal":
        return {"type": "text", "text": _text(part, "refusal", where)}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        return {"type": "image_url", "image_url": image | ({"detail": part["detail"]} if part.get("detail") else {})}
    if kind == "input_file" and not part.get("file_url"):
        fields = ("file_data", "file_id", "filename")
        return {"type": "file", "file": {name: part[name] for name in fields if part.get(name)}}
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise unsupported(f"A content part of type {str(kind)[:60]!r} in this form", where)


def _text(item: Json, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise ApiError(400, f"'{name}' must be a string.", code="invalid_type", param=f"{where}.{name}")
    return value
