"""Owns a Redis container for tests, through testcontainers, with the same controls as a local process."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis

from tests.support.ports import free_port

_START_WITHIN_S = 20.0

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image is one more that would have to be there


@contextmanager
def _leaks_forgiven() -> Iterator[None]:
    """The container client leaves sockets to the garbage collector, which would fail whatever test it comes in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@cache
def why_no_engine(image: str) -> str:
    """Return why `image` cannot be run here without a download, "" if it can."""
    try:
        import docker  # type: ignore[import-untyped]
        from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]
    except ImportError as error:
        return f"no container client ({error})"
    with _leaks_forgiven():
        try:
            client = docker.from_env(timeout=5)
            try:
                client.ping()
                client.images.get(image)
            finally:
                client.close()
        except ImageNotFound:
            return f"the container engine has no image {image}"
        except (DockerException, OSError) as error:
            return f"no container engine answers ({type(error).__name__})"
        return ""


def shares_our_network(engine: Mapping[str, Any]) -> bool:
    """Return whether an engine's host network is the one that this process is on, by what it says of itself.

    Not so on another machine, in a virtual one (Docker Desktop), for one without root, or where we are in a container.
    """
    here = os.uname()
    apart = ("name=rootless", "name=userns")
    return (
        (engine.get("KernelVersion"), engine.get("Name")) == (here.release, here.nodename)
        and "Desktop" not in engine.get("OperatingSystem", "")
        and not any(option.startswith(apart) for option in engine.get("SecurityOptions") or ())
    )


class RedisContainer:
    """A server in a container on a fixed loopback port, so that a restart keeps the URL.

    It listens there itself where it can: through a published port each command takes several times as long.
    """

    def __init__(self, image: str, args: Sequence[str] = ()) -> None:
        self.image = image
        self.port = free_port()
        self.version: tuple[int, ...] = ()
        self._args = tuple(args)
        self._container: Any = None

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *args: str) -> None:
        """Start it and wait until it serves; `args` come after those it was made with and stay for later starts."""
        from testcontainers.core.container import DockerContainer

        self._args += args
        command = ["redis-server", "--save", "''", "--appendonly", "no", *self._args]
        with _leaks_forgiven():
            self._container = DockerContainer(self.image)
            if shares_our_network(self._container.get_docker_client().client.info()):
                command += ["--bind", "127.0.0.1", "--port", str(self.port)]
                self._container.with_kwargs(network_mode="host")
            else:
                # with_bind_ports, and the library's own Redis class, would have it listen on every interface.
                self._container.ports = {"6379/tcp": ("127.0.0.1", self.port)}
            self._container.with_command(" ".join(command)).start()
        self._wait_serving()

    def kill(self) -> None:
        """End it as `kill -9` does; its disk stays for `restart`."""
        self._container.get_wrapped_container().kill()

    def restart(self, *, keep_data: bool) -> None:
        """Kill it and start it again, with what it had on disk or with nothing."""
        if not keep_data:
            self.close()
            self.start()
            return
        self._container.get_wrapped_container().restart(timeout=0)
        self._wait_serving()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        """Thaw it."""
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        """End it for good and remove its files."""
        if self._container is not None:
            with _leaks_forgiven():
                self._container.stop()
                self._container.get_docker_client().client.close()
                self._container = None

    def admin(self) -> redis.Redis:
        """Return a blocking client for looking inside; close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10)

    def _wait_serving(self) -> None:
        end = time.monotonic() + _START_WITHIN_S
        while True:
            try:
                with self.admin() as client:
                    info = client.info()
                if not info["loading"]:
                    self.version = tuple(int(part) for part in str(info["redis_version"]).split("."))
                    return
            except (redis.ConnectionError, redis.TimeoutError):
                pass
            if time.monotonic() > end:
                raise RuntimeError(f"{self.image} did not start: {self._container.get_logs()}")
            time.sleep(0.02)
