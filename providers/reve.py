"""Reve (https://api.reve.com): edits one picture by instruction; its background removal is a step after an edit.

Synchronous, no job ids: an answer that is lost cannot be asked for again. A refusal comes as HTTP 200 with
`content_violation`. Sources, read 2026-11: https://api.reve.com/llms.txt and the Python SDK 0.1.9.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
from pydantic import SecretStr

from domain import CallProgress, Capability, ImageAnswer, ImageRequest, RecoversBy, TaskId
from errors import (
    BadPictureError,
    BadResponseError,
    ChargeUnknownError,
    ContentRefusedError,
    RequestRejectedError,
    RetryableError,
)
from pictures import check_answer
from providers import prices
from providers._http import ProviderApi, Reply, json_object_in, number_in, text_in

EDIT_PATH = "/v1/image/edit"
BALANCE_PATH = "/api/misc/balance"
MAX_INSTRUCTION_CHARACTERS = 2560
MAX_PICTURE_BYTES = 40_000_000
MAX_PICTURE_PIXELS = 33_554_432
MAX_ANSWER_BYTES = 64_000_000  # JSON around base64: 48 MB of picture
DEADLINE_S = 180.0  # the vendor's clients wait 120 s; larger pictures have been seen to take 80 s
JUDGING_S = 10.0  # of it for decoding the answer
_BASE64_CHUNK_BYTES = 49_152  # a multiple of 3, so that the pieces join without padding
_REFUSAL_CODE = "CONTENT_POLICY_VIOLATION"


class Reve:
    """Removes backgrounds, restores and colourises, all by editing."""

    provider = "reve"
    recovers_by = RecoversBy.NOTHING

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        api_key: SecretStr,
        version: str = "latest",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.model = version
        self.deadline_s = deadline_s
        self._api = ProviderApi(http, provider=self.provider, base_url=base_url, api_key=api_key)

    def price_micros(self, request: ImageRequest) -> int:
        return prices.reve_edit_micros(
            version=self.model,
            removes_background=request.capability is Capability.REMOVE_BACKGROUND,
            megapixels=(request.width or 0) * (request.height or 0) / 1e6,
        )

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self.deadline_s - JUDGING_S
        source = await self._read_source(request, ends_at)
        fields = self._fields(request)
        length, content = _json_with_picture(fields, "reference_image", source)
        ready_at = clock()
        await progress.sending()
        ends_at += clock() - ready_at  # waiting for leave to send does not count
        reply = await self._api.buy(
            EDIT_PATH, content=content, length=length, ends_at=ends_at, max_bytes=MAX_ANSWER_BYTES
        )
        return await asyncio.to_thread(self._judge, reply, request.capability)

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        raise ChargeUnknownError("Reve keeps no tasks: an answer that was lost stays lost.", provider=self.provider)

    async def balance(self) -> int:
        """The credits that are left. Free: a good probe of the key.

        Raises:
            AccountError: The key is refused.
            RetryableError: No answer came.
        """
        reply = await self._api.ask(BALANCE_PATH, params={}, ends_at=asyncio.get_running_loop().time() + 30)
        answer = json_object_in(reply.body) or {}
        if not reply.is_success:
            raise self._api.error(reply.status, paid=False, headers=reply.headers, words=_words_in(answer))
        left = number_in(answer.get("new_balance"))
        if left is None:
            raise BadResponseError("reve sent no balance.", provider=self.provider)
        return int(left)

    def _fields(self, request: ImageRequest) -> dict[str, Any]:
        fields: dict[str, Any] = {"edit_instruction": request.prompt, "version": self.model}
        if request.capability is Capability.REMOVE_BACKGROUND:
            fields["postprocessing"] = [{"process": "remove_background"}]
        return fields

    async def _read_source(self, request: ImageRequest, ends_at: float) -> bytes:
        """The picture to edit, after everything that would be refused has been refused here, at no cost."""
        if request.source is None:
            raise self._rejected("Reve edits a picture, and there is none.")
        if not request.prompt.strip():
            raise self._rejected("Reve needs an instruction, and there is none.")
        if len(request.prompt) > MAX_INSTRUCTION_CHARACTERS:
            raise self._rejected(
                f"The instruction has {len(request.prompt)} characters; Reve takes {MAX_INSTRUCTION_CHARACTERS}."
            )
        if (request.width or 0) * (request.height or 0) > MAX_PICTURE_PIXELS:
            raise self._rejected(
                f"The picture is larger than the {MAX_PICTURE_PIXELS / 1e6:.0f} megapixels Reve takes."
            )
        try:
            async with asyncio.timeout_at(ends_at):
                source = await request.source.read()
        except TimeoutError as error:
            raise RetryableError(
                "The picture for Reve could not be read in time; nothing was sent.", provider=self.provider
            ) from error
        if len(source) > MAX_PICTURE_BYTES:
            raise self._rejected(f"The picture is larger than the {MAX_PICTURE_BYTES // 1_000_000} MB Reve takes.")
        return source

    def _rejected(self, message: str) -> RequestRejectedError:
        return RequestRejectedError(message, provider=self.provider)

    def _judge(self, reply: Reply, capability: Capability) -> ImageAnswer:
        """The picture in an answer, or the error that it amounts to. Decodes, so it belongs in a thread."""
        text = reply.body.decode(errors="replace")
        reply.body.clear()  # up to 64 MB that is held twice otherwise
        answer = json_object_in(text)
        fields = answer or {}
        request_id = text_in(fields.get("request_id") or reply.headers.get("x-reve-request-id"))
        code = fields.get("error_code") or reply.headers.get("x-reve-error-code")
        cost = _cost_in(fields.get("credits_used", reply.headers.get("x-reve-credits-used")))
        refused = _is_true(fields.get("content_violation", reply.headers.get("x-reve-content-violation")))
        if refused or code == _REFUSAL_CODE:
            raise ContentRefusedError(
                "Reve's content policy refuses this picture or its instruction.",
                provider=self.provider,
                request_id=request_id,
                cost_micros=cost,
            )
        if not reply.is_success:
            words = _words_in(fields) if answer is not None else text
            raise self._api.error(reply.status, paid=True, headers=reply.headers, words=words, request_id=request_id)
        try:
            picture = check_answer(_image_in(answer))
            if capability is Capability.REMOVE_BACKGROUND and not picture.has_alpha:
                raise BadPictureError("No background was removed.")
        except BadPictureError as error:
            words = self._api.redacted(_words_in(fields))
            raise BadResponseError(
                f"Reve's answer cannot be used. {error}" + (f" It says: {words}" if words else ""),
                provider=self.provider,
                request_id=request_id,
                cost_micros=cost,
            ) from error
        return ImageAnswer(picture=picture, cost_micros=cost, request_id=request_id)


def _json_with_picture(fields: dict[str, Any], name: str, picture: bytes) -> tuple[int, AsyncIterator[bytes]]:
    """The length of a JSON object with `picture` in base64 as its last field, and its bytes, encoded as they go out."""
    head = (json.dumps(fields).removesuffix("}") + f', "{name}": "').encode()
    tail = b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for start in range(0, len(picture), _BASE64_CHUNK_BYTES):
            yield base64.b64encode(picture[start : start + _BASE64_CHUNK_BYTES])
        yield tail

    return len(head) + 4 * math.ceil(len(picture) / 3) + len(tail), pieces()


def _image_in(answer: dict[str, Any] | None) -> bytes:
    if answer is None:
        raise BadPictureError("It is not the JSON that it should be.")
    image = answer.pop("image", None)
    if not isinstance(image, str) or not image:
        raise BadPictureError("It holds no picture.")
    try:
        return binascii.a2b_base64(image)
    except ValueError as error:
        raise BadPictureError("Its picture is not base64.") from error


def _cost_in(credits_used: object) -> int | None:
    """Micro-dollars; None when the answer does not say."""
    number = number_in(credits_used)
    return prices.reve_micros(number) if number is not None and number >= 0 else None


def _is_true(value: object) -> bool:
    """As the SDK reads `content_violation`, which has been seen as truth value and as text."""
    return value is True or str(value).strip().lower() in ("true", "1", "yes")


def _words_in(fields: dict[str, Any]) -> str:
    code, message = fields.get("error_code"), fields.get("message") or fields.get("error")
    return " ".join(part for part in (code, message) if isinstance(part, str))
