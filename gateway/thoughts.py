"""Owns which thoughts of a conversation go back to the model with it, as `reasoning_content` of its own messages.

Thinking models of DeepSeek and Moonshot refuse a tool call without the thoughts that led to it, and go on thinking
from them where its result is. Of turns that are over no model needs any.
"""

from __future__ import annotations

from typing import Any

FIELD = "reasoning_content"


def with_wanted_thoughts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Chat Completions messages of which only tool calls behind the last user message have their thoughts."""
    asked = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return [
        message if at > asked and message.get("tool_calls") else _bare(message) for at, message in enumerate(messages)
    ]


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != FIELD} if FIELD in message else message
