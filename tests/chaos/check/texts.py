"""Owns the oracle: the texts that the model gave to a message, from its prompt and from the model's own request log.

Where the prompt asks for it (`vary=1`), every call has a text of its own, so that an answer which was begun anew and
still holds something of the attempt before cannot pass for whole.
"""

from __future__ import annotations

from deploy.scripted_model.text import full_text
from tests.chaos.check.world import Call, Place, World

VARY = "vary=1"


def given(world: World, place: Place) -> list[str] | None:
    """Return the whole text of each call, the last one last; None if nobody knows what was asked."""
    start = world.prompts.get(place)
    if start is None:
        return None
    messages = [{"role": "user", "content": start.prompt}]
    if VARY not in start.prompt:
        return [full_text(messages)]
    calls = sorted((call for call in world.calls[place[1]] if _spoke(call)), key=lambda call: call.received_at)
    return [full_text(messages, {"variant": call.call}) for call in calls] or [""]


def _spoke(call: Call) -> bool:
    return call.api in ("chat", "responses") and not (call.outcome or "").startswith("refused")


def begins(texts: list[str], text: str) -> bool:
    """Whether `text` is the beginning of one of `texts`."""
    return any(whole.startswith(text) for whole in texts)


def differ(texts: list[str], text: str) -> str:
    """Say where `text` leaves the last of `texts`."""
    whole = texts[-1]
    at = next((at for at, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), min(len(text), len(whole)))
    return f"{at} of {len(whole)} ({text[at : at + 20]!r} for {whole[at : at + 20]!r})"
