"""Owns the gateway's Prometheus metrics. Labels are from closed sets: never an id, a path or a user."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.live.hub import Hub
from shared.commands import Commands

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one gateway, in a registry of their own so that two gateways in a process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):  # memory, descriptors, CPU
            collector(registry=self.registry)
        self.requests = Counter(
            "tailrace_gateway_requests",
            "Requests by operation and status; a stream counts once its headers are out.",
            ("operation", "status"),
            registry=self.registry,
        )
        self.starts = Counter(
            "tailrace_gateway_starts",
            "Starts by outcome: created, existed or the code of the refusal.",
            ("outcome",),
            registry=self.registry,
        )
        self.start_seconds = Histogram(
            "tailrace_gateway_start_seconds",
            "From a start's complete request to its message being stored and queued.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.stops = Counter("tailrace_gateway_stops", "Stops by outcome.", ("outcome",), registry=self.registry)
        self.loop_lag = Gauge(
            "tailrace_gateway_loop_lag_seconds", "How late the event loop was at the last look.", registry=self.registry
        )

    def observe(self, hub: Hub, link: Commands) -> None:
        """Read these parts whenever the metrics are asked for."""
        self.registry.register(_Parts(hub, link))

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)


class _Parts(Collector):
    """What the parts count themselves."""

    def __init__(self, hub: Hub, link: Commands) -> None:
        self._hub = hub
        self._link = link

    def collect(self) -> Iterator[Metric]:
        hub, stats = self._hub, self._link.stats
        yield GaugeMetricFamily("tailrace_gateway_viewers", "Streams open now.", len(hub.viewers))
        yield CounterMetricFamily(
            "tailrace_gateway_slow_viewers", "Streams cut off because nothing was taken for too long.", hub.slow
        )
        yield GaugeMetricFamily("tailrace_gateway_tails", "Messages tailed now.", hub.tails)
        yield GaugeMetricFamily("tailrace_gateway_redis_up", "Whether the command link stands.", float(self._link.up))
        yield GaugeMetricFamily("tailrace_gateway_live_up", "Whether the live link stands.", float(hub.live))
        yield CounterMetricFamily("tailrace_gateway_redis_commands", "Commands sent to Redis.", stats.commands)
        yield CounterMetricFamily("tailrace_gateway_redis_losses", "Connections to Redis lost.", stats.losses)
