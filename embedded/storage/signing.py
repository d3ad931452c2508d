"""The tokens inside signed links: HS256 JWTs bound to one object and one use.

Source: github.com/supabase/storage, src/storage/object.ts (`signObjectUrl`, `verifyObjectSignature`), 2026-11-20.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from embedded.storage import errors

Scope = Literal["download", "upload"]

UPLOAD_TOKEN_LIFETIME = 7200  # seconds; Storage's own fixed value

#: Storage verifies with the `jose` library and hands its messages on, so PyJWT's are put into its words.
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: '"exp" claim timestamp check failed',
    jwt.InvalidSignatureError: "signature verification failed",
    jwt.DecodeError: "Invalid Compact JWS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedToken:
    """What a verified token allows."""

    expires_at: int  #: seconds since the epoch
    owner: str | None  #: upload: who will own the object
    upsert: bool  #: upload: an existing object may be replaced


class LinkSigner:
    def __init__(self, secret: str) -> None:
        self._secret = secret

    def sign_download(self, bucket_id: str, key: str, *, expires_in: int, transformations: str | None = None) -> str:
        claims: dict[str, Any] = {"url": f"{bucket_id}/{key}"}
        if transformations:
            claims["transformations"] = transformations
        return self._sign("download", claims, expires_in)

    def sign_upload(self, bucket_id: str, key: str, *, owner: str | None, upsert: bool) -> str:
        claims = {"owner": owner, "url": f"{bucket_id}/{key}", "upsert": upsert}
        return self._sign("upload", claims, UPLOAD_TOKEN_LIFETIME)

    def verify(self, token: str, bucket_id: str, key: str, scope: Scope) -> SignedToken:
        """What `token` allows on this object.

        Raises:
            StorageError: InvalidJWT when forged or expired, InvalidSignature when made for something else.
        """
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], options={"require": ["exp"], "verify_aud": False}
            )
        except jwt.PyJWTError as error:
            raise errors.invalid_token(_REASONS.get(type(error), str(error))) from error
        if claims.get("scope") != scope:
            raise errors.invalid_signature(f"Token is not scoped for {scope}")
        if claims.get("url") != f"{bucket_id}/{key}":
            raise errors.invalid_signature()
        return SignedToken(expires_at=claims["exp"], owner=claims.get("owner"), upsert=claims.get("upsert") is True)

    def _sign(self, scope: Scope, claims: dict[str, Any], expires_in: int) -> str:
        now = int(time.time())
        return jwt.encode(
            {**claims, "scope": scope, "iat": now, "exp": now + expires_in}, self._secret, algorithm="HS256"
        )
