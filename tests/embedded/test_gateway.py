"""The stack as a process: start, stop, kill, ports, several at once, CORS, and that no key is logged."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from tests.stack import RunningStack, StackStartError, start_stack


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "stack"


def add_row(stack: RunningStack) -> None:
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("create table if not exists kept (id int)")
        connection.execute("insert into kept values (1)")


def count_rows(stack: RunningStack) -> int:
    with psycopg.connect(stack.database_url) as connection:
        return len(connection.execute("select from kept").fetchall())


def test_it_stops_cleanly_and_comes_back_as_it_was(data_dir: Path) -> None:
    first = start_stack(data_dir)
    add_row(first)
    postgres = psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))
    assert first.stop() == 0
    assert not postgres.is_running() or postgres.status() == psutil.STATUS_ZOMBIE
    second = start_stack(data_dir, port=None)
    try:
        assert (second.url, second.secret_key, second.jwt_secret) == (first.url, first.secret_key, first.jwt_secret)
        assert second.database_url == first.database_url
        assert count_rows(second) == 1
    finally:
        assert second.stop() == 0


def test_a_killed_stack_comes_back_with_its_data(data_dir: Path) -> None:
    first = start_stack(data_dir)
    add_row(first)
    first.kill()
    second = start_stack(data_dir, port=None)
    try:
        assert second.url == first.url
        assert count_rows(second) == 1
        assert httpx.get(f"{second.url}/rest/v1/nothing", headers={"apikey": second.secret_key}).status_code == 404
    finally:
        assert second.stop() == 0


def test_two_stacks_run_side_by_side(stack: RunningStack, data_dir: Path) -> None:
    other = start_stack(data_dir)
    try:
        assert other.url != stack.url
        foreign = httpx.get(f"{other.url}/auth/v1/settings", headers={"apikey": stack.publishable_key})
        own = httpx.get(f"{other.url}/auth/v1/settings", headers={"apikey": other.publishable_key})
        assert (foreign.status_code, own.status_code) == (401, 200)
    finally:
        other.stop()


def test_a_folder_serves_one_stack(stack: RunningStack) -> None:
    with pytest.raises(StackStartError, match="Another process is already using"):
        start_stack(stack.data_dir, port=0)
    assert httpx.get(f"{stack.url}/auth/v1/settings", headers={"apikey": stack.publishable_key}).status_code == 200


def test_a_busy_port_is_explained_with_the_way_out(data_dir: Path) -> None:
    first = start_stack(data_dir)
    port = int(first.url.rpartition(":")[2])
    first.stop()
    with socket.socket() as occupier:
        occupier.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupier.bind(("127.0.0.1", port))
        occupier.listen()
        with pytest.raises(StackStartError) as raised:
            start_stack(data_dir, port=None)
        moved = start_stack(data_dir, port=0)
    assert f"Port {port} is taken by another program" in str(raised.value)
    assert "SUPABASE_PUBLIC_URL" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert not moved.url.endswith(f":{port}")
    moved.stop()


def test_it_ends_with_the_process_that_started_it(data_dir: Path) -> None:
    """Otherwise a supervisor that is killed would leave a gateway and a Postgres behind for ever."""
    program = (
        "import sys, pathlib, time; from tests.stack import start_stack; "
        "print(start_stack(pathlib.Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, str(data_dir)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert supervisor.stdout is not None
    gateway = psutil.Process(int(supervisor.stdout.readline()))
    postgres = psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    gone, alive = psutil.wait_procs([gateway, postgres], timeout=30)
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_leaves_nothing_running(data_dir: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "embedded", "--data", str(data_dir), "--port", "0"], stdout=subprocess.DEVNULL
    )
    pid_file = data_dir / "postgres" / "postmaster.pid"
    deadline = time.monotonic() + 30
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(30)
    left = [
        candidate.pid
        for candidate in psutil.process_iter(["name", "cmdline"])
        if str(data_dir) in " ".join(candidate.info["cmdline"] or [])
    ]
    assert left == []


def test_keys_are_made_once_and_readable_by_their_owner_only(stack: RunningStack) -> None:
    for name in ("keys.json", "stack.json"):
        assert (stack.data_dir / name).stat().st_mode & 0o777 == 0o600
    contents = json.loads((stack.data_dir / "stack.json").read_text())
    assert contents.keys() == {
        "url", "database_url", "superuser_url", "publishable_key", "secret_key", "jwt_secret", "anon_jwt",
        "service_role_jwt", "pid",
    }  # fmt: skip
    for kind, key in (("publishable", stack.publishable_key), ("secret", stack.secret_key)):
        prefix, random, checksum = f"sb_{kind}_", key[len(f"sb_{kind}_") : -9], key[-8:]
        assert key == f"{prefix}{random}_{checksum}"
        assert len(random) == 22


def test_only_the_loopback_interface_is_served(stack: RunningStack) -> None:
    process = psutil.Process(stack.pid)
    postgres = psutil.Process(int((stack.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))
    addresses = {
        connection.laddr.ip
        for server in (process, postgres)
        for connection in server.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(
    "path", ["/rest/v1/books", "/auth/v1/token", "/storage/v1/bucket", "/auth/v1/.well-known/jwks.json"]
)
def test_browsers_of_any_origin_may_ask(stack: RunningStack, path: str) -> None:
    preflight = httpx.options(
        stack.url + path,
        headers={
            "Origin": "https://shop.example.org",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "apikey, authorization, x-client-info, prefer",
        },
    )
    plain = httpx.get(stack.url + path, headers={"Origin": "https://shop.example.org"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "prefer" in preflight.headers["access-control-allow-headers"]
    assert plain.headers["access-control-allow-origin"] == "*"


def test_no_key_and_no_token_reaches_a_log(data_dir: Path) -> None:
    stack = start_stack(data_dir)
    token = "eyJhbGciOiJIUzI1NiJ9.e30.not-a-signature"
    try:
        for key in (stack.secret_key, stack.publishable_key, "sb_secret_wrong"):
            for path in ("/rest/v1/x", "/auth/v1/user", "/storage/v1/bucket", "/realtime/v1/websocket"):
                headers = {"apikey": key, "Authorization": f"Bearer {token}"}
                httpx.get(f"{stack.url}{path}", params={"apikey": key}, headers=headers)
        httpx.post(
            f"{stack.url}/auth/v1/signup",
            json={"email": "a@example.org", "password": "a password"},
            headers={"apikey": stack.publishable_key},
        )
        httpx.post(f"{stack.url}/rest/v1/x", json={"a": stack.secret_key}, headers={"apikey": stack.secret_key})
    finally:
        stack.stop()
    logged = stack.log + (data_dir / "postgres" / "server.log").read_text()
    secrets = (stack.secret_key, stack.publishable_key, stack.jwt_secret, stack.anon_jwt, token, "a password")
    assert [secret[:12] for secret in secrets if secret in logged] == []
    password = stack.database_url.partition("postgres:")[2].partition("@")[0]
    assert password
    assert password not in logged
    assert password not in " ".join(os.listdir(data_dir))
