"""One child process: started in a group of its own, its output kept in a file, stopped within a deadline.

Tasks: `_pump` (one a running process) copies output to the log file; `stop` and the next `start` end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.lines import alarming, readable
from deploy.local.probe import Probe
from deploy.local.settings import LaunchError

_READY_EVERY_S = 0.05
_SHOWN_AT_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run and how to tell that it is ready."""

    name: str
    argv: tuple[str, ...]
    ready: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    stop_within_s: float = 4.0
    show_warnings: bool = True


class Child:
    """A process made from a `ChildSpec`, as often as it has to be made."""

    def __init__(self, spec: ChildSpec, log: Path, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.log = log
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._tail: deque[bytes] = deque(maxlen=15)
        self._shown = 0
        self._quiet = False

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Start the process; it is running afterwards, not yet ready."""
        await self._end_pump()
        self._shown = 0
        # Its own group: Ctrl-C in the terminal reaches the launcher alone, which then stops everything in order.
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self.spec.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        assert self._process.stdout is not None
        self._pumping = asyncio.create_task(self._pump(self._process.stdout), name=f"pump {self.spec.name}")

    async def wait_ready(self, within_s: float) -> None:
        """Return once the probe says yes; raise `LaunchError` with the last output if it dies or the time runs out."""
        try:
            async with asyncio.timeout(within_s):
                while not await self.spec.ready():
                    if self.pid is None:
                        raise LaunchError(
                            f"{self.spec.name} {await self.wait()} before it was ready.{await self.last()}"
                        )
                    await asyncio.sleep(_READY_EVERY_S)
        except TimeoutError:
            raise LaunchError(f"{self.spec.name} was not ready within {within_s:g} s.{await self.last()}") from None

    async def wait(self) -> str:
        """Wait for the process to end and say how it did."""
        assert self._process is not None
        code = await self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def last(self) -> str:
        """Return the last lines of output, to be put behind an error."""
        if self.pid is None:
            await self._end_pump()
        lines = "".join(f"\n  | {line.decode(errors='replace')}" for line in self._tail)
        return f" See {self.log}{':' + lines if lines else ''}"

    async def stop(self) -> None:
        """Ask the process to end, insist after the deadline; it is gone afterwards."""
        self._quiet = True
        if self.pid is not None and self._process is not None:
            self._process.terminate()
            try:
                async with asyncio.timeout(self.spec.stop_within_s):
                    await self._process.wait()
            except TimeoutError:
                self._say(f"{self.spec.name} did not stop within {self.spec.stop_within_s:g} s; killing it.")
                self.kill()
                await self._process.wait()
        await self._end_pump()

    def kill(self) -> None:
        """End the process, and whatever it started, at once."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _pump(self, output: asyncio.StreamReader) -> None:
        rest = b""
        with self.log.open("ab", buffering=0) as file:
            while chunk := await output.read(65536):
                file.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                rest = rest[-65536:]  # a line without end must not grow without end
                for line in lines:
                    self._tail.append(line)
                    self._show(line)
        if rest:
            self._tail.append(rest)

    def _show(self, line: bytes) -> None:
        if self._quiet or not self.spec.show_warnings or not alarming(line):
            return
        self._shown += 1
        if self._shown <= _SHOWN_AT_MOST:
            self._say(f"  {self.spec.name}: {readable(line)}")
        elif self._shown == _SHOWN_AT_MOST + 1:
            self._say(f"  {self.spec.name}: more of these in {self.log}")

    async def _end_pump(self) -> None:
        if self._pumping is None:
            return
        # The process is gone, so its pipe has ended too, unless something it started still holds it.
        _, pending = await asyncio.wait([self._pumping], timeout=1.0)
        for task in pending:
            task.cancel()
        self._pumping = None


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Ask Linux to end this child should the launcher be killed: otherwise its ports would stay taken."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG
