"""NanoBanana's wire: submit to three endpoints, poll, credit, and the results (see README.md for the sources).

Every answer has two layers: the HTTP status, and `code` in the body, which holds the truth.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox import hostile
from sandbox.faults import Fault, Moment
from sandbox.nanobanana_orders import ENDPOINTS, RejectedError, new_task_id, read_order
from sandbox.nanobanana_records import record_body
from sandbox.sandbox import Call, Sandbox
from sandbox.task_runner import TaskRunner, now_ms
from sandbox.tasks import Task, TaskStore
from sandbox.wire import UnreadableBodyError, read_object, retry_after

UNKNOWN_TASK = RejectedError(500, "Server exception, please check the parameters")


def submit(operation: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one generation."""

    async def endpoint(request: Request) -> Response:
        return await _submit(request, operation)

    return endpoint


async def record_info(request: Request) -> Response:
    store: TaskStore = request.app.state.store
    task = store.get(request.query_params.get("taskId", ""))
    call = _open(request, "record-info", task)
    try:
        _refuse(call, request)
    except RejectedError as error:
        return call.deliver(_error(call, error))
    if task is None:
        return call.deliver(_error(call, UNKNOWN_TASK))
    return call.deliver(_json(record_body(task, call.fault_at(Moment.IN_THE_RESULT) or task.fault)))


async def credit(request: Request) -> Response:
    call = _open(request, "credit", None)
    try:
        _refuse(call, request)
    except RejectedError as error:
        return call.deliver(_error(call, error))
    left = call.sandbox.credits_left("nanobanana")
    return call.deliver(_json({"code": 200, "msg": "success", "data": left}))


async def result(request: Request) -> Response:
    """A result file. Public: on the vendor's side it lies on a host of its own, and takes no key."""
    store: TaskStore = request.app.state.store
    task = store.by_result(request.path_params["name"])
    call = _open(request, "result", task)
    fault = call.fault_at(Moment.IN_THE_RESULT) or (task.fault if task else None)
    if call.fault_at(Moment.BEFORE_WORK):
        return call.deliver(_error(call, _refusal_by(call.fault)))
    if task is None or (task.result_expires_ms or 0) <= now_ms():
        return call.deliver(Response("gone", 404, media_type="text/plain"))
    return call.deliver(_result_file(task, store, fault))


ROUTES = [
    *(Route(f"/api/v1/nanobanana/{name}", submit(name), methods=["POST"]) for name in ENDPOINTS),
    Route("/api/v1/nanobanana/record-info", record_info, methods=["GET"]),
    Route("/api/v1/common/credit", credit, methods=["GET"]),
    Route("/results/{name}", result, methods=["GET"]),
]


async def _submit(request: Request, operation: str) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    store: TaskStore = request.app.state.store
    runner: TaskRunner = request.app.state.runner
    try:
        body, unreadable = await read_object(request), None
    except UnreadableBodyError as error:
        body, unreadable = {}, RejectedError(400, str(error))
    prompt = body.get("prompt")
    call = sandbox.open_call(request, "nanobanana", operation, prompt if isinstance(prompt, str) else None)
    try:
        _refuse(call, request)
        if unreadable:
            raise unreadable
        order = read_order(operation, body)
        if sandbox.credits_left("nanobanana") < order.credit_count:
            raise RejectedError(402, "Insufficient credits")
    except RejectedError as error:
        return call.deliver(_error(call, error))
    task = Task(
        task_id=new_task_id(),
        line_number=call.line.number,
        operation=operation,
        prompt=call.prompt or "",
        parameters=body,
        image_urls=order.image_urls,
        callback_url=order.callback_url,
        base_url=f"{request.url.scheme}://{request.headers['host']}",
        operation_type=order.operation_type,
        ratio=order.ratio,
        pixels=order.pixels,
        media_type=order.media_type,
        fault=call.fault_at(Moment.IN_THE_RESULT),
        created_ms=now_ms(),
    )
    sandbox.invoice.note(call.line, input_paths=[urlsplit(url).path for url in order.image_urls])
    call.accept(work="scene", credit_count=order.credit_count, task_id=task.task_id)
    store.save(task)
    runner.submit(task)
    if call.fault and call.fault.name == "server_error":
        return call.deliver(_error(call, _refusal_by(call.fault)))
    message_field = ENDPOINTS[operation].message_field
    return call.deliver(_json({"code": 200, message_field: "success", "data": {"taskId": task.task_id}}))


def _open(request: Request, operation: str, task: Task | None) -> Call:
    """A free call; rules see the prompt of its task."""
    sandbox: Sandbox = request.app.state.sandbox
    call = sandbox.open_call(request, "nanobanana", operation, task.prompt if task else None)
    if task is not None:
        sandbox.invoice.note(call.line, task_id=task.task_id)
    return call


def _refuse(call: Call, request: Request) -> None:
    """Raise what a fault or a bad key asks for.

    Raises:
        RejectedError
    """
    fault = call.fault_at(Moment.BEFORE_WORK)
    if fault is not None:
        raise _refusal_by(fault)
    if not call.sandbox.accepts_key("nanobanana", request):
        raise RejectedError(401, "You do not have access permissions")


def _refusal_by(fault: Fault | None) -> RejectedError:
    match fault.name if fault else None:
        case "rate_limit":
            return RejectedError(429, "Too many requests, please slow down")
        case "out_of_credit":
            return RejectedError(402, "Insufficient credits")
        case "bad_key":
            return RejectedError(401, "You do not have access permissions")
        case "server_error" if fault:
            return RejectedError(int(fault.number("status")), "Server exception")
        case _:  # a connection that is broken anyway: nobody will see this answer
            return RejectedError(500, "Server exception")


def _error(call: Call, error: RejectedError) -> Response:
    """A refusal: HTTP 200 with the code in the body, as clients have met it; a fault may ask for the plain status."""
    fault = call.fault
    status = 200
    headers: Mapping[str, str] = {}
    if fault is not None and "layer" in fault.parameters:
        status = error.code if fault.text("layer") == "http" else 200
        if fault.name == "rate_limit":
            headers = retry_after(fault)
        if fault.name == "server_error" and fault.flag("html"):
            return HTMLResponse(hostile.HTML_PAGE, status_code=status)
    return _json({"code": error.code, "msg": str(error), "data": None}, headers, status=status)


def _result_file(task: Task, store: TaskStore, fault: Fault | None) -> Response:
    content = store.read_result(task)
    if fault is None:
        return Response(content, media_type=task.media_type)
    match fault.name:
        case "result_gone":
            return Response("gone", int(fault.number("status")), media_type="text/plain")
        case "result_redirect":
            return RedirectResponse(fault.text("to"), status_code=302)
        case "wrong_bytes":
            content = hostile.wrong_bytes(fault.text("kind"))
        case "degenerate":
            content = hostile.degenerate(fault.text("kind"), content, (1024, 1024))
        case "decompression_bomb":
            content = hostile.decompression_bomb(int(fault.number("side")))
    return Response(content, media_type=task.media_type)


def _json(body: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json")
