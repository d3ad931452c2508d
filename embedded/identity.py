"""Who is asking: API keys and tokens in, claims out. The one place that knows both generations of keys.

Stands for Supabase's gateway (which turns API keys into tokens) and for the token check that its services share.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from embedded.keys import StackKeys

LEEWAY_S = 30  # clocks may differ by this much, as in PostgREST


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a checked token says."""

    #: The Postgres role to act as: `anon`, `authenticated`, `service_role`, or a custom one.
    role: str
    #: The user's id; None for API keys.
    sub: str | None
    #: All claims, as `request.jwt.claims` shows them to policies.
    raw: Mapping[str, Any]

    @property
    def expires_at(self) -> int | None:
        """Unix seconds; None: never."""
        return self.raw.get("exp")


class InvalidTokenError(Exception):
    """A token that must not be trusted. `str(error)` is PostgREST's sentence for it, and `code` its code:
    PGRST301 when it cannot be read or its signature is wrong, PGRST303 when its claims refuse it.
    """

    def __init__(self, message: str, *, code: str = "PGRST301") -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_expired(self) -> bool:
        return str(self) == "JWT expired"


class KeyRefusedError(Exception):
    """The gateway's own 401: the API key is missing, unknown, or where it must not be. `body` is the JSON answer."""

    status = 401

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.body = {"message": message, "hint": hint}


class Identity:
    """Checks keys and tokens of one stack, and signs its users' tokens.

    `issuer` is the public address of the Auth service, e.g. `http://127.0.0.1:54321/auth/v1`.
    """

    def __init__(self, keys: StackKeys, issuer: str) -> None:
        self.keys = keys
        self.issuer = issuer
        signing_key = serialization.load_pem_private_key(keys.signing_key_pem.encode(), password=None)
        if not isinstance(signing_key, ec.EllipticCurvePrivateKey):
            raise TypeError("The signing key is not an elliptic curve key.")
        self._signing_key = signing_key
        self._public_key = signing_key.public_key()
        public_jwk: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._public_key))
        self._key_id = hashlib.sha256(f"{public_jwk['x']}.{public_jwk['y']}".encode()).hexdigest()[:32]
        self._checked_keys: dict[str, Claims] = {}
        self._jwk = public_jwk | {"kid": self._key_id, "alg": "ES256", "use": "sig", "key_ops": ["verify"]}

    @property
    def jwt_secret(self) -> str:
        """The HS256 secret of the project, which also signs Storage links."""
        return self.keys.jwt_secret

    def jwks(self) -> dict[str, Any]:
        """The body of `/auth/v1/.well-known/jwks.json`."""
        return {"keys": [self._jwk]}

    def sign_user_token(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self._signing_key, "ES256", headers={"kid": self._key_id})

    def claims_of_token(self, token: str) -> Claims:
        """What an API key of either generation, or a user's access token, stands for.

        Raises:
            InvalidTokenError: It is none of them, or it has expired.
        """
        if _same(token, self.keys.publishable_key):
            token = self.keys.anon_jwt
        elif _same(token, self.keys.secret_key):
            token = self.keys.service_role_jwt
        known = self._checked_keys.get(token)
        if known is not None and (known.expires_at is None or time.time() < known.expires_at):
            return known
        claims = _claims(self._decode(token))
        # Nearly every request brings an API key, some twice; checking a signature each time took a quarter of the CPU.
        if token in (self.keys.anon_jwt, self.keys.service_role_jwt):
            self._checked_keys[token] = claims
        return claims

    def token_of_request(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """The key or token a request acts by: `Authorization` unless it only repeats an API key, else `apikey`.

        Header names are looked up in lower case. None: it brought neither.
        """
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() == "bearer" and bearer and not bearer.startswith("sb_"):
            return bearer
        return self._api_key(headers, query) or None

    def claims_of_request(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Claims:
        """Whom a request acts for, at the services that demand an API key (all but Storage).

        Raises:
            KeyRefusedError: There is no API key, or not one of ours.
            InvalidTokenError: The user's token is not good.
        """
        self.demand_api_key(headers, query)
        token = self.token_of_request(headers, query)
        assert token is not None
        return self.claims_of_token(token)

    def demand_api_key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        """Raise `KeyRefusedError` unless the request brings one of the stack's API keys, rightly used."""
        key = self._api_key(headers, query)
        if not key:
            raise KeyRefusedError("No API key found in request", "No `apikey` request header or url param was found.")
        try:
            role = self.claims_of_token(key).role
        except InvalidTokenError:
            role = ""
        if role not in ("anon", "service_role"):
            raise KeyRefusedError("Invalid API key", "Double check your Supabase `anon` or `service_role` API key.")
        if key.startswith("sb_secret_") and "Mozilla/5.0" in headers.get("user-agent", ""):
            raise KeyRefusedError(
                "Forbidden use of secret API key in browser",
                "Secret API keys can only be used in a protected environment and should never be used in a browser. "
                "Delete this secret API key immediately.",
            )

    def _api_key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        return headers.get("apikey", "") or query.get("apikey", "")

    def _decode(self, token: str) -> dict[str, Any]:
        parts = token.count(".") + 1
        if parts != 3:
            raise InvalidTokenError(f"Expected 3 parts in JWT; got {parts}")
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            options: jwt.types.Options = {"verify_aud": False}
            if algorithm == "ES256":
                return jwt.decode(token, self._public_key, algorithms=["ES256"], options=options, leeway=LEEWAY_S)
            return jwt.decode(token, self.jwt_secret, algorithms=["HS256"], options=options, leeway=LEEWAY_S)
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError("JWT expired", code="PGRST303") from None
        except jwt.ImmatureSignatureError:
            raise InvalidTokenError("JWT not yet valid", code="PGRST303") from None
        except jwt.InvalidTokenError:
            raise InvalidTokenError("JWSError JWSInvalidSignature") from None


def _claims(raw: Mapping[str, Any]) -> Claims:
    role, sub = raw.get("role"), raw.get("sub")
    return Claims(role=role if isinstance(role, str) and role else "anon", sub=sub, raw=raw)


def _same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())
