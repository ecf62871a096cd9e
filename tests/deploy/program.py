"""A command under test: its output line by line, signals, its end. Every wait has a deadline."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class Program:
    """A running command; its lines are collected so that no wait can miss one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def wait_line(self, fragment: str, *, within_s: float, after: int = 0) -> str:
        """Return the first line from index `after` on that contains `fragment`."""
        try:
            async with asyncio.timeout(within_s), self._more:
                while True:
                    for line in self.lines[after:]:
                        if fragment in line:
                            return line
                    assert not self._reading.done(), f"ended without {fragment!r}:\n" + self.output
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {fragment!r} within {within_s} s:\n{self.output}") from None

    async def wait_end(self, *, within_s: float) -> int:
        """Return the exit code, once all output is read."""
        try:
            async with asyncio.timeout(within_s):
                await self._reading
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {within_s} s:\n{self.output}") from None

    def interrupt(self) -> None:
        """Do what Ctrl-C in a terminal does: signal the whole foreground group."""
        self.signal_group(signal.SIGINT)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the command and what it started in its group, if any of it is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def output(self) -> str:
        """All lines so far."""
        return "\n".join(self.lines)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._more:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()


@asynccontextmanager
async def running(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> AsyncIterator[Program]:
    """Start `argv` in a group of its own; it is gone afterwards, whatever happened."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        process_group=0,
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            program.interrupt()
            with suppress(AssertionError):
                await program.wait_end(within_s=20)
        if process.returncode is None:
            program.signal_group(signal.SIGKILL)
        await program.wait_end(within_s=10)
