"""Owns what SIGTERM does: a deploy is ordinary churn, a little denser.

Streams whose clients come back by themselves rotate all the time (`rotate_s`); of the others, this is the only break
that a healthy gateway makes. On SIGTERM, in this order:

1. readiness turns off, and the gateway goes on serving everything, new streams included: balancers need a
   moment to notice (Kubernetes: the preStop delay comes before the signal, so this moment may be 0);
2. over the drain window, each stream's connection is broken at a time of its own, never with a clean end of
   body, so that clients return to other replicas one by one;
3. when the last stream is gone, or the window is over, the server is told to exit.

The grace period must exceed preStop delay + `drain_delay_s` + `drain_s` + the server's own shutdown timeout.
Tasks: `run` is one task, owned by the server's main.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.live.hub import Hub
from gateway.pulse import Pulse

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1


async def drain(hub: Hub, pulse: Pulse, *, delay_s: float, window_s: float) -> None:
    """Make the gateway ready to exit; returns when no stream is left or the window is over."""
    loop = asyncio.get_running_loop()
    pulse.draining = True
    log.info("draining", extra={"viewers": len(hub.viewers), "delay_s": delay_s, "window_s": window_s})
    await asyncio.sleep(delay_s)
    hub.drain(window_s)
    end = loop.time() + window_s + hub.settings.tick_s
    while hub.viewers and loop.time() < end:  # noqa: ASYNC110  # leaving viewers set no event, to stay cheap
        await asyncio.sleep(LOOK_EVERY_S)
    log.info("drained", extra={"viewers_left": len(hub.viewers)})
