"""Owns the scene of a Redis Cluster: the same answers over one node and over three."""

from __future__ import annotations

import time
from typing import Any

from redis import Redis

from shared.jobs import QUEUE_NAME
from shared.redis import parse_url
from tests.bench import services
from tests.bench.growth.meter import Meter, Values, Viewers, a_second
from tests.bench.growth.scene import NotRun
from tests.bench.growth.worker_scenes import starting, wait_for
from tests.bench.rig import MEASURED, OTHERS, Rig, redis_binary, rig
from tests.support.ports import free_port

ANSWERS, RATE = 200, 5
SLOTS = 16_384


def cluster(nodes: int, span: float) -> Values:
    """200 answers of five tokens a second, one viewer each, over so many nodes: what they cost a second."""
    with rig() as it:
        ports = [free_port() for _ in range(nodes)]
        url = "cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        try:
            parse_url(url)
        except ValueError as error:
            raise NotRun(f"this version has no cluster:// URLs ({error})") from None
        names = [_node(it, number, port) for number, port in enumerate(ports)]
        _join(ports)
        it.redis()  # the queue's
        services.model(it, RATE, 100_000)
        queue = it.redis_url
        services.gateway(it, core=OTHERS, TAILRACE_REDIS_URL=url, TAILRACE_QUEUE_REDIS_URL=queue)
        services.worker(it, core=MEASURED, TAILRACE_REDIS_URL=url, TAILRACE_QUEUE_REDIS_URL=queue)
        meter = Meter(it, redis=names, gateway=["server"], worker=["worker"])
        load = Viewers(it, ANSWERS, *starting("c", ANSWERS))
        load.connected()
        with Redis(port=it.redis_port) as client:
            wait_for(lambda: client.zcard(QUEUE_NAME) == 0, "an empty queue")
        time.sleep(span / 2)
        meter.begin()
        time.sleep(span)
        found, seen = meter.end(), load.end()
        it.end(hard=True)
        return {**a_second(found), "faults": seen["faults"] + seen["silent"]}


def _node(it: Rig, number: int, port: int) -> str:
    name = f"node{number}"
    conf = it.folder / f"{name}.conf"
    conf.unlink(missing_ok=True)
    keep_nothing = ["--save", "", "--appendonly", "no", "--dir", str(it.folder)]
    clustered = ["--cluster-enabled", "yes", "--cluster-config-file", conf.name, "--maxclients", "10000"]
    it.spawn(name, [redis_binary(), "--port", str(port), *keep_nothing, *clustered])
    it.wait_port(port)
    return name


def _join(ports: list[int]) -> None:
    """Share the slots out and have the nodes meet; wait until every one of them says that the cluster is well."""
    clients: list[Any] = [Redis(port=port) for port in ports]
    for number, client in enumerate(clients):
        share = range(SLOTS * number // len(ports), SLOTS * (number + 1) // len(ports))
        client.execute_command("CLUSTER", "ADDSLOTS", *share)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
    for client in clients:
        wait_for(lambda client=client: _well(client, len(ports)), "a cluster that is well")  # type: ignore[misc]
        client.close()


def _well(client: Any, nodes: int) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    info = info if isinstance(info, dict) else dict(row.split(":") for row in info.decode().split())
    return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes)
