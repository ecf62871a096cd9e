"""Ids: any Unicode text of bounded size, one key each, never a key's syntax."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidId
from shared.ids import MAX_ID_BYTES, MessageRef, check_id, derived_id, new_message_id, quote, unquote
from shared.log.keys import chat_keys, log_keys, ref_of_meta_key, user_key, worker_channel

IDS = st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES)
TEXT_IDS = IDS.filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))


@pytest.mark.parametrize(
    "value", ["a", " ", "\0", "chat 1", "💬" * 64, "a" * 256, "é", "e\u0301", "../..", "{}:*", "\u2028", "\n"]
)
def test_any_text_of_1_to_256_bytes_is_an_id(value: str) -> None:
    assert check_id("chat", value) == value
    assert unquote(quote(value)) == value


@pytest.mark.parametrize("value", ["", "a" * 257, "é" * 129, "💬" * 65, "\ud800", "a\udfffb"])
def test_other_text_is_not(value: str) -> None:
    with pytest.raises(InvalidId) as raised:
        check_id("chat", value)
    assert "chat" in str(raised.value)
    with pytest.raises(InvalidId):
        MessageRef("t", value, "m")


@given(TEXT_IDS)
def test_quoting_is_reversible_and_safe(value: str) -> None:
    quoted = quote(value)
    assert unquote(quoted) == value
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", quoted)


@given(TEXT_IDS, TEXT_IDS)
def test_different_ids_stay_different(one: str, other: str) -> None:
    assert (quote(one) == quote(other)) == (one == other)


def test_ids_that_look_alike_are_not_equal() -> None:
    assert quote("é") != quote("e\u0301")
    assert quote("A") != quote("a")


@pytest.mark.parametrize(
    "part", ["=", "=4", "=4g", "=+1", "= 1", "=_1", "=41", "=e9", "=E9", "a b", "a/b", "a:b", "é", "=ED=A0=80", "=FF"]
)
def test_what_quote_cannot_have_written_is_refused(part: str) -> None:
    with pytest.raises(InvalidId):
        unquote(part)


@given(TEXT_IDS, TEXT_IDS, TEXT_IDS)
def test_a_ref_survives_its_member_and_its_meta_key(tenant: str, chat: str, message: str) -> None:
    ref = MessageRef(tenant, chat, message)
    assert MessageRef.parse_member(ref.member) == ref
    assert ref_of_meta_key(log_keys(ref).meta) == ref


def test_every_log_line_about_a_message_can_be_found_by_the_same_fields() -> None:
    assert MessageRef("acme", "c/1", "m").fields == {"tenant": "acme", "chat_id": "c/1", "message_id": "m"}


@pytest.mark.parametrize("member", ["", "a", "a/b", "a/b/c/d", "a//c", "/b/c", "a/b/", "a/b/c:meta", "a/b/=0"])
def test_a_bad_member_is_refused(member: str) -> None:
    with pytest.raises(InvalidId):
        MessageRef.parse_member(member)


@given(TEXT_IDS, TEXT_IDS, TEXT_IDS, TEXT_IDS)
def test_no_key_of_one_message_is_a_key_of_another_kind(tenant: str, chat: str, message: str, other: str) -> None:
    ref = MessageRef(tenant, chat, message)
    keys = log_keys(ref)
    assert len(set(keys.whole)) == 6
    assert chat_keys(tenant, chat) == (keys.active, keys.live)
    if other != message:
        beside = log_keys(MessageRef(tenant, chat, other))
        assert not {keys.meta, keys.stream, keys.tomb, keys.segments} & set(beside.whole)
        assert (keys.active, keys.live) == (beside.active, beside.live)
    for key in keys.whole:
        # One pair of braces, so the hash slot is the chat's; no character that a SCAN pattern knows.
        assert re.fullmatch(r"tr:\{[A-Za-z0-9_=-]+/[A-Za-z0-9_=-]+\}:[A-Za-z0-9_=-]*:[a-z]+", key)
    for foreign in (keys.stream, keys.active, keys.live, keys.tomb, user_key(tenant), worker_channel("w")):
        with pytest.raises(InvalidId):
            ref_of_meta_key(foreign)


def test_fresh_ids_differ_and_derived_ids_depend_on_where_parts_end() -> None:
    assert len({new_message_id() for _ in range(100)}) == 100
    assert derived_id("msg", "a", "b") == derived_id("msg", "a", "b")
    ids = {derived_id("msg", *parts) for parts in (("a", "b"), ("ab", ""), ("ab",), ("", "ab"), ("b", "a"))}
    assert len(ids) == 5
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", each) for each in ids)
