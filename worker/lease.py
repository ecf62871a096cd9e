"""Owns the arithmetic of a lease: how long it surely lasts, when to renew it. Monotonic time only, passed in.

The server counts the lease from when it ran our command; we count from when we sent it, so ours ends first.
"""

from __future__ import annotations

MARGIN_S = 1.0
"""So long before the lease can end, its owner closes the upstream and stops writing."""
TTL_EVERY_S = 30.0


class Lease:
    """One ownership's lease, by the owner's own clock."""

    __slots__ = ("_beat_s", "_confirmed", "_next_ttl", "_next_watch", "_usable_s", "lease_ms")

    def __init__(self, lease_ms: int, heartbeat_ms: int, sent_at: float) -> None:
        """`sent_at`: when the claim was sent."""
        self.lease_ms = lease_ms
        self._usable_s = lease_ms / 1000 - MARGIN_S
        self._beat_s = heartbeat_ms / 1000
        self._confirmed = sent_at
        self._next_ttl = sent_at + TTL_EVERY_S
        self._next_watch = sent_at

    def confirmed(self, sent_at: float) -> None:
        """A command sent at `sent_at` has renewed it."""
        self._confirmed = max(self._confirmed, sent_at)

    def left_s(self, now: float) -> float:
        """Return how long it surely still lasts, the margin taken off; negative when it may be over."""
        return self._confirmed + self._usable_s - now

    def beat_due(self, now: float) -> bool:
        """Tell whether it was renewed so long ago that a heartbeat must say that the owner lives."""
        return now - self._confirmed >= self._beat_s

    def ttl_due(self, now: float) -> bool:
        """Tell whether the keys' time to live should be renewed."""
        return now >= self._next_ttl

    def take_ttl_due(self, now: float) -> bool:
        """Tell whether the keys' time to live should be renewed; it then counts as done."""
        if not self.ttl_due(now):
            return False
        self._next_ttl = now + TTL_EVERY_S
        return True

    def take_watch_due(self, now: float) -> bool:
        """Tell whether the appointment with the reapers should be renewed; it then counts as done."""
        if now < self._next_watch:
            return False
        self._next_watch = now + self._beat_s
        return True
