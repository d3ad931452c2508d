"""The bell that wakes workers: a private Broadcast that the database sends when there may be work. Only a hint."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from realtime import RealtimeSubscribeStates
from supabase import AsyncClient

log = logging.getLogger(__name__)

TOPIC = "vitrine-runs"  # `ring_workers_v1` sends to it
LOOK_AFTER_S = 1.0  # seconds between two looks at the connection: Realtime's own client gives up after five tries


@asynccontextmanager
async def listening(client: AsyncClient) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever the bell rings, and when a broken line is mended, since rings may have been missed.

    Never fails: without Realtime the workers' polling does.
    """
    rung = asyncio.Event()
    keeper = asyncio.create_task(_keep_listening(client, rung), name="bell")
    try:
        yield rung
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        with contextlib.suppress(Exception):
            await client.realtime.close()


async def _keep_listening(client: AsyncClient, rung: asyncio.Event) -> None:
    def on_ring(_message: object) -> None:
        rung.set()

    def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            log.info("bell.listening")
            rung.set()
        elif error is not None:
            log.warning("bell.trouble", extra={"error": type(error).__name__})

    channel = client.channel(TOPIC, {"config": {"private": True, "broadcast": None, "presence": None}})
    channel.on_broadcast("look", on_ring)
    subscribed = False
    while True:
        try:
            if not subscribed:
                await channel.subscribe(on_state)
                subscribed = True
            elif not client.realtime.is_connected:
                await client.realtime.connect()
        except Exception as error:  # whatever it is, the next look may go better, and polling goes on
            log.warning("bell.not_reached", extra={"error": type(error).__name__})
        await asyncio.sleep(LOOK_AFTER_S)
