"""Reve's wire: POST /v1/image/{create,edit,remix} and GET /api/misc/balance (see README.md for the sources)."""

from __future__ import annotations

import base64
import functools
import json
import secrets
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox import hostile
from sandbox.faults import Fault, Moment
from sandbox.reve_orders import Order, RejectedError, read_order
from sandbox.sandbox import Call, Sandbox
from sandbox.wire import UnreadableBodyError, read_object, retry_after
from sandbox.work import UnreadableSourceError

RAW_MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
NOT_BASE64 = "%%% not base64 %%%"


async def create(request: Request) -> Response:
    return await _buy(request, "create", "prompt")


async def edit(request: Request) -> Response:
    return await _buy(request, "edit", "edit_instruction")


async def remix(request: Request) -> Response:
    return await _buy(request, "remix", "prompt")


async def balance(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    call = sandbox.open_call(request, "reve", "balance", None)
    try:
        _refuse_by_fault(call)
        _check_key(call, request)
    except RejectedError as error:
        return call.deliver(_error(call, error, raw=False))
    if call.fault and call.fault.name == "server_error":
        return call.deliver(_server_error(call, raw=False))
    return call.deliver(_json({"budget_id": "sandbox", "new_balance": sandbox.credits_left("reve")}))


ROUTES = [
    Route("/v1/image/create", create, methods=["POST"]),
    Route("/v1/image/edit", edit, methods=["POST"]),
    Route("/v1/image/remix", remix, methods=["POST"]),
    Route("/api/misc/balance", balance, methods=["GET"]),
]


async def _buy(request: Request, operation: str, prompt_field: str) -> Response:
    """One picture, bought and delivered in one answer."""
    sandbox: Sandbox = request.app.state.sandbox
    accepted_type = request.headers.get("accept", "").split(",")[0].split(";")[0].strip()
    raw = accepted_type in RAW_MEDIA_TYPES
    try:
        body, unreadable = await read_object(request), None
    except UnreadableBodyError as error:
        body, unreadable = {}, RejectedError(400, "INVALID_BODY", str(error))
    prompt = body.get(prompt_field)
    call = sandbox.open_call(request, "reve", operation, prompt if isinstance(prompt, str) else None)
    try:
        _refuse_by_fault(call)
        if call.fault_at(Moment.BEFORE_WORK):
            return call.deliver(_server_error(call, raw=raw))
        _check_key(call, request)
        if unreadable:
            raise unreadable
        order = _read_order(call, operation, body, accepted_type if raw else "image/png")
        if call.fault and call.fault.name == "policy_refusal":
            charged = call.fault.flag("charged")
            call.accept(work="refused", credit_count=order.credit_count if charged else 0)
            return call.deliver(_refusal(call, order, raw=raw))
        if sandbox.credits_left("reve") < order.credit_count:
            raise RejectedError(402, "INSUFFICIENT_CREDITS", "the budget is empty")
        call.accept(work="+".join(order.job.works), credit_count=order.credit_count)
        picture = await _make(call, order)
    except RejectedError as error:
        return call.deliver(_error(call, error, raw=raw))
    if call.fault and call.fault.name == "server_error":
        return call.deliver(_server_error(call, raw=raw))
    return call.deliver(_answer(call, order, picture, raw=raw))


def _read_order(call: Call, operation: str, body: Mapping[str, Any], media_type: str) -> Order:
    prompt = call.prompt or ""
    if body and not isinstance(body.get("prompt") or body.get("edit_instruction") or "", str):
        raise RejectedError(400, "INVALID_PARAMETER", "the prompt is not a text")
    order = read_order(operation, body, prompt=prompt, media_type=media_type)
    if order.first_picture is not None:
        call.sandbox.invoice.set_picture(call.line, order.first_picture)
    return order


async def _make(call: Call, order: Order) -> bytes:
    """The picture, or what the fault puts in its place.

    Raises:
        RejectedError: The picture turns out to be unreadable; nothing is billed.
    """
    try:
        picture = await call.sandbox.make(order.job, call.line)
    except UnreadableSourceError as error:
        call.sandbox.invoice.refund(call.line)
        raise RejectedError(422, "INVALID_IMAGE", str(error)) from error
    except BrokenProcessPool as error:
        raise RejectedError(500, "INTERNAL_SERVER_ERROR", "the picture work failed") from error
    call.sandbox.invoice.set_output(call.line, picture)
    return _spoiled(picture, order, call.fault)


def _spoiled(picture: bytes, order: Order, fault: Fault | None) -> bytes:
    if fault is None:
        return picture
    match fault.name:
        case "wrong_bytes":
            return hostile.wrong_bytes(fault.text("kind"))
        case "degenerate":
            size = (order.size.width, order.size.height)
            return hostile.degenerate(fault.text("kind"), order.first_picture, size)
        case "decompression_bomb":
            return hostile.decompression_bomb(int(fault.number("side")))
        case "empty_picture":
            return b""
        case _:
            return picture


def _check_key(call: Call, request: Request) -> None:
    if not call.sandbox.accepts_key("reve", request):
        raise RejectedError(401, "INVALID_API_KEY", "the API key is missing or not valid")


def _refuse_by_fault(call: Call) -> None:
    match call.fault.name if call.fault else None:
        case "rate_limit":
            raise RejectedError(429, "RATE_LIMITED", "too many requests")
        case "out_of_credit":
            raise RejectedError(402, "INSUFFICIENT_CREDITS", "the budget is empty")
        case "bad_key":
            raise RejectedError(401, "INVALID_API_KEY", "the API key is missing or not valid")


def _answer(call: Call, order: Order, picture: bytes, *, raw: bool) -> Response:
    facts = _facts(call, order, violation=False)
    if raw:
        return Response(picture, media_type=order.job.media_type, headers=_headers(facts))
    text = _as_base64(picture)
    fault = call.fault
    if fault and fault.name == "wrong_bytes" and fault.text("kind") == "garbage":
        text = NOT_BASE64
    body = _spelled(text, facts, fault.text("kind") if fault and fault.name == "odd_fields" else None)
    return Response(body, headers=_headers(facts), media_type="application/json")


def _spelled(text: str, facts: Mapping[str, Any], kind: str | None) -> str:
    """The body of a good answer, `kind` of the fault `odd_fields` considered."""
    match kind:
        case "image_missing":
            return json.dumps(facts)
        case "credits_missing":
            facts = {name: value for name, value in facts.items() if not name.startswith("credits")}
        case "credits_text":
            facts = {name: str(value) if name.startswith("credits") else value for name, value in facts.items()}
        case "violation_text":
            text, facts = "", {**facts, "content_violation": "true"}
    # Base64 needs no escaping; json.dumps would take longer over it than all the rest of a benchmark call.
    return f'{{"image": "{text}", {json.dumps(facts)[1:]}'


@functools.lru_cache(maxsize=2)  # a ready-made picture is asked for again and again
def _as_base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _refusal(call: Call, order: Order, *, raw: bool) -> Response:
    facts = _facts(call, order, violation=True)
    if raw:
        headers = {**_headers(facts), "X-Reve-Error-Code": "CONTENT_POLICY_VIOLATION"}
        return Response(hostile.grey_picture(), media_type="image/png", headers=headers)
    return _json({"image": "", **facts}, _headers(facts))


def _facts(call: Call, order: Order, *, violation: bool) -> dict[str, Any]:
    return {
        "version": order.version,
        "content_violation": violation,
        "request_id": call.line.request_id,
        "credits_used": call.line.credits,
        "credits_remaining": call.sandbox.credits_left("reve"),
    }


def _headers(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "X-Reve-Request-Id": facts["request_id"],
        "X-Reve-Version": facts["version"],
        "X-Reve-Credits-Used": str(facts["credits_used"]),
        "X-Reve-Credits-Remaining": str(facts["credits_remaining"]),
        "X-Reve-Content-Violation": str(facts["content_violation"]).lower(),
    }


def _error(call: Call, error: RejectedError, *, raw: bool) -> Response:
    if raw:
        headers = {"X-Reve-Request-Id": call.line.request_id, "X-Reve-Error-Code": error.code}
        return Response(hostile.grey_picture(), media_type="image/png", headers=headers)
    body = {
        "error_code": error.code,
        "message": str(error),
        "params": error.params,
        "instance_id": f"error-{secrets.token_hex(4)}",
    }
    wait = retry_after(call.fault) if call.fault and call.fault.name == "rate_limit" else {}
    return _json(body, {"X-Reve-Request-Id": call.line.request_id, **wait}, status=error.status)


def _server_error(call: Call, *, raw: bool) -> Response:
    fault = call.fault
    if fault is None or fault.name != "server_error":
        return Response(b"")  # a connection that is broken anyway: nobody will see this answer
    status = int(fault.number("status"))
    if fault.flag("html"):
        return HTMLResponse(hostile.HTML_PAGE, status_code=status)
    code = {503: "SERVICE_UNAVAILABLE"}.get(status, "INTERNAL_SERVER_ERROR")
    return _error(call, RejectedError(status, code, "something broke"), raw=raw)


def _json(body: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json")
