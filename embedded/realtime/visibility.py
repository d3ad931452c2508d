"""Who may hear of a row change: subscribers whose filters let the row through and whose claims may see it.

A batch of changes of one table costs one query per distinct claims (row level security) and one per distinct filter
that Postgres must decide, however many changes and subscribers there are.
Rules: supabase/realtime, function `realtime.apply_rls` (lib/realtime/tenants/repo/migrations, read 2026-11-20).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from embedded.database import Pool
from embedded.identity import Claims
from embedded.realtime.channels import Channel
from embedded.realtime.filters import Filter, matching
from embedded.realtime.pgoutput import Action, Row, RowChange
from embedded.realtime.subscriptions import Subscription
from embedded.realtime.tables import Table

logger = logging.getLogger(__name__)

NO_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"
POLICY_FAILED = "Error 500: Internal Server Error, RLS policy evaluation failed"

VISIBILITY_POLL_S = 0.001  # it is hardly ever needed, and then once

#: The stream tells the low 32 bits of a transaction's id: the id meant is the nearest one to the newest.
_ALL_VISIBLE = """
with snapshot as (select pg_current_snapshot() as now),
newest as (select pg_snapshot_xmax(now)::text::bigint as id from snapshot)
select bool_and(pg_visible_in_snapshot(
  (newest.id + ((low - newest.id + 2147483648) & x'ffffffff'::bigint) - 2147483648)::text::xid8, snapshot.now
))
from snapshot, newest, unnest(%s::bigint[]) as low
"""


@dataclass(frozen=True, slots=True, eq=False)
class Subscriber:
    channel: Channel
    subscription: Subscription

    @property
    def role(self) -> str:
        return self.channel.claims.role


@dataclass(slots=True, kw_only=True)
class Audience:
    """One change, and who shall hear what of it."""

    change: RowChange
    candidates: list[Subscriber]  #: all who asked for such changes of the table
    receivers: list[Subscriber] = field(default_factory=list)  #: those who are told the row
    #: Those who are told only that there was a change, and why not more.
    refused: list[tuple[str, list[Subscriber]]] = field(default_factory=list)

    @property
    def row(self) -> Row:
        """The row that filters are compared with. Values that an UPDATE left alone come from the old row."""
        return {**(self.change.old or {}), **(self.change.new or {})}


async def choose_receivers(pool: Pool, table: Table, audiences: Sequence[Audience]) -> None:
    """Fill in `receivers` and `refused` of changes that are all of `table`.

    Raises:
        psycopg.OperationalError: Postgres does not answer.
    """
    roles = {subscriber.role for audience in audiences for subscriber in audience.candidates}
    blind_roles = {role for role in roles if not await _may_select_key(pool, table, role)}
    let_through = await _FilterDecisions.make(pool, table, audiences)
    for position, audience in enumerate(audiences):
        refused: defaultdict[str, list[Subscriber]] = defaultdict(list)
        for subscriber in audience.candidates:
            if audience.change.action is not Action.DELETE and not table.key:
                refused[NO_KEY].append(subscriber)
            elif audience.change.action is not Action.DELETE and subscriber.role in blind_roles:
                refused[UNAUTHORIZED].append(subscriber)
            elif let_through.all_of(subscriber.subscription, position):
                audience.receivers.append(subscriber)
        audience.refused += refused.items()
    if table.has_policies:
        await _apply_policies(pool, table, audiences)


async def _may_select_key(pool: Pool, table: Table, role: str) -> bool:
    readable = await table.readable_columns(pool, role)
    return all(column.name in readable for column in table.key)


class _FilterDecisions:
    """Which filters let which of some changes through."""

    def __init__(self, table: Table, rows: list[Row]) -> None:
        self._table = table
        self._rows = rows
        self._asked: dict[Filter, list[bool]] = {}  # one answer per row

    @classmethod
    async def make(cls, pool: Pool, table: Table, audiences: Sequence[Audience]) -> _FilterDecisions:
        decisions = cls(table, [audience.row for audience in audiences])
        subscriptions = {subscriber.subscription: None for audience in audiences for subscriber in audience.candidates}
        for subscription in subscriptions:
            for condition in subscription.filters:
                if condition not in decisions._asked and decisions._needs_query(subscription, condition):
                    decisions._asked[condition] = await decisions._ask(pool, condition)
        return decisions

    def all_of(self, subscription: Subscription, position: int) -> bool:
        """Whether every filter of a subscription lets through the row at `position`."""
        return all(self._lets_through(subscription, condition, position) for condition in subscription.filters)

    def _lets_through(self, subscription: Subscription, condition: Filter, position: int) -> bool:
        row = self._rows[position]
        column = self._table.columns.get(condition.column)
        if column is None or column.name not in row:
            return False  # of a deleted row only the key is known
        decision = subscription.let_through_in_process(condition, column, row[column.name])
        return self._asked[condition][position] if decision is None else decision

    def _needs_query(self, subscription: Subscription, condition: Filter) -> bool:
        column = self._table.columns.get(condition.column)
        return column is not None and subscription.let_through_in_process(condition, column, "") is None

    async def _ask(self, pool: Pool, condition: Filter) -> list[bool]:
        values = [row.get(condition.column) for row in self._rows]
        try:
            return await matching(pool, condition, self._table.columns[condition.column].type_sql, values)
        except (psycopg.ProgrammingError, psycopg.DataError) as error:  # the column's type has changed, say
            logger.warning("realtime.filter_failed", extra={"table": self._table.name, "error": str(error)})
            return [False] * len(values)


async def _wait_until_visible(pool: Pool, transactions: set[int]) -> None:
    """Wait until queries see these transactions. A commit is streamed a moment before others can see it."""
    async with pool.connection() as connection:
        while True:
            cursor = await connection.execute(_ALL_VISIBLE, [list(transactions)])
            if await cursor.fetchone() == (True,):
                return
            await asyncio.sleep(VISIBILITY_POLL_S)


async def _apply_policies(pool: Pool, table: Table, audiences: Sequence[Audience]) -> None:
    """Take out the receivers whose claims do not find the row now. A DELETE cannot be checked: it goes to all."""
    claims_of: dict[str, Claims] = {}
    questions: defaultdict[str, list[Audience]] = defaultdict(list)
    await _wait_until_visible(pool, {audience.change.transaction for audience in audiences})
    for audience in audiences:
        if audience.change.action is Action.DELETE:
            continue
        asking = {_claims_key(one.channel.claims): one.channel.claims for one in audience.receivers}
        claims_of |= asking
        for key in asking:
            questions[key].append(audience)

    async def ask(key: str) -> dict[int, bool | None]:
        asked = questions[key]
        answers = await _visible(pool, table, claims_of[key], [audience.row for audience in asked])
        return {id(audience): answer for audience, answer in zip(asked, answers, strict=True)}

    answers = dict(zip(questions, await asyncio.gather(*map(ask, questions)), strict=True))
    for audience in audiences:
        if audience.change.action is Action.DELETE:
            continue
        judged = [(one, answers[_claims_key(one.channel.claims)][id(audience)]) for one in audience.receivers]
        audience.receivers = [subscriber for subscriber, visible in judged if visible]
        failed = [subscriber for subscriber, visible in judged if visible is None]
        if failed:
            audience.refused.append((POLICY_FAILED, failed))


async def _visible(pool: Pool, table: Table, claims: Claims, rows: list[Row]) -> list[bool | None]:
    """Which rows the claims find; None where a policy failed."""
    try:
        return list(await table.visible_rows(pool, claims, rows))
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled):
            raise
        if len(rows) == 1:
            logger.warning("realtime.policy_failed", extra={"table": table.name, "error": str(error)})
            return [None]
    # One row's trouble is not the others'.
    return [answer for row in rows for answer in await _visible(pool, table, claims, [row])]


def _claims_key(claims: Claims) -> str:
    """Equal for claims that policies cannot tell apart."""
    return claims.role + json.dumps(dict(claims.raw), sort_keys=True)
