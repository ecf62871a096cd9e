"""Viewers that join, fall behind and leave within one turn of the loop: nobody loses or doubles anything by it."""

from __future__ import annotations

import pytest

from gateway.live.channel import Channel
from gateway.live.pages import Pages
from gateway.live.tail import Tail
from gateway.live.viewer import Viewer
from gateway.protocols.native import NATIVE, frame
from shared import events as ev
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import Log

EPOCH = 1_700_000_000_000_000
NEVER = float("inf")


class Socket:
    """A sink that takes everything, or, once it is `full`, nothing."""

    started = True
    gone = False
    backlog = 0

    def __init__(self) -> None:
        self.full = False
        self.taken = b""

    @property
    def direct(self) -> Socket:
        return self

    def push(self, chunks: bytes, bound: int) -> bool:
        if not self.full:
            self.taken += chunks
        return not self.full

    async def send(self, data: bytes) -> None:
        self.taken += data

    def abort(self) -> None: ...


class Stage:
    """A tail that stands at entry 1 of a log, and the turn of the loop in our hands."""

    def __init__(self, log: Log) -> None:
        self._dirty: list[Channel] = []
        self.pages = Pages(log, lambda work: work.close())
        self.tail = Tail(MessageRef("t", "c", "m"), log, lambda work: work.close(), self._dirty.append)
        self.tail._at = Cursor(EPOCH, 1).id

    def join(self, seq: int) -> tuple[Viewer, Socket]:
        """Have a viewer that has entries up to `seq` go live."""
        socket = Socket()
        viewer = Viewer(
            self.tail, self.pages, NATIVE, socket, cursor=Cursor(EPOCH, seq), buffer_bytes=1000, break_at=NEVER,
            restoring_s=1.0,
        )  # fmt: skip
        viewer.live = True
        assert self.tail.join(viewer, [])
        return viewer, socket

    def hear(self, seq: int) -> None:
        """Have entry `seq` published."""
        self.tail.hear(b"%d-%d %d-%d\n" % (EPOCH, seq - 1, EPOCH, seq) + payload(seq))

    def end_turn(self) -> None:
        dirty = list(self._dirty)
        self._dirty.clear()
        for channel in dirty:
            channel.flush(0.0)


def payload(seq: int) -> bytes:
    return ev.encode_event(ev.TextDelta("t0", f"word {seq}"))


def frames(*seqs: int) -> list[bytes]:
    return [frame(b"%d-%d" % (EPOCH, seq), payload(seq)) for seq in seqs]


def got(socket: Socket) -> list[bytes]:
    """Return the events that a socket took, without the chunks around them."""
    return [b"id: " + event.partition(b"\n\n")[0] + b"\n\n" for event in socket.taken.split(b"id: ")[1:]]


@pytest.fixture
async def stage(log: Log) -> Stage:
    return Stage(log)


async def test_what_a_turn_brings_is_one_write(stage: Stage) -> None:
    _, socket = stage.join(1)
    for seq in (2, 3, 4):
        stage.hear(seq)
    assert socket.taken == b""
    stage.end_turn()
    assert got(socket) == frames(2, 3, 4)
    assert socket.taken.count(b"\r\n") == 2  # one chunk


async def test_who_joins_in_the_middle_of_a_turn_gets_each_entry_once(stage: Stage) -> None:
    _, first = stage.join(1)
    stage.hear(2)
    stage.hear(3)
    _, second = stage.join(2)
    stage.hear(4)
    stage.end_turn()
    assert got(first) == frames(2, 3, 4)
    assert got(second) == frames(3, 4)


async def test_who_joins_while_the_last_viewer_is_cut_off_is_fed_all_the_same(stage: Stage) -> None:
    slow, full = stage.join(1)
    stage.hear(2)
    stage.end_turn()
    full.full = True
    stage.hear(3)
    joined, socket = stage.join(2)  # its joining hands out entry 3, which is too much for the other
    assert not slow.live
    assert slow.cursor == Cursor(EPOCH, 2)
    stage.hear(4)
    stage.end_turn()
    assert joined.live
    assert got(socket) == frames(3, 4)


async def test_one_slow_viewer_does_not_cost_another_an_entry(stage: Stage) -> None:
    pairs = [stage.join(1) for _ in range(3)]
    pairs[1][1].full = True
    stage.hear(2)
    stage.end_turn()
    stage.hear(3)
    stage.end_turn()
    assert [viewer.live for viewer, _ in pairs] == [True, False, True]
    assert [viewer.cursor for viewer, _ in pairs] == [Cursor(EPOCH, 3), Cursor(EPOCH, 1), Cursor(EPOCH, 3)]
    assert got(pairs[0][1]) == got(pairs[2][1]) == frames(2, 3)
