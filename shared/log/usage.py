"""Owns what a message has cost: the usage that upstreams reported in all attempts, and whether one never reported.

Usage comes with an upstream's last word, so an attempt that was killed has none. What can be known is summed and
marked as incomplete; nothing is guessed. Pure: the log in, a sum out.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET
from msgspec.structs import replace

from shared import events as ev


def usage_metadata(usage: ev.Usage) -> dict[str, object]:
    """Return usage in the form of message metadata, under the AI SDK's names."""
    return {
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "reasoningTokens": usage.reasoning_tokens,
            "cachedInputTokens": usage.cached_tokens,
        }
    }


def usage_from_metadata(raw: dict[str, object]) -> ev.Usage:
    """Read what `usage_metadata` wrote; whatever is not a number counts as none."""
    names = ("inputTokens", "outputTokens", "totalTokens", "reasoningTokens", "cachedInputTokens")
    taken, given, total, thought, cached = (value if isinstance(value := raw.get(name), int) else 0 for name in names)
    return ev.Usage(taken, given, total, thought, cached)


class Spending:
    """The sum over the attempts of one message, by the events of its log; its owner adds what is reported to it."""

    def __init__(self, events: Iterable[ev.Event] = ()) -> None:
        self.total = ev.Usage()
        """What was reported so far."""
        self._lacking = False  # an attempt ended without a report
        self._owing = False  # the latest one has not reported yet
        self._finished = False
        self._reattached = False
        self._before_run: ev.Usage | None = None
        self._instead_of: ev.Usage | None = None
        for event in events:
            self.apply(event)

    def apply(self, event: ev.Event) -> None:
        """Take note of an event of the log."""
        match event:
            case ev.TextDelta() | ev.ReasoningDelta() | ev.ToolInputDelta():
                pass  # by far the most frequent
            case ev.Attempt(mode=mode):
                self._begin(reattached=mode == "reattach")
            case ev.Upstream():
                self._before_run = self.total
            case ev.UsageSoFar(usage=usage):
                self._know(usage)
            case ev.Finish(message_metadata=metadata):
                self._finished = True
                if isinstance(metadata, dict) and isinstance(raw := metadata.get("usage"), dict):
                    self._know(usage_from_metadata(raw))
            case ev.Reset():
                self._finished = False
                if self._reattached:  # in vain: what that run has cost, nobody will say
                    self._begin(reattached=False)
            case _:
                pass

    def add(self, usage: ev.Usage) -> None:
        """Count a report to the latest attempt. A run that was attached to again reports all it has cost, again."""
        self._know((self.total if self._instead_of is None else self._instead_of) + usage)

    def known(self) -> ev.Usage | None:
        """Return the sum for the end entry; None if nobody reported anything."""
        if self.total == ev.Usage():
            return None
        return replace(self.total, incomplete=True if self._lacking or self._owing else UNSET)

    def _begin(self, *, reattached: bool) -> None:
        self._reattached = reattached
        self._instead_of = self._before_run if reattached else None
        if not reattached and not self._finished:  # else no call is lost, or none was made
            self._lacking = self._lacking or self._owing
            self._owing = True

    def _know(self, total: ev.Usage) -> None:
        self.total = total
        self._owing = False
        self._instead_of = None
