"""What the providers charge, as far as they say. Only estimates: a cost that an answer reports always wins."""

from __future__ import annotations

import math

# Reve, read 2026-11: $10 buys 7,500 credits (https://api.reve.com/console/pricing).
REVE_MICROS_PER_CREDIT = 10_000_000 / 7_500
REVE_EDIT_CREDITS = 30
REVE_FAST_EDIT_CREDITS = 5
REVE_REMOVE_BACKGROUND_CREDITS = 2  # at least; some 1.5 for each megapixel
REVE_REMOVE_BACKGROUND_CREDITS_PER_MEGAPIXEL = 1.5

# NanoBanana API, first generation: no price page of its own. Its sister service lists 4 credits, some $0.02, for the
# same model (https://kie.ai, read 2026-11).
NANOBANANA_MICROS = 20_000


def reve_micros(credits_used: float) -> int:
    """Micro-dollars for a number of Reve credits."""
    return round(credits_used * REVE_MICROS_PER_CREDIT)


def reve_edit_micros(*, version: str, removes_background: bool, megapixels: float) -> int:
    """The estimate for one edit in micro-dollars."""
    credits_used = REVE_FAST_EDIT_CREDITS if "fast" in version else REVE_EDIT_CREDITS
    if removes_background:
        by_size = math.ceil(REVE_REMOVE_BACKGROUND_CREDITS_PER_MEGAPIXEL * megapixels)
        credits_used += max(REVE_REMOVE_BACKGROUND_CREDITS, by_size)
    return reve_micros(credits_used)
