"""Two connections that want the same rows, in an order that the test decides; and many that start together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from tests.sql.database import Database

Result = TypeVar("Result")
Action = Callable[[Database], Any]


def overtake(first: tuple[Database, Action], second: tuple[Database, Action]) -> tuple[Any, Any]:
    """Run both so that `second` begins when `first` has done its work but has not committed it.

    Returns what each returned or raised. `second` either waits for a lock of `first`'s and goes on when that commits,
    or is through before. No sleep decides anything.
    """
    database, action = first
    other, other_action = second
    with ThreadPoolExecutor(1) as thread:
        with database.connection.transaction():
            first_outcome = outcome_of(database, action)
            future = thread.submit(outcome_of, other, other_action)
            wait_until_blocked_or_done(database, other, future)
        return first_outcome, future.result()


def wait_until_blocked_or_done(observer: Database, other: Database, future: Future[Any]) -> None:
    pid = other.connection.info.backend_pid
    while not future.done() and not observer.value("select cardinality(pg_blocking_pids(%s)) > 0", pid):
        pass


def outcome_of(database: Database, action: Action) -> Any:
    """What it returned, or the exception that it raised, after which the connection is still good."""
    try:
        with database.connection.transaction():
            return action(database)
    except Exception as error:
        return error


def all_at_once(databases: Sequence[Database], action: Callable[[int, Database], Result]) -> list[Result]:
    """Run `action(number, database)` on each connection in a thread of its own, all starting together."""
    starting_line = threading.Barrier(len(databases))

    def start(number: int, database: Database) -> Result:
        starting_line.wait()
        return action(number, database)

    with ThreadPoolExecutor(len(databases)) as threads:
        return list(threads.map(start, range(len(databases)), databases))
