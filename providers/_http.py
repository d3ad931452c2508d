"""The one place where an HTTP status or a network error becomes an error of ours.

What it comes down to is money. After a request that buys something:

    certainly not accepted                 RetryableError and its kinds: never connected, or 429
    certainly refused                      AccountError (401, 402, 403), RequestRejectedError (other 4xx, moved)
    no verdict                             ChargeUnknownError (5xx, 408, timeout, reset, cut or oversized answer)

A request that buys nothing may be repeated freely: where a purchase ends in ChargeUnknownError, it ends in
RetryableError. A 2xx answer is handed to the adapter, which alone can tell whether it is good.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr

from errors import (
    AccountError,
    ChargeUnknownError,
    ConfigError,
    NotReachedError,
    ProviderError,
    RateLimitError,
    RequestRejectedError,
    RetryableError,
)
from providers._redact import redacted
from transport import FRESH_CONNECTION, never_sent

MAX_ERROR_BODY_BYTES = 65_536  # of a 4xx or 5xx, where only a sentence is of interest
ERROR_BODY_TIMEOUT_S = 5.0  # its status is the verdict; the sentence is not worth a longer wait
LONGEST_RETRY_AFTER_S = 3600.0  # a longer wait is a mistake or a daily quota; either way look again in an hour
_MOVED = {301, 302, 307, 308}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer with any status. Of a 4xx or 5xx the body may be cut or missing."""

    status: int
    headers: httpx.Headers
    body: bytearray  #: decompressed

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class ProviderApi:
    """One model API over HTTP. The key goes to `base_url` only."""

    def __init__(self, http: httpx.AsyncClient, *, provider: str, base_url: str, api_key: SecretStr) -> None:
        self.provider = provider
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        key = api_key.get_secret_value()
        if not key or not key.isascii() or not key.isprintable():
            raise ConfigError(f"The API key of {provider} is empty or has characters that cannot be sent.")

    async def buy(
        self, path: str, *, content: bytes | AsyncIterable[bytes], length: int, ends_at: float, max_bytes: int
    ) -> Reply:
        """POST a JSON body that costs money, once.

        Args:
            length: Of `content` in bytes.
            ends_at: The event loop's time by which the whole answer must be here.
            max_bytes: Cap on the answer, decompressed.

        Raises:
            NotReachedError: Certainly not one byte was sent.
            ChargeUnknownError: It may have been accepted, and no usable answer came.
        """
        if asyncio.get_running_loop().time() >= ends_at:
            raise NotReachedError(f"Too late to ask {self.provider}; nothing was sent.", provider=self.provider)
        headers = {"Content-Type": "application/json", "Content-Length": str(length), "Connection": "close"}
        request = self._request(
            "POST", path, headers=headers, content=content, ends_at=ends_at, extensions={FRESH_CONNECTION: True}
        )
        return await self._exchange(request, paid=True, ends_at=ends_at, max_bytes=max_bytes)

    async def ask(self, path: str, *, params: Mapping[str, str], ends_at: float, max_bytes: int = 1_000_000) -> Reply:
        """GET something that costs nothing.

        Raises:
            RetryableError: No answer came.
        """
        request = self._request("GET", path, params=params, ends_at=ends_at)
        return await self._exchange(request, paid=False, ends_at=ends_at, max_bytes=max_bytes)

    def error(
        self,
        status: int,
        *,
        paid: bool,
        headers: Mapping[str, str] | None = None,
        words: str = "",
        request_id: str | None = None,
    ) -> ProviderError:
        """The error for a status that is no success, from the HTTP line or from a body that carries one.

        `words` are the provider's own; they are redacted here.
        """
        said = self.redacted(words)
        message = f"{self.provider} answered {status}" + (f": {said}" if said else "")
        if status == 429:
            wait = retry_after_in(headers or {})
            return RateLimitError(message, provider=self.provider, retry_after=wait, request_id=request_id)
        if status in (401, 402, 403):
            return AccountError(message, provider=self.provider, request_id=request_id)
        if status in _MOVED or (400 <= status < 500 and status != 408):
            return RequestRejectedError(message, provider=self.provider, request_id=request_id)
        kind = ChargeUnknownError if paid else RetryableError
        return kind(message, provider=self.provider, request_id=request_id)

    def redacted(self, words: str) -> str:
        """At most 300 characters of what the provider said, without our key, links and long codes."""
        return redacted(words, secret=self._api_key.get_secret_value())

    def _request(self, method: str, path: str, *, ends_at: float, **parts: Any) -> httpx.Request:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # pictures hardly shrink, and inflating them would hold up the event loop
            "Authorization": f"Bearer {self._api_key.get_secret_value()}",
            **parts.pop("headers", {}),
        }
        # A model thinks in silence: between two pieces of its answer only the deadline counts.
        remaining = max(ends_at - asyncio.get_running_loop().time(), 0.1)
        usual = self._http.timeout
        timeout = httpx.Timeout(connect=usual.connect, read=remaining, write=remaining, pool=usual.pool)
        return self._http.build_request(method, self._base_url + path, headers=headers, timeout=timeout, **parts)

    async def _exchange(self, request: httpx.Request, *, paid: bool, ends_at: float, max_bytes: int) -> Reply:
        try:
            async with asyncio.timeout_at(ends_at):
                response = await self._http.send(request, stream=True)
                try:
                    return await _read(response, max_bytes)
                finally:
                    await response.aclose()
        except Exception as error:  # whatever it is, the request may be out: it must never look as if it were not
            raise self._unanswered(error, paid=paid) from error

    def _unanswered(self, error: Exception, *, paid: bool) -> ProviderError:
        if never_sent(error):
            return NotReachedError(f"{self.provider} cannot be reached.", provider=self.provider)
        match error:
            case _OversizedError():
                what = "sent a larger answer than is allowed"
            case TimeoutError() | httpx.TimeoutException():
                what = "did not answer in time"
            case _:
                what = "did not answer in full"
        kind = ChargeUnknownError if paid else RetryableError
        return kind(f"{self.provider} {what} ({type(error).__name__}).", provider=self.provider)


class _OversizedError(Exception):
    pass


async def _read(response: httpx.Response, max_bytes: int) -> Reply:
    body = bytearray()
    if response.is_success:
        await _read_into(body, response, max_bytes)
    else:
        with contextlib.suppress(httpx.HTTPError, OSError, _OversizedError):
            async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
                await _read_into(body, response, MAX_ERROR_BODY_BYTES)
    return Reply(status=response.status_code, headers=response.headers, body=body)


async def _read_into(body: bytearray, response: httpx.Response, max_bytes: int) -> None:
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise _OversizedError


def json_object_in(body: bytes | bytearray | str) -> dict[str, Any] | None:
    """The JSON object that the body is; None when it is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_in(value: object, *, longest: int = 200) -> str | None:
    """An id from an answer, as text; None when it is no text or number, empty, or nothing that an id looks like."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if 0 < len(text) <= longest and text.isprintable() else None


def number_in(value: object) -> float | None:
    """A number from an answer that may give it as text; None when it is none, infinite or not a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def retry_after_in(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the `Retry-After` header (RFC 9110, 10.2.3), 0 to an hour; None without one."""
    value = headers.get("retry-after", "").strip()
    seconds = number_in(value)
    if seconds is None:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
