"""Owns the way into the queue: a thin arq job that says "look at this message", and the wake-up of idle workers.

The queue decides nothing: a job lost, doubled or late costs time only, the message's record and the reapers see to
the rest. arq's form of a job is written here in one atomic step over a link that mends itself (arq's own client takes
four round trips).
"""

from __future__ import annotations

import time
from typing import cast
from uuid import uuid4

from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job

from shared.ids import MessageRef
from shared.jobs import JOB_NAME, QUEUE_NAME, encode_job_value
from shared.link import Link
from shared.log.keys import WAKE

_JOB_TTL_MS = 24 * 3600 * 1000
# arq compares a job's score with the reader's own clock and hides jobs from the future. Scores only have to keep the
# queue in order, so they are the server's time some years ago: then no clock that is merely wrong hides a job.
_ENQUEUE = """
local t = redis.call('TIME')
local score = (t[1] - 315360000) * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', score), ARGV[3])
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[3]) end
"""
# The same for a message that may be queued already: under an id of the message's own, so that reminders do not pile up
# while it waits, and in the place of the one that waits. A mark of progress on that is of a worker that died with it or
# is about to claim the message; either way somebody else may look.
_REMIND = (
    """
local marked = redis.call('DEL', KEYS[3])
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('ZSCORE', KEYS[2], ARGV[3]) and marked == 0 then return end
"""
    + _ENQUEUE
)


class Dispatcher:
    """Queues messages for the workers. Safe to share between tasks; holds no state of its own."""

    def __init__(self, link: Link, *, deadline_s: float = 5.0) -> None:
        """`link` leads to the queue's Redis; its owner closes it."""
        self._link = link
        self._deadline_s = deadline_s

    async def dispatch(self, ref: MessageRef, *, wake: bool = True) -> None:
        """Queue `ref` under a fresh job id and wake the idle workers; raise `Unavailable` if Redis does not answer.

        `wake=False` leaves it to the next regular poll: for a worker that hands back a job it has no room for.
        """
        await self._queue(_ENQUEUE, ref, uuid4().hex, WAKE if wake else "")

    async def remind(self, ref: MessageRef) -> None:
        """Queue `ref` again in case its job was lost; at most one reminder of a message waits. Raises as `dispatch`."""
        await self._queue(_REMIND, ref, f"again:{ref.member}", WAKE)

    async def _queue(self, script: str, ref: MessageRef, job_id: str, channel: str) -> None:
        job = serialize_job(JOB_NAME, (ref.member,), {}, None, int(time.time() * 1000), serializer=encode_job_value)
        keys = (job_key_prefix + job_id, QUEUE_NAME, in_progress_key_prefix + job_id)
        args = (job, _JOB_TTL_MS, job_id, channel)
        await self._link.script(script, keys, args, deadline_s=self._deadline_s)

    async def depth(self) -> int:
        """Return how many jobs wait; admission control compares it with a bound."""
        return cast(int, await self._link.call("ZCARD", QUEUE_NAME, deadline_s=self._deadline_s))
