"""Admission: from a typed request to a call that may be played, or to a refusal.

The order matters: the switch and the directives decide per call, and a call that was refused with a status does not
use up one of the calls that a fault is meant for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploy.scripted_model.directives import Directives
from deploy.scripted_model.faults import NO_FAULTS, SLOW_FACTOR, Fault, Faults, Strike
from deploy.scripted_model.journal import Entry
from deploy.scripted_model.playback import Tempo
from deploy.scripted_model.refusal import Refused
from deploy.scripted_model.script import Delivery, Request, write_script
from deploy.scripted_model.world import World

_MESSAGES = {
    429: "Rate limit reached for scripted: it was told to refuse this call.",
    529: "The scripted model plays overloaded.",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted call: what is to be said, how fast, and what is to go wrong."""

    entry: Entry
    request: Request
    delivery: Delivery
    tempo: Tempo
    faults: Faults
    cut: Fault | None

    @property
    def directives(self) -> Directives:
        """The call's directives."""
        return self.request.directives

    @property
    def prompt_tokens(self) -> int:
        """The size of the prompt, roughly as a tokenizer would count it."""
        return max(1, self.request.conversation.size // 4)


def admit(world: World, entry: Entry, request: Request, limit: int | None) -> Call:
    """Fill in `entry` and return the call; raises `Refused` where the directives or the switch say so."""
    conversation, directives = request.conversation, request.directives
    entry.prompt_hash = conversation.prompt_hash
    entry.key = directives.key or conversation.prompt_hash
    entry.prefill_chars = len(conversation.prefill or "")
    entry.call = world.calls.next(entry.key)
    world.journal.announce(entry)
    strike = world.switch.strike()
    _refuse(entry, request, strike)
    nth = world.streams.next(entry.key)
    if directives.vary:
        directives = replace(directives, variant=entry.call)
        request = replace(request, directives=directives)
    faults = directives.faults if nth <= _times(directives.fault_times) else NO_FAULTS
    return Call(
        entry=entry,
        request=request,
        delivery=Delivery(write_script(request, world.settings.tokens), directives.chunk, limit),
        tempo=_tempo(world, directives, slow=strike.slow),
        faults=faults,
        cut=faults.cut or strike.cut,
    )


def _refuse(entry: Entry, request: Request, strike: Strike) -> None:
    directives = request.directives
    status = strike.status
    if directives.status is not None and entry.call <= _times(directives.times):
        status = directives.status
    if status is not None:
        message = _MESSAGES.get(status, f"The scripted model was told to answer {status}.")
        form, code = directives.error_body, directives.error_code
        raise Refused(status, message, code=code, retry_after=directives.retry_after, form=form)
    if directives.reject_prefill and request.conversation.prefill is not None:
        message = "scripted does not support assistant message prefill: end the conversation with a user message."
        raise Refused(400, message, param="messages")


def _tempo(world: World, directives: Directives, *, slow: bool) -> Tempo:
    settings = world.settings
    rate = settings.rate if directives.rate is None else directives.rate
    first_ms = settings.first_token_ms if directives.first_token_ms is None else directives.first_token_ms
    if slow:
        rate = (rate or settings.rate or 100.0) / SLOW_FACTOR
    return Tempo(rate, first_ms / 1000)


def _times(times: int | None) -> float:
    return float("inf") if times is None else times
