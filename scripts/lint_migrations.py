"""Check `migrations/` for what works on the embedded stack and fails, locks or leaks on hosted Supabase.

`python -m scripts.lint_migrations` prints one line a problem, `file:line: what is wrong`, and exits with 1 if there is
any. The files are read as lexemes, not parsed: a rule may refuse something harmless, to be written more plainly then.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scripts.migrate import MIGRATIONS

LEXEME = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<string> '(?:[^']|'')*' )
  | (?P<identifier> "(?:[^"]|"")*" )
  | (?P<body> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
  | (?P<end> ; )
  | (?P<space> \s+ )
  | (?P<other> \w+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement, at the top of a file or inside a body."""

    line: int  #: in the file, of its first word
    raw: str  #: as it stands there, comments included
    #: Lower case, single spaces, no comments; strings are '_' (or '' when empty), dollar-quoted bodies are $$.
    text: str
    inner: tuple[Statement, ...]  #: those in its dollar-quoted bodies, and in strings that it executes


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def read_statements(sql: str, first_line: int = 1) -> list[Statement]:
    """All statements of a file or a body, in order."""
    statements = []
    raw, words, inner = "", "", list[Statement]()
    line = start = first_line
    for lexeme in LEXEME.finditer(sql):
        kind, written = lexeme.lastgroup, lexeme.group()
        if kind == "tag":  # the group inside `body`
            kind = "body"
        if not words.strip():
            start = line
        if kind == "end":
            statements.append(_statement(start, raw, words, inner))
            raw, words, inner = "", "", []
        else:
            raw += written
            if kind == "body":
                body = written[len(lexeme["tag"]) + 2 : -len(lexeme["tag"]) - 2]
                inner += read_statements(body, line)
                words += "$$"
            elif kind == "string":
                if re.search(r"\bexecute\s+(format\s*\(\s*)?$", words.lower()):
                    inner += read_statements(written[1:-1].replace("''", "'"), line)
                words += "''" if written == "''" else "'_'"
            elif kind == "identifier":
                words += written.strip('"')
            else:
                words += " " if kind in ("comment", "space") else written
        line += written.count("\n")
    statements.append(_statement(start, raw, words, inner))
    return [statement for statement in statements if statement.text]


def _statement(line: int, raw: str, words: str, inner: list[Statement]) -> Statement:
    return Statement(line=line, raw=raw.strip(), text=" ".join(words.lower().split()), inner=tuple(inner))


def split_statements(sql: str) -> list[str]:
    """The statements of a file as they stand there, without their semicolons."""
    return [statement.raw for statement in read_statements(sql)]


