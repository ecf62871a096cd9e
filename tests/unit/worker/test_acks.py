"""The worker's acks hold what Redis acknowledged, and what it refused, with checksums of what was written."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from shared.ids import MessageRef
from shared.link import Link
from shared.log.types import Ending, Retention
from tests.support.writer import LogWriter
from worker.acks import AckLog


async def test_replies_are_written_down(link: Link, ref: MessageRef, tmp_path: Path) -> None:
    path = tmp_path / "acks.jsonl"
    writer = LogWriter(AckLog(str(path), link, Retention()), ref)
    await writer.create()
    await writer.claim()
    await writer.append(b'{"type":"a"}', b'{"type":"b"}')
    await writer.finish()
    refused = await writer.log.finish(writer.own, 1, Ending("failed", b"{}", b"{}"))
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert refused.status == "ok", "finishing again says what stands"
    assert [(line["op"], line["status"], line["first"]) for line in lines[:3]] == [
        ("claim", "ok", 2),
        ("append", "ok", 3),
        ("finish", "ok", 5),
    ]
    assert lines[1]["sums"] == [zlib.crc32(b'{"type":"a"}'), zlib.crc32(b'{"type":"b"}')]
    assert lines[3]["sums"] == [], "what was not written is not listed"
    assert {line["message"] for line in lines} == {ref.member}
