"""Owns what the routes get to work with: built once a process, in one place, from the settings alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.access.tickets import Tickets
from gateway.forgetting import Forgetter
from gateway.index import UserIndex
from gateway.live.hub import Hub, HubSettings
from gateway.metrics import Metrics
from gateway.pulse import Pulse
from gateway.settings import GatewaySettings
from shared.commands import Commands
from shared.dispatch import Dispatcher
from shared.ends import Ends
from shared.feed import Feed
from shared.log.log import Log
from shared.log.types import Meta
from shared.models import Models
from shared.redis import command_link, resolver


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a gateway.

    `clock` tells Unix seconds: for what people are shown, and for when a socket's credential expires.
    """

    settings: GatewaySettings
    models: Models
    link: Commands
    log: Log
    hub: Hub
    dispatcher: Dispatcher
    index: UserIndex
    feed: Feed
    tickets: Tickets
    pulse: Pulse
    metrics: Metrics
    forgetter: Forgetter
    clock: Callable[[], float] = time.time


@asynccontextmanager
async def open_services(settings: GatewaySettings, models: Models) -> AsyncIterator[Services]:
    """Open the links and start the tasks; close all of it on leaving. Redis need not be there yet."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        link = command_link(settings.redis_url, name="commands", reply_timeout_s=settings.redis_deadline_s)
        await link.open()
        stack.push_async_callback(link.close)
        queue_link = link
        if settings.queue_url != settings.redis_url:
            queue_link = command_link(settings.queue_url, name="queue", reply_timeout_s=settings.redis_deadline_s)
            await queue_link.open()
            stack.push_async_callback(queue_link.close)
        feed = Feed(link, keep_s=settings.retain_s)
        log = Log(
            link,
            settings.retention,
            deadline_s=settings.redis_deadline_s,
            replicas=settings.wait_replicas,
            on_end=Ends(link, feed).tell,
        )
        dispatcher = Dispatcher(queue_link, deadline_s=settings.redis_deadline_s)

        async def redispatch(meta: Meta) -> None:
            await dispatcher.dispatch(meta.ref, begun=meta.begun)

        hub = Hub(log, resolver(settings.redis_url), _hub_settings(settings), redispatch=redispatch)
        await hub.open()
        stack.push_async_callback(hub.close)
        pulse = Pulse(link, metrics, grace_s=settings.ready_grace_s)
        pulse.open()
        stack.push_async_callback(pulse.close)
        metrics.observe(hub, link)
        keep_s = settings.message_deadline_s + settings.replay_s
        index = UserIndex(link, log, keep_s=keep_s, deadline_s=settings.redis_deadline_s)
        tickets = Tickets(
            link,
            secret=settings.ticket_secret.get_secret_value(),
            last_s=settings.ticket_s,
            deadline_s=settings.redis_deadline_s,
        )
        forgetter = Forgetter(log, feed)
        forgetter.open()
        stack.push_async_callback(forgetter.close)
        yield Services(settings, models, link, log, hub, dispatcher, index, feed, tickets, pulse, metrics, forgetter)


def _hub_settings(settings: GatewaySettings) -> HubSettings:
    return HubSettings(
        heartbeat_s=settings.heartbeat_s,
        send_timeout_s=settings.send_timeout_s,
        viewer_buffer_bytes=settings.viewer_buffer_bytes,
        direct_writes=settings.direct_writes,
        rotate_s=settings.rotate_s,
        lease_s=settings.lease_ms / 1000,
    )
