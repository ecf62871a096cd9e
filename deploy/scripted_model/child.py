"""A scripted model as a child process on a free port, for tests and harnesses that want a real one."""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 20.0
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelProcess:
    """A running scripted model: `base_url` is what an SDK wants, `root` is where the levers are."""

    base_url: str
    pid: int

    @property
    def root(self) -> str:
        """The address without /v1."""
        return self.base_url.removesuffix("/v1")


@contextmanager
def child_model(*arguments: str) -> Iterator[ModelProcess]:
    """Start a scripted model with these command line arguments and stop it afterwards.

    Raises `RuntimeError` if it does not come up; what it wrote to standard error went to the parent's.
    """
    command = [sys.executable, "-m", "deploy.scripted_model", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ModelProcess(_read_url(process), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _read_url(process: subprocess.Popen[str]) -> str:
    output: IO[str] | None = process.stdout
    if output is None:
        raise RuntimeError("the scripted model has no output")
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        line = output.readline() if selector.select(_START_S) else ""
    if not line.startswith("scripted model ready on "):
        raise RuntimeError(f"the scripted model did not start: {line!r}")
    return line.split()[-1]
