"""Owns the worker's metrics: names, types and the text that `/metrics` serves."""

from __future__ import annotations

from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from shared.errors import GENERATION_CODES
from shared.events import AttemptMode, AttemptReason
from worker.tallies import Tally, Timings

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One worker's metrics, on a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        registry = self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.generations = Counter(
            "tailrace_generations", "Generations by how they left this worker.", ["outcome"], registry=registry
        )
        self.failures = Counter("tailrace_failures", "Failed generations by code.", ["code"], registry=registry)
        self.attempts = Counter(
            "tailrace_attempts", "Claims by what they follow and how they go on.", ["reason", "mode"], registry=registry
        )
        self.events = Tally("tailrace_upstream_events", "Events that upstreams yielded.", registry)
        self.entries = Tally("tailrace_log_entries", "Entries appended to the log.", registry)
        self.tokens = Counter("tailrace_tokens", "Tokens, as upstreams counted them.", ["kind"], registry=registry)
        self.fenced = Counter(
            "tailrace_fenced", "Writes refused because the message is no longer ours.", registry=registry
        )
        self.gaps = Counter("tailrace_gap_repairs", "Times a lost tail was written again.", registry=registry)
        self.restores = Counter("tailrace_restores", "Times a lost log was written again.", registry=registry)
        self.segments = Counter(
            "tailrace_segments",
            "Attempts to write a segment for late viewers: written, refused (lost or no longer ours), failed.",
            ["outcome"],
            registry=registry,
        )
        self.reaped = Counter(
            "tailrace_reaped", "What the reaper did with overdue messages.", ["action"], registry=registry
        )
        self.append_s = Timings("tailrace_append_seconds", "From sending an append to its reply.", registry, _SECONDS)
        self.claim_s = Histogram(
            "tailrace_claim_seconds",
            "From the message's creation to its first claim.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.slots = Gauge("tailrace_slots", "Slots of this worker.", registry=registry)
        self.slots_used = Gauge("tailrace_slots_used", "Slots in use.", registry=registry)
        self.queue_depth = Gauge(
            "tailrace_queue_depth", "Messages that wait for a worker, at the reaper's last look.", registry=registry
        )
        self.draining = Gauge("tailrace_draining", "1 once the worker takes no more work.", registry=registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show what alerts count before it happens: a series that appears with a 1 has not increased for Prometheus."""
        for code in GENERATION_CODES:
            self.failures.labels(code)
        for reason, mode in product(get_args(AttemptReason), get_args(AttemptMode)):
            self.attempts.labels(reason, mode)
        self.segments.labels("failed")

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text form."""
        return generate_latest(self.registry)
