"""Every case of the two exhaustive parts, from what one clean run asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos.checks import Allowance
from chaos.faults import FALSE_ANSWERS, ON_HANDSHAKES, Fault, Moment
from chaos.requests import BY_THE_CLOCK, LISTEN, PAID
from chaos.script import Cue, Exchange

EVERY_NTH_NAMELESS = 5  # workers without a name of their own: their runs come back only when the lease has run out


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One product, and the one thing that happens to it."""

    cue: Cue | None
    named: bool = True  #: the worker has a WORKER_ID, so that the next one takes its run back at once

    def __str__(self) -> str:
        return f"{self.cue or 'nothing'}{'' if self.named else ' (worker without a name)'}"

    @property
    def allowance(self) -> Allowance:
        if self.cue is None:
            return Allowance()
        if isinstance(self.cue.deed, Moment):
            return Allowance(worker_losses=1)
        is_lie = self.cue.kind in PAID and self.cue.deed in FALSE_ANSWERS
        return Allowance(may_fall_short=is_lie, may_hide_a_charge=is_lie)


def requests_of(clean_run: Iterable[Exchange]) -> list[tuple[str, int]]:
    """The requests that every run makes, as (kind, number). Of those that come by the clock, the first ones."""
    counts = Counter(exchange.kind for exchange in clean_run)
    return [
        (kind, number)
        for kind, count in counts.items()
        for number in range(1, min(count, BY_THE_CLOCK.get(kind, count)) + 1)
    ]


def crash_points(requests: Iterable[tuple[str, int]]) -> Iterator[Case]:
    for place, (kind, number) in enumerate(requests):
        for moment in Moment:
            yield Case(cue=Cue(kind=kind, number=number, deed=moment), named=place % EVERY_NTH_NAMELESS != 0)


def single_faults(requests: Iterable[tuple[str, int]]) -> Iterator[Case]:
    for kind, number in _first_and_last(requests):
        for fault in Fault:
            if fault is Fault.REPLAYED and kind in PAID:
                continue  # a proxy that buys twice: nobody behind it can help it
            if kind != LISTEN or fault in ON_HANDSHAKES:
                yield Case(cue=Cue(kind=kind, number=number, deed=fault))


def _first_and_last(requests: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Of the same request for each of the four scenes, side by side, the first and the last."""
    known = list(requests)
    last = dict(known)  # the highest number of each kind, since they come in order
    return [(kind, number) for kind, number in known if number in (1, last[kind])]
