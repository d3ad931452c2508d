"""What Storage accepts as bucket names, object keys, sizes and media types.

Source: github.com/supabase/storage, src/storage/limits.ts and src/storage/validators/mime-type.ts (2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedded.storage import errors

#: bytes; the default of hosted free projects and of `supabase start`
FILE_SIZE_LIMIT = 50 * 1024 * 1024

_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9_!.*'() &$=@;:+,?-]{1,100}")
_FILE_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(gb|mb|kb|b)", re.IGNORECASE)
_BYTES_PER_UNIT = {"gb": 1_000_000_000, "mb": 1_000_000, "kb": 1_000, "b": 1}
_MIME_TYPE = re.compile(r"(\*|[\w.+-]+)/(\*|[\w.+-]+)(\s*;.*)?")


def require_valid_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise errors.invalid_key(key)


def require_valid_bucket_name(name: str) -> None:
    if not _BUCKET_NAME.fullmatch(name) or name != name.strip():
        raise errors.invalid_bucket_name()


def parse_file_size_limit(value: int | str | None) -> int | None:
    """Bytes from `20971520` or `"20MB"` (decimal units); more than the project allows is refused."""
    if value is None:
        return None
    if isinstance(value, str):
        match = _FILE_SIZE.fullmatch(value)
        if match is None:
            raise errors.invalid_request("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B")
        value = int(float(match[1]) * _BYTES_PER_UNIT[match[2].lower()])
    if value > FILE_SIZE_LIMIT:
        raise errors.entity_too_large()
    return value


def require_valid_mime_types(mime_types: Sequence[str] | None) -> None:
    for mime_type in mime_types or ():
        if not _MIME_TYPE.fullmatch(mime_type):
            raise errors.invalid_mime_type(mime_type)


def require_allowed_mime_type(mime_type: str, allowed: Sequence[str] | None) -> None:
    """Refuse a type that none of `allowed` covers (`image/png`, `image/*`, `*/*`); an empty list allows all."""
    if not allowed:
        return
    kind, _, subtype = mime_type.split(";")[0].strip().lower().partition("/")
    for pattern in allowed:
        allowed_kind, _, allowed_subtype = pattern.split(";")[0].strip().lower().partition("/")
        if allowed_kind in ("*", kind) and allowed_subtype in ("*", subtype):
            return
    raise errors.invalid_mime_type(mime_type)
