"""Shows that the checker bites: each planted fault, in a copy of the tree, must fail a short directed scenario.

    python -m tests.chaos.bite [name ...]      all, or those; `control` runs every scenario unharmed

A fault is an exact replacement in one or more files. What is tried is a copy in a temporary folder; the tree itself is
never touched. Exit code 0: the unharmed scenarios pass and every planted fault is found by one of the invariants that
it is expected to break.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.check.report import VOID
from tests.support.processes import ROOT

PACKAGES = ("shared", "gateway", "worker", "deploy", "tests")
WITHIN_S = 240
SEEDS = (1, 2, 3)
"""A fault that needs luck gets some."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault: replacements of (file, old, new), the scenario that shows it, the invariants that may tell."""

    name: str
    scenario: str
    breaks: tuple[str, ...]
    edits: tuple[tuple[str, str, str], ...]


_NO_FENCE = "if st ~= 'running' then return {'fenced', st, v[2]} end ep = v[2]"
_TICK = "        lease = self.writer.lease\n"
_SHARED = "transport.write(chunks)"
_ONLY_REFUSALS = """        if isinstance(error, openai.OpenAIError):
            raise from_sdk(error, time.time()) from None
"""
_STORE_LATE = """        self._late = self._loop.create_task(self._store_final(final))
        return reply.state or state

    async def _store_final(self, final: bytes) -> None:
        from shared.log.keys import log_keys

        await asyncio.sleep(2)
        await self._store._link.call("HSET", log_keys(self._own.ref).meta, "final", final)
"""
_FENCE = "if st ~= 'running' or v[4] ~= ARGV[1] or v[2] ~= ep then return {'fenced', st, v[2]} end"
_CHECK_PREV = "if prev != self._at:"

_BUSY = "if m.st == 'running' and m.lu > n then return {'busy', text(m.lu - n)} end\n"
_OURS = "if terminal(m.st) and redis.call('HGET', M, 'ftok') == tok then return {'ok', text(m.seq), m.st} end\n"

