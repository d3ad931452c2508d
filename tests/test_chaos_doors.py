"""The doors of `make chaos` on real sockets: each fault is what it is called, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from chaos import faults
from chaos.door import Canary, Door
from chaos.faults import Fault, Moment
from chaos.script import Cue, Deed, OneCue
from tests.sandbox.running import PICTURE, Neighbour, running_neighbour

PATH = "/a.png"
KIND = f"GET {PATH}"


class Doorway:
    """A door before a small server, and what happened at it."""

    def __init__(self, neighbour: Neighbour, canary: Canary) -> None:
        self.neighbour = neighbour
        self.canary = canary
        self.kills: list[bool] = []  #: for each kill whether the server had been asked by then
        self.script = OneCue(cue=None, kill=self._kill)
        self.door = Door(neighbour.url, script=self.script, canary_url=canary.url)

    def cue(self, deed: Deed) -> None:
        self.script.cue = Cue(kind=KIND, number=1, deed=deed)

    def _kill(self) -> None:
        self.kills.append(self.script.log[-1].status is not None)

    async def fetch(self, timeout_s: float = 5) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.door.url, trust_env=False, timeout=timeout_s) as client:
            return await client.get(PATH)


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    with running_neighbour() as running:
        yield running


@pytest.fixture
async def doorway(neighbour: Neighbour) -> AsyncIterator[Doorway]:
    canary = Canary()
    await canary.open()
    doorway = Doorway(neighbour, canary)
    await doorway.door.open()
    yield doorway
    await doorway.door.close()
    canary.close()


async def test_an_open_door_lets_everything_through_and_writes_it_down(doorway: Doorway) -> None:
    assert (await doorway.fetch()).content == PICTURE
    [exchange] = doorway.script.log
    assert (exchange.kind, exchange.number, exchange.status, exchange.deed) == (KIND, 1, 200, None)


async def test_only_the_request_that_is_meant_is_struck(doorway: Doorway) -> None:
    doorway.script.cue = Cue(kind=KIND, number=2, deed=Fault.ERROR)
    assert [(await doorway.fetch()).status_code for _ in range(3)] == [200, 500, 200]


async def test_a_body_is_passed_on(doorway: Doorway) -> None:
    async with httpx.AsyncClient(base_url=doorway.door.url, trust_env=False) as client:
        await client.post("/hook", json={"lease": "abc"})
    assert doorway.neighbour.posted == [("/hook", b'{"lease":"abc"}')]
    assert doorway.script.log[0].fields == {"lease": "abc"}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.ERROR, 500),
        (Fault.UNAVAILABLE, 503),
        (Fault.RATE_LIMITED, 429),
        (Fault.ERROR_AFTER, 502),
        (Fault.RUBBISH, 200),
        (Fault.EMPTY, 200),
        (Fault.REDIRECT, 302),
    ],
)
async def test_a_canned_answer_takes_the_place_of_the_servers(doorway: Doorway, fault: Fault, status: int) -> None:
    doorway.cue(fault)
    answer = await doorway.fetch()
    assert answer.status_code == status
    assert answer.content != PICTURE
    was_asked = doorway.script.log[0].status is not None
    assert was_asked == (fault not in faults.NOT_FORWARDED)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST, Fault.CUT, Fault.TRUNCATED])
async def test_a_broken_answer_never_looks_whole(doorway: Doorway, fault: Fault) -> None:
    doorway.cue(fault)
    with pytest.raises(httpx.TransportError):
        await doorway.fetch()
    assert (doorway.script.log[0].status is not None) == (fault is not Fault.RESET)


async def test_a_refusal_lasts_a_while_and_passes(doorway: Doorway) -> None:
    doorway.cue(Fault.REFUSED)
    with pytest.raises(httpx.TransportError):
        await doorway.fetch()
    with pytest.raises(httpx.ConnectError):
        await doorway.fetch()
    await asyncio.sleep(faults.REFUSED_FOR_S + 0.3)
    assert (await doorway.fetch()).content == PICTURE


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
async def test_a_hang_and_a_drip_outlast_the_client(doorway: Doorway, fault: Fault) -> None:
    doorway.cue(fault)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await doorway.fetch()


async def test_a_huge_body_is_as_large_as_it_says(doorway: Doorway) -> None:
    doorway.cue(Fault.HUGE)
    assert len((await doorway.fetch()).content) == faults.HUGE_BYTES


async def test_an_answer_that_comes_twice_is_two_answers_on_one_connection(doorway: Doorway) -> None:
    doorway.cue(Fault.TWICE)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(doorway.door.url.rpartition(":")[2]))
    writer.write(b"GET /a.png HTTP/1.1\r\nhost: x\r\n\r\n")
    answers = b""
    while answers.count(PICTURE) < 2:
        answers += await asyncio.wait_for(reader.read(65_536), 5)
    writer.close()
    assert answers.count(b"200 OK") == 2


async def test_a_replayed_request_reaches_the_server_twice(doorway: Doorway) -> None:
    doorway.script.cue = Cue(kind="POST /hook", number=1, deed=Fault.REPLAYED)
    async with httpx.AsyncClient(base_url=doorway.door.url, trust_env=False) as client:
        assert (await client.post("/hook", content=b"x")).status_code == 200
    assert len(doorway.neighbour.posted) == 2


@pytest.mark.parametrize(("moment", "was_asked"), [(Moment.BEFORE, False), (Moment.UNANSWERED, True)])
async def test_a_kill_comes_in_its_moment(doorway: Doorway, moment: Moment, was_asked: bool) -> None:
    doorway.cue(moment)
    with pytest.raises(httpx.TransportError):
        await doorway.fetch()
    assert doorway.kills == [was_asked]


async def test_a_kill_after_the_answer_lets_the_answer_out(doorway: Doorway) -> None:
    doorway.cue(Moment.ANSWERED)
    assert (await doorway.fetch()).content == PICTURE
    assert doorway.kills == [True]


async def test_the_canary_counts_visits(doorway: Doorway) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(doorway.canary.url)
    assert doorway.canary.visits == 1