def with_inner(statements: Sequence[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from with_inner(statement.inner)


# -- rules about one statement, wherever it stands: a pattern that must not be found

THEIRS = r"\b(?:auth|storage|realtime)\s?\.\s?\w+"
CHANGES_THEIRS = re.compile(
    rf"\bcreate (?!(?:or replace )?(?:constraint )?(?:policy|trigger)\b)(?:\w+ ){{1,9}}?{THEIRS}"
    rf"|\balter (?:\w+ ){{1,9}}?{THEIRS}"
    rf"|\bdrop (?!policy\b).*{THEIRS}"
    rf"|\b(?:grant|revoke|truncate|comment on|lock|reindex|copy)\b.*{THEIRS}"
    rf"|\b(?:insert into|merge into) (?!storage\s?\.\s?buckets\b){THEIRS}"
    rf"|\b(?:update|delete from) (?:only )?{THEIRS}"
    r"|\bschema (?:if (?:not )?exists )?(?:\w+ ?, ?)*(?:auth|storage|realtime)\b(?!\s?\.)"
)
POSTGRES_18 = re.compile(
    r"\b(?:uuidv4|uuidv7|casefold|array_sort|array_reverse|crc32|crc32c|gamma|lgamma) ?\("
    r"|\bnot enforced\b|\bwithout overlaps\b|\breturning with\b|\breturning\b.*\b(?:old|new) ?\."
    r"|\bgenerated always as \((?!.*\) stored\b)"
)
CHANGES_ROWS = re.compile(r"\bupdate (?:only )?[\w.]+(?: (?:as )?\w+)? set\b|\bdelete from\b")


def problems_of_statement(statement: Statement) -> Iterator[str]:
    if CHANGES_THEIRS.search(statement.text):
        yield (
            "in the schemas auth, storage and realtime a migration may only create or drop policies, create triggers "
            "and insert buckets: all else belongs to Supabase"
        )
    if POSTGRES_18.search(statement.text):
        yield "this is SQL of Postgres 18; hosted projects run 17"
    for change in CHANGES_ROWS.finditer(statement.text):
        if not re.search(r"\bwhere\b", same_level(statement.text[change.end() :])):
            yield "an update or delete without a where clause is refused on hosted projects"


def same_level(text: str) -> str:
    """`text` up to the parenthesis that closes before it was opened, without what stands in parentheses."""
    kept, depth = "", 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
        if depth == 0:
            kept += character
    return kept


# -- rules about functions and tables

CREATES_FUNCTION = re.compile(r"^create (?:or replace )?function (?P<name>[\w.]+)")
CREATES_TABLE = re.compile(r"^create (?:unlogged )?table (?:if not exists )?(?P<name>[\w.]+)")
CLIENT_ROLES = {"public", "anon", "authenticated"}


def problems_of_function(statement: Statement, name: str) -> Iterator[str]:
    if not name.startswith("public."):
        yield f"function {name} has to be named with its schema, public"
    if not re.search(r"_v\d+$", name):
        yield f"function {name} has no version suffix (_v1), so old and new code could not run side by side"
    if not re.search(r"\bset search_path (?:=|to) ''", statement.text):
        yield f"function {name} does not pin its search path (set search_path = '')"


def problems_of_table(statements: Sequence[Statement], name: str) -> Iterator[str]:
    texts = [statement.text for statement in statements]
    if not name.startswith("public."):
        yield f"table {name} has to be named with its schema, public"
    if f"alter table {name} enable row level security" not in texts:
        yield f"table {name} does not enable row level security in the file that creates it"
    if not any(roles >= CLIENT_ROLES for roles in roles_of("revoke all on", name, "from", texts)):
        yield f"table {name} is not revoked from public, anon, authenticated in the file that creates it"
    if not any("service_role" in roles for roles in roles_of("grant", name, "to", texts)):
        yield f"table {name} has no explicit grants in the file that creates it: hosted projects give none by default"


def roles_of(verb: str, table: str, preposition: str, texts: Sequence[str]) -> Iterator[set[str]]:
    """The roles of each grant or revoke that names the table."""
    for text in texts:
        matched = re.fullmatch(rf"{verb}\b(?P<tables>.*) {preposition} (?P<roles>[\w, ]+)", text)
        if matched and re.search(rf"(?:^|[ ,]){re.escape(table)}(?:$|[ ,])", matched["tables"]):
            yield set(matched["roles"].replace(" ", "").split(","))


# -- rules about files


def problems_of_opening(sql: str) -> Iterator[str]:
    opening = re.match(r"(?:--[^\n]*\n)*", sql)
    comment = opening.group() if opening else ""
    if not comment.startswith("-- Purpose: "):
        yield "the file has to open with a comment `-- Purpose: ...`"
    if not re.search(r"^-- Locks: ", comment, re.MULTILINE):
        yield "the opening comment has to say what is locked: `-- Locks: ...`"


def problems_of_name(name: str) -> Iterator[str]:
    matched = re.fullmatch(r"(\d{14})_[a-z0-9_]+\.sql", name)
    if not matched:
        yield "the file has to be named <timestamp>_<name>.sql, 14 digits and lower case"
        return
    try:
        datetime.strptime(matched[1], "%Y%m%d%H%M%S")  # noqa: DTZ007  only whether it is one
    except ValueError:
        yield "the first 14 digits of the name are not a date and time"


def problems_of_policies(statements: Sequence[Statement]) -> Iterator[str]:
    """On hosted projects a policy locks many system tables: alone in a file, and not waiting for long."""
    texts = [statement.text for statement in statements]
    if not any(re.match(r"(?:create|alter|drop) policy\b", text) for text in texts):
        return
    if not any(re.match(r"set (?:local )?lock_timeout\b", text) for text in texts):
        yield "a file with policies has to set lock_timeout first"
    if any(not re.match(r"(?:create|alter|drop) policy\b|set ", text) for text in texts):
        yield "policies have to stand in a file of their own"


def lint_file(name: str, sql: str) -> list[Problem]:
    """All problems of one migration, in the order of their lines."""
    statements = read_statements(sql)
    found = [(1, message) for message in problems_of_name(name)]
    found += [(1, message) for message in problems_of_opening(sql)]
    found += [(1, message) for message in problems_of_policies(statements)]
    for statement in with_inner(statements):
        found += [(statement.line, message) for message in problems_of_statement(statement)]
    for statement in statements:
        if function := CREATES_FUNCTION.match(statement.text):
            found += [(statement.line, message) for message in problems_of_function(statement, function["name"])]
        if table := CREATES_TABLE.match(statement.text):
            found += [(statement.line, message) for message in problems_of_table(statements, table["name"])]
    return sorted(Problem(file=name, line=line, message=message) for line, message in found)


def lint_folder(folder: Path) -> list[Problem]:
    """All problems of a folder of migrations; every file in it counts."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    problems = [problem for file in files for problem in lint_file(file.name, file.read_text())]
    versions = Counter(file.name.partition("_")[0] for file in files)
    problems += [
        Problem(file=file.name, line=1, message="another file has the same timestamp")
        for file in files
        if versions[file.name.partition("_")[0]] > 1
    ]
    return problems


def main() -> None:
    problems = lint_folder(MIGRATIONS)
    for problem in problems:
        print(f"migrations/{problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
