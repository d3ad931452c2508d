"""Bounds the bytes of pictures in memory, so that many large ones wait instead of ending the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Admits holders first come, first served, while their bytes together stay within `limit`.

    A holder must not ask for more while it holds: two that did could wait for each other for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Wait for room for `size` bytes and keep it. What is larger than the whole budget gets all of it, alone."""
        size = min(size, self._limit)
        await self._take(size)
        try:
            yield
        finally:
            self._free += size
            self._admit_next()

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((size, turn))
            else:  # admitted in the very moment of leaving
                self._free += size
            self._admit_next()
            raise

    def _admit_next(self) -> None:
        # One that is leaving stands in the queue until its own task has run; it admits the next then.
        while self._waiting and self._waiting[0][0] <= self._free and not self._waiting[0][1].done():
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)
