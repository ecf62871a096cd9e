"""Owns what must hold of every answer, whatever was asked: no 5xx but the documented, the right shape, no secrets."""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.errors import TABLE, ErrorAnswer
from gateway.openai.openai_errors import OpenAIError
from gateway.protocols.openai_common import GENERATION_STATUS
from tests.fuzz.rig import ALICE, CANARY
from tests.fuzz.wire import Answer

UNPARSED = b"Invalid HTTP request received."
"""What the server says itself to what is no HTTP."""


seen: Counter[int] = Counter()
"""Statuses that were answered: fuzzing that is refused at the door finds nothing."""


def check(answer: Answer, target: bytes, key: str | None) -> None:
    """Raise `AssertionError` for an answer that nobody may be given."""
    seen[answer.status] += 1
    if key != ALICE and not target.startswith(b"/v1/models"):
        assert CANARY.encode() not in answer.whole, f"somebody else's text: {answer}"
    assert 200 <= answer.status < 600, answer
    if answer.status < 400 or answer.body == UNPARSED:
        return
    assert answer.kind == "application/json", answer
    code = _openai(answer) if target.startswith(b"/v1/") else _native(answer)
    if answer.status < 500:
        return
    # 503: come back later. 502 and 504 are a model's, on the wire that has no other way to say so.
    documented = {name for name, rule in TABLE.items() if rule.status == 503}
    generation = {name for name, status in GENERATION_STATUS.items() if status in (502, 503, 504)}
    allowed = documented | generation | {"still_running"} if target.startswith(b"/v1/") else documented
    assert answer.status != 500, answer
    assert code in allowed, answer


def _native(answer: Answer) -> str:
    if answer.headers.get("connection") == "close" and not answer.body:
        return ""
    code = msgspec.json.decode(answer.body, type=ErrorAnswer).error.code
    assert code in TABLE, answer
    return code


def _openai(answer: Answer) -> str:
    error = msgspec.json.decode(answer.body, type=OpenAIError).error
    assert error.type in ("invalid_request_error", "rate_limit_error", "server_error"), answer
    assert error.message, answer
    return error.code or ""
