"""Viewers that join, fall behind and leave within one turn of the loop: nobody loses or doubles anything by it."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.live.channel import Channel
from gateway.live.pages import Pages
from gateway.live.tail import Tail
from gateway.live.transport import Transport, push_to_all
from gateway.live.viewer import Viewer
from gateway.protocols.base import Framing, Wire
from gateway.protocols.native import NATIVE, frame
from shared import events as ev
from shared.cursor import Cursor
from shared.ids import MessageRef
from shared.log.log import Log

EPOCH = 1_700_000_000_000_000
NEVER = float("inf")
COUNTING = Wire(name="counting", make_encoder=lambda: Framing(frame))
"""Events without ids, so that a viewer's place is how many it has."""
END = ev.encode_event(ev.End("done"))


class Socket:
    """A sink that takes everything, or, once it is `full`, nothing; its own way past `send`, and a transport's end."""

    started = True
    gone = False
    backlog = 0
    taken = 0

    def __init__(self) -> None:
        self.full = False
        self.broken = False
        self.got = b""
        self.transport = cast(Transport, self)

    @property
    def direct(self) -> Socket:
        return self

    def push(self, chunks: bytes, bound: int) -> bool:
        return not push_to_all((self.transport,), chunks, bound)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 1_000_000 if self.full else 0

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError
        self.got += data

    async def send(self, data: bytes) -> None:
        self.got += data

    def abort(self) -> None: ...


class Stage:
    """A tail that stands at entry 1 of a log, and the turn of the loop in our hands."""

    def __init__(self, log: Log) -> None:
        self._dirty: list[Channel] = []
        self.pages = Pages(log, lambda work: work.close())
        self.tail = Tail(MessageRef("t", "c", "m"), log, lambda work: work.close(), self._dirty.append)
        self.tail._at = Cursor(EPOCH, 1).id

    def join(self, seq: int, wire: Wire = NATIVE) -> tuple[Viewer, Socket]:
        """Have a viewer that has entries up to `seq` go live."""
        viewer, socket = self.read(seq, wire)
        assert self.go_live(viewer)
        return viewer, socket

    def read(self, seq: int, wire: Wire = NATIVE) -> tuple[Viewer, Socket]:
        """Have a viewer read the log, so far up to `seq`."""
        socket = Socket()
        viewer = Viewer(
            self.tail, self.pages, wire, socket, cursor=Cursor(EPOCH, seq), buffer_bytes=1000, break_at=NEVER,
            restoring_s=1.0,
        )  # fmt: skip
        viewer.enter()
        self.tail.keep()
        return viewer, socket

    def go_live(self, viewer: Viewer) -> bool:
        viewer.live = True
        return self.tail.join(viewer, [])

    def hear(self, seq: int, said: bytes = b"") -> None:
        """Have entry `seq` published."""
        self.tail.hear(b"%d-%d %d-%d\n" % (EPOCH, seq - 1, EPOCH, seq) + (said or payload(seq)))

    @property
    def keeping(self) -> bool:
        return self.tail._ring is not None

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
    return [b"id: " + event.partition(b"\n\n")[0] + b"\n\n" for event in socket.got.split(b"id: ")[1:]]


@pytest.fixture
async def stage(log: Log) -> Stage:
    return Stage(log)


async def test_what_a_turn_brings_is_one_write(stage: Stage) -> None:
    _, socket = stage.join(1)
    for seq in (2, 3, 4):
        stage.hear(seq)
    assert socket.got == b""
    stage.end_turn()
    assert got(socket) == frames(2, 3, 4)
    assert socket.got.count(b"\r\n") == 2  # one chunk


async def test_who_joins_in_the_middle_of_a_turn_gets_each_entry_once(stage: Stage) -> None:
    _, first = stage.join(1)
    joining, second = stage.read(2)
    stage.hear(2)
    stage.hear(3)
    assert stage.go_live(joining)
    stage.hear(4)
    stage.end_turn()
    assert got(first) == frames(2, 3, 4)
    assert got(second) == frames(3, 4)


async def test_who_joins_while_the_last_viewer_is_cut_off_is_fed_all_the_same(stage: Stage) -> None:
    slow, full = stage.join(1)
    stage.hear(2)
    stage.end_turn()
    full.full = True
    joined, socket = stage.read(2)
    stage.hear(3)
    assert stage.go_live(joined)  # its joining hands out entry 3, which is too much for the other
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


async def test_one_broken_connection_does_not_cost_another_an_entry(stage: Stage) -> None:
    pairs = [stage.join(1) for _ in range(3)]
    pairs[1][1].broken = True
    stage.hear(2)
    stage.end_turn()
    assert [viewer.live for viewer, _ in pairs] == [True, False, True]
    assert got(pairs[0][1]) == got(pairs[2][1]) == frames(2)


async def test_what_comes_is_kept_only_while_somebody_reads_the_log(stage: Stage) -> None:
    first, second = stage.read(1)[0], stage.read(1)[0]
    stage.hear(2)
    stage.hear(3)
    assert stage.go_live(first)
    assert stage.keeping  # for the second
    second.leave()
    assert not stage.keeping


async def test_one_that_falls_behind_has_the_tail_keep_again_when_it_reads(stage: Stage) -> None:
    (_, _), (slow, full) = stage.join(1), stage.join(1)
    full.full = True
    stage.hear(2)
    stage.end_turn()
    assert not slow.live
    assert not stage.keeping
    stage.tail.keep()  # as for every page that is read
    stage.hear(3)
    full.full = False
    assert not stage.go_live(slow)  # it has not read entry 2 yet


async def test_who_counts_events_goes_on_behind_those_that_were_written_for_it(stage: Stage) -> None:
    (early, early_socket), (_, _) = stage.join(1, COUNTING), stage.join(1, COUNTING)
    stage.hear(2)
    stage.end_turn()
    late, late_socket = stage.join(2, COUNTING)
    for seq in (3, 4):
        stage.hear(seq)
        stage.end_turn()
    early_socket.full = late_socket.full = True
    stage.hear(5)
    stage.end_turn()
    assert (early._skip, late._skip) == (len(got(early_socket)), len(got(late_socket))) == (3, 2)
    assert early.cursor is None  # it reads the log from its beginning


async def test_no_channel_writes_for_a_viewer_that_stands_elsewhere(stage: Stage) -> None:
    viewer, _ = stage.read(1)
    for seq in (1, 2):
        channel = Channel(NATIVE, NATIVE.make(), lambda _: None, at=Cursor(EPOCH, seq).id, bound=1000)
        assert (viewer.sit(channel) is not None) == (seq == 1)
        viewer.leave()


async def test_the_end_is_told_to_each_viewer_once_and_nothing_after_it(stage: Stage) -> None:
    viewer, socket = stage.join(1)
    stage.hear(2, END)
    stage.end_turn()
    stage.hear(3)
    stage.end_turn()
    assert got(socket) == [frame(b"%d-2" % EPOCH, END)]
    assert viewer.cursor == Cursor(EPOCH, 2)
    assert await viewer.advance() == "ended"
