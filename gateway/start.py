"""Owns the use case "start a generation"; every wire that starts one goes through here.

The order is what makes a crash at any point harmless: (0) an appointment for the reapers, later than the
longest start, (1) CREATE, (2) the index and the queue, (3) the answer. Dying after 0 leaves an appointment
for a message that does not exist; after 1, a message that a reaper, a repeated start or any viewer brings to
a worker. So once CREATE has said yes, nothing that fails afterwards fails the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import msgspec

from gateway.access.principal import Principal
from gateway.bodies import RESERVED
from gateway.reading import why_missing
from gateway.services import Services
from gateway.stop import stop
from shared import events as ev
from shared.cursor import Cursor
from shared.errors import (
    ChatBusy,
    IdempotencyMismatch,
    InvalidRequest,
    LimitReached,
    Overloaded,
    StartUncertain,
    StorageFull,
    TailraceError,
    Unavailable,
)
from shared.ids import MAX_ID_BYTES, MessageRef, derived_id, new_message_id
from shared.jobs import GenerationRequest, encode_request
from shared.log.types import TERMINAL, Created, Exists, MetaState, Policy, Refused

log = logging.getLogger(__name__)

SOON_MS = 1000
"""When a reaper looks at a message that somebody has started again."""


@dataclass(frozen=True, slots=True)
class Started:
    """A message that exists. `cursor` is its first entry's, None once the log is no longer kept."""

    ref: MessageRef
    cursor: Cursor | None
    state: MetaState
    existed: bool


async def start(
    services: Services,
    who: Principal,
    chat_id: str,
    request: GenerationRequest,
    *,
    message_id: str | None = None,
    idempotency_key: str | None = None,
    policy: Policy | None = None,
    repeatable: bool | None = None,
) -> Started:
    """Create the message and queue it, or find that the same start came before.

    `repeatable`: whether the caller's own repetition would name the same message. If it is not given: whether there is
    a `message_id` or a key. (A route that made the id up for this one request says False.)

    Raises `InvalidRequest` (also `InvalidId`, `UnknownModel`), `ChatBusy`, `IdempotencyMismatch`, `Gone` for an
    id that was used and is over, `Overloaded` before anything is created, `Unavailable` if nothing was created
    or a repetition is harmless, `StartUncertain` if neither is sure.
    """
    began = asyncio.get_running_loop().time()
    try:
        if repeatable is None:
            repeatable = message_id is not None or idempotency_key is not None
        ref = who.ref(chat_id, _message_id(who, chat_id, message_id, idempotency_key))
        started = await _start(services, who, ref, request, policy, repeatable=repeatable)
    except TailraceError as error:
        services.metrics.starts.labels(error.code).inc()
        raise
    services.metrics.starts.labels("existed" if started.existed else "created").inc()
    services.metrics.start_seconds.observe(asyncio.get_running_loop().time() - began)
    return started


async def _start(
    services: Services,
    who: Principal,
    ref: MessageRef,
    request: GenerationRequest,
    policy: Policy | None,
    *,
    repeatable: bool,
) -> Started:
    chosen = _allowed(services, policy)
    _check_params(request)
    # The hash is of what was asked: a default model that changes meanwhile makes no other request of it.
    body_hash = sha256(encode_request(request)).hexdigest()
    request = msgspec.structs.replace(request, model=services.models.choose(request.model))
    before = await services.log.in_flight(ref.tenant, ref.chat_id) if chosen == "replace" else []
    create = partial(_create, services, who, ref, request, body_hash, chosen, repeatable=repeatable)
    reply = await _create_within_bounds(services, who, ref, create, repeatable=repeatable)
    match reply:
        case Created(cursor=cursor):
            await _announce(services, who, ref, request)
            replaced = [who.ref(ref.chat_id, old) for old in before if old != ref.message_id]
            await asyncio.gather(*(_end_replaced(services, who, old) for old in replaced))
            return Started(ref, cursor, "queued", existed=False)
        case Exists(state=state):
            return Started(ref, await _again(services, who, ref, request, state), state, existed=True)
        case Refused():
            raise await _refusal(services, who, ref, reply)


def _message_id(who: Principal, chat_id: str, message_id: str | None, key: str | None) -> str:
    if key is None:
        return new_message_id() if message_id is None else message_id
    if message_id is not None:
        # With both, one key could name two messages, and "the same key" would no longer mean one start.
        raise InvalidRequest("name the message by message_id or by Idempotency-Key, not by both")
    return derived_id("msg", who.scope, chat_id, check_key(key))


def check_key(key: str) -> str:
    """Return an Idempotency-Key; raise `InvalidRequest` for what cannot be one."""
    if not 0 < len(key) <= MAX_ID_BYTES:
        raise InvalidRequest(f"an Idempotency-Key has 1 to {MAX_ID_BYTES} characters")
    return key


def _allowed(services: Services, policy: Policy | None) -> Policy:
    settings = services.settings
    if policy is None or policy == settings.busy_policy:
        return settings.busy_policy
    if (policy == "replace" and not settings.allow_replace) or (policy == "parallel" and not settings.allow_parallel):
        raise InvalidRequest(f"the policy {policy!r} is not allowed here")
    return policy


