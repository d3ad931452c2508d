"""The secrets of one embedded stack: made on the first start, kept beside its data."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

LEGACY_KEY_LIFETIME_S = 10 * 365 * 24 * 3600  # what hosted projects give their anon and service_role keys


@dataclass(frozen=True, slots=True, kw_only=True)
class StackKeys:
    """Both generations of API keys, and what tokens are signed with."""

    #: `sb_publishable_...`: opaque, acts as `anon`.
    publishable_key: str
    #: `sb_secret_...`: opaque, acts as `service_role`.
    secret_key: str = field(repr=False)
    #: The project's HS256 secret: legacy keys and Storage links.
    jwt_secret: str = field(repr=False)
    #: The legacy keys: HS256 tokens with a `role` claim.
    anon_jwt: str
    service_role_jwt: str = field(repr=False)
    #: The ES256 key (PKCS 8, PEM) that users' access tokens are signed with.
    signing_key_pem: str = field(repr=False)


def load_or_create_keys(path: Path) -> StackKeys:
    """The keys in a JSON file, which only its owner can read; made when there is none."""
    if path.exists():
        return StackKeys(**json.loads(path.read_text()))
    keys = create_keys()
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(keys), file, indent=2)
    draft.rename(path)
    return keys


def create_keys() -> StackKeys:
    jwt_secret = secrets.token_urlsafe(48)
    signing_key = ec.generate_private_key(ec.SECP256R1())
    return StackKeys(
        publishable_key=_opaque_key("publishable"),
        secret_key=_opaque_key("secret"),
        jwt_secret=jwt_secret,
        anon_jwt=_legacy_key("anon", jwt_secret),
        service_role_jwt=_legacy_key("service_role", jwt_secret),
        signing_key_pem=signing_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _opaque_key(kind: Literal["publishable", "secret"]) -> str:
    """`sb_<kind>_<22 random characters>_<8 characters of check sum>`."""
    body = f"sb_{kind}_{secrets.token_urlsafe(16)}"
    checksum = urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).decode()[:8]
    return f"{body}_{checksum}"


def _legacy_key(role: str, jwt_secret: str) -> str:
    now = int(time.time())
    claims = {"iss": "supabase", "ref": "embedded", "role": role, "iat": now, "exp": now + LEGACY_KEY_LIFETIME_S}
    return jwt.encode(claims, jwt_secret, "HS256")
