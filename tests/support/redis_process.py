"""Owns a local Redis process for tests: started on a free loopback port, killed, frozen, restarted by its pid."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from tests.support.ports import free_port

_START_WITHIN_S = 10.0


def version_of(binary: str) -> tuple[int, ...]:
    """Return the version that a server binary tells, () if it does not."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", told)
    return tuple(int(part) for part in found.groups()) if found else ()


class RedisProcess:
    """A server process. Without `--appendonly yes` among `args` it keeps nothing over a `kill`.

    The methods block for some 10 ms (a start up to 10 s); from an async test that must keep its event
    loop turning, call them through `asyncio.to_thread`.
    """

    def __init__(self, binary: str, args: Sequence[str] = ()) -> None:
        self.binary = binary
        self.version = version_of(binary)
        self.port = free_port()
        self._args = tuple(args)
        self._folder = Path(tempfile.mkdtemp(prefix="tailrace-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *args: str) -> None:
        """Start it and wait until it serves; `args` come after those it was made with and stay for later starts."""
        self._args += args
        self._launch()

    def _launch(self) -> None:
        base = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        base += ["--save", "", "--appendonly", "no", "--logfile", str(self._folder / "log")]
        # setpriv: should the test run be killed, the server ends with it.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*guard, self.binary, *base, *self._args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._wait_serving()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, keep_data: bool) -> None:
        """Kill it and start it again, with what it had on disk or with nothing."""
        self.kill()
        if not keep_data:
            self._wipe()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good and remove its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def admin(self) -> redis.Redis:
        """Return a blocking client for looking inside; close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10)

    def _wait_serving(self) -> None:
        assert self._process is not None
        end = time.monotonic() + _START_WITHIN_S
        while True:
            try:
                with self.admin() as client:
                    info = client.info()
                # A loading server answers INFO already; and it must be ours that answers.
                if info["process_id"] == self._process.pid and not info["loading"]:
                    return
            except redis.ConnectionError:
                pass
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._folder / "log"
                raise RuntimeError(f"{self.binary} did not start: {said.read_text()[-2000:] if said.exists() else ''}")
            time.sleep(0.01)

    def _wipe(self) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
