"""The faults that the sandbox can show, by name, with their parameters.

A fault is written as `rate_limit; retry_after=2`: in the header `X-Sandbox-Fault`, in a prompt as
`[[sandbox: rate_limit; retry_after=2]]`, or as `{"name": "rate_limit", "retry_after": "2"}` in a rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from sandbox.behaviour import Provider

ParameterValue = str | int | float | bool

_MARKER = re.compile(r"\s*\[\[sandbox:(.*?)\]\]", re.DOTALL)


class FaultSyntaxError(ValueError):
    """No such fault, no such parameter, or a value of the wrong kind."""


class Moment(Enum):
    """When a fault strikes; this alone decides whether the call is billed."""

    BEFORE_WORK = auto()  # nothing is accepted, nothing is billed
    IN_THE_RESULT = auto()  # accepted and billed; what comes back is wrong
    ON_THE_WAY_OUT = auto()  # accepted, worked and billed; the answer is spoiled on the connection


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    moment: Moment
    #: Default of each parameter; its type is the parameter's type.
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    #: The only provider that can show it; None: every one.
    provider: Provider | None = None


_KINDS: Mapping[str, FaultKind] = {
    # retry_after: sent as it stands ("2", "31536000", "soon"); "date+2" = an HTTP date 2 s ahead; "" = no header.
    # layer=body (NanoBanana): HTTP 200 with the code in the body.
    "rate_limit": FaultKind(moment=Moment.BEFORE_WORK, parameters={"retry_after": "", "layer": "http"}),
    "out_of_credit": FaultKind(moment=Moment.BEFORE_WORK, parameters={"layer": "http"}),
    "bad_key": FaultKind(moment=Moment.BEFORE_WORK, parameters={"layer": "http"}),
    # accepted=true: the error comes after the work was done and billed.
    "server_error": FaultKind(
        moment=Moment.BEFORE_WORK,
        parameters={"status": 500, "html": False, "layer": "http", "accepted": False},
    ),
    # The connection is reset before an answer, as near to a refused connection as an open port can come.
    "reset": FaultKind(moment=Moment.BEFORE_WORK),
    # Silence; the connection closes without an answer after `seconds`.
    "hang": FaultKind(moment=Moment.ON_THE_WAY_OUT, parameters={"seconds": 3600.0, "accepted": True}),
    "lost_answer": FaultKind(moment=Moment.ON_THE_WAY_OUT),
    "reset_in_body": FaultKind(moment=Moment.ON_THE_WAY_OUT, parameters={"share": 0.5}),
    "truncated": FaultKind(moment=Moment.ON_THE_WAY_OUT, parameters={"share": 0.5}),
    "drip": FaultKind(moment=Moment.ON_THE_WAY_OUT, parameters={"bytes": 1, "seconds": 0.2}),
    "huge_body": FaultKind(moment=Moment.ON_THE_WAY_OUT, parameters={"megabytes": 200}),
    "empty_200": FaultKind(moment=Moment.ON_THE_WAY_OUT),  # no body at all
    "empty_picture": FaultKind(moment=Moment.IN_THE_RESULT),  # a good envelope with no picture in it
    # In place of the picture. kind=html | type (a PDF) | broken (a PNG header, then rubbish)
    # | garbage (rubbish; from Reve a text that is not base64).
    "wrong_bytes": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"kind": "html"}),
    "policy_refusal": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"charged": False}),
    # kind=tiny (1 x 1) | transparent (fully) | input (the picture that was sent).
    "degenerate": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"kind": "tiny"}),
    "decompression_bomb": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"side": 20_000}),
    # Spellings that clients have met. kind=credits_missing | credits_text | violation_text | image_missing.
    "odd_fields": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"kind": "credits_text"}, provider="reve"),
    # kind=json_text | result_list | result_urls | flag_text | message.
    "odd_record": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"kind": "json_text"}, provider="nanobanana"),
    "task_failed": FaultKind(
        moment=Moment.IN_THE_RESULT, parameters={"flag": 3, "charged": True}, provider="nanobanana"
    ),
    "unknown_flag": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"flag": 7}, provider="nanobanana"),
    # direct=true: `to` itself is given as the result URL, in place of one here that redirects to it.
    "result_redirect": FaultKind(
        moment=Moment.IN_THE_RESULT,
        parameters={"to": "http://169.254.169.254/", "direct": False},
        provider="nanobanana",
    ),
    "result_gone": FaultKind(moment=Moment.IN_THE_RESULT, parameters={"status": 404}, provider="nanobanana"),
}

_CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("wrong_bytes", "kind"): ("html", "garbage", "type", "broken"),
    ("degenerate", "kind"): ("tiny", "transparent", "input"),
    ("odd_fields", "kind"): ("credits_missing", "credits_text", "violation_text", "image_missing"),
    ("odd_record", "kind"): ("json_text", "result_list", "result_urls", "flag_text", "message"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    parameters: Mapping[str, ParameterValue]

    def __str__(self) -> str:
        return "; ".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])

    @property
    def moment(self) -> Moment:
        accepted = self.parameters.get("accepted")
        if accepted is None:
            return _KINDS[self.name].moment
        return Moment.ON_THE_WAY_OUT if accepted else Moment.BEFORE_WORK

    @property
    def provider(self) -> Provider | None:
        """The only provider that can show it; None: every one."""
        return _KINDS[self.name].provider

    def text(self, parameter: str) -> str:
        return str(self.parameters[parameter])

    def as_json(self) -> dict[str, ParameterValue]:
        return {"name": self.name, **self.parameters}

    def number(self, parameter: str) -> float:
        return float(self.parameters[parameter])

    def flag(self, parameter: str) -> bool:
        return bool(self.parameters[parameter])


def make_fault(name: str, given: Mapping[str, Any]) -> Fault:
    """A fault by name; parameters that are not given have their defaults.

    Raises:
        FaultSyntaxError
    """
    kind = _KINDS.get(name)
    if kind is None:
        raise FaultSyntaxError(f"no fault is called {name!r}; there are {', '.join(sorted(_KINDS))}")
    unknown = set(given) - set(kind.parameters)
    if unknown:
        raise FaultSyntaxError(f"{name} has no parameter {', '.join(sorted(unknown))}")
    parameters = dict(kind.parameters)
    for key, value in given.items():
        parameters[key] = _converted(value, type(parameters[key]), f"{name}: {key}")
        choices = _CHOICES.get((name, key))
        if choices and parameters[key] not in choices:
            raise FaultSyntaxError(f"{name}: {key} is one of {', '.join(choices)}")
    return Fault(name=name, parameters=parameters)


def parse_fault(text: str) -> Fault:
    """`rate_limit; retry_after=2` as a fault.

    Raises:
        FaultSyntaxError
    """
    name, *pairs = (part.strip() for part in text.split(";"))
    given: dict[str, str] = {}
    for pair in filter(None, pairs):
        key, equals, value = pair.partition("=")
        if not equals:
            raise FaultSyntaxError(f"{name}: {pair!r} is not of the form parameter=value")
        given[key.strip()] = value.strip()
    return make_fault(name, given)


def split_marker(prompt: str) -> tuple[str, Fault | None]:
    """The prompt without its `[[sandbox: ...]]` marker, and the fault that the marker asks for.

    Raises:
        FaultSyntaxError
    """
    found = _MARKER.search(prompt)
    if found is None:
        return prompt, None
    return (prompt[: found.start()] + prompt[found.end() :]).strip(), parse_fault(found[1])


def _converted(value: Any, wanted: type, where: str) -> ParameterValue:
    if wanted is bool:
        spelled = {"true": True, "false": False}.get(str(value).lower())
        if spelled is None:
            raise FaultSyntaxError(f"{where} is true or false")
        return spelled
    try:
        converted: ParameterValue = wanted(value)
    except (TypeError, ValueError) as error:
        raise FaultSyntaxError(f"{where}: {value!r} is not a number") from error
    return converted
