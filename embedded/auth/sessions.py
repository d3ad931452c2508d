"""Sessions: access tokens that are signed and short-lived, refresh tokens that are rows and used once."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from embedded.auth.errors import AuthError, refresh_token_error
from embedded.auth.users import Connection, Row, find_user, user_json
from embedded.identity import Identity

ACCESS_TOKEN_LIFETIME_S = 3600
#: A used refresh token works this much longer: two tabs of a browser may refresh at the same time.
REUSE_INTERVAL_S = 10

AuthenticationMethod = Literal["password", "anonymous"]
LogoutScope = Literal["global", "local", "others"]


async def open_session(
    connection: Connection, identity: Identity, user: Row, method: AuthenticationMethod, user_agent: str
) -> dict[str, Any]:
    """Sign a user in: the session object that clients keep."""
    session_id = uuid4()
    await connection.execute(
        "insert into auth.sessions (id, user_id, user_agent) values (%s, %s, %s)",
        (session_id, user["id"], user_agent),
    )
    await connection.execute(
        "insert into auth.mfa_amr_claims (id, session_id, authentication_method) values (%s, %s, %s)",
        (uuid4(), session_id, method),
    )
    refresh_token = await _insert_refresh_token(connection, user["id"], session_id, parent=None)
    await connection.execute("update auth.users set last_sign_in_at = now() where id = %s", (user["id"],))
    return await _session_json(connection, identity, user["id"], session_id, refresh_token)


async def refresh_session(connection: Connection, identity: Identity, refresh_token: str) -> dict[str, Any] | AuthError:
    """A new access token and the next refresh token.

    A refusal is returned, not raised, because it may have revoked the session's tokens, which must be kept.
    """
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        "select *, updated_at > now() - make_interval(secs => %s) as is_recent "
        "from auth.refresh_tokens where token = %s for update",
        (REUSE_INTERVAL_S, refresh_token),
    )
    token = await cursor.fetchone()
    if token is None:
        return refresh_token_error("refresh_token_not_found", "Refresh Token Not Found")
    user = await find_user(connection, UUID(token["user_id"]))
    if is_banned(user):
        return AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
    if not token["revoked"]:
        await connection.execute(
            "update auth.refresh_tokens set revoked = true, updated_at = now() where id = %s", (token["id"],)
        )
        following = await _insert_refresh_token(connection, user["id"], token["session_id"], parent=token["token"])
    else:
        await cursor.execute(
            "select token, parent from auth.refresh_tokens where session_id = %s and not revoked "
            "order by id desc limit 1",
            (token["session_id"],),
        )
        active = await cursor.fetchone()
        # The client may have lost the answer to its last refresh: the token that it got then still counts.
        is_parent_of_active = active is not None and active["parent"] == token["token"]
        if active is None or not (is_parent_of_active or token["is_recent"]):
            await connection.execute(
                "update auth.refresh_tokens set revoked = true, updated_at = now() "
                "where session_id = %s and not revoked",
                (token["session_id"],),
            )
            return refresh_token_error("refresh_token_already_used", "Already Used")
        following = active["token"]
    await connection.execute(
        "update auth.sessions set refreshed_at = now(), updated_at = now() where id = %s", (token["session_id"],)
    )
    return await _session_json(connection, identity, user["id"], token["session_id"], following)


async def close_sessions(connection: Connection, user_id: UUID, session_id: UUID | None, scope: LogoutScope) -> None:
    """End all sessions of a user, this one, or all others. Access tokens stay good until they expire."""
    await connection.execute(
        """
        delete from auth.sessions
        where user_id = %(user_id)s and case %(scope)s
          when 'global' then true when 'local' then id = %(session_id)s else id is distinct from %(session_id)s
        end
        """,
        {"user_id": user_id, "session_id": session_id, "scope": scope},
    )


async def session_exists(connection: Connection, session_id: UUID) -> bool:
    cursor = await connection.execute("select from auth.sessions where id = %s", (session_id,))
    return cursor.rowcount == 1


def is_banned(user: Row) -> bool:
    return user["banned_until"] is not None and user["banned_until"].timestamp() > time.time()


async def _insert_refresh_token(connection: Connection, user_id: UUID, session_id: UUID, *, parent: str | None) -> str:
    token = secrets.token_urlsafe(9)
    await connection.execute(
        "insert into auth.refresh_tokens (token, user_id, session_id, parent) values (%s, %s, %s, %s)",
        (token, str(user_id), session_id, parent),
    )
    return token


async def _session_json(
    connection: Connection, identity: Identity, user_id: UUID, session_id: UUID, refresh_token: str
) -> dict[str, Any]:
    user = await find_user(connection, user_id)
    cursor = await connection.execute(
        "select authentication_method, extract(epoch from created_at)::bigint "
        "from auth.mfa_amr_claims where session_id = %s",
        (session_id,),
    )
    methods = [{"method": method, "timestamp": timestamp} for method, timestamp in await cursor.fetchall()]
    now = int(time.time())
    expires_at = now + ACCESS_TOKEN_LIFETIME_S
    claims = {
        "iss": identity.issuer,
        "sub": str(user_id),
        "aud": user["aud"],
        "exp": expires_at,
        "iat": now,
        "email": user["email"] or "",
        "phone": user["phone"] or "",
        "app_metadata": user["raw_app_meta_data"] or {},
        "user_metadata": user["raw_user_meta_data"] or {},
        "role": user["role"],
        "aal": "aal1",
        "amr": methods,
        "session_id": str(session_id),
        "is_anonymous": user["is_anonymous"],
    }
    return {
        "access_token": identity.sign_user_token(claims),
        "token_type": "bearer",
        "expires_in": ACCESS_TOKEN_LIFETIME_S,
        "expires_at": expires_at,
        "refresh_token": refresh_token,
        "user": user_json(user),
    }
