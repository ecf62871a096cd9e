"""The log's scripts without their fences, counts and comparisons, and without each mend."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_TESTS = "tests/contract/test_"


def _script(name: str, script: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, f"shared/log/lua/{script}.lua", old, new, tuple(f"{_TESTS}{test}" for test in tests))


SCRIPTS = (
    _script(
        "no token check", "append",
        "st ~= 'running' or v[4] ~= ARGV[1] or v[2] ~= ep", "st ~= 'running' or v[2] ~= ep",
        "append.py::test_a_foreign_token_and_a_foreign_epoch_are_fenced",
    ),
    _script(
        "no token check at the end", "finish",
        "m.st ~= 'running' or m.tok ~= tok or m.ep ~= ep", "m.st ~= 'running' or m.ep ~= ep",
        "finish.py::test_only_the_owner_finishes",
    ),
    _script(
        "no epoch check", "append",
        "st ~= 'running' or v[4] ~= ARGV[1] or v[2] ~= ep", "st ~= 'running' or v[4] ~= ARGV[1]",
        "append.py::test_a_foreign_token_and_a_foreign_epoch_are_fenced",
    ),
    _script(
        "no claim marker", "claim",
        "local ep, seq = next_epoch(n, rnd, m.ep), m.seq + 1\nif not put(ep, seq, marker) then return {'lost'} end",
        "local ep, seq = next_epoch(n, rnd, m.ep), m.seq",
        "append.py::test_a_zombie_is_fenced_between_its_successors_claim_and_first_entry",
        "claim.py::test_a_claim_writes_its_marker_as_the_next_entry",
    ),
    _script(
        "no fence at all: neither token nor epoch", "append",
        "if st ~= 'running' or v[4] ~= ARGV[1] or v[2] ~= ep then", "if st ~= 'running' then",
        "append.py::test_a_zombie_is_fenced_between_its_successors_claim_and_first_entry",
    ),
    Mutant(
        "EXTEND makes a lost stream anew", "shared/log/extender.py", '"NOMKSTREAM", ', "",
        (f"{_TESTS}extend.py::test_it_makes_no_key",),
    ),
    Mutant(
        "an EXTEND that was refused counts as written", "shared/log/extender.py",
        "        if type(each) is not bytes:\n            return False\n", "        pass\n",
        (f"{_TESTS}extend.py::test_a_zombie_is_refused_from_its_successors_claim_on",),
    ),
    Mutant(
        "who has not looked there may EXTEND", "worker/sender.py",
        "return self._known_to is not None and self._known_to is self._store.standing(self._own.ref)", "return True",
        ("tests/unit/worker/test_writer_losses.py::test_nothing_is_extended_on_another_connection_before_an_append_has_looked",),
    ),
    Mutant(
        "tokens are EXTENDed although that is off", "worker/sender.py", " or not self._limits.extends:", ":",
        ("tests/unit/worker/test_writer.py::test_without_direct_appends_every_token_is_a_scripts_and_the_record_knows_the_last",),
    ),
    _script(
        "what EXTEND wrote is not looked for", "prelude",
        "tonumber(last and string.match(last[1], '%d+$') or known)", "tonumber(known)",
        "extend.py::test_every_operation_goes_by_what_it_has_written",
    ),
    _script(
        "APPEND goes by the record", "append", "local seq = tonumber(known)", "local seq = tonumber(v[3])",
        "extend.py::test_entries_follow_as_if_appended",
    ),
    _script(
        "gap allowed", "append", "if first > seq + 1 then return {'gap', known} end\n", "",
        "append.py::test_a_gap_is_refused_and_names_the_last_entry",
    ),
    _script(
        "gap allowed at the end", "finish", "if first > m.seq + 1 then return {'gap', text(m.seq)} end\n", "",
        "finish.py::test_a_gap_before_the_end_is_refused",
    ),
    _script(
        "duplicate not skipped", "append", "if q > last then", "if true then",
        "append.py::test_a_repeated_append_writes_nothing_twice",
    ),
    _script(
        "duplicate not skipped at the end", "finish", "if q > last then", "if true then",
        "finish.py::test_an_entry_sent_again_with_the_end_is_written_once",
    ),
    _script(
        "finish not idempotent", "finish",
        "if terminal(m.st) and redis.call('HGET', M, 'ftok') == tok then return {'ok', text(m.seq), m.st} end\n", "",
        "finish.py::test_a_repeated_finish_says_the_same_and_writes_nothing",
    ),
    _script(
        "claim not idempotent", "claim",
        "if m.st == 'running' and m.tok == tok then return {'ok', text(m.ep), text(m.seq), text(m.at)} end\n", "",
        "claim.py::test_a_repeated_claim_whose_reply_was_lost_gives_the_same_ownership",
    ),
    _script(
        "lease ignored by a claim", "claim",
        "if m.st == 'running' and m.lu > n then return {'busy', text(m.lu - n)} end\n", "",
        "claim.py::test_a_leased_message_is_busy_for_the_time_its_lease_has_left",
    ),
    _script(
        "lease ignored by a forced end", "force", "or (m.st == 'running' and m.lu > n) or", "or",
        "force.py::test_a_leased_message_is_not_forced",
    ),
    _script(
        "lease not renewed by a heartbeat", "append",
        "local t = call('TIME')\n", "local t = call('TIME')\nif #fresh == 0 then ARGV[4] = -1000000 end\n",
        "append.py::test_a_heartbeat_renews_the_lease_and_writes_nothing",
    ),
    _script(
        "INCR epoch", "prelude",
        "return math.max(n * 1000 + tonumber(rnd), old + 1 + tonumber(rnd))",
        "if old > 0 then return old + 1 end return n * 1000",
        "mends.py::test_8_epochs_do_not_repeat_when_the_clock_is_behind",
    ),
    _script(
        "no compare on active", "prelude", "if redis.call('GET', A) == mid then", "if true then",
        "finish.py::test_a_finish_leaves_another_active_message_alone",
    ),
    _script(
        "active pointer never cleared", "prelude", "else redis.call('DEL', A) end", "end",
        "finish.py::test_the_end_is_the_last_entry_and_the_record_agrees",
    ),
    _script(
        "active pointer not handed on", "prelude",
        "if other[1] then redis.call('SET', A, other[1], 'PX', meta_ttl) else", "if false then else",
        "create.py::test_the_active_pointer_moves_to_the_youngest_still_in_flight",
    ),
    _script(
        "no compare with the active message seen", "create", "if cur ~= seen then return {'retry', cur} end", "",
        "create.py::test_a_busy_chat_names_its_active_message",
    ),
    _script(
        "body not compared", "create", "if m.st ~= 'deleted' and redis.call('HGET', M, 'hash') == hash then",
        "if m.st ~= 'deleted' then",
        "create.py::test_another_body_under_the_same_id_conflicts",
    ),
    _script(
        "stop does not win over a retry", "claim", "if m.stop then return {'stopped'} end\n", "",
        "claim.py::test_a_stop_wins_over_another_attempt",
    ),
    _script(
        "attempts not counted", "claim", "if m.at >= tonumber(most) then return {'exhausted'} end\n", "",
        "claim.py::test_attempts_run_out",
    ),
    _script(
        "a wish to stop keeps from no other end", "force", " or (m.stop and not m.ost and state ~= 'aborted')", "",
        "force.py::test_a_message_that_was_asked_to_stop_is_forced_to_no_other_end",
    ),
    _script(
        "stop does not wake the worker", "stop", "wake_worker(m.w, ARGV[1])\n", "",
        "force.py::test_stop_of_a_leased_message_wakes_its_worker",
    ),
    _script(
        "deleted text is kept", "delete", "redis.call('DEL', S, F)\n", "",
        "delete_release.py::test_a_deleted_message_keeps_nothing_of_its_content",
        "checkpoint.py::test_a_deleted_message_has_no_segments",
    ),
    _script(
        "a full Redis cannot end a message", "prelude", "redis.call('HDEL', M, '-')", "",
        "full.py::test_a_full_redis_still_ends_messages",
    ),
    _script(
        "a chat's order follows the clock alone", "create",
        "next_epoch(n, rnd, tonumber(youngest[2]) or 0)", "next_epoch(n, rnd, 0)",
        "create.py::test_a_message_is_the_youngest_even_if_the_clock_stepped_back",
    ),
)  # fmt: skip

SEGMENTS = (
    _script(
        "segments: no fence", "checkpoint",
        "if m.st ~= 'running' or m.tok ~= tok or m.ep ~= ep then return {'fenced', m.st, text(m.ep)} end\n", "",
        "checkpoint.py::test_only_the_owner_stores_segments",
    ),
    _script(
        "segments: a missing one is not a gap", "checkpoint", "number > n or last > m.seq", "last > m.seq",
        "checkpoint.py::test_a_missing_segment_is_a_gap_and_the_reply_names_how_many_there_are",
    ),
    _script(
        "segments: the log need not reach so far", "checkpoint", "number > n or last > m.seq", "number > n",
        "checkpoint.py::test_a_segment_that_the_log_does_not_reach_is_a_gap",
    ),
    _script(
        "segments: later ones stay behind the one that is replaced", "checkpoint",
        "  redis.call('LTRIM', F, 0, number)\n", "",
        "checkpoint.py::test_a_segment_takes_the_place_of_all_from_its_number_on",
    ),
    _script(
        "segments: written in a full Redis", "checkpoint",
        "if number == n then\n", "even_if_full()\nif number == n then\n",
        "checkpoint.py::test_a_full_redis_refuses_a_segment_and_keeps_those_there_are",
    ),
    _script(
        "segments: they outlive the log", "prelude", "  redis.call('PEXPIRE', F, stream_ttl)\n", "",
        "checkpoint.py::test_segments_live_as_long_as_the_stream",
        "checkpoint.py::test_a_forced_end_begins_the_same_period_for_both",
    ),
    _script(
        "segments: a restore keeps another branch's", "restore", "redis.call('DEL', S, F)", "redis.call('DEL', S)",
        "checkpoint.py::test_a_restore_drops_them_because_they_may_be_of_another_branch",
    ),
)  # fmt: skip

MENDS = (
    _script(
        "mend 1: the end's place is what the worker says", "finish",
        "last = last + 1\nput(ep, last, ending)\nfresh[#fresh + 1] = ending\n",
        "if first + #ARGV - 10 > last then last = last + 1 put(ep, last, ending) fresh[#fresh + 1] = ending end\n",
        "mends.py::test_1_an_end_is_written_although_its_seq_was_taken_by_an_entry_whose_reply_was_lost",
    ),
    _script(
        "mend 2: a decision does not stop another attempt", "claim", "if m.ost then return {'decided'} end\n", "",
        "mends.py::test_2_an_end_that_was_told_and_then_lost_is_not_replaced_by_another",
    ),
    _script(
        "mend 2: the reaper overrules a decision", "force",
        "if m.ost then\n  state = m.ost", "if false then\n  state = m.ost",
        "mends.py::test_2_an_end_that_was_told_and_then_lost_is_not_replaced_by_another",
    ),
    _script(
        "mend 2: the last decision wins", "decide", "if m.ost then return {'ok', m.ost} end\n", "",
        "finish.py::test_a_decision_stands_whatever_is_finished_later",
    ),
    _script(
        "mend 2: a finish overrules a decision", "finish",
        "if m.ost then\n  state = m.ost", "if false then\n  state = m.ost",
        "finish.py::test_a_decision_stands_whatever_is_finished_later",
    ),
    _script(
        "mend 2: the final message is not stored with the end", "finish",
        ", 'ftok', tok, 'final', final)", ", 'ftok', tok)",
        "mends.py::test_2_without_replicas_the_final_message_is_stored_with_the_end",
    ),
    _script(
        "mend 3: a batch does not name the id before it", "prelude",
        "redis.call('PUBLISH', S, text(prev_ep) .. '-' .. text(prev_seq)",
        "redis.call('PUBLISH', S, text(ep) .. '-' .. text(prev_seq)",
        "mends.py::test_3_a_batch_names_the_id_before_it_so_that_a_stale_one_does_not_fit",
    ),
    _script(
        "mend 3: a heartbeat carries the number alone", "append",
        "call('PUBLISH', S, ep .. '-' .. last)", "call('PUBLISH', S, last)",
        "publish.py::test_a_heartbeat_carries_the_whole_last_id",
    ),
    _script(
        "mend 4: a restore never replaces a lower epoch", "restore",
        "if not mine and m.ep >= ep then", "if not mine then",
        "mends.py::test_4_a_zombies_restore_after_total_loss_does_not_shut_out_the_owner",
    ),
    _script(
        "mend 4: a restore replaces any epoch", "restore",
        "  if not mine and m.ep >= ep then return {'fenced', m.st, text(m.ep)} end\n", "",
        "restore.py::test_a_zombies_restore_does_not_touch_the_owners_log",
    ),
    _script(
        "mend 5: a forced end does not compare the attempts", "force", "or text(m.at) ~= want_at or", "or",
        "mends.py::test_5_the_reaper_does_not_kill_a_message_that_was_just_released",
    ),
    _script(
        "mend 6: an end leaves no tombstone", "prelude",
        "redis.call('SET', G, redis.call('HGET', M, 'user') or '', 'PX', tomb_ttl)", "",
        "mends.py::test_6_between_loss_and_restore_nothing_says_that_the_message_is_over",
    ),
    _script(
        "mend 6: a restore brings back what was deleted", "restore",
        "elseif redis.call('EXISTS', G) == 1 then\n  return {'final', 'deleted'}\n", "",
        "delete_release.py::test_nothing_brings_a_deleted_message_back",
    ),
    _script(
        "every release is refunded", "release",
        "redis.call('HINCRBY', M, 'drained', 1) <= tonumber(ARGV[3])", "redis.call('HINCRBY', M, 'drained', 1)",
        "delete_release.py::test_a_release_without_a_refund_costs_the_attempt",
        "delete_release.py::test_refunds_run_out",
    ),
    _script(
        "no release is refunded", "release", "then at = at - 1 end", "then at = at end",
        "delete_release.py::test_a_released_message_is_claimed_at_once_and_pays_no_attempt",
    ),
    _script(
        "mend 8: no random part when the clock is behind", "prelude", "old + 1 + tonumber(rnd))", "old + 1)",
        "mends.py::test_8_epochs_do_not_repeat_when_the_clock_is_behind",
    ),
    _script(
        "mend 9: a lost stream is not rebuilt", "restore",
        "if mine and redis.call('EXISTS', S) == 1 then", "if mine then",
        "mends.py::test_9_a_lost_stream_is_rebuilt_by_its_owner",
    ),
    _script(
        "mend 9: an append makes a lost stream anew", "append",
        "if not top then return {'lost'} end\nlocal known = string.match(top[1], '%d+$')",
        "local known = top and string.match(top[1], '%d+$') or v[3]",
        "mends.py::test_9_a_lost_stream_is_rebuilt_by_its_owner",
    ),
    _script(
        "mend 9: no end without a stream", "force",
        "redis.call('XADD', S, text(ep)", "redis.call('XADD', S, 'NOMKSTREAM', text(ep)",
        "mends.py::test_9_a_lost_stream_without_an_owner_ends",
    ),
    _script(
        "mend 10: a restore does not yield to a newer message", "restore",
        "not m.st and allowed ~= 'parallel' and not (younger and allowed == 'replace')", "false",
        "mends.py::test_10_a_restore_yields_to_a_message_created_since_the_loss",
    ),
    _script(
        "mend 11: what a reaper takes is gone from the index", "overdue",
        "  redis.call('ZADD', KEYS[1], n + tonumber(ARGV[2]), member)\n", "",
        "mends.py::test_11_a_reaper_that_dies_with_its_catch_loses_nothing",
    ),
)  # fmt: skip
