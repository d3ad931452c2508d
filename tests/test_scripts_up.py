"""`make up` and `make down` as a newcomer meets them: one folder, started, killed and stopped in every way."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import pytest

from scripts.environment import Given, OperatorError
from scripts.sandbox_reach import check_sandbox_may_fetch
from tests.scripts_support import (
    ROOT,
    Command,
    eventually,
    processes_in,
    run,
    service_process,
    wait_until_ready,
)
from tests.stack import RunningStack, start_stack

LABELS = ["Stone — Classic", "Velvet — Boutique", "Marble — Editorial", "Charcoal — Dramatic"]
GONE_WITHIN_S = 15.0  # what a killed supervisor's guard may take


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "vitrine"


@pytest.fixture(scope="module")
def vitrine(data: Path) -> Iterator[Command]:
    """The first start on an empty folder; the tests below share it, in their order."""
    command = Command.start("scripts.up", "--data", str(data))
    yield command
    if command.process.poll() is None:
        command.stop()


@pytest.fixture(scope="module")
def ready(vitrine: Command, data: Path) -> dict[str, Any]:
    return wait_until_ready(vitrine, data)


@pytest.fixture
def start_in() -> Iterator[Callable[..., Command]]:
    """Starts `make up` in a folder; what still runs at the end of the test is stopped."""
    commands = []

    def start(folder: Path, **environment: str) -> Command:
        command = Command.start("scripts.up", "--data", str(folder), **environment)
        commands.append(command)
        return command

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.stop()
        command.wait()


def api_key(data: Path) -> str:
    return (data / "api_key").read_text()


def test_the_first_start_ends_with_four_pictures_and_where_everything_is(
    vitrine: Command, ready: dict[str, Any], data: Path
) -> None:
    vitrine.wait_for_line("Vitrine is ready.")
    block = vitrine.output.partition("Sample ring, from one photograph:")[2]
    for label in [*LABELS, "Cut-out"]:
        [address] = re.findall(rf"^  {label} +(http\S+)$", block, flags=re.MULTILINE)
        assert httpx.get(address).content.startswith(b"\x89PNG")
    assert f"{ready['api_url']}/docs" in block
    assert httpx.get(ready["docs_url"]).status_code == 200
    assert ready["supabase_url"] in block
    assert ready["publishable_key"] in block
    assert api_key(data) in block
    assert all(f"✓ {label}" in vitrine.output for label in ["Cut-out", *LABELS])


def test_the_api_key_is_the_owners_and_is_needed_to_write(ready: dict[str, Any], data: Path) -> None:
    assert stat.S_IMODE((data / "api_key").stat().st_mode) == 0o600
    url = f"{ready['api_url']}/process"
    assert httpx.post(url, files={"file": b"x"}).status_code == 401
    assert httpx.post(url, files={"file": b"x"}, headers={"X-API-Key": api_key(data)}).status_code == 415


def test_a_second_start_says_where_the_first_one_is(ready: dict[str, Any], data: Path) -> None:
    code, output = run("scripts.up", "--data", str(data))
    assert code == 1
    assert output.startswith("Vitrine is already running here")
    assert ready["api_url"] in output
    assert ready["supabase_url"] in output


def test_the_printed_snippet_watches_a_run_that_survives_the_workers_death(
    vitrine: Command, ready: dict[str, Any], data: Path
) -> None:
    """supabase-js, as printed, sees the run end that a killed worker had begun and its successor finished."""
    snippet = vitrine.output.partition("import { createClient }")[2].partition("\n\n")[0]
    program = "import { createClient }" + snippet.replace(".subscribe()", ".subscribe((s) => console.log(s))")
    watcher = subprocess.Popen(
        ["node", "--input-type=module", "--eval", program],
        cwd=ROOT / "tests" / "js",
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    assert watcher.stdout is not None
    try:
        assert watcher.stdout.readline() == "SUBSCRIBED\n"
        worker = service_process(data, service="worker")
        product = f"{ready['api_url']}/process/{ready['sample_product_id']}"
        assert httpx.post(product, headers={"X-API-Key": api_key(data)}).status_code == 202
        read_until(watcher.stdout, "processing ")
        worker.kill()
        read_until(watcher.stdout, "completed ")
    finally:
        os.killpg(watcher.pid, signal.SIGKILL)  # the wheel's `node` is a script with the real one as its child
        watcher.wait()
        watcher.stdout.close()
    assert "! The worker has ended (killed by SIGKILL); it is started again in 0.5 s." in vitrine.output
    assert service_process(data, service="worker").pid != worker.pid


def read_until(stream: IO[str], beginning: str) -> None:
    for line in stream:
        if line.startswith(beginning):
            return
    pytest.fail(f"the stream ended without a line that begins with {beginning!r}")


def test_no_secret_but_the_api_key_is_printed_or_logged(vitrine: Command, ready: dict[str, Any], data: Path) -> None:
    stack_file = (data / "supabase" / "stack.json").read_text()
    secrets = [
        re.search(rf'"{name}": "([^"]+)"', stack_file).group(1)  # type: ignore[union-attr]
        for name in ("secret_key", "jwt_secret", "anon_jwt", "service_role_jwt", "database_url", "superuser_url")
    ]
    logs = "".join(file.read_text() for file in (data / "logs").iterdir())
    for secret in secrets:
        assert secret not in vitrine.output
        assert secret not in logs
    assert api_key(data) not in logs
    assert "token=" not in vitrine.output + logs


def test_down_stops_it_and_waits(vitrine: Command, ready: dict[str, Any], data: Path) -> None:
    assert run("scripts.down", "--data", str(data)) == (0, "Stopping ...\nVitrine has stopped.")
    assert vitrine.wait() == 0
    assert vitrine.lines[-1] == "Vitrine has stopped."
    assert not (data / "ready.json").exists()
    assert processes_in(data) == []
    assert run("scripts.down", "--data", str(data)) == (0, "Vitrine is not running.")


def test_whatever_is_killed_nothing_stays_and_a_new_start_works(data: Path, start_in: Callable[..., Command]) -> None:
    """A supervisor killed with its guard leaves services running, which the next start ends; else the guard does."""
    first = start_in(data)
    addresses = wait_until_ready(first, data)
    [guard] = [child for child in psutil.Process(first.process.pid).children() if "scripts.guard" in child.cmdline()]
    worker = service_process(data, service="worker")
    guard.kill()
    first.process.kill()
    first.process.wait()
    assert worker.is_running()

    second = start_in(data)
    second.wait_for_line("Vitrine is starting.")
    assert not worker.is_running()
    again = wait_until_ready(second, data)
    second.wait_for_line("Vitrine is ready.")
    assert {**again, "pid": 0} == {**addresses, "pid": 0}
    assert "Sample ring, from one photograph:" in second.output
    assert "Making four pictures" not in second.output

    second.process.kill()
    second.process.wait()
    eventually(lambda: processes_in(data) == [], "an end of all processes", within_s=GONE_WITHIN_S)
    assert not (data / "ready.json").exists()
    assert run("scripts.down", "--data", str(data)) == (0, "Vitrine is not running.")


# -- against another Supabase


@pytest.fixture(scope="module")
def other_supabase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    running = start_stack(tmp_path_factory.mktemp("other"))
    yield running
    running.stop()


def test_your_own_supabase_needs_its_tables_first(other_supabase: RunningStack, tmp_path: Path) -> None:
    code, output = run(
        "scripts.up", "--data", str(tmp_path),
        SUPABASE_URL=other_supabase.url, SUPABASE_SERVICE_ROLE_KEY=other_supabase.secret_key,
    )  # fmt: skip
    assert code == 1
    assert "Vitrine cannot start. The database is at schema none" in output
    assert "npx supabase db push" in output
    assert processes_in(tmp_path) == []


def test_your_own_supabase_is_used_in_place_of_the_embedded_one(
    other_supabase: RunningStack, tmp_path: Path, start_in: Callable[..., Command]
) -> None:
    command = start_in(
        tmp_path,
        SUPABASE_URL=other_supabase.url, SUPABASE_SERVICE_ROLE_KEY=other_supabase.secret_key,
        DATABASE_URL=other_supabase.database_url, API_KEY="my-own-api-key",
    )  # fmt: skip
    addresses = wait_until_ready(command, tmp_path)
    assert addresses["supabase_url"] == other_supabase.url
    assert not (tmp_path / "supabase").exists()
    assert command.stop(signal.SIGTERM) == 0
    assert "The sample was not processed: your own Supabase holds only what you put there." in command.output
    assert "my-own-api-key" not in command.output
    assert other_supabase.secret_key not in command.output


def test_half_of_an_own_supabase_is_refused(tmp_path: Path) -> None:
    code, output = run("scripts.up", "--data", str(tmp_path), SUPABASE_URL="https://abc.supabase.co")
    assert code == 1
    assert output.startswith("Vitrine cannot start. SUPABASE_URL is set, but SUPABASE_SERVICE_ROLE_KEY is not.")


def test_a_service_that_cannot_start_ends_the_start_with_its_own_words(
    other_supabase: RunningStack, tmp_path: Path
) -> None:
    code, output = run(
        "scripts.up", "--data", str(tmp_path),
        SUPABASE_URL=other_supabase.url, SUPABASE_SERVICE_ROLE_KEY=other_supabase.secret_key,
        DATABASE_URL=other_supabase.database_url, REVE_API_KEY="k", NANOBANANA_API_KEY="k",
    )  # fmt: skip
    assert code == 1
    assert re.search(
        r"Vitrine cannot start. The (API|worker) did not start \(exit code 1\): Vitrine's \1 cannot start: "
        r"SUPABASE_PUBLIC_URL is not a public address",
        output,
    )
    assert processes_in(tmp_path) == []


async def test_the_sandbox_cannot_stand_in_for_nanobanana_far_away() -> None:
    given = Given(SUPABASE_URL="https://8.8.8.8", SUPABASE_SERVICE_ROLE_KEY="k")
    with pytest.raises(OperatorError, match="NANOBANANA_API_KEY is not set"):
        await check_sandbox_may_fetch(given)
