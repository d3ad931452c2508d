"""The schema `storage` as migrations and policies meet it, on both ends of hosted Postgres 17."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from embedded.postgres import BOOTSTRAP_DIR
from tests.conftest import PostgresWithTemplates

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(params=["postgres", "postgres_16"])
def server(request: pytest.FixtureRequest) -> PostgresWithTemplates:
    server: PostgresWithTemplates = request.getfixturevalue(request.param)
    server.server.bootstrap()  # roles belong to the whole server, and cloned databases to one of them
    return server


@pytest.fixture
def database(server: PostgresWithTemplates) -> Iterator[Connection]:
    """A database for one test, as role `postgres`."""
    dsn = server.server.dsn("postgres", dbname=server.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def test_the_bootstrap_can_run_again_over_existing_objects(server: PostgresWithTemplates) -> None:
    dbname = server.create_database()
    script = (BOOTSTRAP_DIR / "30_storage.sql").read_bytes()
    with psycopg.connect(server.server.dsn(dbname=dbname)) as connection:
        connection.execute("insert into storage.buckets (id, name) values ('kept', 'kept')")
        connection.execute(script)
        assert connection.execute("select current_user").fetchone() == ("supabase_admin",)
        assert connection.execute("select id from storage.buckets").fetchall() == [("kept",)]


def test_everything_belongs_to_storages_own_role_and_has_row_level_security(database: Connection) -> None:
    rows = database.execute(
        """
        select relname::text, relowner::regrole::text, relrowsecurity from pg_class
        where relnamespace = 'storage'::regnamespace and relkind = 'r' order by relname
        """
    ).fetchall()
    assert rows == [("buckets", "supabase_storage_admin", True), ("objects", "supabase_storage_admin", True)]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_roles_have_every_grant_so_that_policies_alone_decide(database: Connection, role: str) -> None:
    row = database.execute(
        """
        select bool_and(has_table_privilege(%s, 'storage.' || name, right_name))
        from unnest(array['buckets', 'objects']) as name,
             unnest(array['select', 'insert', 'update', 'delete']) as right_name
        """,
        (role,),
    ).fetchone()
    assert row == (True,)


def test_without_a_policy_nobody_but_the_service_sees_anything(database: Connection) -> None:
    database.execute("insert into storage.buckets (id, name) values ('pictures', 'pictures')")
    seen = {}
    for role in ("anon", "authenticated", "service_role"):
        database.execute(f"set role {role}".encode())
        seen[role] = database.execute("select count(*) from storage.buckets").fetchone()
    assert seen == {"anon": (0,), "authenticated": (0,), "service_role": (1,)}


def test_a_migration_can_make_policies(database: Connection) -> None:
    database.execute("create policy readable on storage.objects for select to anon using (bucket_id = 'open')")
    assert database.execute("select polname from pg_policy").fetchall() == [("readable",)]


@pytest.mark.parametrize("table", ["objects", "buckets"])
def test_plain_sql_cannot_delete_unless_the_setting_lifts_the_guard(database: Connection, table: str) -> None:
    database.execute("insert into storage.buckets (id, name) values ('pictures', 'pictures')")
    delete = f"delete from storage.{table}".encode()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="Use the Storage API instead"):
        database.execute(delete)
    with database.transaction():
        database.execute("set local storage.allow_delete_query = 'true'")
        database.execute(delete)


def test_helper_functions_take_a_key_apart(database: Connection) -> None:
    row = database.execute(
        """
        select storage.foldername('a/b/c.tar.gz'), storage.filename('a/b/c.tar.gz'), storage.extension('a/b/c.tar.gz'),
               storage.foldername('c.png'), storage.filename('c.png')
        """
    ).fetchone()
    assert row == (["a", "b"], "c.tar.gz", "gz", [], "c.png")


def test_policies_can_ask_for_the_operation_with_or_without_its_prefix(database: Connection) -> None:
    question = """
        select storage.allow_only_operation('object.list'), storage.allow_only_operation('storage.object.list'),
               storage.allow_any_operation(array['object.sign', 'object.list']),
               storage.allow_any_operation(array['object.sign', '', null])
        """
    assert database.execute(question).fetchone() == (False, False, False, False)
    database.execute("set storage.operation = 'storage.object.list'")
    assert database.execute(question).fetchone() == (True, True, True, False)


def test_a_changed_object_gets_a_new_time(database: Connection) -> None:
    database.execute("insert into storage.buckets (id, name) values ('pictures', 'pictures')")
    database.execute("insert into storage.objects (bucket_id, name) values ('pictures', 'ring.png')")
    database.execute("update storage.objects set version = 'next'")
    assert database.execute("select updated_at > created_at, path_tokens from storage.objects").fetchone() == (
        True,
        ["ring.png"],
    )
