"""What some worker has to look after: the database finds and settles it, the worker removes objects and warns."""

from __future__ import annotations

import asyncio
import logging

from config import Settings
from database import Database
from domain import MICROS_PER_USD
from storage import ObjectStore

log = logging.getLogger(__name__)

EVERY_S = 60.0  # each worker asks this often; the database lets one of them through a minute


async def keep_tidy(database: Database, store: ObjectStore, settings: Settings) -> None:
    """Tidy up once a minute, for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await tidy_up(database, store, settings)
        except Exception as error:  # nothing hangs on this one turn, and the next may go better
            log.warning("maintenance.failed", extra={"error": type(error).__name__})


async def tidy_up(database: Database, store: ObjectStore, settings: Settings) -> None:
    """Do what is due, unless another worker did so less than a minute ago; see `maintenance_v1`."""
    found = await database.maintenance(
        raw_bucket=settings.raw_bucket_name,
        raw_folder=settings.raw_storage_folder,
        pending_hours=settings.pending_deadline_hours,
    )
    if found is None:
        return
    for budget in found.low_budgets:
        log.warning(
            "budget.low",
            extra={
                "scope": budget["scope"],
                "owner": budget["scope_key"],
                "limit_usd": budget["limit_micros"] / MICROS_PER_USD,
                "used_usd": (budget["reserved_micros"] + budget["spent_micros"]) / MICROS_PER_USD,
            },
        )
    if found.objects:
        await store.remove(found.objects)
        await database.objects_removed(found.objects)
    if any(found.counts.values()) or found.objects:
        log.info("maintenance.done", extra={"objects": len(found.objects), **found.counts})
