"""One sandbox for all tests of a session, reset before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.running import Neighbour, SandboxClient, SandboxProcess, running_neighbour


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = SandboxProcess(tmp_path_factory.mktemp("sandbox"), "--ready-made")
    yield running.url
    code, _, errors = running.stop()
    assert (code, errors) == (0, "")


@pytest.fixture
def client(sandbox_url: str) -> Iterator[SandboxClient]:
    with SandboxClient(sandbox_url) as client:
        client.reset()
        yield client


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    with running_neighbour() as neighbour:
        yield neighbour
