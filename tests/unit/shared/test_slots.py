"""Slots, redirects and slot maps, as Redis tells them."""

from __future__ import annotations

import pytest

from shared.slots import SLOTS, Redirect, parse_redirect, parse_slots, slot_of

ASKED = ("10.0.0.9", 7009)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3), ("", 0), ("{user1000}.following", slot_of("user1000")), ("foo{}{bar}", 8363),
        ("foo{{bar}}zap", slot_of("{bar")), ("foo{bar}{zap}", slot_of("bar")), (b"a{\xff}", slot_of(b"\xff")),
    ],
)  # fmt: skip
def test_a_known_key_has_its_known_slot(key: str | bytes, slot: int) -> None:
    assert slot_of(key) == slot


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect("MOVED", 3999, ("127.0.0.1", 6381))),
        ("ASK 3999 node-2.example:6381", Redirect("ASK", 3999, ("node-2.example", 6381))),
        ("MOVED 1 2001:db8::1:6381", Redirect("MOVED", 1, ("2001:db8::1", 6381))),
        ("MOVED 1 :6381", Redirect("MOVED", 1, ("10.0.0.9", 6381))),
        ("MOVED 1 ?:6381", Redirect("MOVED", 1, ("10.0.0.9", 6381))),
        ("MOVED", None), ("MOVED x 1.1.1.1:1", None), ("MOVED 1 host", None), ("ERR MOVED 1 h:1", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
    ],
)  # fmt: skip
def test_a_redirect_is_read(text: str, redirect: Redirect | None) -> None:
    assert parse_redirect(text, ASKED) == redirect


def test_a_slot_map_is_read() -> None:
    owners = parse_slots(
        [
            [0, 2, [b"10.0.0.1", 7001, b"id", []], [b"10.0.0.7", 7007, b"replica", []]],
            [4, 4, [b"", 7002, b"id"]],
            [16383, 16383, [None, 7003, b"id", [b"ip", b"10.0.0.3"]]],
        ],
        ASKED,
    )
    first = ("10.0.0.1", 7001)
    assert len(owners) == SLOTS
    assert owners[:6] == [first, first, first, None, ("10.0.0.9", 7002), None]
    assert owners[-2:] == [None, ("10.0.0.9", 7003)]
