"""Owns the TCP pipes between the parts of a fleet: each can be held, slowed, cut and led elsewhere while it is in use.

A pipe is dumb: it knows no protocol and moves bytes as they come. `hold` is a partition: what was sent stays on its
way, and arrives late, when the partition is over. Tasks: one per connection while it is being made, one pump per
delayed direction; all owned by the pipe and ended by `close`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Address = tuple[str, int]
_RST = struct.pack("ii", 1, 0)
_KERNEL_BYTES = 65_536
_HIGH_WATER = 65_536
CONNECT_S = 5.0


class Pipe:
    """Listens on a free loopback port and connects every caller with `target()`, asked anew for each."""

    def __init__(self, target: Callable[[], Address | None], name: str = "pipe") -> None:
        self.name = name
        self.target = target
        self.held = False
        self.delay_s = 0.0
        self.total = 0
        self.refused = 0
        self.joints: set[Joint] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Near(self), "127.0.0.1", 0, backlog=512)
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> int:
        """Reset every connection that stands; return how many."""
        joints = tuple(self.joints)
        for joint in joints:
            joint.reset()
        return len(joints)

    def hold(self) -> None:
        """Let nothing through, either way, until `release`."""
        self.held = True
        for joint in self.joints:
            joint.pause()

    def release(self) -> None:
        """Let everything through again, what waited first."""
        self.held = False
        for joint in self.joints:
            joint.resume()

    async def close(self) -> None:
        """Reset what stands and stop listening."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connect(self, near: _Near) -> None:
        """Make the other half of a caller's connection."""
        task = asyncio.create_task(self._connect(near, self.target()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, near: _Near, address: Address | None) -> None:
        self.total += 1
        joint = Joint(self, near)
        self.joints.add(joint)
        try:
            if address is None:
                raise OSError("nowhere to go")
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(lambda: _Far(joint), *address)
        except (OSError, TimeoutError):
            self.refused += 1
            joint.reset()


class Joint:
    """One connection's two halves."""

    def __init__(self, pipe: Pipe, near: _Near) -> None:
        self.pipe = pipe
        self.near: _Half = near
        self.far: _Half | None = None
        self.over = False
        near.joint = self

    def connected(self, far: _Half) -> None:
        self.far = far
        if self.over:
            far.abort()
            return
        self.near.pass_early()
        if self.pipe.held:
            self.pause()
        else:
            self.near.resume()

    def other(self, half: _Half) -> _Half | None:
        return self.far if half is self.near else self.near

    def pause(self) -> None:
        for half in (self.near, self.far):
            if half is not None:
                half.pause()

    def resume(self) -> None:
        for half in (self.near, self.far):
            if half is not None:
                half.resume()

    def ended(self, half: _Half, failed: bool) -> None:
        """One side is gone: so is the other, in the same manner, after what is still on its way."""
        if self.over:
            return
        other = self.other(half)
        if failed or other is None:
            self.reset()
        else:
            self.over = True
            self.pipe.joints.discard(self)
            half.flush_to(other)
            other.close()

    def reset(self) -> None:
        """End both sides with RST."""
        self.over = True
        self.pipe.joints.discard(self)
        for half in (self.near, self.far):
            if half is not None:
                half.abort()


class _Half(asyncio.Protocol):
    """One side's socket."""

    def __init__(self) -> None:
        self.joint: Joint | None = None
        self._transport: asyncio.Transport | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # or the system swallows megabytes for each slow client, and nobody behind us ever notices one
                for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    sock.setsockopt(socket.SOL_SOCKET, buffer, _KERNEL_BYTES)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        joint = self.joint
        other = None if joint is None else joint.other(self)
        if joint is None or other is None:
            self._early.append(data)  # a transport may ignore a pause this soon
            return
        delay = joint.pipe.delay_s
        if delay or self._late:
            loop = asyncio.get_running_loop()
            self._late.append((loop.time() + delay, data))
            if len(self._late) == 1:
                loop.call_at(self._late[0][0], self._pass_late)
        else:
            other.write(data)

    def _pass_late(self) -> None:
        """Pass on what has waited long enough, in order."""
        loop = asyncio.get_running_loop()
        other = None if self.joint is None else self.joint.other(self)
        while self._late and self._late[0][0] <= loop.time() + 0.001:
            _, data = self._late.popleft()
            if other is not None:
                other.write(data)
        if self._late:
            loop.call_at(self._late[0][0], self._pass_late)

    def pass_early(self) -> None:
        """Pass on what came before the other side stood."""
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def flush_to(self, other: _Half) -> None:
        """Pass on all that waits, at once."""
        while self._late:
            other.write(self._late.popleft()[1])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.joint is not None:
            self.joint.ended(self, exc is not None)

    def pause_writing(self) -> None:
        other = None if self.joint is None else self.joint.other(self)
        if other is not None:
            other.pause()

    def resume_writing(self) -> None:
        other = None if self.joint is None else self.joint.other(self)
        if other is not None and not (self.joint is not None and self.joint.pipe.held):
            other.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        transport.abort()


class _Near(_Half):
    """The caller's side."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pause()  # until the other side stands
        self._pipe.connect(self)

    @property
    def port(self) -> int:
        """The caller's own port, which tells connections apart."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("peername")[1])


class _Far(_Half):
    """The target's side."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.joint is not None
        self.joint.connected(self)


class Balancer(Pipe):
    """A plain TCP round robin over the backends that are endpoints just now. No retries, no looking inside."""

    def __init__(self) -> None:
        super().__init__(self._next, "balancer")
        self.endpoints: list[tuple[str, Address]] = []
        self.taken: dict[int, str] = {}
        self._turn = 0
        self._chosen = ""

    def _next(self) -> Address | None:
        if not self.endpoints:
            self._chosen = ""
            return None
        self._turn += 1
        self._chosen, address = self.endpoints[self._turn % len(self.endpoints)]
        return address

    def connect(self, near: _Near) -> None:
        port = near.port
        super().connect(near)
        self.taken[port] = self._chosen
