"""The images' health check, `healthcheck.py PORT PATH`: exit 0 if GET PATH on this container answers 200."""

from __future__ import annotations

import http.client
import sys


def healthy(port: int, path: str) -> bool:
    """Ask once, with a deadline."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if healthy(int(sys.argv[1]), sys.argv[2]) else 1)
