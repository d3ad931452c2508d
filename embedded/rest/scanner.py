"""Reads one query parameter from left to right, with the pieces that PostgREST's grammar is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from embedded.rest.errors import parse_error
from embedded.rest.query import Field, JsonStep


class Scanner:
    """A position in a text. Whatever does not fit ends in PostgREST's error PGRST100."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.position = 0
        self._what = what  # e.g. `failed to parse filter (eq.5)`

    def fail(self, details: str) -> NoReturn:
        raise parse_error(self._what, self.position + 1, details)

    def fail_expecting(self, expected: str) -> NoReturn:
        found = f"unexpected {self.text[self.position]!r}" if not self.at_end() else "unexpected end of input"
        self.fail(f"{found} expecting {expected}".replace("'", '"'))

    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def comes(self, wanted: str) -> bool:
        return self.text.startswith(wanted, self.position)

    def take(self, wanted: str) -> bool:
        """Step over `wanted` when it comes next."""
        if not self.comes(wanted):
            return False
        self.position += len(wanted)
        return True

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            self.fail_expecting(f'"{wanted}"')

    def expect_end(self) -> None:
        if not self.at_end():
            self.fail_expecting("end of input")

    def take_until(self, stops: str) -> str:
        start = self.position
        while not self.at_end() and self.text[self.position] not in stops:
            self.position += 1
        return self.text[start : self.position]

    def take_rest(self) -> str:
        start, self.position = self.position, len(self.text)
        return self.text[start:]

    def skip_spaces(self) -> None:
        while self.comes(" ") or self.comes("\t"):
            self.position += 1

    def quoted(self) -> str:
        """`"..."`, in which a backslash takes the next character as it is."""
        self.expect('"')
        characters = []
        while not self.take('"'):
            self.take("\\")
            if self.at_end():
                self.fail_expecting('"\\""')
            characters.append(self.text[self.position])
            self.position += 1
        return "".join(characters)

    def name(self) -> str:
        """A column, table, function or alias: letters, digits, `_`, `$`, spaces and inner dashes, or quoted."""
        self.skip_spaces()
        if self.comes('"'):
            name = self.quoted()
        else:
            name = self._dashed(lambda character: character.isalnum() or character in "_ $").strip(" ")
        if not name or "\0" in name:
            self.fail_expecting("field name (* or [a..z0..9_$])")
        return name

    def field(self) -> Field:
        name = self.name()
        return Field(name=name, json_path=self.json_path())

    def json_path(self) -> tuple[JsonStep, ...]:
        steps = []
        while self.comes("->"):
            self.position += 2
            text = self.take(">")
            steps.append(JsonStep(arrow="->>" if text else "->", key=self._json_key()))
        return tuple(steps)

    def identifier(self) -> str:
        """A type or text search configuration: only letters, digits, `_`, `$` and spaces, safe to stand in SQL."""
        start = self.position
        while not self.at_end() and (self.text[self.position].isalnum() or self.text[self.position] in "_ $"):
            self.position += 1
        name = self.text[start : self.position].strip(" ")
        if not name or not name.isascii() or not (name[0].isalpha() or name[0] == "_"):
            self.position = start
            self.fail_expecting("letter or digit")
        return name

    def _json_key(self) -> str | int:
        if self.comes('"'):
            return self.quoted()
        start = self.position
        self.take("-")
        digits = self.take_while_digit()
        ends_here = self.at_end() or any(self.comes(stop) for stop in ("->", "::", ".", ",", ")"))
        if digits and ends_here:
            return int(self.text[start : self.position])
        self.position = start
        key = self._dashed(lambda character: character not in '(-:.,>)"')
        if not key:
            self.fail_expecting("letter, digit or quoted value")
        return key

    def take_while_digit(self) -> str:
        start = self.position
        while not self.at_end() and self.text[self.position] in "0123456789":
            self.position += 1
        return self.text[start : self.position]

    def _dashed(self, belongs: Callable[[str], bool]) -> str:
        start = self.position
        while not self.at_end():
            is_dash = self.comes("-") and not self.comes("->")
            if not is_dash and not belongs(self.text[self.position]):
                break
            self.position += 1
        return self.text[start : self.position]
