"""Owns the conversation of a request that does not carry it: `{message}` alone, as the AI SDK's resume guide sends.

The gateway keeps no chats. But a chat's latest message has its whole request, and its final, stored with it: as
long as those are retained, the conversation so far is known. After that a lone message begins a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.access.principal import Principal
from gateway.protocols.ui_message_stream import NAME
from gateway.reading import latest_message
from gateway.services import Services
from gateway.ui.ui_messages import ChatMessage, UiMessage, final_to_chat_messages, to_chat_messages
from shared.errors import InvalidRequest
from shared.ids import MessageRef
from shared.jobs import decode_request
from shared.message import decode_message


@dataclass(frozen=True, slots=True)
class Turn:
    """The latest turn of a chat: what was asked, under which ids, and what came of it."""

    asked: list[ChatMessage]
    asked_id: str
    before: int
    answered: list[ChatMessage]
    instructed: bool = False
    """Whether the first message is a request's `system`."""

    def replaced(self) -> list[ChatMessage]:
        """Return the conversation before the last user message."""
        return self.asked[: max(0, self.before - 1)]


async def latest_turn(services: Services, who: Principal, chat_id: str) -> Turn | None:
    """Return the chat's latest turn, None if it has none or it is no longer kept."""
    ref = await latest_message(services, who, chat_id)
    if ref is None:
        return None
    raw = await services.log.request(ref)
    if raw is None:
        return None
    request = decode_request(raw)
    options: dict[str, Any] = request.options if request.wire == NAME else {}
    before = options.get("before")
    return Turn(
        request.messages,
        str(options.get("asked_id") or ""),
        before if isinstance(before, int) else len(request.messages),
        await _answer(services, ref),
        options.get("instructed") is True,
    )


async def _answer(services: Services, ref: MessageRef) -> list[ChatMessage]:
    final = await services.log.final(ref)
    return [] if final is None else final_to_chat_messages(decode_message(final))


def complete(turn: Turn | None, message: UiMessage | None, trigger: str, message_id: str | None) -> list[ChatMessage]:
    """Return the conversation that `message` belongs to, it included; raise `InvalidRequest` where it is not known."""
    if message is None:
        if trigger != "regenerate-message" or turn is None:
            raise InvalidRequest("send messages, or message")
        return turn.asked[: turn.before]
    new = to_chat_messages([message])
    if turn is None:
        return new
    if message.role == "assistant":  # with the results of its tool calls
        return turn.asked[: turn.before] + new
    again = bool(message.id) and message.id == turn.asked_id  # sent twice, as React's StrictMode does
    if again or trigger == "regenerate-message" or message_id is not None:
        if turn.asked_id not in (message.id, message_id):
            raise InvalidRequest("only the latest message is known here; send messages to go back further")
        return turn.replaced() + new
    return turn.asked + turn.answered + new
