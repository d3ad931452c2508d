"""A whole query string: which parameter means what."""

from __future__ import annotations

import re
from collections.abc import Iterable

from embedded.rest.errors import invalid_range, parse_error
from embedded.rest.parse_filter import is_filter_value, parse_filter, parse_logic
from embedded.rest.parse_select import parse_names, parse_order, parse_select
from embedded.rest.query import Condition, EmbedPath, OrderTerm, Query, RowRange
from embedded.rest.scanner import Scanner


def parse_query(parameters: Iterable[tuple[str, str]], *, takes_arguments: bool = False) -> Query:
    """Read every parameter; there is none that is ignored.

    `takes_arguments`: a function called by GET, whose arguments are the parameters that are no filters.
    """
    select, columns, on_conflict = "*", None, None
    conditions: list[tuple[EmbedPath, Condition]] = []
    orders: dict[EmbedPath, tuple[OrderTerm, ...]] = {}
    limits: dict[EmbedPath, int] = {}
    offsets: dict[EmbedPath, int] = {}
    arguments = []
    for key, value in parameters:
        last_word = key.rpartition(".")[2]
        if key == "select":
            select = value
        elif key == "columns":
            columns = parse_names(value, key)
        elif key == "on_conflict":
            on_conflict = parse_names(value, key)
        elif key == "apikey":
            continue  # the gateway's own
        elif last_word == "order":
            orders[_embed_path(key)] = parse_order(value)
        elif last_word == "limit":
            limits[_embed_path(key)] = _row_count(key, value)
        elif last_word == "offset":
            offsets[_embed_path(key)] = _row_count(key, value)
        elif last_word in ("and", "or"):
            conditions.append(parse_logic(key, value))
        elif takes_arguments and "." not in key and not is_filter_value(value):
            arguments.append((key, value))
        else:
            conditions.append(parse_filter(key, value))
    return Query(
        select=parse_select(select),
        conditions=tuple(conditions),
        orders=orders,
        ranges={
            path: RowRange(offset=offsets.get(path, 0), limit=limits.get(path))
            for path in limits.keys() | offsets.keys()
        },
        columns=columns,
        on_conflict=on_conflict,
        arguments=tuple(arguments),
    )


def _embed_path(key: str) -> EmbedPath:
    scanner = Scanner(key, f"failed to parse tree path ({key})")
    names = [scanner.name()]
    while scanner.take("."):
        names.append(scanner.name())
    scanner.expect_end()
    return tuple(names[:-1])


def _row_count(key: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", value):
        raise parse_error(f"failed to parse {key} ({value})", 1, "expecting digit")
    number = int(value) if len(value) < 20 else 2**63
    if number < 0:
        raise invalid_range("Limit should be greater than or equal to zero.")
    if number > 2**63 - 1:
        raise parse_error(f"failed to parse {key} ({value})", 1, "number out of range")
    return number
