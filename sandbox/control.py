"""The control API under /_sandbox: faults, behaviour, invoice, health. The providers have nothing like it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.behaviour import Behaviour
from sandbox.faults import FaultSyntaxError
from sandbox.invoice import Line, purchases, totals
from sandbox.rules import RuleBody
from sandbox.sandbox import Sandbox

RULES = TypeAdapter(list[RuleBody])

_TEXT_FILTERS = ("provider", "operation", "work", "task_id", "fault")
_FLAG_FILTERS = ("accepted", "delivered")


async def health(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    return JSONResponse(
        {
            "status": "ok",
            "what": "Vitrine sandbox: stands in for hosted model APIs with classical image processing; not a model",
            "ready_made": sandbox.behaviour.ready_made,
            "rules": len(sandbox.rules.rules),
            "calls": len(sandbox.invoice.lines),
        }
    )


async def faults(request: Request) -> Response:
    """GET lists the rules, POST adds one or a list of them, DELETE removes all."""
    book = _sandbox(request).rules
    if request.method == "DELETE":
        book.clear()
        return Response(status_code=204)
    if request.method == "GET":
        return JSONResponse({"rules": [rule.as_json() for rule in book.rules]})
    given = await request.json()
    added = book.add(RULES.validate_python(given if isinstance(given, list) else [given]))
    return JSONResponse({"rules": [rule.as_json() for rule in added]}, status_code=201)


async def behaviour(request: Request) -> Response:
    """GET shows it, PATCH changes the fields that are given."""
    sandbox = _sandbox(request)
    if request.method == "PATCH":
        changed = {**sandbox.behaviour.model_dump(), **await request.json()}
        sandbox.behaviour = Behaviour.model_validate(changed)
    return JSONResponse(sandbox.behaviour.model_dump(exclude={"keys"}))


async def invoice(request: Request) -> Response:
    """GET: lines (with filters), totals and purchases. DELETE: starts a new one."""
    book = _sandbox(request).invoice
    if request.method == "DELETE":
        book.clear()
        return Response(status_code=204)
    lines = [line for line in book.lines if _is_wanted(line, request)]
    return JSONResponse(
        {
            "lines": [dataclasses.asdict(line) for line in lines],
            "totals": totals(lines),
            "purchases": purchases(lines),
        }
    )


async def bad_request(_request: Request, error: Exception) -> Response:
    """A fault, rule or behaviour that does not exist: told at once, never ignored."""
    detail: Any = str(error)
    if isinstance(error, ValidationError):
        detail = json.loads(error.json(include_url=False, include_context=False))
    return JSONResponse({"sandbox_error": detail}, status_code=400)


ROUTES = [
    Route("/_sandbox/health", health, methods=["GET"]),
    Route("/_sandbox/faults", faults, methods=["GET", "POST", "DELETE"]),
    Route("/_sandbox/behaviour", behaviour, methods=["GET", "PATCH"]),
    Route("/_sandbox/invoice", invoice, methods=["GET", "DELETE"]),
]
EXCEPTION_HANDLERS: dict[Any, Any] = {
    FaultSyntaxError: bad_request,
    ValidationError: bad_request,
    json.JSONDecodeError: bad_request,
}


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _is_wanted(line: Line, request: Request) -> bool:
    query = request.query_params
    for name in _TEXT_FILTERS:
        if name in query and not str(getattr(line, name) or "").startswith(query[name]):
            return False
    for name in _FLAG_FILTERS:
        if name in query and (getattr(line, name) is True) != (query[name] == "true"):
            return False
    if "picture" in query and query["picture"] not in (line.picture, line.origin):
        return False
    return query.get("prompt_contains", "") in (line.prompt or "")
