"""The reading side without its checks, and the owner's side of the mends: what scripts alone cannot keep."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_READING = "tests/unit/gateway/test_reading.py::test_"
_AT_ONCE = "tests/unit/gateway/test_healing_at_once.py::test_"
_CHANNEL = "tests/unit/gateway/test_channel.py::test_"
_TURNS = "tests/unit/gateway/test_turns.py::test_"
_WRITER = "tests/unit/worker/test_writer.py::test_"
_LOSSES = "tests/unit/worker/test_writer_losses.py::test_"
_CHECKPOINTS = "tests/unit/worker/test_checkpoints.py::test_"
_SO_FAR = "tests/contract/test_so_far.py::test_"
_ATTEMPT = "tests/unit/worker/test_attempt.py::test_"
_REAPER = "tests/unit/worker/test_reaper.py::test_"


def _tail(name: str, old: str, new: str, *tests: str, at_once: str = "") -> Mutant:
    """`at_once`: a test in which nothing but the safeguard heals; elsewhere a look after some silence would."""
    named = [_READING + test for test in tests] + ([_AT_ONCE + at_once] if at_once else [])
    return Mutant(name, "gateway/live/tail.py", old, new, tuple(named))


def _viewer(name: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, "gateway/live/viewer.py", old, new, tuple(_READING + test for test in tests))


READER = (
    _tail(
        "reader: no contiguity check (mend 3)", 
        "if prev != self._at:", "if False:",
        "a_forged_or_stale_batch_is_not_taken",
    ),
    _tail(
        "reader: what does not fit is dropped, not read",
        "if self.position is not None and last > self.position:", "if False:",
        at_once="a_batch_beyond_the_position_has_the_log_read",
    ),
    _tail(
        "reader: the tail reads on without its own entry (mend 3)",
        "if not page or page[0].cursor != position:", "if not page:",
        "a_viewer_of_a_lost_branch_is_reset",
    ),
    _tail(
        "reader: a heartbeat beyond the position is ignored",
        "elif head != self._at and self.position is not None and", "elif False and",
        at_once="a_heartbeat_beyond_the_position_has_the_log_read",
    ),
    _tail(
        "mend 7: a silent link is trusted", "elif meta.cursor != self.position:", "elif False:",
        "a_lost_end_is_found_when_the_link_stays_silent",
    ),
    _tail(
        "reader: a new subscription is trusted",
        "        self._subscribing = None\n        if self._at:\n            self.heal()\n",
        "        self._subscribing = None\n",
        at_once="a_new_subscription_has_the_log_read",
    ),
    _viewer(
        "reader: no cursor-exists check",
        "if self.cursor is not None and entries[0].cursor != self.cursor:", "if False:",
        "a_cursor_that_is_not_in_the_log_gets_a_reset_and_the_whole_log",
    ),
    _viewer(
        "reader: a cursor beyond the end waits for ever",
        "if not entries and self.cursor is not None and await self._is_foreign():", "if False:",
        "a_cursor_that_is_not_in_the_log_gets_a_reset_and_the_whole_log",
    ),
    _viewer(
        "mend 6: a vanished log is given up at once",
        "if self._loop.time() >= self._vanished_at + self._restoring_s:", "if True:",
        "a_vanished_log_is_waited_for_and_goes_on_without_a_reset",
    ),
    _viewer(
        "live: pages kept of a log that is gone are given on",
        "self._pages.forget()", "pass",
        "pages_kept_of_a_lost_branch_are_given_to_nobody_who_knows_better",
    ),
    Mutant(
        "live: who comes later takes a kept page for the log's end", "gateway/live/pages.py",
        "kept.full = True", "pass",
        ("tests/unit/gateway/test_pages.py::test_who_comes_a_moment_later_gets_what_was_read_and_is_told_to_go_on",),
    ),
    Mutant(
        "live: who falls behind forgets what was written for it", "gateway/live/viewer.py",
        "            self._ordinal += seat.count\n", "",
        (_CHANNEL + "who_counts_events_goes_on_behind_those_that_were_written_for_it",),
    ),
    Mutant(
        "live: what comes is not kept for who reads the log", "gateway/live/tail.py",
        "self._ring.add((entry_id, raw))", "pass",
        (_CHANNEL + "who_joins_in_the_middle_of_a_turn_gets_each_entry_once",),
    ),
    Mutant(
        "live: a tick looks after who has left since it began", "gateway/live/care.py",
        "if viewer not in self._viewers:", "if False:",
        (_TURNS + "who_has_left_since_the_tick_began_is_not_looked_after",),
    ),
    Mutant(
        "live: a tick holds up everybody until all are looked after", "gateway/live/turns.py",
        "        await asyncio.sleep(0)\n", "",
        (_TURNS + "the_loop_turns_between_a_few_and_the_next_few",),
    ),
    Mutant(
        "live: one viewer's failure leaves the others alone for good", "gateway/live/turns.py",
        "except Exception:", "except ZeroDivisionError:",
        (_TURNS + "what_one_raises_costs_no_other",),
    ),
    Mutant(
        "segments: believed although the log does not have their last entry", "shared/log/log.py",
        "if last is not None and (not page or page[0].cursor != last):", "if last is not None and not page:",
        (_SO_FAR + "segments_of_a_lost_branch_are_not_believed",),
    ),
    Mutant(
        "segments: believed although they do not follow upon each other", "shared/log/segments.py",
        "if segment is None or segment.after != (found[-1].last if found else None):", "if segment is None:",
        (_SO_FAR + "behind_a_break_or_an_unknown_form_the_log_is_read",),
    ),
    Mutant(
        "segments: the next owner goes on from another branch's", "shared/log/segments.py",
        "if segment.last.seq > len(entries) or entries[segment.last.seq - 1].cursor != segment.last:",
        "if segment.last.seq > len(entries):",
        ("tests/unit/shared/log/test_segments.py::test_only_what_ends_in_the_log_fits_it",),
    ),
    Mutant(
        "segments: those that were lost are not written again", "worker/checkpoints.py",
        "min(reply.seq, before)", "before",
        (_CHECKPOINTS + "segments_that_a_failover_lost_are_written_again",),
    ),
    Mutant(
        "segments: cut before they are acknowledged", "worker/ledger.py",
        "islice(self._raws(self._cut_seq), acked - self._cut_seq)", "self._raws(self._cut_seq)",
        ("tests/unit/worker/test_ledger.py::test_nothing_is_cut_before_it_is_acknowledged_and_enough",),
    ),
    Mutant(
        "mend 4: the worker restores after its lease", "worker/sender.py",
        "left <= 0 or ", "",
        (_LOSSES + "after_the_lease_nothing_is_restored",),
    ),
    Mutant(
        "mend 4: the worker takes a lost claim for a takeover", "worker/sender.py",
        "if claim_lost or reply.status in", "if reply.status in",
        (_LOSSES + "a_lost_claim_is_restored_while_the_lease_lasts",),
    ),
    Mutant(
        "the worker does not write a lost tail again", "worker/sender.py",
        'reply.status == "gap" and reply.seq >= self.ledger.marker_seq', 'reply.status == "gap" and False',
        (_LOSSES + "a_lost_tail_is_written_again_byte_for_byte",),
    ),
    Mutant(
        "an append that did not go well is not sent again by the task", "worker/sender.py",
        "        if not went_well:\n            return self._wake_task()\n",
        "        if not went_well:\n            return\n",
        (_LOSSES + "a_lost_log_is_written_again_under_its_own_ids",),
    ),
    Mutant(
        "a heartbeat is not asked of the task", "worker/sender.py",
        "if not self._parked or self._beat or not", "if not self._parked or not",
        (_WRITER + "a_heartbeat_is_one_command_that_renews_the_lease",),
    ),
    Mutant(
        "what was extended counts as a renewed lease", "worker/sender.py",
        "        self.acked = last\n        self.storage_full = False\n",
        "        self.acked = last\n        self.lease.confirmed(sent_at)\n        self.storage_full = False\n",
        (_WRITER + "tokens_alone_renew_no_lease_and_a_heartbeat_between_them_does",),
    ),
    Mutant(
        "a stop waits for a dead owner's lease", "worker/reaper.py",
        "            if meta.stop is not None:\n", "            if False:\n",
        ("tests/integration/test_worker_takeover.py::test_a_stop_ends_the_background_run_of_a_dead_worker_before_its_lease_is_over",),
    ),
    Mutant(
        "a run to cancel waits for a free slot", "shared/dispatch.py",
        "self._enqueue(CANCELS, ", "self._enqueue(QUEUE_NAME, ",
        ("tests/integration/test_worker_takeover.py::test_a_stop_ends_the_background_run_of_a_dead_worker_before_its_lease_is_over",),
    ),
    Mutant(
        "a long queue is read to take a little of it", "worker/dispatch.py",
        "queue_read_limit=1,", "queue_read_limit=1000,",
        ("tests/unit/worker/test_queue_end.py::test_a_long_queue_is_not_read_to_take_a_little_of_it",),
    ),
    Mutant(
        "mend 2: the worker does not decide before it ends", "worker/writer.py",
        "if self._store.waits_for_replicas:", "if False:",
        (_WRITER + "where_replicas_count_the_outcome_is_decided_before_the_end",),
    ),
    Mutant(
        "mend 4: a restore is tried beyond the lease", "worker/sender.py",
        "            deadline_s=left,\n", "",
        (_LOSSES + "no_restore_is_tried_beyond_the_lease",),
    ),
    Mutant(
        "mend 11: an owner makes no appointments with the reapers", "worker/supervisor.py",
        'asyncio.create_task(self._watch(due), name="watch") if due else None', "None",
        (_ATTEMPT + "11_an_owner_keeps_renewing_the_appointment_with_the_reapers",),
    ),
    Mutant(
        "mend 11: nobody looks at an ended message again", "worker/generate.py",
        "        await self._parts.store.watch(self.own.ref, FAILOVER_WINDOW_MS)\n", "",
        (_ATTEMPT + "11_an_ended_message_is_looked_at_again_after_the_failover_window",),
    ),
    Mutant(
        "mend 11: nobody sweeps", "worker/reaper.py",
        "await asyncio.gather(*(self._store.watch(ref, random.randrange(2000)) for ref in refs))", "pass",
        (_REAPER + "the_sweep_finds_what_every_index_forgot",),
    ),
    Mutant(
        "an answer's first token waits for the round of others", "shared/log/extender.py",
        "(urgent and self._waits)", "False",
        ("tests/unit/shared/log/test_extender.py::test_what_is_urgent_waits_for_no_window_and_takes_along_who_does",),
    ),
    Mutant(
        "text that goes on is not held against the limits", "worker/ledger.py",
        "len(waiting) > self._max_entries\n        ):\n            raise OutputLimit",
        "len(waiting) > self._max_entries\n        ):\n            pass",
        ("tests/unit/worker/test_inlet.py::test_an_answer_under_way_may_not_outgrow_its_limit_either",),
    ),
    Mutant(
        "text is written as it comes although a replay is behind", "worker/inlet.py",
        "self._skip is None and not self._unlogged_usage", "not self._unlogged_usage",
        ("tests/unit/worker/test_inlet.py::test_a_replay_is_behind_until_it_has_passed_what_the_log_holds",),
    ),
)  # fmt: skip
