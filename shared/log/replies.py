"""Owns reading what the log's scripts answer. Pure."""

from __future__ import annotations

from typing import Any, cast

from shared.ids import MessageRef
from shared.log.types import Meta, MetaState, Reply

META_FIELDS = ("st", "ep", "seq", "at", "lu", "w", "stop", "user", "born", "dl", "ost", "drained", "told")
"""What is read of a record."""


def meta_of(ref: MessageRef, fields: dict[str, str | None], now: int) -> Meta:
    def number(name: str) -> int:
        return int(fields[name] or 0)

    return Meta(
        ref=ref,
        state=cast(MetaState, fields["st"]),
        epoch=number("ep"),
        seq=number("seq"),
        attempts=number("at"),
        lease_until=number("lu"),
        worker=fields["w"] or "",
        stop=fields["stop"],
        user=fields["user"] or "",
        born=number("born"),
        deadline=number("dl"),
        decided=fields["ost"],
        drained=fields["drained"] is not None,
        told_at=number("told"),
        now=now,
    )


def reply_of(raw: list[Any]) -> Reply:
    match raw:
        case [b"ok"]:
            return Reply("ok")
        case [b"ok", value] if not value.isdigit():
            return Reply("ok", state=value.decode())
        case [b"ok", seq, *state]:
            return Reply("ok", int(seq), state=state[0].decode() if state else "")
        case [b"gap", seq]:
            return Reply("gap", int(seq))
        case [b"fenced" | b"moved" as status, state, epoch]:
            return Reply(status.decode(), state=state.decode(), epoch=int(epoch))
        case [status, *detail]:
            return Reply(status.decode(), state=detail[0].decode() if detail else "")
    raise AssertionError(raw)
