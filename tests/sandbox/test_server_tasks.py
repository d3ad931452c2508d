"""NanoBanana tasks: many at once, results that expire, callbacks, and a restart in the middle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.contracts import exchange
from tests.sandbox.running import Neighbour, SandboxClient, SandboxProcess


def test_twenty_tasks_run_at_once(client: SandboxClient, neighbour: Neighbour) -> None:
    client.behave(latency={"scene": 0.5})
    started = time.monotonic()
    with ThreadPoolExecutor(5) as threads:
        prompts = [f"Scene {number}" for number in range(20)]
        task_ids = list(threads.map(lambda prompt: client.submit(f"{neighbour.url}/a.png", prompt=prompt), prompts))
    records = [client.finish(task_id) for task_id in task_ids]
    assert [record["successFlag"] for record in records] == [1] * 20
    assert len({record["response"]["resultImageUrl"] for record in records}) == 20
    assert [json.loads(record["paramJson"])["prompt"] for record in records] == prompts
    assert time.monotonic() - started < 20 * 0.5  # one after the other would take longer


def test_a_result_is_gone_after_its_lifetime(client: SandboxClient, neighbour: Neighbour) -> None:
    client.behave(result_lifetime_s=0.5)
    url = client.finish(client.submit(f"{neighbour.url}/a.png"))["response"]["resultImageUrl"]
    _wait_for(lambda: httpx.get(url, trust_env=False).status_code == 404)
    assert exchange("nanobanana", "result_gone").response_differences(httpx.get(url, trust_env=False)) == []


def test_a_newer_generation_answers_in_the_format_asked_for(client: SandboxClient) -> None:
    formats = {}
    for wanted in ("png", "jpg"):
        body = {"prompt": "A ring on velvet", "outputFormat": wanted}
        submitted = client.post("/api/v1/nanobanana/generate-2", json=body).json()
        url = client.finish(submitted["data"]["taskId"])["response"]["resultImageUrl"]
        formats[wanted] = (url.rpartition(".")[2], httpx.get(url, trust_env=False).content[:3])
    assert formats == {"png": ("png", b"\x89PN"), "jpg": ("jpg", b"\xff\xd8\xff")}


@pytest.mark.parametrize(
    ("operation", "fault", "page"),
    [
        ("generate", None, "callback_old_done"),
        ("generate", "policy_refusal", "callback_old_refused"),
        ("generate", "task_failed", "callback_old_failed"),
        ("generate-2", None, "callback_new_done"),
        ("generate-2", "task_failed", "callback_new_failed"),
    ],
)
def test_a_callback_has_the_shape_of_its_generation(
    client: SandboxClient, neighbour: Neighbour, operation: str, fault: str | None, page: str
) -> None:
    body = {"prompt": "x", "imageUrls": [f"{neighbour.url}/a.png"], "callBackUrl": f"{neighbour.url}/hook?t=1"}
    if operation == "generate":
        body["type"] = "IMAGETOIAMGE"
    headers = {"X-Sandbox-Fault": fault} if fault else {}
    submitted = client.post(f"/api/v1/nanobanana/{operation}", json=body, headers=headers).json()
    _wait_for(lambda: bool(neighbour.posted))
    path, sent = neighbour.posted[0]
    assert path == "/hook?t=1"
    request = httpx.Request("POST", neighbour.url + path, content=sent, headers={"content-type": "application/json"})
    assert exchange("nanobanana", page).request_differences(request) == []
    assert json.loads(sent)["data"]["taskId"] == submitted["data"]["taskId"]


def test_a_callback_that_is_not_taken_comes_again(client: SandboxClient, neighbour: Neighbour) -> None:
    neighbour.refusals_left = 1
    client.submit(f"{neighbour.url}/a.png", callBackUrl=f"{neighbour.url}/hook")
    _wait_for(lambda: len(neighbour.posted) == 2)
    assert neighbour.posted[0] == neighbour.posted[1]


def test_pictures_are_fetched_from_this_machine_only(client: SandboxClient) -> None:
    """192.0.2.1 is reserved for documentation (RFC 5737): nothing may be sent there."""
    for url in ("http://192.0.2.1/a.png", "http://169.254.169.254/a.png"):
        record = client.finish(client.submit(url))
        assert record["successFlag"] == 2
        assert "this machine only" in record["errorMessage"]


def test_a_wrong_query_key_is_a_server_exception(client: SandboxClient, neighbour: Neighbour) -> None:
    task_id = client.submit(f"{neighbour.url}/a.png")
    answer = client.get("/api/v1/nanobanana/record-info", params={"task_id": task_id})
    assert exchange("nanobanana", "poll_unknown_task").response_differences(answer) == []


def test_only_the_keys_that_are_set_are_accepted(client: SandboxClient) -> None:
    client.behave(keys={"nanobanana": ["right"]})
    codes = [
        client.get("/api/v1/common/credit", headers={"Authorization": value}).json()["code"]
        for value in ("Bearer right", "Bearer wrong", "right", "")
    ]
    assert codes == [200, 401, 401, 401]
    assert client.get("/api/misc/balance").status_code == 200
    assert client.get("/api/misc/balance", headers={"Authorization": "Bearer"}).status_code == 401


def test_a_task_survives_a_kill_of_the_sandbox(tmp_path: Path, neighbour: Neighbour) -> None:
    """Finished tasks are still known, unfinished ones are finished, and nothing is billed again."""
    first = SandboxProcess(tmp_path, "--ready-made")
    with SandboxClient(first.url) as client:
        done = client.submit(f"{neighbour.url}/a.png", prompt="Done")
        client.finish(done)
        client.behave(latency={"scene": 3600})
        running = client.submit(f"{neighbour.url}/a.png", prompt="Running")
    first.process.kill()
    first.process.communicate()
    second = SandboxProcess(tmp_path, "--ready-made")
    with SandboxClient(second.url) as client:
        assert client.poll(done).json()["data"]["successFlag"] == 1
        assert client.finish(running)["successFlag"] == 1
        invoice = client.invoice()
    assert second.stop()[0] == 0
    assert {entry["prompt"]: entry["times"] for entry in invoice["purchases"]} == {"Done": 1, "Running": 1}


def _wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError
