"""The sandbox takes the requests and gives the answers of the contract pages, field by field."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.contracts import Exchange, exchange, fill, load
from tests.sandbox.running import Neighbour, SandboxClient

#: Reve's pages, and the fault that brings each answer about (None: it comes by itself).
REVE: dict[str, str | None] = {
    "edit_ok": None,
    "edit_fast_ok": None,
    "edit_with_background_removed": None,
    "create_ok": None,
    "remix_ok": None,
    "balance_ok": None,
    "balance_bad_key": "bad_key",
    "refused_as_bool": "policy_refusal",
    "empty_image": "empty_picture",
    "missing_image": "odd_fields; kind=image_missing",
    "image_is_not_base64": "wrong_bytes; kind=garbage",
    "empty_body": "empty_200",
    "credits_missing": "odd_fields; kind=credits_missing",
    "missing_parameter": None,
    "bad_key": "bad_key",
    "out_of_credit": "out_of_credit",
    "rate_limit_with_seconds": "rate_limit; retry_after=2",
    "rate_limit_with_date": "rate_limit; retry_after=date+2",
    "rate_limit_without_wait": "rate_limit",
    "rate_limit_absurd_wait": "rate_limit; retry_after=31536000",
    "server_error": "server_error",
    "server_error_in_html": "server_error; status=502; html=true",
    "server_unavailable": "server_error; status=503",
    "gateway_timeout": "server_error; status=504; html=true",
    "raw_edit_ok": None,
    "raw_edit_error": None,
}
#: Provoked by a request of its own, below.
REVE_BY_REQUEST = {"prompt_too_long", "unreadable_picture"}
#: Answers whose values differ from the page only in what they cost or hold; compared by hand below.
REVE_BY_HAND = {"refused_as_text", "credits_as_text", "image_is_html"}
#: The vendor can say these and the sandbox never does; adapters meet them on the pages alone.
REVE_NOT_SHOWN = {
    "forbidden",
    "not_found",
    "policy_as_error",
    "refused_without_image",
    "server_error_in_error_key",
}

NANOBANANA_SUBMITS: dict[str, str | None] = {
    "submit_edit_ok": None,
    "submit_text_ok": None,
    "submit_2_ok": None,
    "submit_pro_ok": None,
    "submit_bad_request_in_body": None,
    "submit_bad_key_in_body": "bad_key; layer=body",
    "submit_bad_key": "bad_key",
    "submit_out_of_credit_in_body": "out_of_credit; layer=body",
    "submit_out_of_credit": "out_of_credit",
    "submit_rate_limit_in_body": "rate_limit; layer=body",
    "submit_rate_limit": "rate_limit",
    "submit_rate_limit_with_wait": "rate_limit; retry_after=2",
    "submit_server_error_in_body": "server_error; layer=body",
    "submit_server_error": "server_error",
    "submit_bad_gateway": "server_error; status=502; html=true",
    "submit_empty_body": "empty_200",
    "credit_ok": None,
    "credit_bad_key": "bad_key; layer=body",
    "poll_unknown_task": None,
    "poll_bad_key": "bad_key; layer=body",
    "poll_rate_limit": "rate_limit",
    "poll_bad_gateway": "server_error; status=502; html=true",
    "result_gone": None,
}
#: Pages about a task: the fault that its submit gets.
NANOBANANA_TASKS: dict[str, str | None] = {
    "poll_done": None,
    "poll_done_as_text": "odd_record; kind=flag_text",
    "poll_done_response_as_json_text": "odd_record; kind=json_text",
    "poll_done_result_as_list": "odd_record; kind=result_list",
    "poll_done_result_urls": "odd_record; kind=result_urls",
    "poll_message_instead_of_msg": "odd_record; kind=message",
    "poll_done_without_result": "empty_picture",
    "poll_done_link_local": "result_redirect; to=http://169.254.169.254/latest/meta-data; direct=true",
    "poll_done_file_url": "result_redirect; to=file:///etc/passwd; direct=true",
    "poll_not_created": "task_failed; flag=2",
    "poll_failed": "task_failed",
    "poll_unknown_flag": "unknown_flag",
}
NANOBANANA_RUNNING: dict[str, str | None] = {
    "poll_running": None,
    "poll_running_as_text": "odd_record; kind=flag_text",
}
#: Tested with a receiver in test_server_tasks.py.
NANOBANANA_CALLBACKS = {
    "callback_old_done",
    "callback_old_refused",
    "callback_old_failed",
    "callback_new_done",
    "callback_new_failed",
}
NANOBANANA_BY_HAND = {"result_ok"}
NANOBANANA_NOT_SHOWN = {
    "submit_bad_request",
    "submit_without_task_id",
    "poll_running_without_response",
    "poll_done_with_null_response",
}


def send(client: SandboxClient, page: Exchange, fault: str | None, **values: Any) -> httpx.Response:
    """The page's request, filled in."""
    headers = {**fill(page.request["headers"], values), **({"X-Sandbox-Fault": fault} if fault else {})}
    body = page.request.get("json")
    return client.request(
        page.method,
        str(fill(page.path, values)),
        params=fill(page.request["query"], values),
        headers=headers,
        json=fill(body, values) if body is not None else None,
    )


