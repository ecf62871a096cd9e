"""From what `useChat` keeps to what a model is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ui_parts import rebuild
from gateway.ui.ui_messages import UiMessage, final_to_chat_messages, to_chat_messages
from shared import events as ev
from shared.errors import InvalidRequest
from shared.fold import Fold, fold
from tests.protocols.rendering import read_log
from tests.support.events import JSON


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def thought(value: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": value}


def tool(state: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "tool-weather", "toolCallId": call_id, "state": state, **{"input": {"city": "Ribe"}, **more}}


STEP = {"type": "step-start"}


def assistant(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return to_chat_messages([UiMessage("assistant", list(parts))])


def test_plain_text_stays_plain() -> None:
    messages = [UiMessage("system", [text("Be "), text("brief.")]), UiMessage("user", [text("Hi")]),
                UiMessage("assistant", [STEP, text("Hello"), text("!")]), UiMessage("user", content="Bye")]  # fmt: skip
    assert to_chat_messages(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]


def test_files_become_content_parts() -> None:
    parts = [
        text("Look:"),
        {"type": "file", "mediaType": "image/png", "url": "https://example.org/a.png"},
        {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,QQ=="},
        {
            "type": "file",
            "mediaType": "application/pdf",
            "url": "data:application/pdf;base64,QQ==",
            "filename": "a.pdf",
        },
    ]
    assert to_chat_messages([UiMessage("user", parts)]) == [{"role": "user", "content": [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}},
    ]}]  # fmt: skip


@pytest.mark.parametrize(
    ("media", "url", "said"),
    [
        ("text/markdown", "data:text/markdown;base64,77u/IyDDhA==", "# Ä"),  # an editor's byte order mark is no text
        ("text/csv", "data:text/csv,a%2Cb", "a,b"),
        ("text/plain", "data:text/plain;base64,/w==", "\ufffd"),
        ("application/json", "data:application/json;base64,e30=", "{}"),
        ("text/plain", "data:text/plain;base64,", ""),
    ],
)
def test_a_text_file_is_text_that_every_model_reads(media: str, url: str, said: str) -> None:
    attached = {"type": "file", "mediaType": media, "url": url, "filename": "a"}
    assert to_chat_messages([UiMessage("user", [attached, text("What is it?")])]) == [
        {"role": "user", "content": f"{said}\n\nWhat is it?"}
    ]


@pytest.mark.parametrize("part", [
    {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,Q"},
    {"type": "file", "url": "https://example.org/a"},
    {"type": "file", "mediaType": "application/pdf", "url": "https://example.org/a.pdf"},
])  # fmt: skip
def test_a_file_that_no_model_could_take_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        to_chat_messages([UiMessage("user", [part])])


def test_answered_calls_become_calls_and_results_step_by_step() -> None:
    found = assistant(
        STEP,
        text("Let me look."),
        tool("output-available", output={"sky": "grey"}),
        tool("output-error", "c2", errorText="no"),
        STEP,
        {"type": "reasoning", "text": "Hm."},
        text("It is grey."),
    )
    assert [message["role"] for message in found] == ["assistant", "tool", "tool", "assistant"]
    assert [message.get("reasoning_content") for message in found] == [None, None, None, "Hm."]
    assert found[0]["content"] == "Let me look."
    assert found[0]["tool_calls"][0] == {
        "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ribe"}'},
    }  # fmt: skip
    assert [message["content"] for message in found[1:]] == ['{"sky":"grey"}', '{"error":"no"}', "It is grey."]


@pytest.mark.parametrize("name", ["input", "rawInput"])  # ai 7 and 6
def test_input_that_is_no_json_comes_back_as_json_that_any_server_reads(name: str) -> None:
    part = {"type": "tool-weather", "toolCallId": "c1", "state": "output-error", name: '{"city', "errorText": "no"}
    assert assistant(part)[0]["tool_calls"][0]["function"]["arguments"] == '{"not_json":"{\\"city"}'


def test_no_input_at_all_is_an_empty_object() -> None:
    for written in ("", " ", None):
        [call] = assistant(tool("output-available", output=1, input=written))[0]["tool_calls"]
        assert call["function"]["arguments"] == "{}"


def test_text_behind_an_answered_call_is_another_call_of_the_model() -> None:
    found = assistant(tool("output-available", output="grey"), text("It is grey."))
    assert [message["role"] for message in found] == ["assistant", "tool", "assistant"]


def test_what_was_thought_stands_with_what_came_of_it() -> None:
    found = assistant(
        STEP, thought("Where? "), thought("Ribe."), tool("output-available", output="grey"),
        thought("Grey."), tool("output-available", "c2", output="wet"), thought("Done."),
    )  # fmt: skip
    assert [message.get("reasoning_content") for message in found] == ["Where? Ribe.", None, "Grey.", None]
    assert [message.get("tool_call_id") for message in found] == [None, "c1", None, "c2"]


def test_calls_without_an_answer_and_what_is_only_shown_are_left_out() -> None:
    assert assistant(tool("input-available"), {"type": "data-x", "data": 1}, {"type": "source-url", "url": "u"}) == []


def test_a_stored_answer_reads_as_the_client_would_send_it() -> None:
    final = fold(entry.event for entry in read_log("agent_steps"))
    found = final_to_chat_messages(final)
    assert [message["role"] for message in found] == ["assistant", "tool", "assistant"]
    assert found[0]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Ribe"}'}
    told = fold([ev.ReasoningStart("r0"), ev.ReasoningDelta("r0", "Hm."), ev.TextStart("t0"), ev.TextDelta("t0", "a")])
    assert final_to_chat_messages(told) == [{"role": "assistant", "content": "a", "reasoning_content": "Hm."}]


PART = st.dictionaries(
    st.sampled_from(["type", "text", "state", "toolCallId", "toolName", "input", "output", "url", "mediaType", "id"]),
    st.sampled_from(["text", "reasoning", "file", "step-start", "tool-x", "dynamic-tool", "data-x", "source-url",
                     "output-available", "output-error", "input-available", "input-streaming"]) | JSON,
    max_size=6,
)  # fmt: skip


SIGNED = {"google": {"thought_signature": "CiQB"}}


def test_what_a_model_wants_back_with_a_call_is_given_back() -> None:
    for metadata, back in (
        (SIGNED, SIGNED),
        ({**SIGNED, "openai": {"itemId": "fc_1"}}, SIGNED),
        ({"google": {"thoughtSignature": "CiQB"}}, SIGNED),
        ({"google": {"unknown": 1}}, None),
        ({"openai": {}}, None),
    ):
        answered = tool("output-available", output="sun", callProviderMetadata=metadata)
        assert assistant(answered)[0]["tool_calls"][0].get("extra_content") == back
    final = fold(entry.event for entry in read_log("tool_signed"))
    final = Fold(final).extend([ev.ToolOutputAvailable("call_1", "sun")])
    assert final_to_chat_messages(final)[0]["tool_calls"][0]["extra_content"] == SIGNED


@pytest.mark.parametrize("state", ["input-available", "output-available"])
def test_a_rebuilt_call_has_it_too(state: str) -> None:
    first = rebuild([tool(state, output="sun", callProviderMetadata=SIGNED)])[0]
    assert first["providerMetadata"] == SIGNED


@given(st.lists(PART, max_size=5), st.sampled_from(["user", "assistant", "system"]))
def test_odd_parts_are_refused_or_left_out_and_never_more(parts: list[dict[str, Any]], role: Any) -> None:
    try:
        found = to_chat_messages([UiMessage(role, parts)])
    except InvalidRequest:
        found = []
    assert all(message["role"] in ("user", "assistant", "system", "tool") for message in found)
    assert all(isinstance(chunk["type"], str) for chunk in rebuild(parts))
