"""Owns JWT bearers: which are accepted, and whom they stand for.

An algorithm is tied to a kind of key: HS256 to the shared secret, RS256 and ES256 to published keys of their
type. So a token cannot choose how it is checked, and a public key is never used as an HMAC secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt

from gateway.access.jwks import Jwks
from gateway.access.principal import Principal
from gateway.settings import GatewaySettings
from shared.errors import InvalidId

NBF_LEEWAY_S = 30
"""How far an issuer's clock may be ahead of ours. `exp` has none: an expired token is an expired token."""
LONGEST_TOKEN = 16_384


class TokenVerifier:
    """Checks tokens as the settings say."""

    def __init__(self, settings: GatewaySettings, jwks: Jwks | None, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._secret = settings.jwt_secret.get_secret_value()
        self._jwks = jwks
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: GatewaySettings) -> TokenVerifier | None:
        """Return a verifier, None if no tokens are accepted at all."""
        if not (settings.jwt_secret.get_secret_value() or settings.jwks_url):
            return None
        return cls(settings, Jwks(settings.jwks_url) if settings.jwks_url else None)

    async def verify(self, token: str) -> Principal | None:
        """Return whom the token stands for, None if it is not good for any reason.

        Raises `Unavailable` if the published keys were not reachable for a day, or have never been.
        """
        if len(token) > LONGEST_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            key = await self._key(algorithm, header.get("kid"))
            return None if key is None else self._principal(self._decode(token, key, algorithm))
        # PyJWT lets some malformed headers and claims through as bare built-in errors.
        except (jwt.PyJWTError, InvalidId, ValueError, TypeError, OverflowError):
            return None

    async def _key(self, algorithm: str, key_id: object) -> Any:
        if algorithm == "HS256":
            return self._secret or None
        if self._jwks is None or not isinstance(key_id, str | None):
            return None
        return await self._jwks.find(algorithm, key_id)

    def _decode(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        settings = self._settings
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=settings.jwt_issuer or None,
            audience=settings.jwt_audience or None,
            leeway=NBF_LEEWAY_S,
            options={"require": ["exp"], "verify_iat": False, "verify_sub": False},
        )
        if float(claims["exp"]) <= self._clock():
            raise jwt.ExpiredSignatureError
        return claims

    def _principal(self, claims: dict[str, Any]) -> Principal | None:
        settings = self._settings
        user = claims.get(settings.jwt_user_claim)
        tenant = claims.get(settings.jwt_tenant_claim, settings.jwt_default_tenant)
        if not isinstance(user, str) or not isinstance(tenant, str):
            return None
        return Principal(tenant, user, float(claims["exp"]))
