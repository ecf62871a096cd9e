"""An answer without what tells an end from a failure, a second run from a first, and a slow peer from a deaf one."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CHAT = "tests/unit/worker/test_chat_completions.py::test_"
_RECOVERY = "tests/unit/worker/test_recovery.py::test_"
_HTTP = "tests/integration/test_gateway_http.py::test_"

ANSWERS = (
    Mutant(
        "an error beside choices is not read", "worker/upstreams/chat_events.py",
        "            if chunk.error:\n", "            if False:\n",
        (_CHAT + "a_break_after_the_first_token_is_a_failure_and_never_a_second_call",),
    ),
    Mutant(
        "an abort is an end", "worker/upstreams/chat_events.py",
        "        if self._failure:\n", "        if False:\n",
        (_CHAT + "a_break_after_the_first_token_is_a_failure_and_never_a_second_call",),
    ),
    Mutant(
        "what follows a tool's output stays in its step", "worker/grammar.py",
        "if self._outline.step_answered and not self._outline.parts:", "if False:",
        ("tests/unit/worker/test_grammar.py::test_what_follows_a_tools_output_is_another_step",),
    ),
    Mutant(
        "an id used twice is one call", "worker/grammar.py",
        "if not (begins and call_id in self._outline.answered):", "if True:",
        ("tests/unit/worker/test_grammar.py::test_a_call_under_the_id_of_an_answered_one_is_another_call",),
    ),
    Mutant(
        "an agent's tool that began is run again", "worker/recovery.py",
        "        did = (*did, ev.ToolInputAvailable)\n", "        pass\n",
        (_RECOVERY + "the_order_of_preference",),
    ),
    Mutant(
        "an agent hears of the last attempt alone", "worker/recovery.py",
        "[*chain.from_iterable(void), *message.parts]", "message.parts",
        (_RECOVERY + "an_agent_is_told_what_every_attempt_before_it_did",),
    ),
    Mutant(
        "void text counts", "worker/ledger.py",
        "self._max_bytes = self._void_bytes + most_bytes", "self._max_bytes = most_bytes",
        ("tests/unit/worker/test_ledger.py::test_what_a_reset_made_void_does_not_count",),
    ),
    Mutant(
        "a replay goes on into another log", "gateway/live/viewer.py",
        "        if self._is_of_another(page):\n", "        if False:\n",
        ("tests/unit/gateway/test_reading.py::test_a_replay_finds_out_by_itself_that_the_log_is_another",),
    ),
    Mutant(
        "who takes little is cut off", "gateway/live/stall.py",
        "if taken > stall[0] else stall", "if stall == NO_STALL else stall",
        ("tests/unit/gateway/test_stall.py::test_only_time_without_a_byte_taken_counts",),
    ),
    Mutant(
        "trailers have no end", "gateway/connection.py",
        "        if self._head_bytes > LARGEST_HEAD:\n", "        if not self._head_complete and False:\n",
        (_HTTP + "what_comes_with_a_body_has_an_end_too",),
    ),
    Mutant(
        "a late body loses the connection's deadline", "gateway/connection.py",
        "cycle is not None and cycle.response_complete:", "False:",
        (_HTTP + "a_connection_always_has_a_deadline",),
    ),
    Mutant(
        "an answer waits for its reader for ever", "gateway/connection.py",
        "        if now == taken:\n", "        if False:\n",
        (_HTTP + "who_does_not_take_an_answer_does_not_keep_it_for_ever",),
    ),
)  # fmt: skip
