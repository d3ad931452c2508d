"""How one table can be embedded in another: by foreign keys, directly or through a junction table."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from embedded.rest.errors import RestError
from embedded.rest.schema_cache import ForeignKey, SchemaCache, TableName

Cardinality = Literal["many-to-one", "one-to-one", "one-to-many", "many-to-many"]
#: Pairs of columns that are equal in joined rows.
ColumnPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Junction:
    table: TableName
    to_origin: ForeignKey
    to_target: ForeignKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Relationship:
    origin: TableName
    target: TableName
    cardinality: Cardinality
    constraint: str  #: empty for many-to-many
    columns: ColumnPairs  #: of origin and target; empty for many-to-many
    junction: Junction | None = None

    @property
    def is_to_one(self) -> bool:
        return self.cardinality in ("many-to-one", "one-to-one")

    @property
    def origin_columns(self) -> tuple[str, ...]:
        """The columns of the origin that a join needs."""
        if self.junction is not None:
            return self.junction.to_origin.target_columns
        return tuple(origin for origin, _ in self.columns)


def find_relationship(cache: SchemaCache, origin: TableName, target: str, hint: str | None) -> Relationship:
    """The one relationship that `target!hint(...)` means in a select on `origin`.

    Raises:
        RestError: PGRST200 when there is none, PGRST201 when there are several.
    """
    all_of_origin = list(_relationships_of(cache, origin))
    found = [relationship for relationship in all_of_origin if _is_meant(relationship, target, hint)]
    if not found:
        raise _none_found(origin, target, hint, {relationship.target.name for relationship in all_of_origin})
    if len(found) > 1:
        raise _ambiguous(origin, target, found)
    return found[0]


def _relationships_of(cache: SchemaCache, origin: TableName) -> Iterator[Relationship]:
    for key in cache.foreign_keys:
        if key.table == origin:
            yield Relationship(
                origin=origin,
                target=key.target,
                cardinality="one-to-one" if key.is_unique else "many-to-one",
                constraint=key.name,
                columns=tuple(zip(key.columns, key.target_columns, strict=True)),
            )
        if key.target == origin:
            yield Relationship(
                origin=origin,
                target=key.table,
                cardinality="one-to-one" if key.is_unique else "one-to-many",
                constraint=key.name,
                columns=tuple(zip(key.target_columns, key.columns, strict=True)),
            )
    for to_origin in cache.foreign_keys:
        for to_target in cache.foreign_keys:
            if to_origin.target == origin and _make_junction(cache, to_origin, to_target):
                yield Relationship(
                    origin=origin,
                    target=to_target.target,
                    cardinality="many-to-many",
                    constraint="",
                    columns=(),
                    junction=Junction(table=to_origin.table, to_origin=to_origin, to_target=to_target),
                )


def _make_junction(cache: SchemaCache, to_origin: ForeignKey, to_target: ForeignKey) -> bool:
    """A table joins two others when the columns of both its foreign keys are part of its primary key."""
    if to_origin == to_target or to_origin.table != to_target.table:
        return False
    table = cache.tables.get(to_origin.table)
    return table is not None and {*to_origin.columns, *to_target.columns} <= set(table.primary_key)


def _is_meant(relationship: Relationship, target: str, hint: str | None) -> bool:
    names_table = target == relationship.target.name
    only_pair = relationship.columns[0] if len(relationship.columns) == 1 else ("", "")
    if relationship.origin == relationship.target:
        # One foreign key makes two relationships: the table's name means the rows that point here, the column's
        # name the row that is pointed at.
        points_here = names_table and relationship.cardinality == "one-to-many"
        if hint is not None:
            return points_here and hint in (only_pair[1], relationship.constraint)
        return points_here or (relationship.cardinality == "many-to-one" and target == only_pair[0])
    if hint is None:
        return names_table or (bool(target) and target in (relationship.constraint, only_pair[0]))
    junction_name = relationship.junction.table.name if relationship.junction else ""
    return names_table and bool(hint) and hint in (relationship.constraint, *only_pair, junction_name)


def _none_found(origin: TableName, target: str, hint: str | None, neighbours: set[str]) -> RestError:
    using = f"' using the hint '{hint}" if hint else ""
    close = [name for name in difflib.get_close_matches(target, neighbours, n=1) if name != target]
    return RestError(
        400,
        "PGRST200",
        f"Could not find a relationship between '{origin.name}' and '{target}' in the schema cache",
        details=f"Searched for a foreign key relationship between '{origin.name}' and '{target}{using}' in the schema "
        f"'{origin.schema}', but no matches were found.",
        hint=f"Perhaps you meant '{close[0]}' instead of '{target}'." if close else None,
    )


def _ambiguous(origin: TableName, target: str, found: list[Relationship]) -> RestError:
    choices = ", ".join(f"'{one.target.name}!{_hint_for(one)}'" for one in found)
    return RestError(
        300,
        "PGRST201",
        f"Could not embed because more than one relationship was found for '{origin.name}' and '{target}'",
        details=[_description(one) for one in found],
        hint=f"Try changing '{target}' to one of the following: {choices}. "
        "Find the desired relationship in the 'details' key.",
    )


def _hint_for(relationship: Relationship) -> str:
    return relationship.junction.table.name if relationship.junction else relationship.constraint


def _description(relationship: Relationship) -> dict[str, Any]:
    origin, target = relationship.origin.name, relationship.target.name
    if relationship.junction:
        one, other = relationship.junction.to_origin, relationship.junction.to_target
        text = (
            f"{relationship.junction.table.name} using {one.name}({', '.join(one.columns)}) "
            f"and {other.name}({', '.join(other.columns)})"
        )
    else:
        origin_columns = ", ".join(pair[0] for pair in relationship.columns)
        target_columns = ", ".join(pair[1] for pair in relationship.columns)
        text = f"{relationship.constraint} using {origin}({origin_columns}) and {target}({target_columns})"
    return {
        "cardinality": relationship.cardinality,
        "embedding": f"{origin} with {target}",
        "relationship": text,
    }
