"""The wires: pure, deterministic encoders from log entries to bytes. No request, no I/O, no clock.

The same entries give the same bytes on every replica and after every restart, so that any replica can
go on where another stopped.
"""

from __future__ import annotations

from gateway.protocols.base import Wire
from gateway.protocols.chat_completions import CHAT_COMPLETIONS
from gateway.protocols.native import NATIVE
from gateway.protocols.responses import RESPONSES
from gateway.protocols.ui_message_stream import UI, UI_STEPS

WIRES: dict[str, Wire] = {wire.name: wire for wire in (NATIVE, CHAT_COMPLETIONS, RESPONSES, UI, UI_STEPS)}
"""Every wire by its name."""
