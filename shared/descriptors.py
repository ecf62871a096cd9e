"""Owns how many file descriptors a service may have: as many as it needs, of what the system lets it take.

Shells and container runtimes start a process with 1024 of them and leave it to it to ask for more. A gateway without
any left closes new connections without a word, those of its probes included, and is then restarted.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

BESIDES = 256
"""For all that is no viewer and no call: Redis, models' and probes' connections, files."""


def take_descriptors(connections: int) -> None:
    """Make room for so many connections and some; say in the log if there is less."""
    needed = connections + BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # a system's own bound below its limit
        allowed = soft
    if allowed < needed:
        log.warning("fewer file descriptors than this may need", extra={"needed": needed, "allowed": allowed})
