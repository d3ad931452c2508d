"""NanoBanana API (https://nanobananaapi.ai), a reseller of Google's model: pictures from words and pictures.

Asynchronous: a request is answered with a task id, the task is asked after until it is done, and its result is a link.
HTTP 200 proves nothing: the body carries a code of its own. The misspelt type names are the vendor's.
Sources, read 2026-11: https://docs.nanobananaapi.ai/nanobanana-api/generate-or-edit-image and .../get-task-details;
the variants that are read leniently (text for numbers, JSON in text) were seen in public clients.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any

import httpx
from pydantic import SecretStr

from domain import CallProgress, ImageAnswer, ImageRequest, Picture, RecoversBy, TaskId
from errors import (
    BadPictureError,
    BadResponseError,
    ChargeUnknownError,
    ContentRefusedError,
    ProviderError,
    RateLimitError,
    RequestRejectedError,
    RetryableError,
    TaskFailedError,
    TaskNotCreatedError,
    UnsafeUrlError,
)
from pictures import check_answer
from providers import prices
from providers._download import ResultDownloader
from providers._http import ProviderApi, Reply, json_object_in, number_in, text_in

SUBMIT_PATH = "/api/v1/nanobanana/generate"
POLL_PATH = "/api/v1/nanobanana/record-info"
RATIOS = ("1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9")
MAX_ANSWER_BYTES = 1_000_000
DEADLINE_S = 600.0  # public clients give up after 5 to 10 minutes
POLLING_SHARE = 0.9  # of the deadline; the rest is for the download
SUBMIT_TIMEOUT_S = 60.0  # only a task id is waited for
POLL_TIMEOUT_S = 30.0
FIRST_POLL_S = 1.0
LONGEST_POLL_S = 5.0  # the pace of the vendor's examples
MOST_LATE = 0.1  # of a task's age: by so much its end may be noticed late, so a quick task is not waited for long
BAD_POLL_GROWTH = 1.5
MAX_BAD_POLLS = 10  # in a row, some 40 s: an outage, or a task that the provider no longer knows
LONGEST_POLL_PAUSE_S = 30.0  # when a poll is told to slow down
DOWNLOAD_ATTEMPTS = 4  # a result may reach its host a moment after the task is done

_RUNNING, _DONE, _NOT_CREATED, _FAILED = 0, 1, 2, 3  # successFlag
_POLICY_WORDS = re.compile(r"polic|safety|sensitive|prohibit|nsfw|moderat|violat", re.IGNORECASE)


class NanoBanana:
    """Draws a picture from a prompt and, where there is one, a picture that the vendor fetches by link."""

    provider = "nanobanana"
    recovers_by = RecoversBy.TASK_ID

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        api_key: SecretStr,
        downloader: ResultDownloader,
        model: str = "nano-banana",
        micros_per_picture: int = prices.NANOBANANA_MICROS,
        callback_url: str | None = None,
        first_poll_s: float = FIRST_POLL_S,
        longest_poll_s: float = LONGEST_POLL_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """
        Args:
            downloader: Fetches the results; closed by its owner.
            model: Only a name for step hashes and the ledger: this endpoint serves one model.
            callback_url: Sent where the vendor insists on one. Callbacks are unsigned, so polling decides all the same.
            first_poll_s: Wait before the first poll, growing with the task's age to `longest_poll_s`; also before a
                download is repeated.
        """
        self.model = model
        self.deadline_s = deadline_s
        self._api = ProviderApi(http, provider=self.provider, base_url=base_url, api_key=api_key)
        self._downloader = downloader
        self._micros_per_picture = micros_per_picture
        self._callback_url = callback_url
        self._first_poll_s = first_poll_s
        self._longest_poll_s = longest_poll_s

    def price_micros(self, request: ImageRequest) -> int:
        return self._micros_per_picture

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        clock = asyncio.get_running_loop().time
        started_at = clock()
        content = await self._content(request, started_at)
        ready_at = clock()
        await progress.sending()
        started_at += clock() - ready_at  # waiting for leave to send does not count
        task_id = await self._submit(content, started_at)
        await progress.accepted(task_id)  # before any waiting: without the id a paid task cannot be found again
        return await self._finish(task_id, started_at)

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        return await self._finish(task_id, asyncio.get_running_loop().time())

    async def _content(self, request: ImageRequest, started_at: float) -> bytes:
        if not request.prompt.strip():
            raise RequestRejectedError("NanoBanana needs a prompt, and there is none.", provider=self.provider)
        return json.dumps(await self._fields(request, self._submit_by(started_at))).encode()

    def _submit_by(self, started_at: float) -> float:
        return started_at + min(SUBMIT_TIMEOUT_S, self.deadline_s)

    async def _submit(self, content: bytes, started_at: float) -> TaskId:
        ends_at = self._submit_by(started_at)
        reply = await self._api.buy(
            SUBMIT_PATH, content=content, length=len(content), ends_at=ends_at, max_bytes=MAX_ANSWER_BYTES
        )
        answer = json_object_in(reply.body) or {}
        code = _code_in(answer) if reply.is_success else reply.status
        data = answer.get("data")
        task_id = text_in(data.get("taskId")) if isinstance(data, dict) else None
        if task_id is not None and not (code is not None and 400 <= code < 500):
            return TaskId(task_id)  # even under a server error: asking after the task is free and settles it
        if code is None or code == 200:
            raise ChargeUnknownError("nanobanana answered without a task id.", provider=self.provider)
        words = _words_in(answer, reply)
        if code == 400 and _POLICY_WORDS.search(words):
            raise self._refused(words)
        raise self._api.error(code, paid=True, headers=reply.headers, words=words)

    async def _fields(self, request: ImageRequest, ends_at: float) -> dict[str, Any]:
        fields: dict[str, Any] = {"prompt": request.prompt, "type": "TEXTTOIAMGE", "numImages": 1}
        if request.source is not None:
            try:
                async with asyncio.timeout_at(ends_at):
                    link = await request.source.link()
            except TimeoutError as error:
                raise RetryableError(
                    "No link to the picture could be had in time; nothing was sent.", provider=self.provider
                ) from error
            fields |= {"type": "IMAGETOIAMGE", "imageUrls": [link]}
        if request.width and request.height:
            fields["image_size"] = nearest_ratio(request.width, request.height)
        if self._callback_url is not None:
            fields["callBackUrl"] = self._callback_url
        return fields

    async def _finish(self, task_id: TaskId, started_at: float) -> ImageAnswer:
        link = await self._wait(task_id, started_at + self.deadline_s * POLLING_SHARE)
        picture = await self._download(link, started_at + self.deadline_s)
        return ImageAnswer(picture=picture, cost_micros=None, task_id=task_id)

    async def _wait(self, task_id: TaskId, ends_at: float) -> str:
        """The link to the result of a task."""
        clock = asyncio.get_running_loop().time
        asked_since = clock()
        pause = self._first_poll_s
        bad_polls = 0
        while clock() + pause < ends_at:
            await asyncio.sleep(pause)
            try:
                link = await self._poll(task_id, min(clock() + POLL_TIMEOUT_S, ends_at))
            except (TaskFailedError, TaskNotCreatedError, ContentRefusedError):
                raise
            except ProviderError as error:
                bad_polls += 1
                pause = min(pause * BAD_POLL_GROWTH, self._longest_poll_s)
                if bad_polls == MAX_BAD_POLLS:
                    raise self._no_verdict(error) from error
                if isinstance(error, RateLimitError):
                    pause = max(pause, min(error.retry_after or 0.0, LONGEST_POLL_PAUSE_S))
            else:
                if link is not None:
                    return link
                bad_polls = 0
                pause = min(max(self._first_poll_s, (clock() - asked_since) * MOST_LATE), self._longest_poll_s)
        raise ChargeUnknownError("nanobanana's task is still not done at its deadline.", provider=self.provider)

    def _no_verdict(self, error: ProviderError) -> ProviderError:
        """What many bad polls in a row amount to. The task is paid, so it is never an error that invites another."""
        if isinstance(error, BadResponseError):
            return error
        return ChargeUnknownError(f"nanobanana does not say what became of its task. {error}", provider=self.provider)

    async def _poll(self, task_id: TaskId, ends_at: float) -> str | None:
        """The link to the result; None while the task is running.

        Raises:
            TaskFailedError, ContentRefusedError: The task is over.
            BadResponseError: The answer makes no sense.
            ProviderError: There is no answer this time.
        """
        reply = await self._api.ask(POLL_PATH, params={"taskId": task_id}, ends_at=ends_at)
        answer = json_object_in(reply.body) or {}
        code = _code_in(answer) if reply.is_success else reply.status
        data = answer.get("data")
        if code is not None and code != 200:
            raise self._api.error(code, paid=False, headers=reply.headers, words=_words_in(answer, reply))
        if not isinstance(data, dict):
            raise BadResponseError("nanobanana's answer about a task holds no task.", provider=self.provider)
        flag = number_in(data.get("successFlag"))
        if flag == _RUNNING:
            return None
        if flag == _NOT_CREATED:
            raise self._not_created(data)
        if flag == _FAILED:
            raise self._failed(data)
        if flag != _DONE:
            raise BadResponseError("nanobanana's task is in a state that is not known.", provider=self.provider)
        link = _link_in(data.get("response"))
        if link is None:
            raise BadResponseError("nanobanana's task is done but holds no result.", provider=self.provider)
        return link

    def _not_created(self, data: dict[str, Any]) -> ProviderError:
        """Often the picture's link could not be fetched at that moment: nothing was made, another time it may be."""
        words = str(data.get("errorMessage") or "")
        if _POLICY_WORDS.search(words):
            return self._refused(words)
        said = self._api.redacted(words)
        message = "nanobanana could not create the task" + (f": {said}" if said else ".")
        return TaskNotCreatedError(message, provider=self.provider)

    def _failed(self, data: dict[str, Any]) -> ProviderError:
        words = str(data.get("errorMessage") or "")
        if number_in(data.get("errorCode")) == 400 or _POLICY_WORDS.search(words):
            return self._refused(words)
        said = self._api.redacted(words)
        return TaskFailedError("nanobanana's task failed" + (f": {said}" if said else "."), provider=self.provider)

    def _refused(self, words: str) -> ContentRefusedError:
        said = self._api.redacted(words)
        message = "NanoBanana's content policy refuses this picture or its prompt"
        return ContentRefusedError(message + (f": {said}" if said else "."), provider=self.provider)

    async def _download(self, link: str, ends_at: float) -> Picture:
        """The result, checked. A download costs nothing, so it is repeated here; the task stays paid all the same."""
        clock = asyncio.get_running_loop().time
        pause = self._first_poll_s
        for attempts_left in reversed(range(DOWNLOAD_ATTEMPTS)):
            try:
                async with asyncio.timeout_at(ends_at):
                    return await self._fetch(link)
            except BadResponseError:
                if not attempts_left:
                    raise
            except (RetryableError, TimeoutError) as error:
                if not attempts_left or clock() + pause >= ends_at:
                    raise ChargeUnknownError(
                        "nanobanana's task is done, but its result cannot be downloaded at present.",
                        provider=self.provider,
                    ) from error
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _fetch(self, link: str) -> Picture:
        try:
            content = await self._downloader.fetch(link)
            return await asyncio.to_thread(check_answer, content)
        except (UnsafeUrlError, BadPictureError) as error:
            raise BadResponseError(f"nanobanana's result cannot be used. {error}", provider=self.provider) from error


def nearest_ratio(width: int, height: int) -> str:
    """The vendor's aspect ratio that is nearest to a picture's, by proportion."""

    def distance(ratio: str) -> float:
        across, down = ratio.split(":")
        return abs(math.log(width / height) - math.log(int(across) / int(down)))

    return min(RATIOS, key=distance)


def _code_in(answer: dict[str, Any]) -> int | None:
    code = number_in(answer.get("code"))
    return None if code is None else int(code)


def _link_in(response: object) -> str | None:
    """The result's link: in an object or in text that holds one, under either name, alone or as the first of a list."""
    fields = json_object_in(response) if isinstance(response, str) else response
    if not isinstance(fields, dict):
        return None
    for value in (fields.get("resultImageUrl"), fields.get("resultUrls")):
        for link in value if isinstance(value, list) else [value]:
            if isinstance(link, str) and link:
                return link
    return None


def _words_in(answer: dict[str, Any], reply: Reply) -> str:
    words = answer.get("msg") or answer.get("message")
    return words if isinstance(words, str) else reply.body.decode(errors="replace")
