"""Everything that one run of the benchmark found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.costs import Idle, Memory, Requests
from bench.queue_length import ClaimCost
from bench.throughput import Round


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Waits in seconds."""

    cores: int
    load_before: float
    load_after: float
    rounds: Sequence[Round]
    pick_up_s: Sequence[float]
    realtime_s: Sequence[float]
    requests: Requests
    memory: Sequence[Memory]
    idle: Idle
    claims: Sequence[ClaimCost]
