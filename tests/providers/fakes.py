"""Stand-ins for what surrounds an adapter: the source picture, the ledger, a vendor that answers from a page."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from PIL import Image

from domain import Capability, ImageRequest, TaskId
from providers._download import ResultDownloader

KEY = "papi.secret-0123456789"
SIGNED_LINK = "https://shop.example.com/storage/v1/object/sign/raw/ring.png?token=eyJhbGciOi"


def png(width: int = 96, height: int = 64, *, alpha: int | None = None) -> bytes:
    """A PNG; with `alpha`, a cut-out whose background is that opaque."""
    picture = Image.new("RGB", (width, height), (196, 154, 60))
    if alpha is not None:
        picture.putalpha(alpha)
        picture.paste((196, 154, 60, 255), (width // 4, height // 4, width // 2, height // 2))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@dataclass(kw_only=True)
class StoredPicture:
    content: bytes = field(default_factory=png)

    async def read(self) -> bytes:
        return self.content

    async def link(self) -> str:
        return SIGNED_LINK


@dataclass(kw_only=True)
class Ledger:
    """Writes down what it is told and, of each moment, how many requests had reached the vendor by then."""

    requests_so_far: Callable[[], int] = lambda: 0
    notes: list[tuple[str, int]] = field(default_factory=list)

    async def sending(self) -> None:
        self.notes.append(("sending", self.requests_so_far()))

    async def accepted(self, task_id: TaskId) -> None:
        self.notes.append((f"accepted {task_id}", self.requests_so_far()))


def image_request(
    capability: Capability = Capability.REMOVE_BACKGROUND,
    *,
    prompt: str = "Cut out the ring.",
    source: StoredPicture | None = None,
    width: int = 96,
    height: int = 64,
    from_words: bool = False,
) -> ImageRequest:
    return ImageRequest(
        capability=capability,
        prompt=prompt,
        source=None if from_words else source or StoredPicture(),
        width=None if from_words else width,
        height=None if from_words else height,
    )


@dataclass(kw_only=True)
class Vendor:
    """Answers by path, the last answer again and again, and keeps the requests."""

    answers: dict[str, list[httpx.Response]]
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        waiting = self.answers[request.url.path]
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))

    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]


@asynccontextmanager
async def sandbox_downloader(url: str, **options: float) -> AsyncIterator[ResultDownloader]:
    """A downloader that fetches from one local origin."""
    downloader = ResultDownloader(provider="nanobanana", allowed_hosts=(), sandbox_url=url, **options)  # type: ignore[arg-type]
    try:
        yield downloader
    finally:
        await downloader.aclose()
