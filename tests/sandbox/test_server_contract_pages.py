"""The pages themselves: every one can be read, filled in, and matches itself."""

from __future__ import annotations

import httpx
import pytest

from tests.contracts import SAMPLES, Exchange, differences, exchange, fill, load
from tests.contracts.placeholders import CHECKS

PAGES = load("reve") + load("nanobanana")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.vendor}-{page.name}")
def test_a_page_filled_in_satisfies_its_own_pattern(page: Exchange) -> None:
    assert page.source
    assert page.response_differences(page.answer()) == []
    sent = httpx.Request(
        page.method,
        "https://vendor.example" + str(fill(page.path)),
        params=fill(page.request["query"]),
        headers=fill(page.request["headers"]),
        json=fill(page.request["json"]) if "json" in page.request else None,
    )
    assert page.request_differences(sent) == []


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_every_placeholder_has_a_sample_that_it_accepts(name: str) -> None:
    assert CHECKS[name](SAMPLES[name])


def test_a_missing_an_unknown_and_a_wrong_field_are_all_told() -> None:
    found = differences({"a": "<int>", "b": 1, "c?": "<url>"}, {"a": "x", "d": 2, "c": "ftp://x"})
    assert [line.split(":")[0] for line in found] == ["value.b", "value.a", "value.d", "value.c"]


def test_a_number_is_not_a_flag() -> None:
    """In Python `True == 1`; on the wire they differ."""
    assert differences(1, True) != []
    assert differences("<int>", True) != []


def test_a_placeholder_inside_a_text_is_checked_too() -> None:
    pattern = '{"resultImageUrl":"<url>"}'
    assert differences(pattern, '{"resultImageUrl":"https://host.example/a.png"}') == []
    assert differences(pattern, '{"resultImageUrl":"file:///etc/passwd"}') != []


def test_given_values_replace_the_samples() -> None:
    answer = exchange("nanobanana", "submit_edit_ok").answer({"task id": "task_mine"})
    assert answer.json()["data"]["taskId"] == "task_mine"


def test_a_request_with_the_picture_as_data_url_differs() -> None:
    page = exchange("reve", "edit_ok")
    body = fill(page.request["json"])
    body["reference_image"] = "data:image/png;base64," + body["reference_image"]
    sent = httpx.Request(
        "POST", "https://vendor.example/v1/image/edit", headers=fill(page.request["headers"]), json=body
    )
    assert any("reference_image" in line for line in page.request_differences(sent))
