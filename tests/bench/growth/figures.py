"""Owns the list: which scenes are run at which points, and which figures are drawn of them."""

from __future__ import annotations

from tests.bench.growth import cluster_scene, gateway_scenes, worker_scenes
from tests.bench.growth.scene import NOTHING, Curve, Figure, Scene

SERVICES = (("worker", "worker"), ("gateway", "gateway"), ("redis", "Redis"))

SCENES = {
    scene.name: scene
    for scene in (
        Scene("silent", gateway_scenes.silent, (1, 10, 100, 300, 1000, 3000, 10_000), (1, 100, 1000)),
        Scene("watched", gateway_scenes.watched, (1, 10, 100, 300, 1000, 3000, 10_000), (1, 100, 1000)),
        Scene("answers", worker_scenes.answers, (1, 10, 100, 400, 1000, 2000, 4000), (1, 50, 200)),
        Scene("stored", gateway_scenes.stored, (100, 1000, 3000, 10_000, 30_000, 100_000), (100, 1000, 10_000)),
        Scene("long", worker_scenes.long_answer, (1000, 3000, 10_000, 30_000, 100_000), (500, 1500, 5000)),
        Scene("gateways", gateway_scenes.gateways, (1, 2, 3, 4), (1, 2, 3)),
        Scene("workers", worker_scenes.workers, (1, 2, 3, 4), (1, 2, 3)),
        Scene("drained", worker_scenes.drained, (1, 10, 100, 300, 1000, 3000, 10_000), (1, 100, 1000)),
        Scene("waiting", worker_scenes.waiting, (1, 10, 100, 300, 1000, 3000, 10_000), (1, 100, 1000)),
        Scene("cluster", cluster_scene.cluster, (1, 3), (1, 3)),
    )
}


def _memory(scene: str, group: str, label: str, note: str = "") -> Curve:
    return Curve(scene, f"{group}_mb", label, "memory", fixed=f"{group}_idle_mb", note=note)


FIGURES = (
    Figure(
        "viewers",
        "Viewers on one gateway",
        "viewers",
        "viewer",
        "CPU ms: a second (silent), an event (one stream)",
        (
            Curve(
                *("silent", "gateway_ms", "gateway, each viewer on a silent stream of its own", "cpu"),
                note="every second a look at each connection, every four at the record of each silent stream; from "
                "some thousand viewers on, what is looked at has left the processor's caches (two runs: 0.91, 1.17).",
            ),
            Curve("watched", "gateway_ms", "gateway, an event of one stream that all watch", "cpu"),
            Curve("watched", "redis_ms", "Redis, the same event", "cpu"),
            _memory("silent", "gateway", "gateway, each on a stream of its own"),
            _memory("watched", "gateway", "gateway, all on one stream"),
        ),
    ),
    Figure(
        "streams",
        "Answers under way, a token a second and one viewer each",
        "streams",
        "stream",
        "CPU ms a second",
        tuple(Curve("answers", f"{group}_ms", name, "cpu") for group, name in SERVICES)
        + tuple(_memory("answers", group, name) for group, name in SERVICES),
    ),
    Figure(
        "events",
        "Stored events of one stream",
        "events",
        "event",
        "CPU ms",
        (
            Curve("stored", "gateway_ms", "gateway, one viewer's catch-up (of ten)", "cpu"),
            Curve("stored", "redis_ms", "Redis, the same catch-up", "cpu"),
            Curve("stored", "redis_write_ms", "Redis, writing them (50 an append)", "cpu"),
            _memory("stored", "gateway", "gateway, at its peak"),
            _memory("stored", "redis", "Redis"),
        ),
    ),
    Figure(
        "length",
        "One answer of so many tokens, 5000 tokens a second, one viewer",
        "tokens",
        "token",
        "CPU ms for the whole answer",
        tuple(Curve("long", f"{group}_ms", name, "cpu") for group, name in SERVICES)
        + tuple(_memory("long", group, f"{name}, at its peak") for group, name in SERVICES),
    ),
    Figure(
        "replicas",
        "Replicas: gateways with 300 viewers of the same 300 streams each; idle workers",
        "replicas",
        "replica",
        "CPU ms of all of them, an event or answer",
        (
            Curve("gateways", "gateway_ms", "all gateways, an event", "cpu", fixed=NOTHING),
            Curve("gateways", "redis_ms", "Redis, the same event", "cpu"),
            Curve(
                *("workers", "worker_ms", "all workers, a short answer", "cpu"),
                fixed=NOTHING,
                note="a queued message wakes every idle worker; those that come second find nothing.",
            ),
            Curve("workers", "redis_ms", "Redis, the same answer", "cpu"),
            Curve("gateways", "gateway_mb", "all gateways", "memory", fixed=NOTHING),
            Curve("workers", "worker_mb", "all workers", "memory", fixed=NOTHING),
            Curve("gateways", "redis_mb", "Redis, beside the gateways", "memory"),
        ),
        "resident memory, MB",
    ),
    Figure(
        "queue",
        "Messages in the queue of one worker",
        "queued messages",
        "message",
        "CPU ms: until all are over (run), a second (waiting)",
        (
            Curve("drained", "worker_ms", "worker, all of them run", "cpu"),
            Curve("drained", "redis_ms", "Redis, all of them run", "cpu"),
            Curve("waiting", "worker_ms", "worker, all of them waiting", "cpu"),
            Curve("waiting", "redis_ms", "Redis, all of them waiting", "cpu"),
            _memory("drained", "worker", "worker, all of them run"),
            _memory("waiting", "worker", "worker, all of them waiting"),
            _memory("drained", "redis", "Redis, all of them run, at its peak"),
        ),
    ),
    Figure(
        "cluster",
        "Nodes of a Redis Cluster, 200 answers of five tokens a second",
        "nodes",
        "node",
        "CPU ms a second",
        (
            Curve(
                *("cluster", "redis_ms", "all nodes", "cpu"),
                note="each node writes its share, but what one publishes goes to all, and three are woken, not one.",
            ),
            Curve("cluster", "gateway_ms", "gateway", "cpu"),
            Curve("cluster", "worker_ms", "worker", "cpu"),
            Curve("cluster", "redis_mb", "all nodes", "memory"),
            Curve("cluster", "gateway_mb", "gateway", "memory"),
            Curve("cluster", "worker_mb", "worker", "memory"),
        ),
        "resident memory, MB",
    ),
)
