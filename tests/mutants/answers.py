"""An answer without what tells an end from a failure, a second run from a first, and a slow peer from a deaf one."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CHAT = "tests/unit/worker/test_chat_completions.py::test_"
_RECOVERY = "tests/unit/worker/test_recovery.py::test_"
_HTTP = "tests/integration/test_gateway_http.py::test_"
_SOCKET = "tests/integration/test_websocket_connection.py::test_"

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
        "if not (begins and (call_id in self._outline.answered or call_id in self._called)):", "if True:",
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
        "elif self.timeout_keep_alive_task is None and self.cycle.response_complete:", "elif False:",
        (_HTTP + "a_connection_always_has_a_deadline",),
    ),
    Mutant(
        "an answer waits for its reader for ever", "gateway/connection.py",
        "        if now == taken:\n", "        if False:\n",
        (_HTTP + "who_does_not_take_an_answer_does_not_keep_it_for_ever",),
    ),
    Mutant(
        "the next answer waits behind one that is not taken for ever", "gateway/connection.py",
        "        if now == taken and not self._streams:\n", "        if False:\n",
        (_HTTP + "answers_of_which_nothing_is_taken_keep_no_others_waiting_for_ever",),
    ),
    Mutant(
        "requests are sent ahead without end", "gateway/connection.py",
        "        if len(self.pipeline) >= MOST_AHEAD:\n", "        if False:\n",
        (_HTTP + "requests_that_are_sent_ahead_without_end_are_given_up",),
    ),
    Mutant(
        "a handshake that cannot be read is kept", "gateway/socket_connection.py",
        "        if not self.handshake_initiated:", "        if False:",
        (_SOCKET + "a_handshake_that_cannot_be_read_is_refused_and_hinders_nothing",),
    ),
    Mutant(
        "pongs wait without a bound", "gateway/socket_connection.py",
        "        if self.writable.is_set():\n", "        if True:\n",
        (_SOCKET + "pings_of_a_client_that_takes_nothing_do_not_fill_our_memory",),
    ),
    Mutant(
        "who was refused a socket keeps it", "gateway/socket_connection.py",
        "        self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)\n", "",
        (_SOCKET + "pings_of_a_client_that_takes_nothing_do_not_fill_our_memory",),
    ),
    Mutant(
        "idle ones' timer ends a socket", "gateway/connection.py",
        " or self.transport.get_protocol() is not self:", ":",
        (_SOCKET + "a_connection_that_served_a_request_before_is_as_good_a_socket",),
    ),
    Mutant(
        "the queue's Redis may be anybody's", "shared/redis.py",
        'told["ssl_check_hostname"] = True', 'told["ssl_check_hostname"] = False',
        ("tests/unit/shared/test_redis_tls.py::test_only_the_server_of_the_url_hears_the_password",),
    ),
)  # fmt: skip
