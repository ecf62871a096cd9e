"""The text function: pure, exact in length, continued from any prefill; and the directives that steer it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.scripted_model.dice import Dice
from deploy.scripted_model.directives import DirectiveError, parse_directives, split_directives
from deploy.scripted_model.schema import make_value
from deploy.scripted_model.text import continue_after, full_reasoning, full_text
from deploy.scripted_model.tokens import tokenise
from deploy.scripted_model.vocabulary import CLOSERS

Messages = list[dict[str, object]]

GOLDEN = (
    "It is patient work, but the pilot rows out to read the staff, and the tide race hides the rocks that"
    " matter. Nobody hurries once the bells have stopped; the ebb brings driftwood to the same corner all"
    " the same."
)


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def test_the_same_conversation_gives_the_same_text_in_another_process() -> None:
    code = f"from deploy.scripted_model.text import full_text; print(full_text({user('tell me')!r}), end='')"
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": "."}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert other.stdout.decode() == full_text(user("tell me"))


def test_a_known_text_stays_as_it_is() -> None:
    """Recorded histories are checked against the text function, so it may not change unnoticed."""
    assert full_text(user("hello"), {"tokens": 45, "markdown": 0}) == GOLDEN


@pytest.mark.parametrize("markdown", [0, 1])
def test_a_text_has_exactly_the_tokens_asked_for(markdown: int) -> None:
    for tokens in range(0, 130):
        text = full_text(user(f"about {tokens}"), {"tokens": tokens, "markdown": markdown})
        assert len(tokenise(text)) == tokens
        assert tokens < 2 or text.endswith((".", "|", "```")), text


def test_closing_sentences_are_as_long_as_they_say() -> None:
    assert all(len(tokenise(closer)) == length for length, closers in CLOSERS.items() for closer in closers)


def test_tokens_lose_nothing() -> None:
    odd = "  a\tb\n\n\u2028c \u00e9\u0301 — _x_ 12.5 \x00\x1b \U0001f30a  "
    assert "".join(tokenise(odd)) == odd


def test_another_earlier_message_gives_another_text() -> None:
    longer: Messages = [*user("a"), {"role": "assistant", "content": "b"}, *user("c")]
    changed: Messages = [*user("a"), {"role": "assistant", "content": "B"}, *user("c")]
    assert len({full_text(longer), full_text(changed), full_text(user("c"))}) == 3


def test_directives_and_content_parts_do_not_change_the_text() -> None:
    parts: Messages = [{"role": "user", "content": [{"type": "text", "text": "rivers [[rate=0 key=k]]"}]}]
    assert full_text(parts) == full_text(user("rivers"))


def test_options_win_over_the_prompt() -> None:
    assert len(tokenise(full_text(user("x [[tokens=50]]"), {"tokens": 7}))) == 7


def test_the_answer_after_a_tool_uses_its_output_and_ignores_ids() -> None:
    def conversation(call_id: str) -> Messages:
        call = {"id": call_id, "type": "function", "function": {"name": "tide", "arguments": "{}"}}
        asked: Messages = [*user("when?"), {"role": "assistant", "content": None, "tool_calls": [call]}]
        return [*asked, {"role": "tool", "tool_call_id": call_id, "content": "high at 06:10"}]

    assert full_text(conversation("call_1")).startswith("The tool tide answered: high at 06:10.")
    assert full_text(conversation("call_1")) == full_text(conversation("call_2"))


def test_a_trailing_assistant_message_does_not_change_the_text() -> None:
    prefilled: Messages = [*user("tides"), {"role": "assistant", "content": "The"}]
    assert full_text(prefilled) == full_text(user("tides"))


def test_every_cut_of_a_text_is_continued_to_the_same_text() -> None:
    whole = full_text(user("continue"), {"tokens": 60, "markdown": 1})
    for cut in range(1, len(whole) + 1):
        rest = "".join(continue_after(whole[:cut], lambda: iter(tokenise(whole))))
        assert whole[:cut] + rest == whole


def test_a_foreign_prefill_is_followed_by_the_whole_text() -> None:
    assert "".join(continue_after("Well,", lambda: iter(["The", " mill"]))) == " The mill"
    assert "".join(continue_after("The mill and more", lambda: iter(["The", " mill"]))) == " The mill"


def test_reasoning_is_chosen_by_the_prompt_or_by_request() -> None:
    shares = [bool(full_reasoning(user(f"prompt {number}"))) for number in range(200)]
    assert 20 < sum(shares) < 90
    assert full_reasoning(user("x"), {"reasoning": 0}) == ""
    assert len(tokenise(full_reasoning(user("x"), {"reasoning": 33}))) == 33


def test_brackets_that_are_no_directives_stay_text() -> None:
    assert split_directives("see [[page]] and [[a=1]]") == ("see [[page]] and [[a=1]]", {})
    assert split_directives("go [[rate=0]][[tokens=5 key=a]] now") == (
        "go  now",
        {"rate": "0", "tokens": "5", "key": "a"},
    )


@pytest.mark.parametrize(
    "bad", [{"tokens": "many"}, {"rate": "nan"}, {"fault": "reset@x"}, {"fault": "fire"}, {"status": 99}, {"nope": 1}]
)
def test_a_bad_directive_is_named_in_the_error(bad: dict[str, object]) -> None:
    with pytest.raises(DirectiveError, match=next(iter(bad))):
        parse_directives({}, bad)


def test_arguments_fill_the_required_properties_by_type() -> None:
    schema = {
        "type": "object",
        "required": ["city", "days", "unit", "where", "tags", "deep"],
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 3, "maximum": 5},
            "unit": {"enum": ["c", "f"]},
            "where": {"$ref": "#/$defs/point"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
            "deep": {"anyOf": [{"type": ["null", "boolean"]}, {"type": "string"}]},
            "optional": {"type": "string"},
        },
        "$defs": {"point": {"type": "object", "required": ["lat"], "properties": {"lat": {"type": "number"}}}},
    }
    value = make_value(schema, Dice(1))
    assert isinstance(value, dict)
    assert value == make_value(schema, Dice(1))
    assert set(value) == {"city", "days", "unit", "where", "tags", "deep"}
    assert 3 <= value["days"] <= 5
    assert value["unit"] in ("c", "f")
    assert isinstance(value["where"]["lat"], float)
    assert [type(tag) for tag in value["tags"]] == [str, str]
    assert isinstance(value["deep"], bool)


def test_a_recursive_schema_ends() -> None:
    node = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}}
    assert len(json.dumps(make_value(node, Dice(3)))) < 500


def test_variants_of_a_prompt_are_texts_of_their_own_and_as_pure() -> None:
    plain, first, second = (full_text(user("hello"), {"tokens": 45, "variant": n}) for n in (0, 1, 2))
    assert plain == full_text(user("hello"), {"tokens": 45})
    assert len({plain[:40], first[:40], second[:40]}) == 3
    assert first == full_text(user("hello [[variant=1]]"), {"tokens": 45})
