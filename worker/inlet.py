"""Owns what comes in from one attempt's upstream: its events on their way to the writer, and its usage. No I/O.

A token passes here in one synchronous call, and its upstream is asked to wait only where the writer is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from shared import events as ev
from shared.outline import Outline
from worker.grammar import Grammar
from worker.metrics import Metrics
from worker.recovery import Plan, Rebase, Skip
from worker.writer import Writer


class Inlet:
    """The `Sink` of an attempt: grammar, limits and the log's own state decide what of an event is written."""

    def __init__(
        self, message_id: str, plan: Plan, writer: Writer, metrics: Metrics, called: Collection[str] = ()
    ) -> None:
        """`called`: see `Grammar`."""
        self._message_id = message_id
        self._called = called
        self._writer = writer
        self._metrics = metrics
        self._time = asyncio.get_running_loop().time
        self._rebase: Rebase | None = None
        self._skip: Skip | None = None
        self._unlogged_usage = False
        self._plain = False
        """Whether text that goes on with an open part is written as it comes."""
        self.grammar = Grammar(message_id, plan.outline, plan.parts, called=called)
        self.spending = plan.spending()
        self.begun = False
        self.progress = self._time()
        """When something last came; moved forward by whoever knows that it is not the upstream that is slow."""

    @property
    def behind(self) -> bool:
        """Whether a replay has not yet reached the end of the log; until then the grammar is behind it, too."""
        return self._skip is not None and not self._skip.over

    @property
    def awaits_tool(self) -> bool:
        """Whether a tool call has no output yet."""
        return self.grammar.awaits_tool

    def expect_rest(self, shown: str) -> None:
        """Take what comes as the rest of a text whose last white space `shown` may come again."""
        self._rebase = Rebase(shown)
        self._plain = False

    def expect_replay(self, content: Sequence[ev.Event]) -> None:
        """Take what comes as the whole answer from its beginning, of which the log has `content`."""
        # The replay has a grammar of its own; what the log has is left out behind it.
        self._anew()
        self._skip = Skip(content)

    def restart(self, reason: str) -> None:
        """Have the log say that its content is void, and take what comes as a new answer."""
        self._anew()
        self.log_usage()
        reset = ev.Reset(1, reason)
        self.spending.apply(reset)
        self._writer.put(reset)

    def _anew(self) -> None:
        self._rebase = self._skip = None
        self._plain = False
        self.grammar = Grammar(self._message_id, Outline(), called=self._called)

    def take(self, events: Sequence[ev.Event]) -> bool:
        """See `Sink`. Raises `AgentFailed`, `OutputLimit`, and `TypeError` as `check_room`."""
        writer, grammar = self._writer, self.grammar
        self.progress = self._time()
        self._metrics.events.value += len(events)
        for event in events:
            if self._plain and isinstance(event, ev.Spoken) and (delta := grammar.going_on(event)) is not None:
                writer.say(delta)
            else:
                self._take(event)
        return writer.full

    def _take(self, event: ev.Event) -> None:
        self.begun = self.begun or not isinstance(event, ev.Upstream)
        if self._rebase is not None:
            event = self._rebase.feed(event)
        self._writer.ledger.check_room(event)
        for written in self.grammar.feed(event):
            fresh = written if self._skip is None else self._skip.feed(written)
            if fresh is not None:
                if self._unlogged_usage:
                    self.log_usage()
                self._writer.put(fresh)
        self._look()

    def _look(self) -> None:
        """Note whether incoming text can be written as it is: no replay, seam or usage pending."""
        if self._rebase is not None and self._rebase.over:
            self._rebase = None
        if self._skip is not None and self._skip.over:
            self._skip = None
        self._plain = self.begun and self._rebase is None and self._skip is None and not self._unlogged_usage

    async def room(self) -> None:
        """See `Sink`."""
        await self._writer.wait_room()

    async def stored(self) -> None:
        """See `Sink`."""
        await self._writer.wait_stored()

    def add_usage(self, usage: ev.Usage) -> None:
        """Count tokens of one model call."""
        self.spending.add(usage)
        self._unlogged_usage = True
        self._plain = False
        self._metrics.tokens.labels("input").inc(usage.input_tokens)
        self._metrics.tokens.labels("output").inc(usage.output_tokens)

    def log_usage(self) -> None:
        """Have the log say what was reported since it last did: whoever takes over goes on counting from there."""
        if self._unlogged_usage:
            self._unlogged_usage = False
            self._writer.put(ev.UsageSoFar(self.spending.total))
