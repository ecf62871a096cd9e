"""Owns what a connection may cost beside its requests: deadlines and a bound for what comes before, between and after
them, a deadline for a peer that does not take what is left at the end, and little memory while a stream is silent.

uvicorn has none of it: a client that sends a header a minute keeps its connection for ever, one that sends headers
without end fills our memory, and a silent stream keeps its request and every call that the application is made of.
Besides `slim`, `live.transport` and `socket_connection`, this module knows uvicorn's inside.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.live.transport import DETACH, taken_by
from gateway.slim import LazyEvent, SlimFlow, SlimQueue

WITHIN_S = 20.0
LARGEST_HEAD = 64 * 1024
MOST_AHEAD = 64
"""Requests that may wait on a connection behind the one that is worked on; clients send a few ahead, if any."""
_SERVED: Any = {"type": "http", "method": "GET"}
"""All that uvicorn asks of a request once its response has begun: that it is no HEAD."""


class DetachedCycle(RequestResponseCycle):
    """The rest of a response whose application has returned: chunks, and then a clean end or none.

    uvicorn takes such a return for a mistake and closes the connection, unless the client has left. So the cycle of
    the request is told just that, and this one takes its place: at the connection, which tells it when the client
    really leaves, and towards requests that wait behind it.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        super().__init__(
            scope=_SERVED,
            transport=cycle.transport,
            flow=cycle.flow,
            logger=cycle.logger,
            access_logger=cycle.access_logger,
            access_log=cycle.access_log,
            default_headers=cycle.default_headers,
            message_event=cast(asyncio.Event, LazyEvent()),
            expect_100_continue=False,
            keep_alive=cycle.keep_alive,
            on_response=cycle.on_response,
        )
        self.body, self.more_body = cycle.body, cycle.more_body
        self.response_started = True
        self.chunked_encoding = True
        self.disconnected, cycle.disconnected = cycle.disconnected, True


class TooManyAhead(Exception):
    """Raised into the parser, which stops at it, for a connection that has been cut."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection; closed without a word if a request's head takes too long or is too large, or if the rest of a
    request that has been answered already does not come.

    Bytes that are no body are bounded between any two pieces of body as well: trailers and chunk extensions would have
    no end otherwise. Nobody reads trailers, so they are not kept. Requests that are sent ahead are bounded too: uvicorn
    reads on after every answer, however many wait, and a stranger's would come in faster than they are refused.

    One timer, `_timer`, runs in turn for
    - a request's head: from the beginning of the connection, or from a later request's first byte, until its end;
    - the rest of a body, from an answer that came before its end (closing at once would take that answer from a client
      that is still sending);
    - the last bytes, once the connection is closing: the peer must go on taking some.
    Between requests uvicorn's own keep-alive time-out runs, and while a request is worked on, its own deadlines do.

    Beside it `_watch_taken` bounds for how long a peer may take nothing while our buffer is full: the next answer waits
    behind that.
    """

    # With a few more attributes than uvicorn's own the instance's dict would no longer share its keys: 1.2 kB each.
    __slots__ = ("_got_body", "_head_bytes", "_head_complete", "_timer", "_watched")

    within_s = WITHIN_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._head_complete = self._got_body = self._watched = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = SlimFlow(self.transport)
        self.pipeline = cast(Any, SlimQueue())
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn forgets that where the client has reset the connection
        self._let_go()

    def _let_go(self) -> None:
        """Forget the requests, which know us: whatever points in a circle waits for the garbage collector, and what has
        been there for long, as streams have, waits for hours.
        """
        self.scope, self.cycle = _SERVED, cast(Any, None)
        self.pipeline.clear()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_AHEAD:
            self.transport.abort()
            raise TooManyAhead  # or all the others of this piece would be parsed
        self._head_complete = False
        self._head_bytes = 0
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[DETACH] = self.detach

    def on_headers_complete(self) -> None:
        self._head_complete = True
        self._stop_timer()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._got_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        unread = self.cycle.more_body
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()
        if self.transport.is_closing():
            self._watch_end()
        elif unread:
            self._start_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._watched:
            self._watch_taken()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_end()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._watch_end()

    def handle_websocket_upgrade(self) -> None:
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is None or cycle.response_complete:
            super().handle_websocket_upgrade()
            self.parser = cast(Any, None)
            self._let_go()
        else:  # whatever is still to be written would go between the frames, and no bound would hold it back
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._got_body = False
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # it is a WebSocket's now, perhaps after it has served requests: no timer of theirs may end it
        self._head_bytes = 0 if self._got_body else self._head_bytes + len(data)
        if self._head_bytes > LARGEST_HEAD:
            self.transport.abort()
        elif self._timer is None:
            self._have_a_timer()

    def _have_a_timer(self) -> None:
        if not self._head_complete:
            self._start_timer()
        elif self.timeout_keep_alive_task is None and self.cycle.response_complete:
            # The late end of a body, or an empty line: uvicorn has stopped its own timer for what is no request.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _watch_end(self, taken: int = -1) -> None:
        """Cut the connection, which is closing, off once its peer has taken nothing for a while."""
        now = taken_by(self.transport)
        if now == taken:
            self.transport.abort()
            return
        self._stop_timer()
        self._timer = self.loop.call_later(self.within_s, self._watch_end, now)

    def _watch_taken(self, taken: int = -1) -> None:
        """The same for one that is not, until nothing waits. A stream under way has a deadline of its own."""
        waits = self.transport.get_write_buffer_size() > 0
        self._watched = waits and not self.transport.is_closing()
        if not self._watched:
            return
        now = taken_by(self.transport)
        if now == taken and not self._streams:
            self.transport.abort()
            return
        self.loop.call_later(self.within_s, self._watch_taken, now)

    @property
    def _streams(self) -> bool:
        cycle = self.cycle
        return cycle.response_started and cycle.chunked_encoding is True and not cycle.response_complete

    def detach(self, cycle: RequestResponseCycle) -> RequestResponseCycle:
        """Return what a chunked response that has begun goes on with after its application has returned.

        The request is forgotten, and `cycle` may not be used any more.
        """
        rest = DetachedCycle(cycle)
        if self.cycle is cycle:  # and not that of a request that waits behind it
            self.cycle = rest
        if self.scope is cycle.scope:  # and no other request has begun to come in
            self.scope, self.headers, self.url = _SERVED, [], b""
        return rest

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.within_s, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
