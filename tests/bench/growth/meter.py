"""Owns what a scene measures: CPU and memory of groups of processes between two moments, and what viewers saw."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.rig import BUILD, Rig, cpu_s, rss_kb

Values = dict[str, float]


def peak_kb(pid: int) -> int:
    """Return the most memory that a process has had resident."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))


class Meter:
    """Measures groups of a rig's processes. Made when they are idle: what they hold then is their fixed memory."""

    def __init__(self, it: Rig, **groups: Sequence[str]) -> None:
        self._pids = {group: [it.pids[name] for name in names] for group, names in groups.items()}
        self._idle = {group: self._mb(group) for group in groups}
        self._before: Values = {}

    def begin(self) -> None:
        """Measure from here."""
        self._began = time.monotonic()
        self._before = {group: self._cpu_ms(group) for group in self._pids}

    def end(self, *, per: float = 1, peak: bool = False) -> Values:
        """Return `<group>_ms` (CPU, divided by `per`), `<group>_mb`, `<group>_idle_mb` of each group, and `seconds`.

        `peak`: the most memory that there was, in place of what there is now.
        """
        found: Values = {"seconds": time.monotonic() - self._began}
        for group, before in self._before.items():
            found[f"{group}_ms"] = (self._cpu_ms(group) - before) / per
            found[f"{group}_mb"] = self._mb(group, peak=peak)
            found[f"{group}_idle_mb"] = self._idle[group]
        return found

    def _cpu_ms(self, group: str) -> float:
        return 1000 * sum(map(cpu_s, self._pids[group]))

    def _mb(self, group: str, *, peak: bool = False) -> float:
        return sum(map(peak_kb if peak else rss_kb, self._pids[group])) / 1024


def a_second(found: Values) -> Values:
    """Return the values with CPU per second."""
    return {name: value / found["seconds"] if name.endswith("_ms") else value for name, value in found.items()}


class Viewers:
    """A load client: started, waited for, ended. Times out by the client's own patience."""

    def __init__(self, it: Rig, count: int, *args: object, port: int = 0, patience_s: int = 90) -> None:
        """Connect `count` viewers; `args` are the load client's, see its source."""
        command = [str(BUILD / "load"), "-p", port or it.port, "-n", count, "-w", 0, "-d", 600, "-t", patience_s, *args]
        self.count = count
        self._process = it.spawn("load", list(map(str, command)), stdout=subprocess.PIPE)

    def connected(self) -> None:
        """Wait until all are."""
        while (word := self._said()) != "ready":
            if word.startswith("{"):
                raise RuntimeError(f"not all viewers could connect: {word}")

    def end(self) -> Values:
        """End the viewing; return what was seen, with `faults`."""
        self._process.terminate()
        return self.done()

    def done(self) -> Values:
        """Wait until the viewers have what they want (`-e`); return what was seen, with `faults`."""
        while not (word := self._said()).startswith("{"):
            pass
        self._process.wait(10)
        seen: Mapping[str, Any] = json.loads(word)
        faults = sum(float(seen[name]) for name in ("gaps", "doubles", "wrong_first", "failed", "closed"))
        return {**seen, "faults": faults}

    def _said(self) -> str:
        assert self._process.stdout is not None
        word = self._process.stdout.readline().decode().strip()
        if not word:
            raise RuntimeError("the load client died")
        return str(word)
