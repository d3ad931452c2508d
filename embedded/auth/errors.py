"""GoTrue's errors. Source: supabase/auth, `internal/api/apierrors`."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse


class AuthError(Exception):
    """An answer that refuses the request, in GoTrue's form."""

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self._extra = extra

    def response(self) -> JSONResponse:
        body = {"code": self.status, "error_code": self.code, "msg": str(self), **self._extra}
        return JSONResponse(body, self.status)


def bad_json() -> AuthError:
    return AuthError(400, "bad_json", "Could not parse request body as JSON")


def validation_failed(message: str) -> AuthError:
    return AuthError(400, "validation_failed", message)


def weak_password(minimum_length: int) -> AuthError:
    message = f"Password should be at least {minimum_length} characters."
    return AuthError(422, "weak_password", message, weak_password={"reasons": ["length"]})


def email_exists() -> AuthError:
    message = "A user with this email address has already been registered"
    return AuthError(422, "email_exists", message)


def user_not_found() -> AuthError:
    return AuthError(404, "user_not_found", "User not found")


def invalid_credentials() -> AuthError:
    return AuthError(400, "invalid_credentials", "Invalid login credentials")


def refresh_token_error(code: str, reason: str) -> AuthError:
    return AuthError(400, code, f"Invalid Refresh Token: {reason}")
