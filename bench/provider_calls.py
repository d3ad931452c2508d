"""The five provider calls of a storefront product, and nothing else: what every contender has to do.

Needs aiohttp only, so that it also runs where the peers are installed. It asks after a task as often as the product
does, because how often a task is asked after decides when its end is noticed.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field

import aiohttp

HEADERS = {"Authorization": "Bearer bench"}
SCENES = ("On dark stone.", "On a bust.", "On silk.", "In a garden.")
FIRST_POLL_S = 0.2  # `ai_clients.SANDBOX_POLL_S`
MOST_LATE = 0.1  # `providers.nanobanana.MOST_LATE`
LINK = "http://127.0.0.1/cutout.png"  # the sandbox is told not to fetch inputs


def open_session() -> aiohttp.ClientSession:
    """One session for a process, without a limit of its own on connections."""
    return aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCalls:
    session: aiohttp.ClientSession
    sandbox_url: str
    photo: bytes = field(repr=False)
    first_poll_s: float = FIRST_POLL_S

    async def make_product(self) -> None:
        """A cut-out, then four scenes at the same time. The pictures are fetched and dropped."""
        await self.cut_out(self.photo)
        await asyncio.gather(*(self.scene(prompt) for prompt in SCENES))

    async def cut_out(self, photo: bytes) -> bytes:
        body = {
            "edit_instruction": "Remove the background.",
            "postprocessing": [{"process": "remove_background"}],
            "reference_image": base64.b64encode(photo).decode(),
        }
        async with self.session.post(f"{self.sandbox_url}/v1/image/edit", json=body) as answer:
            answer.raise_for_status()
            return base64.b64decode(json.loads(await answer.read())["image"])

    async def scene(self, prompt: str) -> bytes:
        body = {"prompt": prompt, "type": "IMAGETOIAMGE", "numImages": 1, "imageUrls": [LINK]}
        async with self.session.post(f"{self.sandbox_url}/api/v1/nanobanana/generate", json=body) as answer:
            task_id = (await answer.json())["data"]["taskId"]
        async with self.session.get(await self._result_link(task_id)) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def _result_link(self, task_id: str) -> str:
        clock = asyncio.get_running_loop().time
        asked_since = clock()
        while True:
            await asyncio.sleep(max(self.first_poll_s, MOST_LATE * (clock() - asked_since)))
            url = f"{self.sandbox_url}/api/v1/nanobanana/record-info"
            async with self.session.get(url, params={"taskId": task_id}) as answer:
                data = (await answer.json())["data"]
            if data["successFlag"] == 1:
                return str(data["response"]["resultImageUrl"])
            if data["successFlag"]:
                raise RuntimeError(f"the sandbox failed: {data['errorMessage']}")
