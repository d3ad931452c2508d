"""How Postgres is asked through Supabase's REST: repeated while it does not answer, its errors told apart as ours."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
from postgrest.exceptions import APIError
from supabase import AsyncClient

from errors import (
    AppError,
    BudgetExceededError,
    ConfigError,
    ConflictError,
    LeaseLostError,
    NotFoundError,
    RunCancelledError,
    StoreUnavailableError,
)
from supabase_client import NO_ANSWER, patiently

#: SQLSTATEs that our SQL functions raise on purpose; listed in `migrations/*_intake_functions.sql`, but for VT007.
OUR_ERRORS: dict[str, type[AppError]] = {
    "VT001": LeaseLostError,
    "VT003": ConflictError,
    "VT004": NotFoundError,
    "VT005": ConflictError,
    "VT006": ConflictError,
    "VT007": RunCancelledError,
}

#: Trouble that passes: Postgres starts, stops, is full, timed out or broke a deadlock; PostgREST has no connection.
PASSING_TROUBLE = {
    "40001",
    "40P01",
    "57014",
    "57P01",
    "57P02",
    "57P03",
    "53300",
    "PGRST000",
    "PGRST001",
    "PGRST002",
    "PGRST003",
}
OVER_BUDGET = "VT002"
#: What everybody may read about a cap that is reached.
OVER_BUDGET_TEXTS = {
    "day": "The budget of the day is used up; it is renewed at 0:00 UTC.",
    "owner": "This owner's budget of the day is used up; it is renewed at 0:00 UTC.",
    "run": "It would cost more than one run may.",
}

#: How Postgres (an SQLSTATE) and PostgREST name their own errors. Whatever else answers is something in between.
_OWN_CODE = re.compile(r"[0-9A-Z]{5}|PGRST\w+")

#: PostgREST does not know the function or the table, or Postgres itself does not, a moment before PostgREST notices.
NOT_IN_SCHEMA = {"PGRST202", "PGRST205", "42883", "42P01"}

#: Of a gateway or proxy: too slow, too early, too many; besides these every 3xx and 5xx.
PASSING_STATUSES = {408, 425, 429}

ANSWER_WITHIN_S = 60.0  # the whole answer; statements end themselves sooner, and a drip never would


class SchemaMissingError(ConfigError):
    """A function or table is not in PostgREST's schema cache."""


class SupabaseRpc:
    """`patience_s`: seconds for which a call is repeated while Supabase does not answer; each may be."""

    def __init__(self, client: AsyncClient, *, patience_s: float) -> None:
        self._client = client
        self._patience_s = patience_s
        self._schema_was_there = False  #: set once it has been checked

    async def _rpc(self, function: str, **arguments: Any) -> Any:
        return await patiently(lambda: self._call_once(function, **arguments), patience_s=self._patience_s)

    async def _call_once(self, function: str, **arguments: Any) -> Any:
        return await self._asked(self._client.rpc(function, arguments))

    async def _select(self, query: Any) -> list[dict[str, Any]]:
        """The rows of a query on a table."""
        rows: list[dict[str, Any]] = await patiently(lambda: self._asked(query), patience_s=self._patience_s)
        return rows

    async def _asked(self, query: Any) -> Any:
        try:
            return await _answer(query)
        except SchemaMissingError as error:
            if not self._schema_was_there:
                raise
            # It was there at the start: PostgREST's cache is behind, after a migration say, and will catch up.
            raise StoreUnavailableError("Supabase does not answer.") from error


async def _answer(query: Any) -> Any:
    """The data of an answer; PostgREST's errors become ours.

    The query's own `execute` keeps the HTTP status to itself, without which a gateway's word cannot be told from
    PostgREST's.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            response = await query.request.send(httpx.Headers())
    except NO_ANSWER as error:
        raise StoreUnavailableError("Supabase does not answer.") from error
    if response.status_code == httpx.codes.NO_CONTENT:
        return None
    try:
        body = response.json()
    except ValueError as error:
        if response.is_success:  # PostgREST's successes are JSON, or say that they are empty
            raise StoreUnavailableError("Supabase does not answer.") from error
        body = None
    if response.is_success:
        return body
    raise _translated(response.status_code, body if isinstance(body, dict) else {})


def _translated(status: int, error: dict[str, Any]) -> Exception:
    code = str(error.get("code"))
    if code in OUR_ERRORS:
        translated = OUR_ERRORS[code](error.get("message") or code)
        if isinstance(translated, ConflictError) and error.get("details"):
            translated.run_id = json.loads(error["details"]).get("run_id")
        return translated
    if code == OVER_BUDGET:
        scope = json.loads(error.get("details") or "{}").get("scope", "day")
        return BudgetExceededError(OVER_BUDGET_TEXTS[scope], in_figures=error.get("message") or code)
    if code in PASSING_TROUBLE or code.startswith("08"):
        return StoreUnavailableError("Supabase does not answer.")
    if code in NOT_IN_SCHEMA:
        message = "The database does not have the functions that this version needs: apply the migrations."
        return SchemaMissingError(message)
    if status == httpx.codes.UNAUTHORIZED:
        return ConfigError("Supabase does not accept SUPABASE_SERVICE_ROLE_KEY.")
    passes = status in PASSING_STATUSES or status >= 500 or 300 <= status < 400
    if passes and not _OWN_CODE.fullmatch(code):
        return StoreUnavailableError("Supabase does not answer.")
    return APIError({"message": f"HTTP {status}", **error})
