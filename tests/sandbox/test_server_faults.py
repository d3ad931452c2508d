"""Faults as a client meets them on a real socket, and the rules that say when they strike."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from PIL import Image

from sandbox.faults import Fault, FaultSyntaxError, Moment, make_fault, parse_fault, split_marker
from sandbox.rules import RuleBody, RuleBook
from tests.sandbox.running import PICTURE, Neighbour, SandboxClient


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", httpx.ReadError),
        ("lost_answer", httpx.ReadError),
        ("reset_in_body", httpx.ReadError),
        ("truncated", httpx.RemoteProtocolError),
        ("hang; seconds=0.05", httpx.RemoteProtocolError),
    ],
)
def test_a_broken_connection_is_broken(client: SandboxClient, fault: str, error: type[httpx.TransportError]) -> None:
    with pytest.raises(error):
        client.cut_out(fault=fault)
    assert client.cut_out().status_code == 200


def test_a_truncated_answer_promises_its_full_length(client: SandboxClient) -> None:
    whole = int(client.cut_out().headers["content-length"])
    with pytest.raises(httpx.RemoteProtocolError, match=r"received \d+ bytes, expected \d+") as raised:
        client.cut_out(fault="truncated; share=0.25")
    received, expected = (int(number) for number in re.findall(r"\d+", str(raised.value)))
    assert abs(expected - whole) < 10  # the balance in the answer may have a digit less
    assert received == expected // 4


def test_a_hanging_answer_ends_when_the_client_goes(client: SandboxClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.get("/api/misc/balance", headers={"X-Sandbox-Fault": "hang"}, timeout=0.1)
    for _ in range(100):
        line = client.invoice(fault="hang")["lines"][0]
        if line["delivered"] is not None:
            break
        time.sleep(0.02)
    assert line["delivered"] is False


def test_a_dripping_answer_comes_in_bits_and_whole(client: SandboxClient) -> None:
    started = time.monotonic()
    answer = client.get("/api/misc/balance", headers={"X-Sandbox-Fault": "drip; bytes=10; seconds=0.02"})
    assert answer.json()["new_balance"] == 1_000_000
    assert time.monotonic() - started >= 0.02 * (len(answer.content) // 10)


def test_a_huge_body_is_as_large_as_asked(client: SandboxClient) -> None:
    assert len(client.cut_out(fault="huge_body; megabytes=3").content) == 3_000_000


def test_a_date_to_wait_for_lies_ahead(client: SandboxClient) -> None:
    answer = client.cut_out(fault="rate_limit; retry_after=date+30")
    wait = parsedate_to_datetime(answer.headers["retry-after"]).timestamp() - time.time()
    assert 25 < wait <= 31


def test_a_bomb_is_small_as_a_file_and_vast_as_a_picture(client: SandboxClient) -> None:
    picture = base64.b64decode(client.cut_out(fault="decompression_bomb").json()["image"])
    assert len(picture) < 100_000
    width, height = struct.unpack(">II", picture[16:24])  # of the IHDR chunk; nobody should decode the rest
    assert (width, height) == (20_000, 20_000)


@pytest.mark.parametrize(
    ("kind", "size", "has_alpha"),
    [("tiny", (1, 1), True), ("transparent", (96, 64), True), ("input", (96, 64), True)],
)
def test_a_degenerate_picture_decodes(client: SandboxClient, kind: str, size: tuple[int, int], has_alpha: bool) -> None:
    content = base64.b64decode(client.cut_out(fault=f"degenerate; kind={kind}").json()["image"])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == size
        highest = picture.getchannel("A").getextrema()[1]
    assert (content == PICTURE) == (kind == "input")
    assert (highest == 0) == (kind != "input")


@pytest.mark.parametrize(
    ("fault", "start"),
    [
        ("wrong_bytes; kind=html", b"<html>"),
        ("wrong_bytes; kind=type", b"%PDF"),
        ("wrong_bytes; kind=broken", b"\x89PNG"),
        ("degenerate; kind=tiny", b"\x89PNG"),
        ("decompression_bomb; side=9000", b"\x89PNG"),
    ],
)
def test_a_result_file_can_be_wrong(client: SandboxClient, neighbour: Neighbour, fault: str, start: bytes) -> None:
    record = client.finish(client.submit(f"{neighbour.url}/a.png", fault=fault))
    answer = httpx.get(record["response"]["resultImageUrl"], trust_env=False)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(start)


def test_a_result_can_lead_elsewhere_or_be_gone(client: SandboxClient, neighbour: Neighbour) -> None:
    led = client.finish(client.submit(f"{neighbour.url}/a.png", fault="result_redirect; to=http://10.0.0.1/x"))
    answer = httpx.get(led["response"]["resultImageUrl"], trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://10.0.0.1/x")
    gone = client.finish(client.submit(f"{neighbour.url}/a.png", fault="result_gone; status=403"))
    assert httpx.get(gone["response"]["resultImageUrl"], trust_env=False).status_code == 403


def test_a_download_can_be_limited_by_a_rule(client: SandboxClient, neighbour: Neighbour) -> None:
    client.rule({"name": "rate_limit", "retry_after": "1"}, operation="result", times=1)
    url = client.finish(client.submit(f"{neighbour.url}/a.png"))["response"]["resultImageUrl"]
    answers = [httpx.get(url, trust_env=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].headers["retry-after"] == "1"


def test_a_marker_in_the_prompt_is_a_fault_and_no_words(client: SandboxClient, neighbour: Neighbour) -> None:
    prompt = "On dark stone. [[sandbox: task_failed; flag=2]]"
    record = client.finish(client.submit(f"{neighbour.url}/a.png", prompt=prompt))
    assert record["successFlag"] == 2
    assert split_marker(prompt)[0] == "On dark stone."


@pytest.mark.parametrize(
    "text", ["no_such_fault", "rate_limit; sooner=1", "hang; seconds=soon", "wrong_bytes; kind=odd", "reset; x"]
)
def test_a_fault_that_does_not_exist_is_told_and_not_ignored(client: SandboxClient, text: str) -> None:
    answer = client.cut_out(fault=text)
    assert answer.status_code == 400
    assert "sandbox_error" in answer.json()
    with pytest.raises(FaultSyntaxError):
        parse_fault(text)


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": {"name": "nothing"}},
        {"fault": {"name": "reset"}, "match": {"provider": "reve", "operation": "record-info"}},
        {"fault": {"name": "task_failed"}, "match": {"provider": "reve"}},
        {"fault": {"name": "degenerate"}, "match": {"operation": "credit"}},
        {"fault": {"name": "reset"}, "match": {"sometimes": True}},
    ],
)
def test_a_rule_that_can_never_strike_is_refused(client: SandboxClient, rule: dict[str, Any]) -> None:
    assert client.post("/_sandbox/faults", json=[{"fault": {"name": "reset"}}, rule]).status_code == 400
    assert client.get("/_sandbox/faults").json() == {"rules": []}


def test_a_header_goes_before_a_rule(client: SandboxClient) -> None:
    client.rule({"name": "out_of_credit"})
    assert client.cut_out(fault="bad_key").status_code == 401
    assert client.cut_out().status_code == 402
    client.delete("/_sandbox/faults")
    assert client.cut_out().status_code == 200


def strikes(match: dict[str, Any], calls: list[tuple[str, str, str]], name: str = "reset") -> list[bool]:
    book = RuleBook(chance=random.Random(1))
    book.add([RuleBody.model_validate({"match": match, "fault": {"name": name}})])
    return [book.fault_for(provider, operation, prompt) is not None for provider, operation, prompt in calls]  # type: ignore[arg-type]


EDIT = ("reve", "edit", "Remove the background.")
SUBMIT = ("nanobanana", "generate", "On dark stone.")
POLL = ("nanobanana", "record-info", "On dark stone.")


def test_rules_choose_by_provider_operation_and_words() -> None:
    calls = [EDIT, SUBMIT, POLL]
    assert strikes({}, calls) == [True, True, True]
    assert strikes({"provider": "nanobanana"}, calls) == [False, True, True]
    assert strikes({"operation": "record-info"}, calls) == [False, False, True]
    assert strikes({"prompt_contains": "stone"}, calls) == [False, True, True]


def test_rules_count_only_the_calls_that_match() -> None:
    calls = [SUBMIT, EDIT, EDIT, SUBMIT, EDIT]
    assert strikes({"provider": "reve", "nth": 2}, calls) == [False, False, True, False, False]
    assert strikes({"provider": "reve", "nth": [1, 3]}, calls) == [False, True, False, False, True]
    assert strikes({"provider": "reve", "times": 2}, calls) == [False, True, True, False, False]


def test_a_probability_is_met_over_many_calls_and_can_be_repeated() -> None:
    first = strikes({"probability": 0.3}, [EDIT] * 1000)
    assert 250 < sum(first) < 350
    assert first == strikes({"probability": 0.3}, [EDIT] * 1000)


def test_a_fault_of_the_result_strikes_where_the_result_is_bought() -> None:
    assert strikes({}, [SUBMIT, POLL], name="degenerate") == [True, False]
    assert strikes({"operation": "record-info"}, [SUBMIT, POLL], name="unknown_flag") == [False, True]


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        (make_fault("server_error", {}), Moment.BEFORE_WORK),
        (make_fault("server_error", {"accepted": True}), Moment.ON_THE_WAY_OUT),
        (make_fault("hang", {}), Moment.ON_THE_WAY_OUT),
        (make_fault("hang", {"accepted": "false"}), Moment.BEFORE_WORK),
        (make_fault("degenerate", {}), Moment.IN_THE_RESULT),
    ],
)
def test_a_parameter_can_move_a_fault_behind_the_work(fault: Fault, moment: Moment) -> None:
    assert fault.moment is moment
