"""PROTOCOL.md is normative, so it must not lag behind: every code, event, operation, reply, field and key is in it."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

import shared
from shared import events as ev
from shared.errors import GENERATION_CODES, TailraceError
from shared.ids import MessageRef
from shared.log.keys import DUE, SWEEP, last_key, log_keys
from shared.log.types import MetaState, NotClaimed, Policy, Reply
from tests.support.events import ONE_OF_EACH

FOLDER = Path(shared.__file__).parent
TEXT = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
SCRIPTS = {path.stem: path.read_text() for path in (FOLDER / "log" / "lua").glob("*.lua")}


def section(number: int) -> str:
    """Return one numbered section."""
    parts = re.split(r"^## (\d+)\. ", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[str(number)]


def descendants(kind: type[TailraceError]) -> set[type[TailraceError]]:
    return {kind, *(each for child in kind.__subclasses__() for each in descendants(child))}


def table_of(text: str) -> set[str]:
    """Return the first column's codes of the tables in `text`."""
    return set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))


def test_every_error_code_is_listed_and_nothing_else() -> None:
    requests, generations = section(18).split("18.2.")
    own = {kind.code for kind in descendants(TailraceError) if kind.__module__ == "shared.errors"}
    assert table_of(requests) == own
    assert table_of(generations) == set(GENERATION_CODES)


def test_every_event_is_listed_with_its_members() -> None:
    listed = section(5) + section(6)
    for event in ONE_OF_EACH:
        if isinstance(event, ev.Data | ev.Unknown):
            continue
        name = event.__struct_config__.tag
        row = next((line for line in listed.splitlines() if line.startswith("|") and f"`{name}`" in line), "")
        assert row, f"no row for {name}"
        members = [field.encode_name for field in msgspec.structs.fields(type(event))]
        assert [member for member in members if f"`{member}`" not in row] == [], name
    assert "`data-<name>`" in listed


@pytest.mark.parametrize("literal", [ev.FinishReason, ev.TerminalState, ev.AttemptReason, ev.AttemptMode])
def test_every_value_of_an_events_member_is_listed(literal: object) -> None:
    listed = section(5) + section(6)
    assert [value for value in typing.get_args(literal) if f"`{value}`" not in listed] == []


def test_every_script_is_an_operation_and_every_reply_is_listed() -> None:
    rows = {
        name.strip(): set(re.findall(r"`([a-z]+)`", replies))
        for names, replies in re.findall(r"^\| ([A-Z, ]+) \| [a-z]+ \| (.*) \|$", section(8), re.MULTILINE)
        for name in names.split(",")
    }
    assert set(rows) == {name.upper() for name in SCRIPTS} - {"PRELUDE"} | {"EXTEND"}  # which is a transaction
    for name, source in SCRIPTS.items():
        if name in ("prelude", "meta", "due", "overdue"):
            continue
        code = "\n".join(line for line in source.splitlines() if not line.startswith("--"))
        assert rows[name.upper()] == set(re.findall(r"return \{'([a-z]+)'", code)), name


def test_the_types_know_every_reply() -> None:
    def said(*names: str) -> set[str]:
        return {reply for name in names for reply in re.findall(r"return \{'([a-z]+)'", SCRIPTS[name])}

    owner = said("append", "checkpoint", "decide", "finish", "release", "force", "restore") - {"retry"}
    assert set(typing.get_args(typing.get_type_hints(Reply)["status"])) == owner
    assert set(typing.get_args(typing.get_type_hints(NotClaimed)["reason"])) == said("claim") - {"ok"}


def test_every_state_policy_field_and_key_is_listed() -> None:
    words = set(re.findall(r"`([^`]+)`", TEXT))
    assert set(typing.get_args(MetaState)) | set(typing.get_args(Policy)) <= words
    written = {
        name
        for source in SCRIPTS.values()
        for call in re.findall(r"'H(?:SET|SETNX|DEL)', [MO], (.*?)\)\n", source, re.DOTALL)
        for name in re.findall(r"'([a-z]{1,7})'", call)
    }
    states = set(typing.get_args(MetaState))
    assert {"st", "ep", "pol", "told", "oend"} <= written
    assert [name for name in written - states - {"replaced"} if f"`{name}`" not in section(7)] == []
    keys = log_keys(MessageRef("T", "C", "M"))
    assert {*keys.whole, last_key("T", "C"), DUE, SWEEP} <= words


def test_sections_are_numbered_and_the_contents_name_them_all() -> None:
    headings = re.findall(r"^## (\d+)\. (.+)$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, len(headings) + 1))
    contents = TEXT.split("Contents: ")[1].split("\n\n")[0].replace("\n", " ")
    assert contents.split(" · ") == [f"{number} {title}" for number, title in headings]
    for number, _ in headings:
        numbered = [int(match) for match in re.findall(rf"^{number}\.(\d+)\. ", section(int(number)), re.MULTILINE)]
        assert numbered == list(range(1, len(numbered) + 1)), number
