"""What NanoBanana says of a task: the record that is polled, and the callbacks.

Shapes: docs.nanobananaapi.ai, "Get task details" and the callback page of each endpoint.
"""

from __future__ import annotations

import json
from typing import Any

from sandbox.faults import Fault
from sandbox.tasks import DONE, FAILED, Task

POLICY_CODE = 400
FAILED_CODE = 501


def record_body(task: Task, fault: Fault | None) -> dict[str, Any]:
    """The answer of record-info, spelled or spoiled as the fault says."""
    url = _result_url(task, fault)
    response: Any = {"originImageUrl": None, "resultImageUrl": url} if url else None
    flag: Any = task.flag
    name = fault.name if fault else None
    if task.flag == DONE and fault is not None:
        if name == "unknown_flag":
            flag, response = int(fault.number("flag")), None
        elif name == "empty_picture":
            response = {}
        elif name in ("task_failed", "policy_refusal"):  # by a rule for this poll; the task itself is well
            flag, response = int(fault.parameters.get("flag", FAILED)), None
    kind = fault.text("kind") if fault and name == "odd_record" else None
    if kind == "flag_text":
        flag = str(flag)
    elif kind == "result_list" and url:
        response = {"originImageUrl": None, "resultImageUrl": [url]}
    elif kind == "result_urls" and url:
        response = {"resultUrls": [url]}
    elif kind == "json_text" and url:
        response = json.dumps(response, separators=(",", ":"))
    data = {
        "taskId": task.task_id,
        "paramJson": json.dumps(task.parameters, ensure_ascii=False),
        "createTime": task.created_ms,
        "completeTime": task.completed_ms,
        "response": response,
        "successFlag": flag,
        "errorCode": task.error_code,
        "errorMessage": task.error_message,
        "operationType": task.operation_type,
    }
    return {"code": 200, ("message" if kind == "message" else "msg"): "success", "data": data}


def callback_body(task: Task) -> dict[str, Any]:
    """`generate` has a shape of its own; the newer endpoints send the record, with code 200 even for a failure."""
    if task.operation != "generate":
        return record_body(task, task.fault)
    if task.flag == DONE:
        info = {"resultImageUrl": _result_url(task, task.fault)}
        return {"code": 200, "msg": "success", "data": {"taskId": task.task_id, "info": info}}
    code = POLICY_CODE if task.error_code == POLICY_CODE else FAILED_CODE
    return {"code": code, "msg": task.error_message, "data": {"taskId": task.task_id, "info": None}}


def _result_url(task: Task, fault: Fault | None) -> str | None:
    if task.flag != DONE:
        return None
    if fault and fault.name == "result_redirect" and fault.flag("direct"):
        return fault.text("to")
    return f"{task.base_url}/results/{task.result_name}"
