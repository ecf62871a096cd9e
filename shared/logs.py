"""Owns the services' own logs: one JSON line an event, constant text plus fields.

A line never holds prompt or answer text, nor a credential. So an exception is written as its type and its
frames without its message (an SDK's error may quote the request), and with what it says itself to be fit for a log
(`for_log`); the SDKs' own loggers stay at WARNING.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback

import msgspec

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TALKATIVE = ("openai", "httpx", "httpx2", "httpcore", "aiohttp", "arq", "asyncio")
_encoder = msgspec.json.Encoder(enc_hook=repr)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, service, event, then the fields given as `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _KNOWN)
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["error_type"] = record.exc_info[0].__qualname__
            frames = traceback.extract_tb(record.exc_info[2])
            line["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
            said = getattr(record.exc_info[1], "for_log", None)
            if isinstance(said, dict):
                line.update(said)
        return _encoder.encode(line).decode()


def configure_logging(service: str, level: str) -> None:
    """Send every logger's records to stderr as JSON lines; replaces what was configured before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
