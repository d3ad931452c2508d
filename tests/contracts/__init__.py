"""Exchanges with the model APIs, written down from the vendors' documentation, and the way to compare with them.

Each `<vendor>/<name>.json` holds one request and its answer. Both sides are held to the same page: a provider
adapter must send such requests and understand such answers; the sandbox must take such requests and give such answers.

    {
      "source":    the vendor's page or client library that it was taken from,
      "direction": "to_vendor", or "to_us" for a callback,
      "request":   {"method", "path", "query", "headers", "json"},
      "response":  {"status", "headers", and one of "json", "text", "base64"},
      "notes":     what is odd about it
    }

Patterns: an object matches an object with exactly the same keys; a key that ends in `?` may be missing. A text may
hold placeholders such as `<task id>` (see `placeholders.py`); a text that is nothing but a placeholder also stands for
numbers. Headers and query are compared by the names given here only. `fill` turns a pattern into a real value.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.contracts.placeholders import SAMPLES, differences, fill

__all__ = ["SAMPLES", "Exchange", "differences", "exchange", "fill", "load"]

Vendor = Literal["reve", "nanobanana"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer. `request` and `response` are patterns as in the file."""

    vendor: str
    name: str
    source: str
    direction: Literal["to_vendor", "to_us"]
    request: dict[str, Any]
    response: dict[str, Any]
    notes: str

    @property
    def method(self) -> str:
        return str(self.request["method"])

    @property
    def path(self) -> str:
        return str(self.request["path"])

    @property
    def status(self) -> int:
        return int(self.response["status"])

    def answer(self, values: Mapping[str, Any] | None = None) -> httpx.Response:
        """The vendor's answer with real values for the placeholders: `values` first, then `SAMPLES`."""
        content: bytes | None = None
        if "json" in self.response:
            content = json.dumps(fill(self.response["json"], values)).encode()
        elif "text" in self.response:
            content = str(fill(self.response["text"], values)).encode()
        elif "base64" in self.response:
            content = base64.b64decode(str(fill(self.response["base64"], values)))
        return httpx.Response(self.status, headers=fill(self.response.get("headers", {}), values), content=content)

    def request_differences(self, sent: httpx.Request) -> list[str]:
        """What is wrong with a request that was sent; empty when it is as the vendor wants it.

        A path on the page is compared as it stands; the host is free.
        """
        found = differences(self.method, sent.method, "method") + differences(self.path, sent.url.path, "path")
        found += _named_differences(self.request.get("query", {}), sent.url.params, "query")
        found += _named_differences(self.request.get("headers", {}), sent.headers, "header")
        if "json" in self.request:
            found += _json_differences(self.request["json"], sent.content, "request")
        return found

    def response_differences(self, received: httpx.Response) -> list[str]:
        """What is wrong with an answer that was received; empty when it is what the vendor would say."""
        found = differences(self.status, received.status_code, "status")
        found += _named_differences(self.response.get("headers", {}), received.headers, "header")
        if "json" in self.response:
            found += _json_differences(self.response["json"], received.content, "response")
        elif "text" in self.response:
            found += differences(self.response["text"], received.text, "response")
        elif "base64" in self.response:
            found += differences(self.response["base64"], base64.b64encode(received.content).decode(), "response")
        return found


def load(vendor: Vendor) -> list[Exchange]:
    """All exchanges of one vendor, by name."""
    return list(_load(vendor).values())


def exchange(vendor: Vendor, name: str) -> Exchange:
    """One exchange; `name` is the file's name without `.json`.

    Raises:
        KeyError: There is no such file.
    """
    return _load(vendor)[name]


@functools.cache
def _load(vendor: str) -> dict[str, Exchange]:
    files = sorted((Path(__file__).parent / vendor).glob("*.json"))
    return {file.stem: _read(vendor, file) for file in files}


def _read(vendor: str, file: Path) -> Exchange:
    page = json.loads(file.read_text("utf-8"))
    return Exchange(vendor=vendor, name=file.stem, **page)


def _json_differences(pattern: Any, body: bytes, where: str) -> list[str]:
    try:
        return differences(pattern, json.loads(body), where)
    except ValueError:
        return [f"{where}: not JSON: {body[:80]!r}"]


def _named_differences(pattern: Mapping[str, str], actual: Mapping[str, str], where: str) -> list[str]:
    return [
        difference
        for name, value in pattern.items()
        for difference in differences(value, actual.get(name), f"{where} {name}")
    ]
