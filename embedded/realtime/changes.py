"""Tells subscribers about row changes, in the order of the commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from embedded.database import Pool
from embedded.realtime.channels import Channel, ChannelRegistry
from embedded.realtime.frames import Version, text_frame, to_json
from embedded.realtime.pgoutput import Action, Relation, Row, RowChange
from embedded.realtime.tables import Table, TableCache
from embedded.realtime.visibility import Audience, Subscriber, choose_receivers

MAX_CHANGE_BYTES = 1024 * 1024  # of a change's values as text; of a larger change only small values are told
MAX_VALUE_BYTES_WHEN_TOO_LARGE = 64
TOO_LARGE = "Error 413: Payload Too Large"

JsonRow = dict[str, str]  #: column name -> JSON text
#: What a change's message says under `data`, as JSON text, and to whom.
Message = tuple[str, Sequence[Subscriber]]


class ChangeAnnouncer:
    def __init__(self, pool: Pool, registry: ChannelRegistry) -> None:
        self._pool = pool
        self._registry = registry
        self._tables = TableCache(pool)

    async def announce(self, changes: Sequence[RowChange]) -> None:
        """Queue the messages about a batch of changes at the connections of whom they concern.

        Raises:
            psycopg.Error: Postgres does not answer, or not as expected; somebody may have missed something.
        """
        subscribers = [
            Subscriber(channel, subscription) for channel in self._registry for subscription in channel.subscriptions
        ]
        audiences_of: defaultdict[Relation, list[Audience]] = defaultdict(list)
        audiences: list[Audience] = []
        for change in changes:
            candidates = _candidates(subscribers, change)
            if candidates:
                audience = Audience(change=change, candidates=candidates)
                audiences.append(audience)
                audiences_of[change.relation].append(audience)
        messages: dict[int, list[Message]] = {}
        for relation, related in audiences_of.items():
            table = await self._tables.table_of(relation)
            await choose_receivers(self._pool, table, related)
            messages |= await self._compose(table, related)
        for audience in audiences:
            for data, receivers in messages[id(audience)]:
                self._send(data, receivers)

    async def _compose(self, table: Table, audiences: Sequence[Audience]) -> dict[int, list[Message]]:
        """The messages of each audience, by its `id`."""
        told = [audience for audience in audiences if audience.receivers]
        new_rows = await table.as_json(
            self._pool, [audience.row for audience in told if audience.change.new is not None]
        )
        old_rows = await table.as_json(self._pool, [audience.change.old or {} for audience in told])
        news, olds = iter(new_rows), iter(old_rows)
        messages: dict[int, list[Message]] = {}
        for audience in audiences:
            change = audience.change
            messages[id(audience)] = [
                (_data(table, change, errors=[error]), receivers) for error, receivers in audience.refused
            ]
            if not audience.receivers:
                continue
            new = next(news) if change.new is not None else None
            old = next(olds)
            groups: defaultdict[tuple[str, tuple[str, ...] | None], list[Subscriber]] = defaultdict(list)
            for subscriber in audience.receivers:
                groups[subscriber.role, subscriber.subscription.selected].append(subscriber)
            for (role, selected), receivers in groups.items():
                columns = await self._told_columns(table, role, selected)
                messages[id(audience)].append((_data(table, change, columns=columns, new=new, old=old), receivers))
        return messages

    async def _told_columns(self, table: Table, role: str, selected: tuple[str, ...] | None) -> set[str]:
        readable = await table.readable_columns(self._pool, role)
        key = {column.name for column in table.key}
        return {name for name in readable if selected is None or name in selected or name in key}

    def _send(self, data: str, receivers: Iterable[Subscriber]) -> None:
        """One message for each channel, with the ids of all its subscriptions that the change concerns."""
        ids_of: defaultdict[Channel, list[int]] = defaultdict(list)
        for receiver in receivers:
            ids = ids_of[receiver.channel]
            if receiver.subscription.id not in ids:
                ids.append(receiver.subscription.id)
        frames: dict[tuple[Version, str, tuple[int, ...]], str] = {}
        for channel, ids in ids_of.items():
            if channel not in self._registry:
                continue
            version = channel.connection.version
            key = version, channel.topic, tuple(ids)
            if key not in frames:
                payload = f'{{"ids":{to_json(ids)},"data":{data}}}'
                frames[key] = text_frame(version, topic=channel.topic, event="postgres_changes", payload=payload)
            channel.connection.send(frames[key])


def _candidates(subscribers: Iterable[Subscriber], change: RowChange) -> list[Subscriber]:
    schema, table = change.relation.schema, change.relation.table
    return [subscriber for subscriber in subscribers if subscriber.subscription.wants(change.action, schema, table)]


def _data(
    table: Table,
    change: RowChange,
    *,
    errors: Sequence[str] | None = None,
    columns: set[str] | None = None,
    new: JsonRow | None = None,
    old: JsonRow | None = None,
) -> str:
    """The `data` of a message, as JSON text. Without `columns` it only says that there was a change."""
    columns = columns or set()
    is_too_large = _size(change.new) + _size(change.old) > MAX_CHANGE_BYTES
    fields = {
        "schema": to_json(table.schema),
        "table": to_json(table.name),
        "type": to_json(change.action.value),
        "commit_timestamp": to_json(_timestamp(change.committed_at)),
        "columns": table.columns_json(columns),
        "errors": to_json([TOO_LARGE] if errors is None and is_too_large else errors),
    }
    if errors is None and new is not None:
        fields["record"] = _record(new, columns, is_too_large)
    if errors is None and old is not None and change.action is not Action.INSERT:
        if change.action is Action.DELETE and table.has_policies:
            # Nobody can be asked whether he might have seen the row, so only its key is told.
            columns = columns & {column.name for column in table.key}
        fields["old_record"] = _record(old, columns, is_too_large)
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _record(row: JsonRow, columns: set[str], is_too_large: bool) -> str:
    return "{" + ",".join(_told_values(row, columns, is_too_large)) + "}"


def _told_values(row: JsonRow, columns: set[str], is_too_large: bool) -> Iterator[str]:
    for name, value in row.items():
        if name in columns and not (is_too_large and len(value.encode()) > MAX_VALUE_BYTES_WHEN_TOO_LARGE):
            yield f"{to_json(name)}:{value}"


def _size(row: Row | None) -> int:
    return sum(len(value) for value in (row or {}).values() if value is not None)


def _timestamp(moment: datetime) -> str:
    """Milliseconds, UTC: 2026-11-20T07:00:00.123Z"""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