def _check_params(request: GenerationRequest) -> None:
    reserved = RESERVED.intersection(request.params)
    if reserved:
        raise InvalidRequest(f"not accepted among params: {', '.join(sorted(reserved))}")


async def _create_within_bounds(
    services: Services,
    who: Principal,
    ref: MessageRef,
    create: Callable[[], Awaitable[Created | Exists | Refused]],
    *,
    repeatable: bool,
) -> Created | Exists | Refused:
    """CREATE, with a place under the user's bound. In doubt the place stays taken, until the index voids it."""
    taken = await _admit(services, who, ref, repeatable=repeatable)
    try:
        reply = await create()
    except StorageFull:
        await _give_back(services, who, ref, taken)
        raise
    if not isinstance(reply, Created):
        await _give_back(services, who, ref, taken)
    return reply


async def _admit(services: Services, who: Principal, ref: MessageRef, *, repeatable: bool) -> bool:
    """Raise `Overloaded` at a bound (the user's is exact, the queue's is not), `Unavailable` if that cannot be told;
    return whether a place was taken.
    """
    try:
        return await _within_bounds(services, who, ref)
    except (Overloaded, Unavailable):
        # A start that came before creates nothing: refusing it would hide a running answer from its caller.
        if not repeatable or await services.log.meta(ref) is None:
            raise
    return False


async def _within_bounds(services: Services, who: Principal, ref: MessageRef) -> bool:
    settings = services.settings
    if settings.max_queue and await services.dispatcher.depth() >= settings.max_queue:
        raise Overloaded("too many messages are waiting for a worker; try again")
    most = settings.max_running_per_user
    place = await services.index.reserve(who, ref, most) if most else "held"
    if place == "full":
        raise LimitReached(f"{most} messages are in flight already; try again when one is over")
    return place == "taken"


async def _give_back(services: Services, who: Principal, ref: MessageRef, taken: bool) -> None:
    if taken:
        try:
            await services.index.release(who, ref)
        except TailraceError as error:
            log.info("place not given back; it is void soon", extra={**ref.fields, "code": error.code})


async def _create(
    services: Services,
    who: Principal,
    ref: MessageRef,
    request: GenerationRequest,
    body_hash: str,
    policy: Policy,
    *,
    repeatable: bool,
) -> Created | Exists | Refused:
    settings = services.settings
    first = ev.Created(
        ref.chat_id, ref.message_id, request.model, int(services.clock()), request.wire, request.options
    )  # fmt: skip
    longest_s = settings.redis_deadline_s * 2
    await services.log.watch(ref, int((longest_s + 5) * 1000))
    try:
        async with asyncio.timeout(longest_s):
            return await services.log.create(
                ref,
                user=who.user,
                body_hash=body_hash,
                request=encode_request(request),
                first=ev.encode_event(first),
                policy=policy,
                deadline_ms=settings.message_deadline_s * 1000,
                most_parallel=settings.max_parallel,
            )
    except StorageFull:
        raise  # a definite no
    except (Unavailable, TimeoutError):
        if repeatable:
            raise Unavailable("Redis did not answer in time") from None
        raise StartUncertain("it is not known whether the message was started; look at its chat") from None


async def _announce(services: Services, who: Principal, ref: MessageRef, request: GenerationRequest) -> None:
    done = await asyncio.gather(
        services.dispatcher.dispatch(ref),
        services.index.add(who, ref),
        services.feed.started(ref, request),
        return_exceptions=True,
    )
    for error in done:
        if isinstance(error, Exception):
            log.warning("start not announced; a reaper will", extra=ref.fields, exc_info=error)


async def _end_replaced(services: Services, who: Principal, ref: MessageRef) -> None:
    """Stop a replaced message, at once if nobody works on it; CREATE itself has told the youngest one's worker."""
    try:
        await stop(services, who, ref, reason="replaced")
    except TailraceError as error:
        log.info("replaced message left to its worker", extra={**ref.fields, "code": error.code})


async def _again(
    services: Services, who: Principal, ref: MessageRef, request: GenerationRequest, state: MetaState
) -> Cursor | None:
    """Help along a message that was started before; return its first cursor."""
    # The appointment made for this start has replaced the real one: have a reaper set it right.
    await services.log.watch(ref, SOON_MS)
    if state not in TERMINAL:  # whoever started it may have died before it told anybody
        await _announce(services, who, ref, request)
    entries = await services.log.read(ref, None, 1)
    return entries[0].cursor if entries else None


async def _refusal(services: Services, who: Principal, ref: MessageRef, reply: Refused) -> TailraceError:
    if reply.reason == "busy":
        return ChatBusy(reply.detail)
    if reply.reason == "full":
        return LimitReached(f"the chat has {reply.detail} messages in flight already; try again when one is over")
    await services.log.watch(ref, SOON_MS)
    meta = await services.log.meta(ref)
    if meta is None or meta.state == "deleted":
        return await why_missing(services, who, ref)
    return IdempotencyMismatch("a message of that id or key was started with another body")
