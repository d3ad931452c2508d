"""Storage after `kill -9`: rows and bytes still belong together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tests.embedded.storage_support import http_client, storage_client
from tests.stack import RunningStack, start_stack


async def test_an_upload_cut_by_a_kill_leaves_the_object_as_it_was(tmp_path: Path) -> None:
    stack = start_stack(tmp_path / "stack")
    async with storage_client(stack) as storage:
        await storage.create_bucket("pictures")
        await storage.from_("pictures").upload("ring.png", b"whole")
    uploading = asyncio.create_task(upload_without_end(stack))
    incoming = stack.data_dir / "files" / "incoming"
    async with asyncio.timeout(10):
        while not any(incoming.iterdir()):
            await asyncio.sleep(0.01)
    stack.kill()
    uploading.cancel()
    await asyncio.gather(uploading, return_exceptions=True)
    assert any(incoming.iterdir())

    stack = start_stack(tmp_path / "stack", port=None)
    async with storage_client(stack) as storage:
        assert await storage.from_("pictures").download("ring.png") == b"whole"
        await storage.from_("pictures").update("ring.png", b"replaced")
        assert await storage.from_("pictures").download("ring.png") == b"replaced"
    assert not any(incoming.iterdir())
    assert len([path for path in (stack.data_dir / "files").rglob("*") if path.is_file()]) == 1
    assert stack.stop() == 0


async def upload_without_end(stack: RunningStack) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000
            await asyncio.sleep(0.01)

    async with http_client(stack, token=stack.service_role_jwt) as http:
        await http.put("/object/pictures/ring.png", content=body())
