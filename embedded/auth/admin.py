"""Administration of users, for the secret key alone: `/auth/v1/admin/users`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from embedded.auth.bodies import metadata_of, read_body
from embedded.auth.errors import AuthError, validation_failed
from embedded.auth.passwords import Passwords, check_strength
from embedded.auth.users import (
    AUDIENCE,
    Connection,
    ban_of,
    checked_email,
    delete_user,
    find_user,
    insert_user,
    list_users,
    soft_delete_user,
    update_user,
    user_json,
)

DEFAULT_PER_PAGE = 50
MAXIMUM_PER_PAGE = 1000


class AdminEndpoints:
    """The caller has been checked already."""

    def __init__(
        self, transaction: Callable[[], AbstractAsyncContextManager[Connection]], passwords: Passwords
    ) -> None:
        self._transaction = transaction
        self._passwords = passwords

    async def list(self, request: Request) -> Response:
        page = _positive(request, "page", 1)
        per_page = min(_positive(request, "per_page", DEFAULT_PER_PAGE), MAXIMUM_PER_PAGE)
        async with self._transaction() as connection:
            users, total = await list_users(connection, page=page, per_page=per_page)
        last_page = max(1, -(-total // per_page))
        links = [f'<{_page_url(request, last_page, per_page)}>; rel="last"']
        if page < last_page:
            links.insert(0, f'<{_page_url(request, page + 1, per_page)}>; rel="next"')
        return JSONResponse(
            {"users": [user_json(user) for user in users], "aud": AUDIENCE},
            headers={"X-Total-Count": str(total), "Link": ", ".join(links)},
        )

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        if not body.get("email"):
            raise validation_failed("Cannot create a user without either an email or phone")
        password_hash = await self._password_hash(body)
        async with self._transaction() as connection:
            user = await insert_user(
                connection,
                email=checked_email(body["email"]),
                password_hash=password_hash,
                is_confirmed=bool(body.get("email_confirm")),
                user_metadata=metadata_of(body, "user_metadata") or {},
                app_metadata=metadata_of(body, "app_metadata"),
                role=_role(body) or "authenticated",
                user_id=_uuid(body["id"]) if body.get("id") else None,
            )
            user = await update_user(connection, user["id"], _ban(body))
        return JSONResponse(user_json(user))

    async def get(self, request: Request) -> Response:
        async with self._transaction() as connection:
            user = await find_user(connection, _user_id(request))
        return JSONResponse(user_json(user))

    async def update(self, request: Request) -> Response:
        body = await read_body(request)
        changes = _ban(body)
        if body.get("email"):
            changes |= {"email": checked_email(body["email"]), "is_anonymous": False}
        if body.get("email_confirm"):
            changes["email_confirmed_at"] = datetime.now(UTC)
        if (role := _role(body)) is not None:
            changes["role"] = role
        if (password_hash := await self._password_hash(body)) is not None:
            changes["encrypted_password"] = password_hash
        for key, column in (("user_metadata", "raw_user_meta_data"), ("app_metadata", "raw_app_meta_data")):
            if (metadata := metadata_of(body, key)) is not None:
                changes[column] = metadata
        async with self._transaction() as connection:
            user = await update_user(connection, _user_id(request), changes)
        return JSONResponse(user_json(user))

    async def delete(self, request: Request) -> Response:
        body = await read_body(request)
        delete = soft_delete_user if body.get("should_soft_delete") else delete_user
        async with self._transaction() as connection:
            await delete(connection, _user_id(request))
        return JSONResponse({})

    async def _password_hash(self, body: dict[str, Any]) -> str | None:
        password = body.get("password")
        if password is None:
            return None
        if not isinstance(password, str):
            raise validation_failed("password must be a string")
        check_strength(password)
        return await self._passwords.hash(password)


def _ban(body: dict[str, Any]) -> dict[str, Any]:
    """The change that `ban_duration` asks for."""
    duration = body.get("ban_duration")
    if duration is None:
        return {}
    ban = ban_of(str(duration))
    return {"banned_until": datetime.now(UTC) + ban if ban is not None else None}


def _role(body: dict[str, Any]) -> str | None:
    role = body.get("role")
    if role is not None and not isinstance(role, str):
        raise validation_failed("role must be a string")
    return role or None


def _user_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["user_id"])
    except ValueError:
        raise AuthError(404, "validation_failed", "user_id must be an UUID") from None


def _uuid(text: object) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise validation_failed("ID must conform to the uuid v4 format") from None


def _positive(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise validation_failed(f"Bad Pagination Parameters: {name} must be a positive number")
    return int(text)


def _page_url(request: Request, page: int, per_page: int) -> str:
    return f"{request.url.path}?page={page}&per_page={per_page}"
