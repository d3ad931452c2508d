"""Tokens that channels act by: read with Realtime's own refusals."""

from __future__ import annotations

import time

from embedded.identity import Claims, Identity, InvalidTokenError


class TokenRefusedError(Exception):
    """`reason` is what a refused join answers; `str(error)` the sentence without its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = f"{code}: {message}"


def is_api_key(token: str) -> bool:
    """Opaque keys (`sb_publishable_...`) say nothing that the connection does not know already."""
    return token.startswith("sb_")


def read_token(identity: Identity, token: str) -> Claims:
    """The claims of a JWT.

    Raises:
        TokenRefusedError: It cannot be read, is expired, or lacks `role` or `exp`.
    """
    try:
        claims = identity.claims_of_token(token)
    except InvalidTokenError as error:
        if error.is_expired:
            raise TokenRefusedError("InvalidJWTToken", "Token has expired") from error
        if token.count(".") != 2:
            raise TokenRefusedError("MalformedJWT", "The token provided is not a valid JWT") from error
        raise TokenRefusedError("JwtSignatureError", "Failed to validate JWT signature") from error
    if not isinstance(claims.raw.get("role"), str) or claims.expires_at is None:
        raise TokenRefusedError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")
    if claims.expires_at <= time.time():  # no leeway: a channel ends with its token
        raise TokenRefusedError("InvalidJWTToken", "Token has expired")
    return claims
