"""The Auth service: sign-up, sign-in, refresh, the user's own data, sign-out, and administration of users.

No mail is sent: addresses are taken as confirmed, as in a project with "Confirm email" switched off.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast, get_args
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.auth.admin import AdminEndpoints
from embedded.auth.bodies import metadata_of, read_body
from embedded.auth.errors import AuthError, invalid_credentials, validation_failed
from embedded.auth.passwords import Passwords, check_strength
from embedded.auth.sessions import (
    AuthenticationMethod,
    LogoutScope,
    close_sessions,
    is_banned,
    open_session,
    refresh_session,
    session_exists,
)
from embedded.auth.users import (
    Connection,
    Row,
    checked_email,
    find_user,
    find_user_by_email,
    insert_user,
    update_user,
    user_json,
)
from embedded.database import dsn_as, open_pool
from embedded.identity import Claims, Identity, InvalidTokenError, KeyRefusedError

logger = logging.getLogger(__name__)

POOL_SIZE = 5
Endpoint = Callable[[Request], Awaitable[Response]]


class AuthService:
    """Logs in as `supabase_auth_admin`, the owner of schema `auth`."""

    def __init__(self, dsn: str, identity: Identity) -> None:
        self._identity = identity
        self._pool = open_pool(dsn_as(dsn, "supabase_auth_admin"), max_size=POOL_SIZE)
        self._passwords = Passwords()
        self._admin = AdminEndpoints(self._transaction, self._passwords)

    def routes(self) -> list[BaseRoute]:
        admin = self._admin
        return [
            Route("/.well-known/jwks.json", self._jwks, methods=["GET"]),
            Route("/health", self._answer(self._health), methods=["GET"]),
            Route("/settings", self._answer(self._settings), methods=["GET"]),
            Route("/signup", self._answer(self._sign_up), methods=["POST"]),
            Route("/token", self._answer(self._token), methods=["POST"]),
            Route("/user", self._answer(self._get_user), methods=["GET"]),
            Route("/user", self._answer(self._update_user), methods=["PUT"]),
            Route("/logout", self._answer(self._log_out), methods=["POST"]),
            Route("/admin/users", self._answer_admin(admin.list), methods=["GET"]),
            Route("/admin/users", self._answer_admin(admin.create), methods=["POST"]),
            Route("/admin/users/{user_id}", self._answer_admin(admin.get), methods=["GET"]),
            Route("/admin/users/{user_id}", self._answer_admin(admin.update), methods=["PUT"]),
            Route("/admin/users/{user_id}", self._answer_admin(admin.delete), methods=["DELETE"]),
            Route("/{path:path}", self._answer(self._unknown), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    async def start(self) -> None:
        await self._pool.open()

    async def stop(self) -> None:
        await self._pool.close()

    # -- around every request

    def _answer(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                self._identity.demand_api_key(request.headers, request.query_params)
                return await endpoint(request)
            except KeyRefusedError as error:
                return JSONResponse(error.body, error.status)
            except AuthError as error:
                return error.response()
            except PoolTimeout:
                return AuthError(504, "request_timeout", "Processing this request timed out").response()
            except psycopg.Error as error:
                # Such as a trigger of the project's own on auth.users that fails.
                logger.warning("auth.database_error", extra={"sqlstate": error.sqlstate})
                return AuthError(500, "unexpected_failure", "Database error saving new user").response()

        return answer

    def _answer_admin(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            if self._bearer_claims(request).role not in ("service_role", "supabase_admin"):
                raise AuthError(403, "not_admin", "User not allowed")
            return await endpoint(request)

        return self._answer(answer)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    def _bearer_claims(self, request: Request) -> Claims:
        token = self._identity.token_of_request(request.headers, request.query_params)
        if token is None:
            raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
        try:
            return self._identity.claims_of_token(token)
        except InvalidTokenError as error:
            message = f"invalid JWT: unable to parse or verify signature, {error}"
            raise AuthError(403, "bad_jwt", message) from None

    async def _signed_in(self, connection: Connection, request: Request) -> tuple[Row, UUID | None]:
        """The user of the request's access token, and its session."""
        claims = self._bearer_claims(request)
        if not claims.sub:
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim")
        try:
            user_id = UUID(claims.sub)
            session_id = UUID(claims.raw["session_id"]) if claims.raw.get("session_id") else None
        except (ValueError, TypeError, AttributeError):
            raise AuthError(400, "bad_jwt", "invalid claim: sub claim must be a UUID") from None
        try:
            user = await find_user(connection, user_id)
        except AuthError:
            message = "User from sub claim in JWT does not exist"
            raise AuthError(403, "user_not_found", message) from None
        if session_id is not None and not await session_exists(connection, session_id):
            message = "Session from session_id claim in JWT does not exist"
            raise AuthError(403, "session_not_found", message)
        return user, session_id

    # -- endpoints

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse(self._identity.jwks(), headers={"Cache-Control": "public, max-age=600"})

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"version": "embedded", "name": "GoTrue", "description": "GoTrue is a user API"})

    async def _settings(self, request: Request) -> Response:
        return JSONResponse(
            {
                "external": {"email": True, "phone": False, "anonymous_users": True},
                "disable_signup": False,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def _sign_up(self, request: Request) -> Response:
        body = await read_body(request)
        user_metadata = metadata_of(body, "data") or {}
        if body.get("phone"):
            raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
        email, password_hash = None, None
        if body.get("email"):
            email = checked_email(body["email"])
            password = body.get("password")
            if not isinstance(password, str) or not password:
                raise validation_failed("Signup requires a valid password")
            check_strength(password)
            password_hash = await self._passwords.hash(password)
        async with self._transaction() as connection:
            if email is not None and await find_user_by_email(connection, email) is not None:
                raise AuthError(422, "user_already_exists", "User already registered")
            user = await insert_user(
                connection,
                email=email,
                password_hash=password_hash,
                is_confirmed=email is not None,
                user_metadata=user_metadata,
            )
            method: AuthenticationMethod = "password" if email else "anonymous"
            session = await open_session(connection, self._identity, user, method, _user_agent(request))
        return JSONResponse(session)

    async def _token(self, request: Request) -> Response:
        grant = request.query_params.get("grant_type")
        body = await read_body(request)
        if grant == "password":
            return await self._sign_in(request, body)
        if grant == "refresh_token":
            return await self._refresh(body)
        raise AuthError(400, "invalid_credentials", "unsupported_grant_type")

    async def _sign_in(self, request: Request, body: dict[str, Any]) -> Response:
        password = body.get("password")
        if body.get("phone"):
            raise AuthError(400, "phone_provider_disabled", "Phone logins are disabled")
        if not isinstance(body.get("email"), str) or not isinstance(password, str):
            raise validation_failed("missing email or phone")
        async with self._transaction() as connection:
            user = await find_user_by_email(connection, body["email"].strip().lower())
        is_right = await self._passwords.matches(password, user["encrypted_password"] if user else None)
        if user is None or not is_right:
            raise invalid_credentials()
        if is_banned(user):
            raise AuthError(400, "user_banned", "User is banned")
        if user["email_confirmed_at"] is None:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        async with self._transaction() as connection:
            session = await open_session(connection, self._identity, user, "password", _user_agent(request))
        return JSONResponse(session)

    async def _refresh(self, body: dict[str, Any]) -> Response:
        refresh_token = body.get("refresh_token")
        if not isinstance(refresh_token, str) or not refresh_token:
            raise validation_failed("refresh_token required")
        async with self._transaction() as connection:
            outcome = await refresh_session(connection, self._identity, refresh_token)
        if isinstance(outcome, AuthError):
            raise outcome
        return JSONResponse(outcome)

    async def _get_user(self, request: Request) -> Response:
        async with self._transaction() as connection:
            user, _ = await self._signed_in(connection, request)
        return JSONResponse(user_json(user))

    async def _update_user(self, request: Request) -> Response:
        body = await read_body(request)
        if body.get("app_metadata") is not None:
            raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
        if body.get("phone"):
            raise AuthError(400, "phone_provider_disabled", "Phone logins are disabled")
        async with self._transaction() as connection:
            user, session_id = await self._signed_in(connection, request)
        changes: dict[str, Any] = {}
        if body.get("email"):
            # Without mail there is nothing to confirm a change with, so it holds at once.
            changes["email"] = checked_email(body["email"])
        password = body.get("password")
        if password is not None:
            changes["encrypted_password"] = await self._new_password(user, password, has_email="email" in changes)
        if (user_metadata := metadata_of(body, "data")) is not None:
            changes["raw_user_meta_data"] = user_metadata
        async with self._transaction() as connection:
            if "email" in changes and user["is_anonymous"]:
                await connection.execute(
                    "update auth.users set is_anonymous = false, email_confirmed_at = now() where id = %s",
                    (user["id"],),
                )
                changes["raw_app_meta_data"] = {"provider": "email", "providers": ["email"]}
            user = await update_user(connection, user["id"], changes)
            if password is not None:
                await close_sessions(connection, user["id"], session_id, "others")
        return JSONResponse(user_json(user))

    async def _new_password(self, user: Row, password: object, *, has_email: bool) -> str:
        if not isinstance(password, str):
            raise validation_failed("password must be a string")
        check_strength(password)
        if user["is_anonymous"] and not has_email:
            message = "Updating password of an anonymous user without an email or phone is not allowed"
            raise AuthError(422, "validation_failed", message)
        if await self._passwords.matches(password, user["encrypted_password"]):
            message = "New password should be different from the old password."
            raise AuthError(422, "same_password", message)
        return await self._passwords.hash(password)

    async def _log_out(self, request: Request) -> Response:
        scope = request.query_params.get("scope", "global")
        if scope not in get_args(LogoutScope):
            raise validation_failed(f'Unsupported logout scope "{scope}"')
        async with self._transaction() as connection:
            user, session_id = await self._signed_in(connection, request)
            await close_sessions(connection, user["id"], session_id, cast(LogoutScope, scope))
        return Response(status_code=204)

    async def _unknown(self, request: Request) -> Response:
        raise AuthError(404, "not_found", "This endpoint is not part of the embedded Supabase")


def _user_agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
