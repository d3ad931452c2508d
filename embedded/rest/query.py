"""What a query string asks for, as values: the result of parsing, before anything is known of the schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Names of embedded resources from the root down; empty for the root itself.
EmbedPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonStep:
    """`->key` (JSON) or `->>key` (text); an integer key is an index into an array."""

    arrow: Literal["->", "->>"]
    key: str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    json_path: tuple[JsonStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedField:
    field: Field
    alias: str | None = None
    cast: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedEmbed:
    """`alias:relation!hint!inner(...)`, or with `is_spread` `...relation(...)`."""

    relation: str
    alias: str | None = None
    hint: str | None = None
    is_inner: bool = False
    is_spread: bool = False
    items: tuple[SelectedItem, ...] = ()

    @property
    def name(self) -> str:
        return self.alias or self.relation


SelectedItem = SelectedField | SelectedEmbed


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`eq.5`, `like(any).{a*,b*}` ... The value stays text: Postgres reads it as the column's type."""

    operator: str
    value: str
    quantifier: Literal["any", "all"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """`in.(a,b)`."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsTest:
    """`is.null`; `keyword` is SQL."""

    keyword: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSearch:
    """`fts(english).cat`."""

    operator: str
    language: str | None
    value: str


Operation = Comparison | Membership | IsTest | TextSearch


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    field: Field
    operation: Operation
    is_negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicGroup:
    operator: Literal["and", "or"]
    conditions: tuple[Condition, ...]
    is_negated: bool = False


Condition = Filter | LogicGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerm:
    field: Field
    #: An embedded to-one resource, in `order=author(name)`.
    relation: str | None = None
    direction: Literal["asc", "desc"] | None = None
    nulls: Literal["nulls first", "nulls last"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRange:
    """Rows `offset` to `offset + limit - 1`; limit None: to the end."""

    offset: int = 0
    limit: int | None = None

    def capped(self, max_rows: int) -> RowRange:
        return RowRange(offset=self.offset, limit=max_rows if self.limit is None else min(self.limit, max_rows))

    def within(self, other: RowRange) -> RowRange:
        """The rows that are in both."""
        offset = max(self.offset, other.offset)
        ends = [part.offset + part.limit for part in (self, other) if part.limit is not None]
        return RowRange(offset=offset, limit=max(0, min(ends) - offset) if ends else None)


ALL_ROWS = RowRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A whole query string."""

    select: tuple[SelectedItem, ...]
    conditions: tuple[tuple[EmbedPath, Condition], ...] = ()
    orders: dict[EmbedPath, tuple[OrderTerm, ...]] = field(default_factory=dict)
    ranges: dict[EmbedPath, RowRange] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    #: What is left over: the arguments of a function called by GET.
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def root_conditions(self) -> tuple[Condition, ...]:
        return tuple(condition for path, condition in self.conditions if not path)
