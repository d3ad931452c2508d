"""PostgREST's errors: what is refused, with the code, sentence and HTTP status that its clients know.

Source: https://docs.postgrest.org/en/stable/references/errors.html and PostgREST's `Error.hs`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
from starlette.responses import Response

from embedded.identity import InvalidTokenError

#: HTTP status by SQLSTATE, exact ones before classes (their first two characters). All others: 400.
STATUS_BY_SQLSTATE = {
    "23503": 409,  # foreign key violation
    "23505": 409,  # unique violation
    "25006": 405,  # read-only transaction
    "42883": 404,  # undefined function
    "42P01": 404,  # undefined table
    "42P17": 500,  # infinite recursion
    "53400": 500,  # configuration limit exceeded
    "57P01": 503,  # terminated by an administrator
    "P0001": 400,  # raise
}
STATUS_BY_SQLSTATE_CLASS = {
    "08": 503, "09": 500, "0L": 403, "0P": 403, "21": 500, "25": 500, "28": 403, "2D": 500, "38": 500, "39": 500,
    "3B": 500, "40": 500, "53": 503, "54": 500, "55": 500, "57": 500, "58": 500, "F0": 500, "HV": 500, "P0": 500,
    "XX": 500,
}  # fmt: skip


class RestError(Exception):
    """An answer that refuses the request, in PostgREST's form."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.hint = hint
        self.headers = headers or {}

    def response(self) -> Response:
        body = {"code": self.code, "details": self.details, "hint": self.hint, "message": str(self)}
        return Response(
            json.dumps(body),
            self.status,
            headers={"Proxy-Status": f"PostgREST; error={self.code}", **self.headers},
            media_type="application/json",
        )


def error_of_postgres(error: psycopg.Error, *, is_anonymous: bool) -> RestError:
    """What PostgREST makes of an error that Postgres raised."""
    code = error.sqlstate
    if code is None:
        if isinstance(error, psycopg.DataError):  # psycopg itself refuses a NUL character
            return RestError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
        return RestError(503, "PGRST001", "Database client error. Retrying the connection.")
    diagnostic = error.diag
    message = diagnostic.message_primary or ""
    if code == "PGRST":
        return _error_of_raise(message, diagnostic.message_detail)
    status = STATUS_BY_SQLSTATE.get(code) or STATUS_BY_SQLSTATE_CLASS.get(code[:2], 400)
    headers: dict[str, str] = {}
    if code == "42501":
        status = 401 if is_anonymous else 403
    elif code == "21000" and message.endswith("requires a WHERE clause"):
        status = 400
    elif code == "22023" and message.startswith("role") and message.endswith("does not exist"):
        status = 401
    elif code.startswith("PT"):
        status = int(code[2:]) if re.fullmatch(r"[1-5][0-9][0-9]", code[2:]) else 500
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return RestError(
        status, code, message, details=diagnostic.message_detail, hint=diagnostic.message_hint, headers=headers
    )


def error_of_token(error: InvalidTokenError) -> RestError:
    header = f'Bearer error="invalid_token", error_description="{error}"'
    return RestError(401, error.code, str(error), headers={"WWW-Authenticate": header})


def parse_error(what: str, column: int, details: str) -> RestError:
    """A query parameter that cannot be read; `column` counts from 1."""
    return RestError(400, "PGRST100", f'"{what}" (line 1, column {column})', details=details)


def invalid_body(message: str) -> RestError:
    return RestError(400, "PGRST102", message)


def invalid_range(details: str) -> RestError:
    return RestError(416, "PGRST103", "Requested range not satisfiable", details=details)


def not_embedded(name: str) -> RestError:
    return RestError(
        400,
        "PGRST108",
        f"'{name}' is not an embedded resource in this request",
        hint=f"Verify that '{name}' is included in the 'select' query parameter.",
    )


def not_one_row(count: int) -> RestError:
    return RestError(
        406,
        "PGRST116",
        "Cannot coerce the result to a single JSON object",
        details=f"The result contains {count} rows",
    )


def unsupported_method(method: str) -> RestError:
    return RestError(405, "PGRST117", f"Unsupported HTTP method: {method}")


def not_implemented(details: str) -> RestError:
    return RestError(400, "PGRST127", "Feature not implemented", details=details)


def unknown_column(table: str, column: str) -> RestError:
    return RestError(400, "PGRST204", f"Could not find the '{column}' column of '{table}' in the schema cache")


def unknown_table(schema: str, table: str, hint: str | None) -> RestError:
    return RestError(404, "PGRST205", f"Could not find the table '{schema}.{table}' in the schema cache", hint=hint)


def where_clause_required(statement: str) -> RestError:
    """What the extension pg-safeupdate, which hosted projects load for API requests, says of such a statement."""
    return RestError(400, "21000", f"{statement} requires a WHERE clause")


def _error_of_raise(message: str, detail: str | None) -> RestError:
    """`raise sqlstate 'PGRST'` lets a function shape the whole answer by JSON in its message and detail."""
    try:
        body, shape = json.loads(message), json.loads(detail or "")
        return RestError(
            int(shape["status"]),
            body["code"],
            body["message"],
            details=body.get("details"),
            hint=body.get("hint"),
            headers=dict(shape["headers"]),
        )
    except (ValueError, KeyError, TypeError):
        return RestError(500, "PGRST121", "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error")
