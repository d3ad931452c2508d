"""What the shop may look back on, as the database tells it: lists of products, runs with their costs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain import ProductId, Status
from supabase_rpc import SupabaseRpc


class ShopRecords(SupabaseRpc):
    """Reads only."""

    async def list_products(
        self, places: int, *, status: Status | None, after: tuple[datetime, ProductId] | None
    ) -> list[dict[str, Any]]:
        """Up to `places` products, newest first, each with `cost_micros`; those that come after the one at `after`."""
        time, product_id = after or (None, None)
        rows: list[dict[str, Any]] = await self._rpc(
            "list_products_v1",
            places=places,
            wanted_status=status,
            after_time=time.isoformat() if time else None,
            after_id=str(product_id) if product_id else None,
        )
        return rows

    async def spend(self, days: int) -> list[dict[str, Any]]:
        """The last UTC days, newest first, with today: see `spend_v1`. Sums in micro-dollars."""
        rows: list[dict[str, Any]] = await self._rpc("spend_v1", days=days)
        return rows

    async def runs_of_product(self, product_id: ProductId, places: int) -> list[dict[str, Any]]:
        """The latest runs of a product, newest first, each with its `calls`.

        Raises:
            NotFoundError: There is no such product.
        """
        runs: list[dict[str, Any]] = await self._rpc("runs_of_product_v1", product=str(product_id), places=places)
        return runs
