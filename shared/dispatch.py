"""Owns the way into the queue: a thin arq job that says "look at this message", and the wake-up of idle workers.

The queue decides nothing: a job lost, doubled or late costs time only, the message's record and the reapers see to
the rest. arq's form of a job is written here in one atomic step over a link that mends itself (arq's own client takes
four round trips).
"""

from __future__ import annotations

import time
from typing import cast
from uuid import uuid4

from arq.constants import job_key_prefix
from arq.jobs import serialize_job

from shared.commands import Commands
from shared.ids import MessageRef
from shared.jobs import CANCEL_NAME, JOB_NAME, QUEUE_NAME, Run, encode_job_value
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
return redis.call('ZCARD', KEYS[2])
"""


class Dispatcher:
    """Queues messages for the workers. Safe to share between tasks; holds no state of its own."""

    def __init__(self, link: Commands, *, deadline_s: float = 5.0) -> None:
        """`link` leads to the queue's Redis; its owner closes it."""
        self._link = link
        self._deadline_s = deadline_s

    async def dispatch(self, ref: MessageRef, *, wake: bool = True) -> None:
        """Queue `ref` under a fresh job id and wake the idle workers; raise `Unavailable` if Redis does not answer.

        `wake=False` leaves it to the next regular poll: for a worker that hands back a job it has no room for.
        """
        await self._enqueue(JOB_NAME, (ref.member,), wake=wake)

    async def cancel(self, run: Run) -> None:
        """Have a worker cancel a run upstream that nobody will attach to again; raises as `dispatch`."""
        await self._enqueue(CANCEL_NAME, (run.member, run.model, run.id, run.attempt), wake=True)

    async def _enqueue(self, name: str, args: tuple[str | int, ...], *, wake: bool) -> None:
        job_id = uuid4().hex
        job = serialize_job(name, args, {}, None, int(time.time() * 1000), serializer=encode_job_value)
        keys = (job_key_prefix + job_id, QUEUE_NAME)
        values = (job, _JOB_TTL_MS, job_id, WAKE if wake else "")
        await self._link.script(_ENQUEUE, keys, values, deadline_s=self._deadline_s)

    async def depth(self) -> int:
        """Return how many jobs wait; admission control compares it with a bound."""
        return cast(int, await self._link.call("ZCARD", QUEUE_NAME, deadline_s=self._deadline_s))
