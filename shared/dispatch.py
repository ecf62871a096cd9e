"""Owns the queue: thin arq jobs that say "look at this message", one for each that waits, and how workers are woken.

The queue decides nothing: a job lost, doubled or late costs time only, the message's record and the reapers see to
the rest. arq's form of a job is written and read here in atomic steps over a link that mends itself: arq's own client
takes some ten round trips a job, each on a connection of a pool that lends them one after the other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job

from shared.commands import Commands
from shared.ids import MessageRef
from shared.jobs import CANCEL_NAME, CANCELS, JOB_NAME, QUEUE_NAME, Run, encode_job_value
from shared.log.keys import WAKE

_JOB_TTL_MS = 24 * 3600 * 1000
_LOOK_PAST = 2000
_TEN_YEARS_S = 315_360_000
# A message that is queued already keeps its place or gets a better one, and a worker's mark on its job is taken off:
# that worker is dead, or looked too early, and must not take the job out of the queue as done.
# arq compares a job's score with the reader's own clock and hides jobs from the future. Scores only have to keep the
# queue in order, so they are the server's time some years ago: then no clock that is merely wrong hides a job. And some
# years earlier for an answer that was begun: somebody is in the middle of reading it.
# KEYS 1 job  2 queue  3 mark   ARGV 1 job's body  2 its life, ms  3 job id  4 channel to wake, or ''  5 seconds ago
_ENQUEUE = """
local t = redis.call('TIME')
local score = (t[1] - ARGV[5]) * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local fresh = redis.call('ZADD', KEYS[2], 'LT', string.format('%.0f', score), ARGV[3])
local freed = redis.call('DEL', KEYS[3])
if ARGV[4] ~= '' and fresh + freed > 0 then redis.call('PUBLISH', ARGV[4], ARGV[3]) end
return fresh
"""
# Marks the first jobs that nobody else has, as arq does, and returns them with their bodies. What others have stands at
# the head of the queue for as long as a claim takes; it is looked past, but not for ever.
# KEYS 1 queue   ARGV 1 how many  2 ms until a mark is void  3 the mark  4 prefix of marks' keys  5 of jobs'
#   6 jobs to look past
_PICK = """
local most, picked, at = tonumber(ARGV[1]), {}, 0
local page = most + 32
repeat
  local ids = redis.call('ZRANGE', KEYS[1], at, at + page - 1)
  for _, id in ipairs(ids) do
    if #picked >= 2 * most then break end
    local key = ARGV[4] .. id
    if redis.call('SET', key, ARGV[3], 'NX', 'PX', ARGV[2]) or redis.call('GET', key) == ARGV[3] then
      picked[#picked + 1] = id
      picked[#picked + 1] = redis.call('GET', ARGV[5] .. id) or ''
    end
  end
  at = at + page
until #picked >= 2 * most or #ids < page or at > tonumber(ARGV[6])
return picked
"""
# KEYS 1 job  2 queue  3 mark   ARGV 1 job id  2 the mark  3 whether the job is done
_LEAVE = """
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
if ARGV[3] == '1' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class PickedJob:
    """A job that is ours for now. `body` is arq's form of it, empty if Redis no longer has it."""

    queue: str
    job_id: str
    body: bytes
    mark: str


class Dispatcher:
    """Queues messages for the workers. Safe to share between tasks; holds no state of its own."""

    def __init__(self, link: Commands, *, deadline_s: float = 5.0) -> None:
        """`link` leads to the queue's Redis; its owner closes it."""
        self._link = link
        self._deadline_s = deadline_s

    async def dispatch(self, ref: MessageRef, *, begun: bool = False, wake: bool = True) -> None:
        """Queue `ref` unless it is queued, and wake the idle workers; raise `Unavailable` if Redis does not answer.

        One that was `begun` goes before those that wait for their first worker, however many they are. Whoever looks at
        it just now has looked too early: somebody will look again. `wake=False` leaves that to the next regular poll:
        for a worker that hands back a job it has no room for.
        """
        await self._enqueue(QUEUE_NAME, ref.member, JOB_NAME, (ref.member,), begun=begun, wake=wake)

    async def cancel(self, run: Run) -> None:
        """Have a worker cancel a run upstream that nobody will attach to again; raises as `dispatch`."""
        args = (run.member, run.model, run.id, run.attempt)
        await self._enqueue(CANCELS, f"cancel-{uuid4().hex}", CANCEL_NAME, args, wake=True)

    async def _enqueue(
        self, queue: str, job_id: str, name: str, args: tuple[str | int, ...], *, begun: bool = False, wake: bool
    ) -> None:
        job = serialize_job(name, args, {}, None, int(time.time() * 1000), serializer=encode_job_value)
        values = (job, _JOB_TTL_MS, job_id, WAKE if wake else "", _TEN_YEARS_S * (2 if begun else 1))
        await self._link.script(_ENQUEUE, _keys(queue, job_id), values, deadline_s=self._deadline_s)

    async def pick(self, queue: str, most: int, held_ms: int) -> list[PickedJob]:
        """Take up to `most` of a queue's first jobs; those not done in `held_ms` others may have. Raises as above."""
        mark = uuid4().hex
        args = (most, held_ms, mark, in_progress_key_prefix, job_key_prefix, _LOOK_PAST)
        flat = cast("list[bytes]", await self._link.script(_PICK, (queue,), args, deadline_s=self._deadline_s))
        return [
            PickedJob(queue, job_id.decode(), body, mark) for job_id, body in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def leave(self, job: PickedJob, *, done: bool) -> None:
        """Take a job out of the queue, or let others have it (`done=False`), if it is still ours. Raises as above."""
        args = (job.job_id, job.mark, int(done))
        await self._link.script(_LEAVE, _keys(job.queue, job.job_id), args, deadline_s=self._deadline_s)

    async def depth(self) -> int:
        """Return how many messages wait; admission control compares it with a bound."""
        return cast(int, await self._link.call("ZCARD", QUEUE_NAME, deadline_s=self._deadline_s))


def _keys(queue: str, job_id: str) -> tuple[str, str, str]:
    return (job_key_prefix + job_id, queue, in_progress_key_prefix + job_id)
