"""The short part of `make chaos`: every sixth crash point and the most telling faults, with all books checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from chaos.cases import Case, crash_points, requests_of
from chaos.door import LEASE_FIELD
from chaos.faults import Fault
from chaos.history import read_history
from chaos.lane import Outcome, open_lane, play_all
from chaos.script import Cue

HEADER = LEASE_FIELD.replace("_", "-")
LANES = 3
EVERY_NTH = 6

#: For each: what goes wrong where it is dearest.
TELLING_FAULTS = (
    ("buy cut-out", 1, Fault.LOST),
    ("buy cut-out", 1, Fault.RATE_LIMITED),
    ("buy scene", 2, Fault.LOST),
    ("buy scene", 3, Fault.RUBBISH),
    ("rpc accept_task", 4, Fault.LOST),
    ("rpc send_call", 1, Fault.LOST),
    ("upload scene", 1, Fault.LOST),
    ("fetch result", 1, Fault.TRUNCATED),
    ("fetch result", 2, Fault.REDIRECT),
    ("rpc complete_run", 1, Fault.LOST),
    ("rpc claim_runs", 1, Fault.LOST),
    ("rpc begin_steps", 2, Fault.TWICE),
    ("rpc finish_call", 1, Fault.RATE_LIMITED),
    ("download photograph", 1, Fault.RUBBISH),
    ("upload scene", 4, Fault.EMPTY),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not one of pytest's: Postgres, which runs as a user of its own under root, has to pass through."""
    with tempfile.TemporaryDirectory(prefix="vitrine-chaos-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def problems(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.case}: {violation}" for outcome in outcomes for violation in outcome.violations]


def ignore(_: Outcome) -> None:
    pass


async def test_a_write_under_a_lease_that_is_lost_goes_down_in_history(folder: Path) -> None:
    """What the doors add to a request arrives in the trigger; the product's own fence is not asked."""
    async with open_lane(folder / "lane") as lane:
        outcome = await lane.play(Case(cue=None))
        assert problems([outcome]) == []
        cursor = await lane.connection.execute("select product_id::text, lease_token::text from runs")
        [run] = await cursor.fetchall()
        for lease in (run["lease_token"], str(uuid4())):
            answer = await lane.http.patch(
                f"{lane.stack.url}/rest/v1/products",
                params={"id": f"eq.{run['product_id']}"},
                json={"title": "late"},
                headers={"apikey": lane.stack.secret_key, HEADER: lease},
            )
            assert answer.status_code == 204, answer.text
        *before, timely, late = await read_history(lane.connection)
        assert [change.is_zombie for change in (timely, late)] == [False, True]
        assert any(change.showed_lease for change in before)


@pytest.mark.timeout(600)
async def test_a_worker_killed_at_any_moment_loses_nothing_and_buys_nothing_twice(folder: Path) -> None:
    async with open_lane(folder / "clean") as lane:
        clean = await lane.play(Case(cue=None))
    assert problems([clean]) == []
    cases = list(crash_points(requests_of(clean.exchanges)))[::EVERY_NTH]
    outcomes = await play_all(folder, cases, lanes=LANES, tell=ignore)
    assert problems(outcomes) == []
    assert len(cases) > 20
    # One that comes by the clock may have come too late to be struck.
    assert sum(outcome.was_struck for outcome in outcomes) >= len(cases) - 2


@pytest.mark.timeout(600)
async def test_a_single_fault_loses_nothing_and_buys_nothing_twice(folder: Path) -> None:
    cases = [Case(cue=Cue(kind=kind, number=number, deed=fault)) for kind, number, fault in TELLING_FAULTS]
    outcomes = await play_all(folder, cases, lanes=LANES, tell=ignore)
    assert problems(outcomes) == []
    assert [str(outcome.case) for outcome in outcomes if not outcome.was_struck] == []
