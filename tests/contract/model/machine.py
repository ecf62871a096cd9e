"""The state machine: hypothesis chooses a run of operations, faults and zombies; see `stage` for what must hold."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any, Literal

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from shared.cursor import Cursor
from shared.log.keys import log_keys
from shared.log.log import MOST_REFUNDS
from shared.log.segments import fitting
from shared.log.types import (
    Claimed,
    Created,
    Entry,
    Exists,
    Meta,
    Policy,
    Reply,
    new_token,
)
from tests.contract.model.reference import Claim, Line, Reference, Seen
from tests.contract.model.stage import NAMES, Replica, Stage, Worker
from tests.support import log as forms

POLICIES: tuple[Policy, ...] = ("single", "replace", "parallel")
STATES: tuple[Literal["done", "failed", "aborted"], ...] = ("done", "failed", "aborted")
# Each run throws its own dice: left to choose among rules, hypothesis repeats itself and switches some off, and
# without a claim nothing else means anything. It still finds the shortest run that fails.
DEEDS = {
    "append": 8, "extend": 8, "claim": 9, "lapse": 8, "hear": 5, "restore": 5, "finish": 2, "force": 3, "glance": 2,
    "heal": 2, "decide": 2, "repair": 2, "release": 2, "replicate": 3, "fail_over": 3, "stop": 1, "lose_stream": 2,
    "lose_everything": 1, "delete": 1, "create": 4, "checkpoint": 5,
}  # fmt: skip
NEED_A_WORKER = frozenset(("append", "extend", "checkpoint", "repair", "finish", "decide", "release", "restore"))
MOST_ATTEMPTS = (1, 2, 2, 3)
MOST_PARALLEL = 2


def entries_of(lines: list[Line]) -> list[Entry]:
    """Return lines whose epochs are known as entries."""
    return [Entry(Cursor(line.epoch or 0, line.seq), line.payload) for line in lines]


class LogMachine(Stage):
    """What can happen to a chat."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = Random(0)

    @initialize(entropy=st.integers(0, 2**64 - 1))
    def begin(self, entropy: int) -> None:
        self.dice = Random(entropy)
        self.run(self.connect())

    @rule()
    def step(self) -> None:
        deed = self.dice.choices(list(DEEDS), list(DEEDS.values()))[0]
        if not self.reference.records:
            deed = "restore" if self.workers and deed in ("restore", "append", "extend", "claim") else "create"
        elif deed in NEED_A_WORKER and not self.workers:
            deed = "claim"
        note(f"step: {deed}")
        getattr(self, deed)()

    def name(self) -> str:
        return self.dice.choice(NAMES)

    def known(self) -> str:
        """A message that exists, rather than one that does not."""
        return self.dice.choice([*NAMES, *sorted(self.reference.records) * 3])

    def free(self) -> str:
        """A message that can be claimed, rather than one that cannot."""
        records = self.reference.records.items()
        free = [name for name, record in records if not record.terminal and not record.leased]
        return self.dice.choice([*NAMES, *self.reference.records, *free * 4])

    def worker(self) -> Worker:
        """One of the last who made a claim; most are zombies by now."""
        return self.dice.choice(self.workers[:-4:-1])

    def teardown(self) -> None:
        try:
            if self.link.up:
                self.quiesce()
        finally:
            self.run(self.leave())
            self.runner.close()

    def same(self, operation: str, reply: Reply, expected: str) -> None:
        """Compare a reply with the reference's, which names the outcome too where there is one."""
        self.replies[f"{operation} {reply.status}"] += 1
        assert (f"ok {reply.state}" if reply.status == "ok" else reply.status) == expected

    # -- starts and claims

    def create(self) -> None:
        name, body_hash = self.name(), self.dice.choice("hhhi")
        policy = self.dice.choice(POLICIES)
        ref = self.refs[name]
        reply = self.run(forms.create(self.log, ref, policy=policy, body_hash=body_hash, most_parallel=MOST_PARALLEL))
        expected = self.reference.create(name, body_hash, policy, forms.first_entry(ref), MOST_PARALLEL)
        self.replies[f"create {expected}"] += 1
        match reply:
            case Created():
                assert expected == "created"
            case Exists(state=state):
                assert expected == "exists"
                assert state == self.reference.records[name].state
            case _:
                assert expected == reply.reason

    def claim(self) -> None:
        """Sometimes the reply is lost and the same claim sent once more."""
        name, again, outdated = self.free(), self.dice.random() < 0.5, self.dice.choice([0, 0, 0, 1])
        record = self.reference.records.get(name)
        seen = (record.attempts if record else 0) + outdated
        token, most = new_token(), self.dice.choice(MOST_ATTEMPTS)
        expected = self.reference.claim(name, token, seen, most, forms.marker(seen + 1))
        reply = None
        for _ in range(2 if again else 1):
            reply = self.run(forms.try_claim(self.log, self.refs[name], token=token, seen=seen, most=most))
        self.replies[f"claim {expected}"] += 1
        assert reply is not None
        if not isinstance(reply, Claimed):
            assert reply.reason == expected
            return
        assert expected == "ok"
        self.check()
        record = self.reference.records[name]
        assert record.lines is not None
        own = reply.ownership
        assert (own.epoch, own.attempt, own.marker_seq) == (record.epoch, record.attempts, record.seq)
        claim = Claim(
            name, token, own.epoch, own.attempt, record.policy, record.body_hash, record.started, deepcopy(record.lines)
        )
        backup = self.run(self.log.backup(self.refs[name]))
        assert backup is not None
        found = fitting(self.run(self.log.segments(self.refs[name])), entries_of(claim.lines))
        self.workers.append(Worker(own, claim, backup, found))

    # -- owners and former owners

    def append(self) -> None:
        """Say more, and send from anywhere: from before what landed (a reply was lost) or beyond it (a batch was)."""
        worker = self.worker()
        self.say_more(worker, self.dice.randint(0, 3))
        self.send(worker, *self.unsent(worker))

    def extend(self) -> None:
        """Say more, and send it from where its log ends, as this server has told it by its last reply."""
        worker = self.worker()
        self.say_more(worker, self.dice.randint(1, 3))
        if worker.acked is None:
            return self.send(worker, *self.unsent(worker))
        first, payloads = self.said_since(worker, worker.acked + 1)
        if not payloads:
            return None
        expected = self.reference.extend(worker.claim, first - 1, payloads)
        went_well = self.run(forms.extend_by(self.log, worker.own, first - 1, payloads))
        self.replies[f"extend {expected}"] += 1
        assert went_well == (expected == "ok")
        worker.acked = worker.acked + len(payloads) if went_well else None

    def say_more(self, worker: Worker, entries: int) -> None:
        """Add entries to what the worker has said, unless it has already said how the message ends."""
        for _ in range(entries if worker.state is None else 0):
            seq = worker.claim.lines[-1].seq + 1
            payload = forms.text(f"{worker.own.epoch}/{seq}")
            worker.claim.lines.append(Line(worker.own.epoch, seq, payload))

    def checkpoint(self) -> None:
        """Cut what it has said, perhaps beyond what landed, and store any segment of its own: a reply may be lost."""
        worker = self.worker()
        last = worker.segments[-1].last if worker.segments else None
        behind = entries_of(worker.claim.lines)[last.seq if last is not None else 0 :]
        if behind:
            worker.segments.append(forms.segment_of(behind[: self.dice.randint(1, len(behind))], last))
        number = self.dice.choice([len(worker.segments) - 1, self.dice.randrange(len(worker.segments))])
        segment = worker.segments[number]
        expected = self.reference.checkpoint(worker.claim, number, segment.last.seq, segment.encode())
        reply = self.run(self.log.checkpoint(worker.own, number, segment))
        self.replies[f"checkpoint {expected}"] += 1
        assert reply.status == expected
        if expected in ("ok", "gap"):
            assert reply.seq == len(self.reference.records[worker.claim.message].segments)

    def repair(self) -> None:
        """Send everything of its own again, as after a gap."""
        worker = self.worker()
        self.send(worker, *self.said_since(worker, worker.own.marker_seq + 1))

    def unsent(self, worker: Worker) -> tuple[int, list[bytes]]:
        """What a worker believes to be missing in the log, rightly or not."""
        known = worker.claim.lines[-1].seq
        return self.said_since(worker, max(worker.own.marker_seq + 1, known + 1 - self.dice.randint(0, 4)))

    @staticmethod
    def said_since(worker: Worker, first: int) -> tuple[int, list[bytes]]:
        """A seq once sent is never sent with other bytes, nor left out once something behind it was sent."""
        return first, [line.payload for line in worker.claim.lines if line.seq >= first]

    def send(self, worker: Worker, first: int, payloads: list[bytes]) -> None:
        expected = self.reference.append(worker.claim, first, payloads)
        reply = self.run(self.log.append(worker.own, first, payloads, lease_ms=60_000, renew_ttl=False, deadline_s=5))
        self.replies[f"append {expected}"] += 1
        assert reply.status == expected
        worker.acked = reply.seq if reply.status == "ok" else None
        record = self.reference.records.get(worker.claim.message)
        if reply.status in ("ok", "gap"):
            assert record is not None
            assert (reply.seq, reply.stop) == (record.seq, record.stop or "" if reply.status == "ok" else "")

    def finish(self) -> None:
        """What was decided or finished once is finished again and again in the same way."""
        worker, again = self.worker(), self.dice.random() < 0.5
        worker.state = worker.state or self.dice.choice(STATES)
        first, payloads = self.unsent(worker)
        ending = forms.ending(worker.state, *payloads)
        expected = self.reference.finish(worker.claim, first, payloads, ending)
        for _ in range(2 if again else 1):
            self.same("finish", self.run(self.log.finish(worker.own, first, ending)), expected)

    def decide(self) -> None:
        worker = self.worker()
        worker.state = worker.state or self.dice.choice(STATES)
        ending = forms.ending(worker.state)
        expected = self.reference.decide(worker.claim, ending)
        self.same("decide", self.run(self.log.decide(worker.own, ending)), expected)

    def release(self) -> None:
        worker = self.worker()
        refund = self.dice.random() < 0.7
        expected = self.reference.release(worker.claim, MOST_REFUNDS if refund else 0)
        self.same(
            "release", self.run(self.log.release(worker.own, refund=refund)), "ok " if expected == "ok" else expected
        )

    def restore(self) -> None:
        """By anybody: that a late owner must not even try only saves it the way."""
        worker = self.worker()
        expected = self.reference.restore(worker.claim)
        entries = entries_of(worker.claim.lines)
        restoring = self.log.restore(worker.own, worker.backup, entries, lease_ms=60_000, channel="tr:worker:w")
        self.same("restore", self.run(restoring), "ok " if expected == "ok" else expected)

    # -- everybody else

    def glance(self) -> None:
        """Somebody reads a record and will act on it later."""
        meta = self.run(self.log.meta(self.refs[self.known()]))
        if meta is not None:
            self.glances.append(meta)

    def force(self) -> None:
        if not self.glances or self.dice.random() < 0.5:
            self.glance()
        if self.glances:
            self.force_as_seen(self.glances.pop(), self.dice.choice(STATES))

    def force_as_seen(self, meta: Meta, state: Any) -> None:
        ending = forms.ending(state)
        seen = Seen(meta.epoch, meta.attempts, meta.seq)
        expected = self.reference.force(meta.ref.message_id, seen, ending)
        self.same("force", self.run(self.log.force(meta, ending)), expected)

    def stop(self) -> None:
        name = self.known()
        expected = self.reference.stop(name, "user")
        self.replies[f"stop {expected}"] += 1
        assert self.run(self.log.stop(self.refs[name])).status == expected

    def delete(self) -> None:
        name = self.known()
        expected = self.reference.delete(name)
        assert self.run(self.log.delete(self.refs[name])) == expected

    # -- faults

    def lapse(self) -> None:
        self.run_out(self.known())

    def run_out(self, name: str) -> None:
        """More than a lease passes without a word from the owner."""
        record = self.reference.records.get(name)
        if record is not None and record.state == "running":
            self.reference.lapse(name)
            self.run(forms.run_out(self.link, self.refs[name]))

    def replicate(self) -> None:
        failover = forms.Failover(self.link)
        self.run(failover.replicate())
        self.replica = Replica(failover, deepcopy(self.reference))

    def fail_over(self) -> None:
        if self.replica is None:
            self.replicate()
            return
        self.run(self.replica.failover.promote())
        self.reference = deepcopy(self.replica.reference)
        self.forget_server()

    def lose_everything(self) -> None:
        self.run(forms.lose_everything(self.link))
        self.reference = Reference()
        self.replica = None
        self.forget_server()

    def forget_server(self) -> None:
        """Their connections lead to another server now: what they heard of the one before says nothing about it."""
        for worker in self.workers:
            worker.acked = None

    def lose_stream(self) -> None:
        name = self.known()
        record = self.reference.records.get(name)
        if record is not None and not record.terminal:
            self.run(self.link.call("DEL", log_keys(self.refs[name]).stream))
            self.reference.lose_stream(name)

    # -- viewers

    def hear(self) -> None:
        """The oldest messages that still wait on the way arrive, or are lost."""
        name, count, kept = self.known(), self.dice.randint(1, 6), self.dice.choice([True, True, False])
        for _ in range(min(count, len(self.published[name]))):
            published = self.published[name].pop(0)
            if kept:
                self.viewers[name].hear(published)
                self.replies["viewer hears"] += 1

    def heal(self) -> None:
        self.heal_viewer(self.known())

    def heal_viewer(self, name: str) -> None:
        self.run(self.viewers[name].heal())
        self.replies["viewer resets"] += self.viewers[name].resets
        self.replies["viewer takes"] += self.viewers[name].taken

    def quiesce(self) -> None:
        """The nemesis rests, a reaper ends what is left, viewers heal: everybody has seen the same whole log."""
        for name, ref in self.refs.items():
            self.run_out(name)
            meta = self.run(self.log.meta(ref))
            if meta is not None and not meta.terminal:
                self.force_as_seen(meta, "aborted" if meta.stop else "failed")
            for published in self.published[name]:
                self.viewers[name].hear(published)
        self.check()
        assert (self.reference.active, self.reference.in_flight) == (None, [])
        for name, ref in self.refs.items():
            self.heal_viewer(name)
            entries, saw = self.run(self.log.read_all(ref)), self.viewers[name].saw
            # Of a lost stream the log has only the end; a viewer may have seen what came before it.
            whole = not entries or entries[0].cursor.seq == 1
            assert saw == entries if whole else saw[-1:] == entries
