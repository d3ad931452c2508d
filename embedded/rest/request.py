"""The headers of a request: preferences, wanted media type, range and schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from embedded.rest.errors import RestError, invalid_range
from embedded.rest.query import ALL_ROWS, RowRange
from embedded.rest.schema_cache import EXPOSED_SCHEMAS
from embedded.rest.write_sql import Resolution

Representation = Literal["representation", "minimal", "headers-only"]
Count = Literal["exact", "planned", "estimated"]

_KNOWN_PREFERENCES = {
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
    "tx": ("commit", "rollback"),  # hosted projects always commit
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The header `Prefer`. Source: https://docs.postgrest.org/en/stable/references/api/preferences.html"""

    representation: Representation | None = None
    count: Count | None = None
    resolution: Resolution | None = None
    fills_defaults: bool = False
    is_strict: bool = False
    max_affected: int | None = None
    timezone: str | None = None
    given: tuple[str, ...] = ()

    def applied(self, *names: str) -> dict[str, str]:
        """The header that tells which of these preferences were honoured."""
        honoured = [text for text in self.given if text.partition("=")[0] in ("handling", "timezone", *names)]
        return {"Preference-Applied": ", ".join(honoured)} if honoured else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """How the answer is shaped: an array of rows or one object."""

    name: str
    is_single: bool
    strips_nulls: bool


_JSON = MediaType(name="application/json", is_single=False, strips_nulls=False)
_MEDIA_TYPES = {
    "application/json": _JSON,
    "*/*": _JSON,
    "application/*": _JSON,
    "application/vnd.pgrst.array": _JSON,
    "application/vnd.pgrst.array+json": _JSON,
    "application/vnd.pgrst.array+json;nulls=stripped": MediaType(
        name="application/vnd.pgrst.array+json;nulls=stripped", is_single=False, strips_nulls=True
    ),
    "application/vnd.pgrst.object": MediaType(
        name="application/vnd.pgrst.object+json", is_single=True, strips_nulls=False
    ),
    "application/vnd.pgrst.object+json": MediaType(
        name="application/vnd.pgrst.object+json", is_single=True, strips_nulls=False
    ),
    "application/vnd.pgrst.object+json;nulls=stripped": MediaType(
        name="application/vnd.pgrst.object+json;nulls=stripped", is_single=True, strips_nulls=True
    ),
}


def read_preferences(header: str) -> Preferences:
    """Raises: RestError: PGRST122 when `handling=strict` comes with a preference that is not known."""
    given = [part.strip() for part in header.split(",") if part.strip()]
    values: dict[str, str] = {}
    unknown = []
    for part in given:
        name, _, value = part.partition("=")
        is_number = name == "max-affected" and re.fullmatch(r"[0-9]{1,18}", value) is not None
        if value in _KNOWN_PREFERENCES.get(name, ()) or is_number or (name == "timezone" and value):
            values.setdefault(name, value)
        else:
            unknown.append(part)
    is_strict = values.get("handling") == "strict"
    if is_strict and unknown:
        raise invalid_preferences(unknown)
    return Preferences(
        representation=cast(Representation | None, values.get("return")),
        count=cast(Count | None, values.get("count")),
        resolution=cast(Resolution | None, values.get("resolution")),
        fills_defaults=values.get("missing") == "default",
        is_strict=is_strict,
        max_affected=int(values["max-affected"]) if is_strict and "max-affected" in values else None,
        timezone=values.get("timezone"),
        given=tuple(part for part in given if part not in unknown),
    )


def invalid_preferences(unknown: list[str]) -> RestError:
    return RestError(
        400,
        "PGRST122",
        "Invalid preferences given with handling=strict",
        details=f"Invalid preferences: {', '.join(unknown)}",
    )


def read_media_type(accept: str) -> MediaType:
    """The first media type of the header `Accept` that this service can write.

    Raises:
        RestError: PGRST107 when there is none (CSV and query plans are not written here).
    """
    wanted = [part.strip() for part in (accept or "*/*").split(",")]
    for part in wanted:
        name, *options = (word.strip() for word in part.split(";"))
        stripped = ";nulls=stripped" if "nulls=stripped" in options else ""
        if (media_type := _MEDIA_TYPES.get(name.lower() + stripped)) is not None:
            return media_type
    raise RestError(406, "PGRST107", f"None of these media types are available: {', '.join(wanted)}")


def read_range(header: str | None) -> RowRange:
    """The header `Range`, such as `0-9` or `10-`. As in PostgREST, one that makes no sense asks for all rows."""
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{0,18})", header or "")
    if match is None:
        return ALL_ROWS
    first = int(match[1])
    if not match[2]:
        return RowRange(offset=first)
    if int(match[2]) < first:
        raise invalid_range("The lower boundary must be lower than or equal to the upper boundary in the Range header.")
    return RowRange(offset=first, limit=int(match[2]) - first + 1)


def read_schema(method: str, headers: Mapping[str, str]) -> str:
    """The schema that `Accept-Profile` or, for a body, `Content-Profile` names."""
    name = "accept-profile" if method in ("GET", "HEAD") else "content-profile"
    schema = headers.get(name, EXPOSED_SCHEMAS[0])
    if schema not in EXPOSED_SCHEMAS:
        raise RestError(
            406,
            "PGRST106",
            f"Invalid schema: {schema}",
            hint=f"Only the following schemas are exposed: {', '.join(EXPOSED_SCHEMAS)}",
        )
    return schema
