"""Owns which thoughts of a conversation go back to the model with it, as `reasoning_content` of its own messages.

Thinking models of DeepSeek and Moonshot refuse a tool call without the thoughts that led to it: V3.2 where its result
is new, later ones also behind it, and then those of all that was said in that turn. Of turns without a call no model
needs any, and some refused them.
"""

from __future__ import annotations

from typing import Any

FIELD = "reasoning_content"


def with_wanted_thoughts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Chat Completions messages of which only turns in which a tool was called have their thoughts."""
    out: list[dict[str, Any]] = []
    turn: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "user":
            out += _wanted(turn)
            turn = []
        turn.append(message)
    return out + _wanted(turn)


def _wanted(turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return turn if any(message.get("tool_calls") for message in turn) else [_bare(message) for message in turn]


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != FIELD} if FIELD in message else message
