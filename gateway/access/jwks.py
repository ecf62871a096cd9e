"""Owns the published keys of an issuer: fetched when first needed, cached, and not fetched too often.

No task of its own: whoever needs the keys and finds them old fetches them, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import msgspec

from shared.errors import Unavailable

log = logging.getLogger(__name__)

FRESH_S = 300.0
"""After this the keys are fetched anew, so that a key that was withdrawn stops working."""
PAUSE_S = 10.0
"""Fetches at most so often, whatever key ids callers make up and however often a fetch fails."""
STALE_S = 86_400.0
"""Keys last seen so long ago are not used any more, even if the issuer cannot be reached."""
FETCH_DEADLINE_S = 3.0
LARGEST = 256 * 1024
KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}
"""The accepted algorithms, and the one type of key that each works with."""


class Jwks:
    """The keys behind one URL."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[tuple[str, str | None], Any] = {}
        self._fetched = -float("inf")
        self._tried = -float("inf")
        self._lock = asyncio.Lock()

    async def find(self, algorithm: str, key_id: str | None) -> Any:
        """Return the public key for this algorithm and id, None if the issuer publishes no such key.

        A token without a key id is accepted while the issuer publishes just one key for its algorithm.
        Raises `Unavailable` if there are no keys to look in.
        """
        if algorithm not in KEY_TYPES:
            return None
        known = self._lookup(algorithm, key_id) is not None and self._age() <= STALE_S
        # One caller waits for an issuer that is slow; meanwhile a key that was good is good enough for the others.
        if not known or (self._age() > FRESH_S and not self._lock.locked()):
            await self._refresh()
        if self._age() > STALE_S:
            raise Unavailable("the issuer's keys cannot be fetched")
        return self._lookup(algorithm, key_id)

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _lookup(self, algorithm: str, key_id: str | None) -> Any:
        if key_id is not None:
            return self._keys.get((algorithm, key_id))
        candidates = [key for (name, _), key in self._keys.items() if name == algorithm]
        return candidates[0] if len(candidates) == 1 else None

    async def _refresh(self) -> None:
        async with self._lock:
            if self._clock() - self._tried < PAUSE_S:
                return
            self._tried = self._clock()
            try:
                self._keys = _read(await self._fetch())
            except (httpx.HTTPError, TimeoutError, ValueError) as error:
                log.warning("jwks not fetched", extra={"reason": repr(error)})
            else:
                self._fetched = self._clock()

    async def _fetch(self) -> bytes:
        body = b""
        async with asyncio.timeout(FETCH_DEADLINE_S), httpx.AsyncClient(follow_redirects=False) as client:
            async with client.stream("GET", self._url, headers={"accept": "application/json"}) as response:
                response.raise_for_status()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST:
                        raise ValueError("the key set is too large")
        return body


def _read(body: bytes) -> dict[tuple[str, str | None], Any]:
    """Return the signing keys of a key set by algorithm and id; keys of other kinds are left out."""
    document = msgspec.json.decode(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    keys: dict[tuple[str, str | None], Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        key_id = entry.get("kid")
        for algorithm, key_type in KEY_TYPES.items():
            if entry.get("kty") == key_type and entry.get("alg", algorithm) == algorithm:
                try:
                    if not isinstance(key_id, str | None):
                        raise ValueError("its id is no text")
                    keys[algorithm, key_id] = jwt.PyJWK(entry, algorithm).key
                except (jwt.PyJWTError, ValueError) as error:
                    log.warning("unusable key in the key set", extra={"kid": str(key_id)[:64], "reason": str(error)})
    return keys
