"""The Postgres server: first start, stop, crash, leftovers; and a database that looks like a hosted project's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded.postgres import PostgresError, PostgresServer
from tests.conftest import PostgresWithTemplates


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Whether it does anything: one that ended may stay listed until its parent asks."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def run(server: PostgresServer, statement: str) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


def value(server: PostgresServer, query: str, user: str = "postgres") -> object:
    with psycopg.connect(server.dsn(user), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("version", [16, 18])
def test_it_starts_from_nothing_and_keeps_its_data(data_dir: Path, version: int) -> None:
    server = PostgresServer(data_dir, version=version)  # type: ignore[arg-type]
    server.start()
    try:
        server.bootstrap()
        run(server, "create table kept as select 1 as one")
        settings = [value(server, f"show {name}") for name in ("wal_level", "fsync", "listen_addresses", "timezone")]
        found_version = value(server, "show server_version")
        port = server.port
    finally:
        server.stop()
    assert settings == ["logical", "on", "127.0.0.1", "UTC"]
    assert str(found_version).startswith(str(version))
    assert not (data_dir / "postmaster.pid").exists()
    again = PostgresServer(data_dir, port=port, version=version)  # type: ignore[arg-type]
    again.start()
    try:
        again.bootstrap()
        assert value(again, "select one from kept") == 1
    finally:
        again.stop()


def test_it_survives_a_kill(data_dir: Path) -> None:
    server = PostgresServer(data_dir)
    server.start()
    server.bootstrap()
    run(server, "create table kept as select 1 as one")
    pid = postmaster_pid(data_dir)
    os.kill(pid, signal.SIGKILL)
    server.stop()
    again = PostgresServer(data_dir)
    again.start()
    try:
        assert value(again, "select one from kept") == 1
    finally:
        again.stop()


def test_a_server_left_behind_by_a_killed_owner_is_replaced(data_dir: Path) -> None:
    program = (
        "import sys, os, pathlib; from embedded.postgres import PostgresServer; "
        "server = PostgresServer(pathlib.Path(sys.argv[1])); server.start(); server.bootstrap(); os._exit(9)"
    )
    subprocess.run(
        [Path(".venv/bin/python").absolute(), "-c", program, str(data_dir)], check=False, stdout=subprocess.DEVNULL
    )
    left_behind = postmaster_pid(data_dir)
    assert is_running(left_behind)
    server = PostgresServer(data_dir)
    server.start()
    try:
        assert not is_running(left_behind)
        assert value(server, "select 1") == 1
    finally:
        server.stop()


def test_a_pid_file_that_names_another_program_harms_nobody(data_dir: Path) -> None:
    """After a crash of the machine the number in it may belong to anybody."""
    server = PostgresServer(data_dir)
    server.start()
    server.stop()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (data_dir / "postmaster.pid").write_text(f"{bystander.pid}\n{data_dir}\n1\n1\n\n127.0.0.1\n0 0\nready\n")
        again = PostgresServer(data_dir)
        again.start()
        try:
            again.bootstrap()
            assert value(again, "select 1") == 1
        finally:
            again.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_folder_has_one_owner_at_a_time(data_dir: Path) -> None:
    server = PostgresServer(data_dir)
    server.start()
    try:
        with pytest.raises(PostgresError, match="Another process is already using"):
            PostgresServer(data_dir).start()
        server.bootstrap()
        assert value(server, "select 1") == 1
    finally:
        server.stop()


def test_a_first_start_that_was_cut_short_begins_anew(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "base").mkdir()
    (data_dir / "postgresql.conf").write_text("half")
    server = PostgresServer(data_dir)
    server.start()
    try:
        server.bootstrap()
        assert value(server, "select 1") == 1
    finally:
        server.stop()


def test_the_files_of_another_version_are_refused(data_dir: Path) -> None:
    server = PostgresServer(data_dir, version=16)
    server.start()
    server.stop()
    with pytest.raises(PostgresError, match="start with version 16"):
        PostgresServer(data_dir, version=18).start()


def test_a_password_is_needed_and_unreadable_for_others(postgres: PostgresWithTemplates) -> None:
    server = postgres.server
    assert (server.data_dir / "password").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"host=127.0.0.1 port={server.port} user=supabase_admin dbname=postgres password=guess")


@pytest.fixture(params=["postgres", "postgres_16"])
def any_postgres(request: pytest.FixtureRequest) -> PostgresWithTemplates:
    """Both versions that the wheel ships; hosted projects run one in between."""
    found: PostgresWithTemplates = request.getfixturevalue(request.param)
    return found


def test_what_migrations_do_on_a_hosted_project_works(any_postgres: PostgresWithTemplates) -> None:
    database = any_postgres.create_database()
    with any_postgres.connect(database) as connection:
        connection.execute("""
            create extension if not exists "uuid-ossp" with schema extensions;
            create extension if not exists pgcrypto with schema extensions;
            create table public.things (
              id uuid primary key default extensions.uuid_generate_v4(), owner_id uuid references auth.users (id),
              secret bytea default extensions.gen_random_bytes(16), data jsonb
            );
            alter table public.things enable row level security;
            alter table public.things replica identity full;
            alter publication supabase_realtime add table public.things;
            alter default privileges in schema public revoke execute on functions from public;
            create policy own on public.things to authenticated using (owner_id = auth.uid());
            create policy files on storage.objects for select to authenticated using (bucket_id = 'x');
            create function public.on_user() returns trigger language plpgsql security definer set search_path = ''
              as $$ begin return new; end $$;
            create trigger on_user after insert on auth.users for each row execute function public.on_user();
            insert into storage.buckets (id, name) values ('x', 'x');
        """)
        digest = connection.execute("select encode(digest('abc', 'sha256'), 'hex')").fetchone()
    assert digest == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",)


def test_nothing_is_granted_by_default(any_postgres: PostgresWithTemplates) -> None:
    database = any_postgres.create_database()
    with any_postgres.connect(database) as connection:
        connection.execute("create table public.closed (id int)")
        for role in ("anon", "authenticated", "service_role"):
            [granted] = connection.execute(
                "select has_table_privilege(%s, 'public.closed', 'select,insert,update,delete')", (role,)
            ).fetchall()
            assert granted == (False,)
        defaults = connection.execute("select count(*) from pg_default_acl").fetchone()
    assert defaults == (0,)


def test_postgres_is_no_superuser(any_postgres: PostgresWithTemplates) -> None:
    database = any_postgres.create_database()
    with any_postgres.connect(database) as connection:
        row = connection.execute(
            "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls from pg_roles "
            "where rolname = current_user"
        ).fetchone()
        assert row == (False, True, True, True, True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("alter system set fsync = off")


def test_extensions_are_real_enough(any_postgres: PostgresWithTemplates) -> None:
    database = any_postgres.create_database()
    with any_postgres.connect(database) as connection:
        row = connection.execute(
            "select length(gen_random_bytes(100)), gen_random_bytes(8) <> gen_random_bytes(8), "
            "encode(digest('abc'::bytea, 'md5'), 'hex'), uuid_generate_v4() <> uuid_generate_v4(), uuid_nil()::text"
        ).fetchone()
        names = connection.execute("select extname from pg_extension order by 1").fetchall()
        members = connection.execute("select count(*) from pg_depend where deptype = 'e'").fetchone()
    assert row == (100, True, "900150983cd24fb0d6963f7d28e17f72", True, "00000000-0000-0000-0000-000000000000")
    assert [name for (name,) in names] == ["pgcrypto", "plpgsql", "uuid-ossp"]
    assert members is not None
    assert int(str(members[0])) >= 6


def test_the_bootstrap_can_be_run_again(create_database: Callable[[], str], postgres: PostgresWithTemplates) -> None:
    """As it is on the first start after one of its files has changed."""
    database = postgres.create_database()
    with postgres.connect(database) as connection:
        connection.execute("create table kept as select 1 as one")
    postgres.server.bootstrap(database)
    with postgres.connect(database) as connection:
        assert connection.execute("select one from kept").fetchone() == (1,)
