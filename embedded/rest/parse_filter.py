"""Filters: `eq.5`, `not.in.(a,b)`, `fts(english).cat`, and the trees of `and=(...)` and `or=(...)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, cast

from embedded.rest.query import (
    Comparison,
    Condition,
    EmbedPath,
    Field,
    Filter,
    IsTest,
    LogicGroup,
    Membership,
    Operation,
    TextSearch,
)
from embedded.rest.scanner import Scanner

QUANTIFIABLE_OPERATORS = {
    "eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=",
    "like": "like", "ilike": "ilike", "match": "~", "imatch": "~*",
}  # fmt: skip
#: Query string to SQL.
COMPARISON_OPERATORS = QUANTIFIABLE_OPERATORS | {
    "neq": "<>", "cs": "@>", "cd": "<@", "ov": "&&", "sl": "<<", "sr": ">>", "nxr": "&<", "nxl": "&>",
    "adj": "-|-", "isdistinct": "is distinct from",
}  # fmt: skip
TEXT_SEARCH_FUNCTIONS = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
IS_KEYWORDS = {"null": "null", "not_null": "not null", "true": "true", "false": "false", "unknown": "unknown"}
OPERATORS = {*COMPARISON_OPERATORS, *TEXT_SEARCH_FUNCTIONS, "in", "is"}

_LOGIC_GROUP = re.compile(r"(not\.)?(and|or)\s*\(")


def parse_filter(key: str, value: str) -> tuple[EmbedPath, Filter]:
    """One parameter such as `author.name=eq.Ann`."""
    path_scanner = Scanner(key, f"failed to parse tree path ({key})")
    names = [path_scanner.name()]
    while path_scanner.take("."):
        names.append(path_scanner.name())
    json_path = path_scanner.json_path()
    path_scanner.expect_end()
    scanner = Scanner(value, f"failed to parse filter ({value})")
    is_negated, operation = _operation(scanner, Scanner.take_rest)
    scanner.expect_end()
    field = Field(name=names[-1], json_path=json_path)
    return tuple(names[:-1]), Filter(field=field, operation=operation, is_negated=is_negated)


def parse_logic(key: str, value: str) -> tuple[EmbedPath, LogicGroup]:
    """One parameter such as `author.not.or=(name.eq.Ann,name.eq.Bob)`."""
    scanner = Scanner(key, f"failed to parse logic path ({key})")
    names = [scanner.name()]
    while scanner.take("."):
        names.append(scanner.name())
    scanner.expect_end()
    *path, operator = names
    tree = Scanner(operator + value, f"failed to parse logic tree ({value})")
    group = _condition(tree)
    tree.skip_spaces()
    tree.expect_end()
    if not isinstance(group, LogicGroup):
        tree.position = len(operator)
        tree.fail_expecting('"("')
    is_negated = "not" in path
    return tuple(name for name in path if name != "not"), LogicGroup(
        operator=group.operator, conditions=group.conditions, is_negated=is_negated
    )


def is_filter_value(value: str) -> bool:
    """Whether a value looks like a filter and not like a function's argument."""
    operator = re.split(r"[.(]", value, maxsplit=1)[0]
    return ("." in value) and (operator == "not" or operator in OPERATORS)


def _condition(scanner: Scanner) -> Condition:
    scanner.skip_spaces()
    opening = _LOGIC_GROUP.match(scanner.text, scanner.position)
    if opening is None:
        return _nested_filter(scanner)
    scanner.position = opening.end()
    conditions = [_condition(scanner)]
    scanner.skip_spaces()
    while scanner.take(","):
        conditions.append(_condition(scanner))
        scanner.skip_spaces()
    scanner.expect(")")
    return LogicGroup(
        operator=cast(Literal["and", "or"], opening[2]),
        conditions=tuple(conditions),
        is_negated=bool(opening[1]),
    )


def _nested_filter(scanner: Scanner) -> Filter:
    field = scanner.field()
    scanner.skip_spaces()
    scanner.expect(".")
    is_negated, operation = _operation(scanner, _nested_value)
    return Filter(field=field, operation=operation, is_negated=is_negated)


def _nested_value(scanner: Scanner) -> str:
    """A value inside a tree ends at `,` or `)`, unless it is quoted or an array `{...}`."""
    if (quoted := _whole_quoted(scanner)) is not None:
        return quoted
    if scanner.comes("{"):
        array = re.compile(r"\{[^{}]*\}").match(scanner.text, scanner.position)
        if array is not None:
            scanner.position = array.end()
            return array[0]
    return scanner.take_until(",)")


def _whole_quoted(scanner: Scanner) -> str | None:
    """A quoted value up to the next `,` or `)`; None when the quotes are just characters of the value."""
    if not scanner.comes('"'):
        return None
    quoted = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s*[,)])', re.DOTALL).match(scanner.text, scanner.position)
    if quoted is None:
        return None
    return scanner.quoted()


def _operation(scanner: Scanner, value: Callable[[Scanner], str]) -> tuple[bool, Operation]:
    is_negated = scanner.take("not.")
    start = scanner.position
    operator = scanner.take_until(".(")
    if operator not in OPERATORS:
        if scanner.at_end():
            scanner.position = start
            scanner.fail_expecting("operator (eq, gt, ...)" if is_negated else '"not" or operator (eq, gt, ...)')
        scanner.position += 1
        scanner.fail(f"unknown single value operator {operator}")
    modifier = None
    if scanner.take("("):
        modifier = scanner.identifier()
        scanner.expect(")")
    scanner.expect(".")
    if operator in TEXT_SEARCH_FUNCTIONS:
        return is_negated, TextSearch(operator=operator, language=modifier, value=value(scanner))
    if modifier is not None and (operator not in QUANTIFIABLE_OPERATORS or modifier not in ("any", "all")):
        scanner.fail(f"unknown single value operator {operator}({modifier})")
    if operator == "in":
        return is_negated, Membership(values=_list(scanner))
    if operator == "is":
        return is_negated, _is_test(scanner, value)
    return is_negated, Comparison(
        operator=operator,
        quantifier=cast(Literal["any", "all"] | None, modifier),
        value=value(scanner),
    )


def _list(scanner: Scanner) -> tuple[str, ...]:
    scanner.skip_spaces()
    scanner.expect("(")
    values = [_list_element(scanner)]
    while scanner.take(","):
        values.append(_list_element(scanner))
    scanner.expect(")")
    scanner.skip_spaces()
    return () if values == [""] else tuple(values)


def _list_element(scanner: Scanner) -> str:
    quoted = _whole_quoted(scanner)
    return scanner.take_until(",)") if quoted is None else quoted


def _is_test(scanner: Scanner, value: Callable[[Scanner], str]) -> IsTest:
    start = scanner.position
    keyword = IS_KEYWORDS.get(value(scanner).lower())
    if keyword is None:
        scanner.position = start
        scanner.fail_expecting("isVal: (null, not_null, true, false, unknown)")
    return IsTest(keyword=keyword)
