"""Which thoughts of a conversation are given back to the model."""

from __future__ import annotations

from typing import Any

from gateway.thoughts import with_wanted_thoughts

ASKED = {"role": "user", "content": "Hi"}


def said(thought: str, *calls: str) -> dict[str, Any]:
    """Return what the model said after a thought."""
    called = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls]
    return {
        "role": "assistant",
        "content": "a",
        "reasoning_content": thought,
        **({"tool_calls": called} if calls else {}),
    }


def result(call: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": "1"}


def thoughts(*messages: dict[str, Any]) -> list[Any]:
    """Return what each of the assistant's messages has of its thoughts; nothing else is touched."""
    found = with_wanted_thoughts(list(messages))
    for message, before in zip(found, messages, strict=True):
        assert {**message, "reasoning_content": ""} == {**before, "reasoning_content": ""}
    return [message.get("reasoning_content") for message in found if message["role"] == "assistant"]


def test_calls_that_are_being_answered_have_the_thoughts_that_led_to_them() -> None:
    assert thoughts(ASKED, said("A", "c1"), result("c1"), said("B", "c2"), result("c2")) == ["A", "B"]
    assert thoughts(said("A", "c1"), result("c1")) == ["A"]


def test_so_has_what_was_said_in_a_turn_that_called_and_is_over() -> None:
    turn = [ASKED, said("A", "c1"), result("c1"), said("B")]
    assert thoughts(*turn, ASKED, said("C", "c2"), result("c2")) == ["A", "B", "C"]
    assert thoughts(*turn, ASKED) == ["A", "B"]


def test_of_turns_that_called_nothing_no_thoughts_are_told() -> None:
    assert thoughts(ASKED, said("A"), ASKED) == [None]
    assert thoughts(ASKED, said("A")) == [None]
    assert thoughts(ASKED, said("A"), ASKED, said("B", "c1"), result("c1")) == [None, "B"]