def test_every_page_is_shown_or_named_as_not_shown() -> None:
    assert {page.name for page in load("reve")} == {*REVE, *REVE_BY_REQUEST, *REVE_BY_HAND, *REVE_NOT_SHOWN}
    assert {page.name for page in load("nanobanana")} == {
        *NANOBANANA_SUBMITS,
        *NANOBANANA_TASKS,
        *NANOBANANA_RUNNING,
        *NANOBANANA_CALLBACKS,
        *NANOBANANA_BY_HAND,
        *NANOBANANA_NOT_SHOWN,
    }


@pytest.mark.parametrize("name", REVE)
def test_reve_answers_as_its_page_says(client: SandboxClient, name: str) -> None:
    page = exchange("reve", name)
    assert page.response_differences(send(client, page, REVE[name])) == []


def test_reve_refuses_a_long_prompt(client: SandboxClient) -> None:
    page = exchange("reve", "prompt_too_long")
    assert page.response_differences(send(client, page, None, text="x" * 2561)) == []


def test_reve_cannot_decode_what_is_no_picture(client: SandboxClient) -> None:
    page = exchange("reve", "unreadable_picture")
    assert page.response_differences(send(client, page, None, anything="AAAA")) == []


@pytest.mark.parametrize(
    ("name", "fault", "field", "value"),
    [
        ("refused_as_text", "odd_fields; kind=violation_text", "content_violation", "true"),
        ("credits_as_text", "odd_fields; kind=credits_text", "credits_used", "30"),
    ],
)
def test_reve_spells_fields_oddly(client: SandboxClient, name: str, fault: str, field: str, value: str) -> None:
    answer = send(client, exchange("reve", name), fault).json()
    assert answer[field] == value
    assert set(answer) == set(exchange("reve", name).response["json"])


def test_reve_sends_a_page_of_html_as_a_picture(client: SandboxClient) -> None:
    answer = send(client, exchange("reve", "image_is_html"), "wrong_bytes; kind=html").json()
    assert httpx.Response(200, text=answer["image"]).text.startswith("PGh0bWw+")  # <html>


@pytest.mark.parametrize("name", NANOBANANA_SUBMITS)
def test_nanobanana_answers_as_its_page_says(client: SandboxClient, neighbour: Neighbour, name: str) -> None:
    page = exchange("nanobanana", name)
    answer = send(client, page, NANOBANANA_SUBMITS[name], url=f"{neighbour.url}/a.png")
    assert page.response_differences(answer) == []


@pytest.mark.parametrize("name", NANOBANANA_TASKS)
def test_a_finished_task_reads_as_its_page_says(client: SandboxClient, neighbour: Neighbour, name: str) -> None:
    task_id = client.submit(f"{neighbour.url}/a.png", fault=NANOBANANA_TASKS[name])
    client.finish(task_id)
    page = exchange("nanobanana", name)
    assert page.response_differences(send(client, page, None, **{"task id": task_id})) == []


@pytest.mark.parametrize("name", NANOBANANA_RUNNING)
def test_a_running_task_reads_as_its_page_says(client: SandboxClient, neighbour: Neighbour, name: str) -> None:
    client.behave(latency={"scene": 0.5})
    task_id = client.submit(f"{neighbour.url}/a.png", fault=NANOBANANA_RUNNING[name])
    page = exchange("nanobanana", name)
    assert page.response_differences(send(client, page, None, **{"task id": task_id})) == []


def test_a_result_is_fetched_without_a_key(client: SandboxClient, neighbour: Neighbour) -> None:
    record = client.finish(client.submit(f"{neighbour.url}/a.png"))
    answer = httpx.get(record["response"]["resultImageUrl"], trust_env=False)
    assert exchange("nanobanana", "result_ok").response_differences(answer) == []


def test_work_takes_at_least_its_latency(client: SandboxClient) -> None:
    client.behave(latency={"cutout": 0.3})
    started = time.monotonic()
    assert client.cut_out().status_code == 200
    assert time.monotonic() - started >= 0.3
