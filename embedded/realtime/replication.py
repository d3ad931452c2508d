"""Row changes as they are committed: logical decoding over the replication protocol, on a temporary slot.

The slot is gone with its connection, so an abandoned one never holds back the write-ahead log. Changes are pushed
by Postgres; an idle stream costs nothing.
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import pq, sql

from embedded.realtime.pgoutput import POSTGRES_EPOCH, Commit, Decoder, RowChange

MAX_BATCH_CHANGES = 256  # one batch costs a few queries; more changes wait in Postgres, not in our memory
MAX_BATCH_BYTES = 4 * 1024 * 1024
SLOT_TRIES = 100
SLOT_RETRY_S = 0.03  # so all tries together take some three seconds, besides waiting for long transactions


class StreamLostError(Exception):
    """The connection to Postgres ended; changes from now on are not seen."""


@asynccontextmanager
async def open_stream(dsn: str, publications: Sequence[str]) -> AsyncIterator[ReplicationStream]:
    """Changes of the publications' tables from now on. `dsn` needs the right to replicate.

    Opening waits for the transactions that are running: Postgres can only start between them.

    Raises:
        psycopg.Error: Postgres does not answer, or refuses.
    """
    connection = await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, replication="database", application_name="realtime"
    )
    try:
        slot = await _create_slot(connection)
        names = sql.SQL(", ").join(map(sql.Identifier, publications)).as_string(connection)
        stream = ReplicationStream(connection)
        await stream.start(
            sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})").format(
                slot, sql.Literal(names)
            )
        )
        yield stream
    finally:
        await connection.close()


async def _create_slot(connection: psycopg.AsyncConnection[Any]) -> sql.Identifier:
    """A temporary slot, made while no transaction ran.

    Otherwise Postgres makes it in phases, and in the first of them overlooks the commits that change its catalog: a
    table that was published at that moment would stay unpublished for this slot (pgsql-hackers, "Historic snapshot
    doesn't track txns committed in BUILDING_SNAPSHOT state"; still so in 18). Where transactions never pause, the
    last try counts: they are hardly all migrations.
    """
    for remaining in reversed(range(SLOT_TRIES)):
        slot = sql.Identifier(f"realtime_{uuid.uuid4().hex}")
        before = await _running_transactions(connection)
        await connection.execute(
            sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT").format(slot)
        )
        if not remaining or await _running_transactions(connection) == before:
            break
        await connection.execute(sql.SQL("DROP_REPLICATION_SLOT {}").format(slot))
        await asyncio.sleep(SLOT_RETRY_S)
    return slot


async def _running_transactions(connection: psycopg.AsyncConnection[Any]) -> Any:
    """Changes whenever a transaction that writes ends."""
    cursor = await connection.execute("select pg_current_snapshot()::text")
    return await cursor.fetchone()


class ReplicationStream:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._decoder = Decoder()

    async def start(self, command: sql.Composed) -> None:
        # psycopg's own cursors refuse COPY BOTH, so from here on libpq is spoken to directly.
        self._pgconn.send_query(command.as_bytes(self._connection))
        self._pgconn.flush()
        while self._pgconn.is_busy():
            await self._wait_for_data()
        result = self._pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise psycopg.OperationalError(self._pgconn.get_error_message())

    async def batches(self) -> AsyncIterator[list[RowChange]]:
        """Changes in the order of their commits. Those that wait are handed over together, so a slow reader gets
        larger batches, never more than `MAX_BATCH_CHANGES`.

        Raises:
            StreamLostError: The connection ended.
        """
        batch: list[RowChange] = []
        batch_bytes = 0
        committed = confirmed = 0
        while True:
            size, data = self._pgconn.get_copy_data(1)
            if size < 0:
                raise StreamLostError(self._pgconn.get_error_message())
            if size > 0:
                message = bytes(data)
                if message[:1] == b"k":
                    wal_end, _, reply_wanted = struct.unpack_from(">QQ?", message, 1)
                    if reply_wanted:
                        # Nothing is held back between two messages, so all before this one is done with.
                        self._confirm(wal_end if not batch else committed)
                    continue
                change = self._decoder.decode(message[25:])  # after the header of XLogData
                if isinstance(change, Commit):
                    committed = change.end
                elif change is not None:
                    batch.append(change)
                    batch_bytes += size
                if len(batch) < MAX_BATCH_CHANGES and batch_bytes < MAX_BATCH_BYTES:
                    continue
            if batch:
                yield batch
                batch, batch_bytes = [], 0
            if committed > confirmed:
                self._confirm(committed)
                confirmed = committed
            if size == 0:
                await self._wait_for_data()

    async def _wait_for_data(self) -> None:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pgconn.socket, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(self._pgconn.socket)
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError as error:
            raise StreamLostError(str(error)) from error

    def _confirm(self, position: int) -> None:
        """Tell Postgres how far we are, so that it can drop older log."""
        now = int((time.time() - POSTGRES_EPOCH.timestamp()) * 1_000_000)
        try:
            self._pgconn.put_copy_data(struct.pack(">cQQQQ?", b"r", position, position, position, now, False))
            self._pgconn.flush()
        except psycopg.OperationalError as error:
            raise StreamLostError(str(error)) from error


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
