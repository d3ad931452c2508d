"""What a call costs, in credits and in micro-dollars."""

from __future__ import annotations

import math
from fractions import Fraction

from sandbox.behaviour import Provider

#: Micro-dollars for one credit. Reve: $10 for 7,500 (api.reve.com/console/pricing). NanoBanana publishes no price;
#: $0.005 is what public client code records.
MICROS_PER_CREDIT: dict[Provider, Fraction] = {
    "reve": Fraction(10_000_000, 7_500),
    "nanobanana": Fraction(5_000),
}

REVE_CREDITS = {"create": 18, "edit": 30, "remix": 30}
REVE_FAST_CREDITS = 5  # edit and remix, versions that say "fast"
REVE_EFFECT_CREDITS = 3
#: upscale and remove_background are priced by size: about $0.002 a megapixel, at least 2 credits.
REVE_CREDITS_PER_MEGAPIXEL = 1.5
REVE_LEAST_CREDITS_BY_SIZE = 2

#: NanoBanana: assumed, see above; 24 credits for a Pro picture and 4 for the first generation are recorded.
NANOBANANA_CREDITS = {
    "generate": {"1K": 4, "2K": 4, "4K": 4},
    "generate-2": {"1K": 8, "2K": 12, "4K": 18},
    "generate-pro": {"1K": 24, "2K": 24, "4K": 48},
}


def reve_credits_by_size(pixels: int) -> int:
    """Of one upscale or one background removal."""
    return max(REVE_LEAST_CREDITS_BY_SIZE, math.ceil(pixels / 1_000_000 * REVE_CREDITS_PER_MEGAPIXEL))


def micros(provider: Provider, credit_count: int) -> int:
    return round(credit_count * MICROS_PER_CREDIT[provider])
