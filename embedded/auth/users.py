"""Rows of `auth.users`, and the user as clients see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from embedded.auth.errors import email_exists, user_not_found, validation_failed

Row = dict[str, Any]
Connection = AsyncConnection[Any]

#: GoTrue keeps this column of its multi-tenant days at zero.
INSTANCE_ID = UUID(int=0)
AUDIENCE = "authenticated"

_EMAIL = re.compile(r"[^\s@\x00]+@[^\s@\x00]+\.[^\s@\x00]+|[^\s@\x00]+@localhost")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_TIMES = (
    "created_at",
    "updated_at",
    "last_sign_in_at",
    "email_confirmed_at",
    "phone_confirmed_at",
    "confirmed_at",
    "banned_until",
    "deleted_at",
)


def user_json(user: Row) -> dict[str, Any]:
    """The object that every endpoint answers with."""
    times = {name: _iso(user[name]) for name in _TIMES if user[name] is not None}
    return {
        "id": str(user["id"]),
        "aud": user["aud"],
        "role": user["role"],
        "email": user["email"] or "",
        "phone": user["phone"] or "",
        "app_metadata": user["raw_app_meta_data"] or {},
        "user_metadata": user["raw_user_meta_data"] or {},
        "identities": _identities(user),
        "is_anonymous": user["is_anonymous"],
        **times,
    }


async def insert_user(
    connection: Connection,
    *,
    email: str | None,
    password_hash: str | None,
    is_confirmed: bool,
    user_metadata: Mapping[str, Any],
    app_metadata: Mapping[str, Any] | None = None,
    role: str = "authenticated",
    user_id: UUID | None = None,
) -> Row:
    """Raises: AuthError: The e-mail address is taken."""
    provider = {"provider": "email", "providers": ["email"]} if email else {}
    try:
        return await _one(
            connection,
            """
            insert into auth.users (
              instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
              raw_app_meta_data, raw_user_meta_data, is_anonymous, created_at, updated_at
            ) values (
              %(instance_id)s, %(id)s, %(aud)s, %(role)s, %(email)s, %(password)s,
              case when %(is_confirmed)s then now() end, %(app)s, %(user)s, %(is_anonymous)s, now(), now()
            ) returning *
            """,
            {
                "instance_id": INSTANCE_ID,
                "id": user_id or uuid4(),
                "aud": AUDIENCE,
                "role": role,
                "email": email,
                "password": password_hash,
                "is_confirmed": is_confirmed,
                "app": Jsonb(provider | dict(app_metadata or {})),
                "user": Jsonb(dict(user_metadata)),
                "is_anonymous": email is None,
            },
        )
    except UniqueViolation:
        raise email_exists() from None


async def update_user(connection: Connection, user_id: UUID, changes: Mapping[str, Any]) -> Row:
    """Change columns; `raw_*_meta_data` are merged, and a key with the value null is taken out.

    Raises:
        AuthError: There is no such user, or the e-mail address is taken.
    """
    current = await find_user(connection, user_id)
    values = dict(changes)
    for name in ("raw_app_meta_data", "raw_user_meta_data"):
        if name in values:
            merged = (current[name] or {}) | values[name]
            values[name] = Jsonb({key: value for key, value in merged.items() if value is not None})
    # The columns are those of our own code, never of a request.
    settings = "".join(f"{name} = %({name})s, " for name in values)
    try:
        return await _one(
            connection,
            f"update auth.users set {settings}updated_at = now() where id = %(id)s returning *",  # noqa: S608
            values | {"id": user_id},
        )
    except UniqueViolation:
        raise email_exists() from None


async def find_user(connection: Connection, user_id: UUID) -> Row:
    return await _one(connection, "select * from auth.users where id = %(id)s and deleted_at is null", {"id": user_id})


async def find_user_by_email(connection: Connection, email: str) -> Row | None:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        "select * from auth.users where email = %s and not is_sso_user and deleted_at is null", (email,)
    )
    return await cursor.fetchone()


async def list_users(connection: Connection, *, page: int, per_page: int) -> tuple[list[Row], int]:
    """One page, newest first, and how many there are in all. Pages count from 1."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        "select * from auth.users where deleted_at is null order by created_at desc, id limit %s offset %s",
        (per_page, per_page * (page - 1)),
    )
    rows = await cursor.fetchall()
    await cursor.execute("select count(*) as total from auth.users where deleted_at is null")
    total = await cursor.fetchone()
    return rows, total["total"] if total else 0


async def delete_user(connection: Connection, user_id: UUID) -> None:
    await _one(connection, "delete from auth.users where id = %(id)s returning *", {"id": user_id})


async def soft_delete_user(connection: Connection, user_id: UUID) -> None:
    """Keep the row, for what refers to it, and forget the person."""
    await connection.execute("delete from auth.sessions where user_id = %s", (user_id,))
    await _one(
        connection,
        """
        update auth.users
        set deleted_at = now(), email = null, phone = null, encrypted_password = null,
          raw_user_meta_data = '{}', raw_app_meta_data = '{}'
        where id = %(id)s returning *
        """,
        {"id": user_id},
    )


def checked_email(text: object) -> str:
    email = text.strip().lower() if isinstance(text, str) else ""
    if not _EMAIL.fullmatch(email) or len(email) > 255:
        raise validation_failed("Unable to validate email address: invalid format")
    return email


def ban_of(duration: str) -> timedelta | None:
    """How long a ban lasts: `24h`, `1h30m`; `none` lifts it."""
    if duration == "none":
        return None
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise validation_failed(f'invalid format for ban duration: time: invalid duration "{duration}"')
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


async def _one(connection: Connection, statement: str, values: Mapping[str, Any]) -> Row:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement.encode(), values)
    row = await cursor.fetchone()
    if row is None:
        raise user_not_found()
    return row


def _identities(user: Row) -> list[dict[str, Any]]:
    """The e-mail identity, made from the user: there is no other provider here."""
    if not user["email"]:
        return []
    is_verified = user["email_confirmed_at"] is not None
    return [
        {
            "identity_id": str(user["id"]),
            "id": str(user["id"]),
            "user_id": str(user["id"]),
            "provider": "email",
            "identity_data": {
                "email": user["email"],
                "email_verified": is_verified,
                "phone_verified": False,
                "sub": str(user["id"]),
            },
            "email": user["email"],
            **{name: _iso(user[name]) for name in ("created_at", "updated_at", "last_sign_in_at") if user[name]},
        }
    ]


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
