"""Refuses UPDATE and DELETE without WHERE inside functions, as pg-safeupdate does on hosted projects.

Hosted projects load that C extension for every API request; it looks at each statement as Postgres analyses it.
Here there is no such hook to be had without a compiled library, so the text of functions is read instead: a
function is refused when it, a function that it calls, or a trigger of a table that it writes holds such a
statement, whether or not this call would reach it. Statements that a function puts together at run time
(`execute`) are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Comments and quoted texts, which are skipped; names, quoted or not; and punctuation.
_TOKEN = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/ | [eE]?'(?:[^'\\]|''|\\.)*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<name>"(?:[^"]|"")+" | [^\W\d][\w$]*)
    | (?P<mark>[;(),.])
    """,
    re.VERBOSE | re.DOTALL,
)
#: `for update`, `on conflict do update`, `before update on`, `grant update, delete on`: no statements of their own.
_NOT_BEFORE_A_STATEMENT = {"for", "key", "do", "before", "after", "or", "of", "grant", "revoke", ",", "."}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCode:
    """A function in SQL or PL/pgSQL."""

    oid: int
    schema: str
    name: str
    source: str


class StatementGuard:
    """Knows which functions and which tables' triggers hold an UPDATE or DELETE without WHERE."""

    def __init__(self, functions: Sequence[StoredCode], triggers: Iterable[tuple[str, str, int]]) -> None:
        """`triggers`: schema and name of the table, oid of the function."""
        self._sources = {function.oid: words_of(function.source) for function in functions}
        self._oids_by_name: dict[str, list[int]] = {}
        for function in functions:
            self._oids_by_name.setdefault(function.name, []).append(function.oid)
        self._triggers_by_table: dict[str, list[int]] = {}
        for _, table, function_oid in triggers:
            self._triggers_by_table.setdefault(table, []).append(function_oid)
        self._known: dict[tuple[int, ...], str | None] = {}

    def offence_of_function(self, oid: int) -> str | None:
        """`UPDATE` or `DELETE` when a call of this function could run such a statement."""
        return self._first_offence([oid])

    def offence_of_write(self, table: str) -> str | None:
        """The same for a write to a table, by way of its triggers."""
        return self._first_offence(self._triggers_by_table.get(table, []))

    def _first_offence(self, start: Sequence[int]) -> str | None:
        key = tuple(start)
        if key not in self._known:
            self._known[key] = self._look_for_offence(start)
        return self._known[key]

    def _look_for_offence(self, start: Sequence[int]) -> str | None:
        waiting, seen = list(start), set(start)
        while waiting:
            words = self._sources.get(waiting.pop(), [])
            if (statement := unguarded_statement(words)) is not None:
                return statement
            reached = set(self._reached_from(words)) - seen
            seen |= reached
            waiting.extend(reached)
        return None

    def _reached_from(self, words: Sequence[str]) -> Iterable[int]:
        for index, word in enumerate(words):
            following = words[index + 1] if index + 1 < len(words) else ""
            if following == "(":
                yield from self._oids_by_name.get(word, [])
            if word in self._triggers_by_table and _is_written(words, index):
                yield from self._triggers_by_table[word]


def unguarded_statement(words: Sequence[str]) -> str | None:
    """`UPDATE` or `DELETE` when one of these statements has no WHERE of its own."""
    for index, word in enumerate(words):
        previous = words[index - 1] if index else ";"
        if previous in _NOT_BEFORE_A_STATEMENT:
            continue
        is_delete = word == "delete" and words[index + 1 : index + 2] == ["from"]
        if (is_delete or _is_update(words, index)) and not _has_where(words, index):
            return word.upper()
    return None


def words_of(source: str) -> list[str]:
    """The source's names, in lower case unless quoted, and punctuation."""
    words = []
    for token in _TOKEN.finditer(source):
        name = token["name"]
        if name is not None:
            words.append(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower())
        elif token["mark"] is not None:
            words.append(token["mark"])
    return words


def _is_update(words: Sequence[str], index: int) -> bool:
    """Whether `update` at this place opens a statement: a table and then `set` follow (in MERGE, only `set`)."""
    is_merge = words[index + 1 : index + 2] == ["set"]
    return words[index] == "update" and not is_merge and "set" in _rest_of_statement(words, index)


def _is_written(words: Sequence[str], index: int) -> bool:
    """Whether the table named at this place, perhaps after its schema, is that of a write."""
    start = index - 2 if words[index - 1 : index] == ["."] else index
    before = words[max(0, start - 2) : start]
    return before[-1:] in (["into"], ["update"], ["only"]) or before == ["delete", "from"]


def _has_where(words: Sequence[str], index: int) -> bool:
    return "where" in _rest_of_statement(words, index)


def _rest_of_statement(words: Sequence[str], index: int) -> Iterable[str]:
    """The words after `index` up to the statement's end, without those of subqueries."""
    depth = 0
    for word in words[index + 1 :]:
        if word == "(":
            depth += 1
        elif word == ")":
            depth -= 1
            if depth < 0:
                return
        elif word == ";" and depth == 0:
            return
        elif depth == 0:
            yield word
