"""Which children run, in which order, with which settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.local import upstreams
from deploy.local.child import ChildSpec
from deploy.local.ports import find_free
from deploy.local.probe import http_ok, redis_ok
from deploy.local.settings import LaunchSettings


def make_plan(settings: LaunchSettings, redis_server: str) -> list[list[ChildSpec]]:
    """Return the children in stages; a stage needs the ones before it. Writes the models file they read, if none is."""
    redis_port, model_port, health_port = find_free(settings.host, 3)
    scripted = settings.models_file is None and settings.openai is None
    common = {
        "TAILRACE_REDIS_URL": f"redis://{settings.host}:{redis_port}/0",
        "TAILRACE_UPSTREAMS_FILE": str(_models_file(settings, model_port)),
        "TAILRACE_LOCAL": "1",
        "TAILRACE_MAX_VIEWERS": "1000",  # by default it would ask for more descriptors than many a machine has to give
        # Who kills the worker on the page waits for its lease: on one machine nothing needs the usual 8 s.
        "TAILRACE_LEASE_MS": "3000",
        "TAILRACE_LOCAL_PIDFILE": str(settings.run_dir / "children.json"),
        "TAILRACE_LOCAL_PEERS": ",".join(f"http://{settings.host}:{port}" for port in settings.ports),
        **_unproxied(settings.host),
    }
    first = [_redis(settings, redis_server, redis_port)]
    if scripted:
        first.append(_model(settings.host, model_port))
    gateways = [
        _gateway(f"gateway-{number}", settings.host, port, common) for number, port in enumerate(settings.ports, 1)
    ]
    # Gateways go down before the worker does, and both before Redis.
    return [first, [_worker(settings, health_port, common)], gateways]


def _unproxied(host: str) -> dict[str, str]:
    """Return what keeps a proxy, which the user may need for a model elsewhere, out of what stays on this machine."""
    kept = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(filter(None, [kept, host, "localhost"])))


def _models_file(settings: LaunchSettings, model_port: int) -> Path:
    if settings.models_file is not None:
        return settings.models_file.path
    path = settings.run_dir / "upstreams.toml"
    upstreams.write(path, upstreams.openai(settings.openai) if settings.openai else upstreams.scripted(model_port))
    return path


def _redis(settings: LaunchSettings, program: str, port: int) -> ChildSpec:
    data = settings.run_dir / "redis"
    data.mkdir(exist_ok=True)
    options = {
        "bind": settings.host,
        "port": str(port),
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Dropping a key to make room would cut an answer in the middle.
        "maxmemory-policy": "noeviction",
    }
    argv = (program, *(part for key, value in options.items() for part in (f"--{key}", value)))
    # Its warnings are about kernel settings of a production host.
    return ChildSpec(name="redis", argv=argv, ready=redis_ok(settings.host, port), show_warnings=False)


def _model(host: str, port: int) -> ChildSpec:
    argv = _module("deploy.scripted_model", "--port", str(port))
    return ChildSpec(name="model", argv=argv, ready=http_ok(host, port, "/healthz"), stop_within_s=2.0)


# Both services drain for a second: Ctrl-C should not take the time that a production drain does.
def _worker(settings: LaunchSettings, health_port: int, common: dict[str, str]) -> ChildSpec:
    env = {
        **common,
        **_agents(settings),
        "TAILRACE_WORKER_HEALTH_HOST": settings.host,
        "TAILRACE_WORKER_HEALTH_PORT": str(health_port),
        "TAILRACE_WORKER_DRAIN_S": "1",
    }
    ready = http_ok(settings.host, health_port, "/readyz")
    return ChildSpec(name="worker", argv=_module("worker"), env=env, ready=ready)


def _agents(settings: LaunchSettings) -> dict[str, str]:
    """Return what lets agents be imported from the current folder, and from the one of the models file."""
    if settings.models_file is None:
        return {}
    folders = [str(Path.cwd()), str(settings.models_file.path.parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


def _gateway(name: str, host: str, port: int, common: dict[str, str]) -> ChildSpec:
    env = {**common, "TAILRACE_HOST": host, "TAILRACE_PORT": str(port), "TAILRACE_DRAIN_S": "1"}
    return ChildSpec(name=name, argv=_module("gateway"), env=env, ready=http_ok(host, port, "/readyz"))


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(Path(sys.executable)), "-m", name, *arguments)
