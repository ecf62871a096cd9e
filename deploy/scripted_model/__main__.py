"""The command line: python -m deploy.scripted_model --port 9000"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.scripted_model.server import bind, serve
from deploy.scripted_model.settings import Settings


def _read_settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m deploy.scripted_model", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 = any free port")
    parser.add_argument("--rate", type=float, default=40.0, help="tokens per second, 0 = as fast as possible")
    parser.add_argument("--tokens", type=int, default=200, help="length of an answer")
    parser.add_argument("--first-token-ms", type=float, default=0.0, help="delay of the first token")
    parser.add_argument("--log-file", type=Path, help="append the request log to this file as JSON lines")
    try:
        return Settings(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str]) -> int:
    """Serve until a signal; return the exit status."""
    settings = _read_settings(arguments)
    try:
        listener = bind(settings)
    except OSError as error:
        print(f"scripted model: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}/v1"
    try:
        serve(settings, listener, lambda: print(f"scripted model ready on {url}", flush=True))
    except KeyboardInterrupt:  # uvicorn raises the signal again after a clean stop
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
