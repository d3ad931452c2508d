"""How the sandbox behaves: speed, accepted keys, balances. Set at start, changed while it runs by the control API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Provider = Literal["reve", "nanobanana"]
Work = Literal["cutout", "scene", "restore", "colourise", "enhance"]

PROVIDERS: tuple[Provider, ...] = ("reve", "nanobanana")
WORKS: tuple[Work, ...] = ("cutout", "scene", "restore", "colourise", "enhance")

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Behaviour(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    #: How long each kind of work takes at least, in seconds. Work that takes longer is not cut short.
    latency: dict[Work, Seconds] = {}
    #: Fixed pictures in place of image processing, so that a benchmark measures its own system and not this one.
    ready_made: bool = False
    #: NanoBanana reads `imageUrls`. Off only for benchmarks that must not pay for the traffic.
    fetch_inputs: bool = True
    #: After this many seconds a result URL answers 404. The vendor says "short-lived"; an hour is our reading.
    result_lifetime_s: Seconds = 3600
    #: The keys that are accepted, by provider; a provider that is not named takes any key that is not empty.
    keys: dict[Provider, list[str]] = {}
    #: Credits on the account before the first purchase, by provider.
    credits: dict[Provider, int] = {"reve": 1_000_000, "nanobanana": 1_000_000}


def parse_latency(text: str) -> dict[Work, float]:
    """`cutout=0.2,scene=0.5` as a mapping; an empty text is none.

    Raises:
        ValueError: Not of that form, an unknown kind of work, or not a number of seconds.
    """
    pairs = dict(part.split("=", 1) for part in text.split(",") if part.strip())
    return Behaviour.model_validate({"latency": {name.strip(): value for name, value in pairs.items()}}).latency