PLANTED = (
    Planted(
        "no token check in APPEND",
        "freezes",
        ("I4", "I5", "I7", "I1"),
        (("shared/log/lua/append.lua", _FENCE, _NO_FENCE),),
    ),
    Planted(
        "lease renewed by age, not by acknowledgement",
        "partitions",
        ("I10",),
        (
            ("worker/generate.py", _TICK, f"{_TICK}        lease.confirmed(now)\n"),
            # The deadline of an append is the lease's too.
            ("worker/sender.py", "self._append(self.lease.left_s(self._loop.time()))", "self._append(60.0)"),
        ),
    ),
    Planted(
        "gap allowed in APPEND",
        "failover",
        ("I1", "I4", "I5"),
        (("shared/log/lua/append.lua", "if first > seq + 1 then return {'gap', known} end\n", ""),),
    ),
    Planted(
        "what was sent twice is written twice",
        "links",
        ("I4", "I5", "I1", "I3"),
        (("shared/log/lua/append.lua", "  local q = first + i - 6\n", "  local q = last + 1\n"),),
    ),
    Planted(
        "epochs counted, not taken from the clock",
        "lost claims",
        ("I2", "I6", "I5", "I7"),
        (
            (
                "shared/log/lua/prelude.lua",
                "return math.max(n * 1000 + tonumber(rnd), old + 1 + tonumber(rnd)) end",
                "if old > 0 then return old + 1 end return n * 1000 end",
            ),
        ),
    ),
    Planted(
        "reader without contiguity check",
        "links",
        ("I5",),
        (("gateway/live/tail.py", _CHECK_PREV, "if False:"),),
    ),
    Planted(
        "reader without a look whether its cursor exists",
        "lost claims",
        ("I5", "I6", "I8"),
        (
            ("gateway/live/viewer.py", "if self.cursor is not None and entries[0].cursor != self.cursor:", "if False:"),
            ("gateway/live/tail.py", "if not page or page[0].cursor != position:", "if not page:"),
        ),
    ),
    Planted(
        "end of body on drain",
        "rolls",
        ("I5",),
        (("gateway/live/delivery.py", "    sink.break_off()\n", "    await sink.finish()\n"),),
    ),
    Planted(
        "terminal entry before the final message is stored",
        "kills",
        ("I3",),
        (
            ("shared/log/lua/finish.lua", ", 'ftok', tok, 'final', final)", ", 'ftok', tok)"),
            (
                "worker/writer.py",
                "        return reply.state or state\n",
                _STORE_LATE,
            ),
        ),
    ),
    Planted(
        "viewer buffer without bound",
        "slow",
        ("I12",),
        (
            ("gateway/live/viewer.py", "        if self._pending_bytes > self.bound:\n", "        if False:\n"),
            ("gateway/live/transport.py", "if transport.get_write_buffer_size() > bound:", "if False:"),
            # Otherwise all viewers of a message share the bytes that wait for them.
            ("gateway/live/transport.py", _SHARED, "transport.write(bytes(bytearray(chunks)))"),
        ),
    ),
    Planted(
        "stop not heard by the worker",
        "calm",
        ("I10",),
        (("worker/sender.py", '                self._signal("stop")\n', "                pass\n"),),
    ),
    Planted(
        "no claim marker",
        "calm",
        ("I1", "I4"),
        (("shared/log/lua/claim.lua", "if not put(ep, seq, marker) then return {'lost'} end\n", ""),),
    ),
    Planted(
        "lease ignored by a claim",
        "doubles",
        ("I2",),
        (
            ("shared/log/lua/claim.lua", _BUSY, ""),
            # The worker looks before it claims.
            ("worker/intake.py", "meta.terminal or meta.leased or backup", "meta.terminal or backup"),
        ),
    ),
    Planted(
        "FINISH not idempotent",
        "slow links",
        ("I3",),
        (("shared/log/lua/finish.lua", _OURS, ""),),
    ),
    Planted(
        "begun anew without a reset",
        "kills",
        ("I5", "I3"),
        (("worker/inlet.py", "        self._writer.put(reset)\n", ""),),
    ),
    Planted(
        "an upstream's broken stream taken for its end",
        "upstream",
        ("I5",),
        (
            (
                "worker/upstreams/chat_events.py",
                '            raise UpstreamError("upstream_interrupted", retryable=True)\n        if self._failure',
                '            self.reason = "stop"\n        if self._failure',
            ),
            (
                "worker/upstreams/failures.py",
                "        raise from_sdk(error, time.time()) from None\n",
                _ONLY_REFUSALS,
            ),
        ),
    ),
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Try the named faults, or all, and the unharmed scenarios; return the exit code."""
    chosen = [planted for planted in PLANTED if not arguments or planted.name in arguments]
    failed = []
    if not arguments or "control" in arguments:
        for scenario in sorted({planted.scenario for planted in PLANTED}):
            code, text = _control(scenario)
            _say(f"control: {scenario}", "passes" if code == 0 else f"FAILS\n{text[-3000:]}")
            failed += [scenario] if code else []
    for planted in chosen:
        found = attempt(planted)
        _say(planted.name, f"found by {', '.join(found)}" if found else "NOT FOUND")
        failed += [] if found else [planted.name]
    return 1 if failed else 0


def _control(scenario: str) -> tuple[int, str]:
    """Run an unharmed scenario; again with another seed where too little happened to show anything."""
    code, text = VOID, ""
    for seed in SEEDS:
        if code == VOID:
            code, text = _run(ROOT, scenario, seed)
    return code, text


def attempt(planted: Planted) -> list[str]:
    """Plant a fault in a copy of the tree and run its scenario; return which of the expected invariants told."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bite-") as folder:
        tree = Path(folder)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / package, tree / package, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", tree)
        if misfits := plant(planted, tree):
            raise SystemExit("\n".join(misfits))
        for seed in SEEDS:
            _, text = _run(tree, planted.scenario, seed)
            broken = re.findall(r"^  (I\d+) +([1-9]\d*)$", text, re.MULTILINE)
            found = [name for name, _ in broken if name in planted.breaks]
            if found:
                return found
    return []


def plant(planted: Planted, tree: Path) -> list[str]:
    """Write a fault into a tree; return what of it does not fit the sources any more."""
    misfits = []
    for file, old, new in planted.edits:
        path = tree / file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(old) != 1:
            misfits.append(f"{planted.name}: {file} holds {text.count(old)} of what is to be replaced: {old!r}")
        else:
            path.write_text(text.replace(old, new), encoding="utf-8")
    return misfits


def _run(tree: Path, scenario: str, seed: int) -> tuple[int, str]:
    """Run a scenario in a tree; return its exit code and what it said."""
    out = tree / ".chaos" / f"bite-{scenario.replace(' ', '-')}"
    command = [sys.executable, "-m", "tests.chaos", "--profile", scenario, "--seed", str(seed), "--out", str(out)]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return 1, "the scenario did not end"
    return done.returncode, done.stdout + done.stderr[-2000:]


def _say(name: str, what: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {name}: {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
