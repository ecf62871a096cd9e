"""Owns named points at which a test may have the process die at once: `FAILPOINT=after_claim python -m worker`."""

from __future__ import annotations

import os
import signal

POINTS = ("after_dequeue", "after_claim", "before_finish", "after_finish")
_active = os.environ.get("FAILPOINT", "")
if _active and _active not in POINTS:
    raise SystemExit(f"FAILPOINT={_active} is none of {', '.join(POINTS)}")


def failpoint(name: str) -> None:
    """Die as by SIGKILL if this point was asked for; otherwise do nothing."""
    if name == _active:
        os.kill(os.getpid(), signal.SIGKILL)
