"""Reads `pgoutput`, the messages of Postgres' built-in logical decoding plugin, protocol version 1.

Format: https://www.postgresql.org/docs/18/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

#: A row as Postgres prints it: column name -> text, or None for NULL. A large value that an UPDATE left as it
#: was ("unchanged TOAST") is missing.
Row = dict[str, str | None]


class Action(StrEnum):
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relation:
    """A table as the stream describes it. It is described anew, as a new object, after every change of the
    table, its columns, its grants or its row level security, before the next row of it."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: frozenset[str]  #: columns that old rows carry: the primary key, or all with `replica identity full`


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    action: Action
    relation: Relation
    new: Row | None  #: None for DELETE
    old: Row | None  #: the identity columns; None for INSERT
    transaction: int  #: the low 32 bits of its id
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    end: int  #: position in the write-ahead log after this transaction


class Decoder:
    """Turns the messages of one replication connection into row changes, in the order of their commits."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at = POSTGRES_EPOCH
        self._transaction = 0

    def decode(self, message: bytes) -> RowChange | Commit | None:
        """One message; None for those that say nothing about a row, TRUNCATE among them."""
        match message[:1]:
            case b"B":
                microseconds, self._transaction = struct.unpack_from(">qI", message, 9)
                self._committed_at = POSTGRES_EPOCH + timedelta(microseconds=microseconds)
            case b"R":
                relation = _relation(message)
                self._relations[relation.oid] = relation
            case b"I":
                return self._row_change(Action.INSERT, message)
            case b"U":
                return self._row_change(Action.UPDATE, message)
            case b"D":
                return self._row_change(Action.DELETE, message)
            case b"C":
                (end,) = struct.unpack_from(">Q", message, 10)
                return Commit(end=end)
        return None

    def _row_change(self, action: Action, message: bytes) -> RowChange:
        (oid,) = struct.unpack_from(">I", message, 1)
        relation = self._relations[oid]
        new: Row | None = None
        old: Row | None = None
        position = 5
        while position < len(message):
            kind = message[position : position + 1]
            row, position = _row(relation, message, position + 1)
            if kind == b"N":
                new = row
            else:
                # 'K' carries the identity alone but lists the other columns too, as nulls; 'O' carries all.
                old = {column: row[column] for column in row if kind == b"O" or column in relation.identity}
        if action is Action.UPDATE and old is None and new is not None:
            # The identity is only sent when it has changed.
            old = {column: new[column] for column in relation.columns if column in relation.identity and column in new}
        return RowChange(
            action=action,
            relation=relation,
            new=new,
            old=old,
            transaction=self._transaction,
            committed_at=self._committed_at,
        )


def _relation(message: bytes) -> Relation:
    (oid,) = struct.unpack_from(">I", message, 1)
    schema, position = _string(message, 5)
    table, position = _string(message, position)
    (count,) = struct.unpack_from(">H", message, position + 1)  # after one byte of replica identity
    position += 3
    columns: list[str] = []
    identity: list[str] = []
    for _ in range(count):
        in_identity = message[position] & 1
        column, position = _string(message, position + 1)
        position += 8  # type oid and modifier
        columns.append(column)
        if in_identity:
            identity.append(column)
    return Relation(oid=oid, schema=schema, table=table, columns=tuple(columns), identity=frozenset(identity))


def _row(relation: Relation, message: bytes, position: int) -> tuple[Row, int]:
    (count,) = struct.unpack_from(">H", message, position)
    position += 2
    row: Row = {}
    for column in relation.columns[:count]:
        kind = message[position : position + 1]
        position += 1
        if kind == b"t":
            (length,) = struct.unpack_from(">I", message, position)
            position += 4
            row[column] = message[position : position + length].decode()
            position += length
        elif kind == b"n":
            row[column] = None
    return row, position


def _string(message: bytes, position: int) -> tuple[str, int]:
    end = message.index(0, position)
    return message[position:end].decode(), end + 1
