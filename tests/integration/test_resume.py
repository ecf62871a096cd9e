"""The promise itself: cut after any event, resume on the other gateway, and the bytes are those of one reader."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.redis import RedisServer
from tests.support.road import Road, open_road

CURL = shutil.which("curl")
pytestmark = [
    pytest.mark.skipif(CURL is None, reason="curl is not on PATH"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["past-asgi", "asgi"])
async def road(emptied_redis: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Road]:
    """The whole road, with live events written past ASGI and through it."""
    async with open_road(emptied_redis.url, TAILRACE_DIRECT_WRITES=request.param) as opened:
        yield opened


class Curl:
    """One `curl -N` of a stream, read event by event and killed when the test has enough."""

    def __init__(self, url: str, after: str | None = None, query: str = "") -> None:
        headers = ("-H", f"Last-Event-ID: {after}") if after else ()
        assert CURL is not None
        self._command = (CURL, "-sS", "-N", "--max-time", "30", *headers, url + query)

    async def events(self, most: int | None = None) -> list[bytes]:
        """Return up to `most` whole events, without the connection's own lines; all of them if None."""
        process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        found: list[bytes] = []
        block: list[bytes] = []
        async for line in process.stdout:
            if line == b"\n" and block:
                found.append(b"".join(block) + line)
                block = []
                if most is not None and len(found) >= most:
                    process.kill()
                    break
            elif not line.startswith((b":", b"retry:")) and line != b"\n":
                block.append(line)
        await process.wait()
        return found


def event_id(event: bytes) -> str:
    first = event.split(b"\n", 1)[0]
    assert first.startswith(b"id: ")
    return first[4:].decode()


async def test_cut_after_every_event_and_resume_on_the_other_gateway(road: Road) -> None:
    started = await road.start("cuts", "Tell me about locks [[tokens=24 rate=0 reasoning=3]]")
    path = started["stream_url"]
    whole = await Curl(road.a + path).events()
    assert whole[-1].split(b"\n")[1].startswith(b'data: {"type":"end"')
    for cut in range(1, len(whole)):
        head = await Curl(road.gateway(cut) + path).events(cut)
        tail = await Curl(road.gateway(cut + 1) + path, after=event_id(head[-1])).events()
        assert b"".join(head + tail) == b"".join(whole), f"cut after event {cut}"


async def test_cut_after_every_event_while_the_answer_is_written(road: Road) -> None:
    started = await road.start("live", "Tell me about weirs [[tokens=40 rate=60]]")
    path = started["stream_url"]
    reader = asyncio.create_task(Curl(road.a + path).events())
    got: list[bytes] = []
    turn = 0
    while not (got and b'"type":"end"' in got[-1]):
        turn += 1
        got += await Curl(road.gateway(turn) + path, after=event_id(got[-1]) if got else None).events(1)
    assert b"".join(got) == b"".join(await reader)


async def test_the_query_cursor_resumes_as_the_header_does(road: Road) -> None:
    started = await road.start("query", "Tell me about mills [[tokens=12 rate=0]]")
    path = started["stream_url"]
    whole = await Curl(road.a + path).events()
    tail = await Curl(road.b + path, query=f"?after={event_id(whole[4])}").events()
    assert tail == whole[5:]


async def test_after_the_end_there_is_nothing_more(road: Road) -> None:
    started = await road.start("over", "Tell me about tides [[tokens=5 rate=0]]")
    path = started["stream_url"]
    whole = await Curl(road.a + path).events()
    assert await Curl(road.b + path, after=event_id(whole[-1])).events() == []
