"""Passwords: Argon2id, off the event loop."""

from __future__ import annotations

import asyncio
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from embedded.auth.errors import validation_failed, weak_password

MINIMUM_LENGTH = 6  # characters; a hosted project's default
MAXIMUM_LENGTH = 72  # bytes; hosted projects hash with bcrypt, which ignores what follows

#: The library's defaults, RFC 9106's second recommendation: 64 MiB, 3 passes, 4 lanes.
_HASHER = PasswordHasher()
_CONCURRENT_HASHES = 2  # each takes 64 MiB


class Passwords:
    """Hashes and checks, a few at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_CONCURRENT_HASHES)

    async def hash(self, password: str) -> str:
        async with self._places:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Takes as long without a hash as with one, so that the time does not tell which users exist."""
        async with self._places:
            is_same = await asyncio.to_thread(_verify, password, hashed or _hash_of_nobody())
        return is_same and hashed is not None


def check_strength(password: str) -> None:
    if len(password) < MINIMUM_LENGTH:
        raise weak_password(MINIMUM_LENGTH)
    if len(password.encode()) > MAXIMUM_LENGTH:
        raise validation_failed(f"Password cannot be longer than {MAXIMUM_LENGTH} characters")


def _verify(password: str, hashed: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _hash_of_nobody() -> str:
    return _HASHER.hash("nobody's password")
