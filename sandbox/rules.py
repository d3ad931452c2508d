"""Which call meets which fault: rules, tried in their order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sandbox.behaviour import Provider
from sandbox.faults import Fault, FaultSyntaxError, Moment, make_fault

OPERATIONS: dict[Provider, tuple[str, ...]] = {
    "reve": ("edit", "create", "remix", "balance"),
    "nanobanana": ("generate", "generate-2", "generate-pro", "record-info", "result", "credit"),
}
#: Calls that buy nothing, and the faults in the result that they can show all the same, when a rule names them.
FREE_OPERATIONS: dict[str, frozenset[str]] = {
    "balance": frozenset(),
    "credit": frozenset(),
    "record-info": frozenset(("task_failed", "unknown_flag", "odd_record", "empty_picture", "policy_refusal")),
    "result": frozenset(("wrong_bytes", "degenerate", "decompression_bomb", "result_gone", "result_redirect")),
}


class Match(BaseModel):
    """The calls that a rule is about. What is left out matches everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider | None = None
    operation: str | None = None
    #: For `record-info` and `result`: the prompt of the task.
    prompt_contains: str | None = None
    #: Of the calls that match so far, only these, counted from 1.
    nth: int | list[int] | None = None
    #: At most so often.
    times: Annotated[int, Field(ge=1)] | None = None
    #: 0 to 1; drawn from the sandbox's seed.
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0


class RuleBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Match = Match()
    fault: dict[str, Any]

    def to_fault(self) -> Fault:
        """The fault, once it is sure that the rule can ever strike.

        Raises:
            FaultSyntaxError
        """
        given = dict(self.fault)
        fault = make_fault(str(given.pop("name", "")), given)
        provider = self.match.provider or fault.provider
        if fault.provider not in (None, provider):
            raise FaultSyntaxError(f"{fault.name} is a fault of {fault.provider} alone")
        known = OPERATIONS[provider] if provider else sum(OPERATIONS.values(), ())
        if self.match.operation not in (None, *known):
            raise FaultSyntaxError(f"no operation {self.match.operation!r}; there are {', '.join(known)}")
        if self.match.operation and not _can_strike(fault, self.match.operation):
            raise FaultSyntaxError(f"{fault.name} cannot happen to {self.match.operation}")
        return fault


def _can_strike(fault: Fault, operation: str) -> bool:
    if fault.moment is not Moment.IN_THE_RESULT or operation not in FREE_OPERATIONS:
        return True
    return fault.name in FREE_OPERATIONS[operation]


@dataclass(slots=True, kw_only=True)
class Rule:
    number: int
    match: Match
    fault: Fault
    seen: int = 0  #: calls that matched, whether it struck or not
    struck: int = 0

    def strikes(self, provider: Provider, operation: str, prompt: str | None, chance: random.Random) -> bool:
        match = self.match
        if match.provider not in (None, provider) or match.operation not in (None, operation):
            return False
        if self.fault.provider not in (None, provider) or not _can_strike(self.fault, operation):
            return False
        if match.operation is None and self.fault.moment is Moment.IN_THE_RESULT and operation in FREE_OPERATIONS:
            return False  # it strikes where the result is bought, and not once more where it is fetched
        if match.prompt_contains is not None and match.prompt_contains not in (prompt or ""):
            return False
        self.seen += 1
        wanted = [match.nth] if isinstance(match.nth, int) else match.nth
        if wanted is not None and self.seen not in wanted:
            return False
        if match.times is not None and self.struck >= match.times:
            return False
        if match.probability < 1 and chance.random() >= match.probability:
            return False
        self.struck += 1
        return True

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "match": self.match.model_dump(exclude_defaults=True),
            "fault": self.fault.as_json(),
            "seen": self.seen,
            "struck": self.struck,
        }


@dataclass(slots=True, kw_only=True)
class RuleBook:
    chance: random.Random
    rules: list[Rule] = field(default_factory=list)
    _next_number: int = 1

    def add(self, bodies: Iterable[RuleBody]) -> list[Rule]:
        """All of them or none.

        Raises:
            FaultSyntaxError
        """
        pairs = [(body.match, body.to_fault()) for body in bodies]
        added = [
            Rule(number=number, match=match, fault=fault)
            for number, (match, fault) in enumerate(pairs, start=self._next_number)
        ]
        self._next_number += len(added)
        self.rules += added
        return added

    def clear(self) -> None:
        self.rules.clear()

    def fault_for(self, provider: Provider, operation: str, prompt: str | None) -> Fault | None:
        """The fault of the first rule that strikes; the rules behind it do not count this call."""
        for rule in self.rules:
            if rule.strikes(provider, operation, prompt, self.chance):
                return rule.fault
        return None
