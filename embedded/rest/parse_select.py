"""The parameters `select`, `order`, `columns` and `on_conflict`."""

from __future__ import annotations

from typing import Literal

from embedded.rest.errors import RestError
from embedded.rest.query import Field, OrderTerm, SelectedEmbed, SelectedField, SelectedItem
from embedded.rest.scanner import Scanner

AGGREGATES = ("avg", "count", "max", "min", "sum")


def parse_select(text: str) -> tuple[SelectedItem, ...]:
    scanner = Scanner(text, f"failed to parse select parameter ({text})")
    items = _items(scanner)
    scanner.expect_end()
    return items


def parse_order(text: str) -> tuple[OrderTerm, ...]:
    scanner = Scanner(text, f"failed to parse order ({text})")
    terms = [_order_term(scanner)]
    while scanner.take(","):
        terms.append(_order_term(scanner))
    scanner.expect_end()
    return tuple(terms)


def parse_names(text: str, parameter: str) -> tuple[str, ...]:
    """A comma-separated list of columns."""
    scanner = Scanner(text, f"failed to parse {parameter} parameter ({text})")
    names = [scanner.name()]
    scanner.skip_spaces()
    while scanner.take(","):
        names.append(scanner.name())
        scanner.skip_spaces()
    scanner.expect_end()
    return tuple(dict.fromkeys(names))


def _items(scanner: Scanner) -> tuple[SelectedItem, ...]:
    scanner.skip_spaces()
    if scanner.at_end() or scanner.comes(")"):
        return ()
    items = [_item(scanner)]
    while scanner.take(","):
        items.append(_item(scanner))
    return tuple(items)


def _item(scanner: Scanner) -> SelectedItem:
    scanner.skip_spaces()
    if scanner.take("..."):
        return _embed(scanner, scanner.name(), alias=None, is_spread=True)
    if scanner.take("*"):
        scanner.skip_spaces()
        return SelectedField(field=Field(name="*"))
    alias = None
    name = scanner.name()
    if scanner.comes(":") and not scanner.comes("::"):
        scanner.take(":")
        alias = name
        name = scanner.name()
    if scanner.comes("!") or (scanner.comes("(") and name != "count"):
        return _embed(scanner, name, alias=alias, is_spread=False)
    json_path = scanner.json_path()
    _refuse_aggregate(scanner, name)
    cast = scanner.identifier() if scanner.take("::") else None
    _refuse_aggregate(scanner, name)
    scanner.skip_spaces()
    if not scanner.at_end() and not scanner.comes(",") and not scanner.comes(")"):
        scanner.fail_expecting('letter, digit, "-", "->>", "->", "::", ")", "," or end of input')
    return SelectedField(field=Field(name=name, json_path=json_path), alias=alias, cast=cast)


def _refuse_aggregate(scanner: Scanner, name: str) -> None:
    """Hosted projects have aggregate functions switched off."""
    is_count = name == "count" and scanner.comes("()")
    if is_count or any(scanner.comes(f".{aggregate}()") for aggregate in AGGREGATES):
        raise RestError(400, "PGRST123", "Use of aggregate functions is not allowed")


def _embed(scanner: Scanner, relation: str, *, alias: str | None, is_spread: bool) -> SelectedEmbed:
    hint, is_inner = None, False
    while scanner.take("!"):
        modifier = scanner.name()
        if modifier == "inner":
            is_inner = True
        elif modifier != "left":
            hint = modifier
    scanner.expect("(")
    items = _items(scanner)
    scanner.expect(")")
    scanner.skip_spaces()
    return SelectedEmbed(relation=relation, alias=alias, hint=hint, is_inner=is_inner, is_spread=is_spread, items=items)


def _order_term(scanner: Scanner) -> OrderTerm:
    relation = None
    field = scanner.field()
    if scanner.take("("):
        relation = field.name
        field = scanner.field()
        scanner.expect(")")
    direction: Literal["asc", "desc"] | None = None
    nulls: Literal["nulls first", "nulls last"] | None = None
    if scanner.take(".desc"):
        direction = "desc"
    elif scanner.take(".asc"):
        direction = "asc"
    if scanner.take(".nullsfirst"):
        nulls = "nulls first"
    elif scanner.take(".nullslast"):
        nulls = "nulls last"
    scanner.skip_spaces()
    if not scanner.at_end() and not scanner.comes(","):
        scanner.fail_expecting('"asc", "desc", "nullsfirst" or "nullslast"')
    return OrderTerm(field=field, relation=relation, direction=direction, nulls=nulls)
