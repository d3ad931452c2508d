"""`migrations/` on each kind of database they meet: empty, done before, in two deploys at once, a shop's old one."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from scripts import migrate as migrate_script
from scripts.lint_migrations import split_statements
from scripts.migrate import MIGRATIONS, migrate, migration_files
from tests.conftest import PostgresWithTemplates
from tests.sql.server import do_not_wait_for_the_disk

VERSIONS = [file.name.partition("_")[0] for file in migration_files()]
APPLIED = "select array_agg(version order by version) from supabase_migrations.schema_migrations"
#: Everything that the files make, in a form that can be compared.
SCHEMA = """
select 'column', table_name, column_name, column_default, is_nullable, data_type
  from information_schema.columns where table_schema = 'public'
union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), null, null
  from pg_constraint where connamespace = 'public'::regnamespace
union all select 'index', tablename, indexname, indexdef, null, null from pg_indexes where schemaname = 'public'
union all select 'function', proname, pg_get_functiondef(oid), array(select unnest(proacl)::text order by 1)::text,
  null, null from pg_proc where pronamespace = 'public'::regnamespace
union all select 'policy', tablename, policyname, qual, permissive, cmd from pg_policies where schemaname = 'public'
union all select 'table', relname, array(select unnest(relacl)::text order by 1)::text, relrowsecurity::text,
  relreplident::text, obj_description(oid) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
order by 1, 2, 3
"""

CreateDatabase = Callable[[], str]


@pytest.fixture(scope="session", params=[16, 18])
def server(request: pytest.FixtureRequest) -> PostgresWithTemplates:
    """Hosted projects run Postgres 17, between the two."""
    running: PostgresWithTemplates = request.getfixturevalue("postgres" if request.param == 18 else "postgres_16")
    do_not_wait_for_the_disk(running.server)
    return running


@pytest.fixture
def new_database(server: PostgresWithTemplates) -> CreateDatabase:
    """A function that makes a project as it is before the first migration; its DSN as role `postgres`."""
    return lambda: server.server.dsn("postgres", dbname=server.create_database())


@pytest.fixture
def dsn(new_database: CreateDatabase) -> str:
    return new_database()


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def value(dsn: str, statement: str) -> object:
    ((only,),) = query(dsn, statement)
    return only


def execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statements.encode())


def test_an_empty_project_gets_every_file_and_remembers_it(dsn: str) -> None:
    assert migrate(dsn) == VERSIONS
    assert value(dsn, APPLIED) == VERSIONS
    assert value(dsn, "select public.schema_version_v1()") == VERSIONS[-1]


def test_names_are_recorded_as_the_supabase_cli_records_them(dsn: str) -> None:
    migrate(dsn)
    rows = query(dsn, "select version, name from supabase_migrations.schema_migrations order by version")
    assert [f"{version}_{name}.sql" for version, name in rows] == [file.name for file in migration_files()]


def test_a_second_time_there_is_nothing_to_apply(dsn: str) -> None:
    migrate(dsn)
    assert migrate(dsn) == []


def test_every_file_can_be_run_again(dsn: str) -> None:
    """As when the record of what was applied got lost: nothing changes, nothing fails."""
    migrate(dsn)
    execute(dsn, "insert into public.products (title) values ('Kept')")
    before = query(dsn, SCHEMA)
    execute(dsn, "truncate supabase_migrations.schema_migrations")
    assert migrate(dsn) == VERSIONS
    assert query(dsn, SCHEMA) == before
    assert query(dsn, "select title from public.products") == [("Kept",)]


@pytest.mark.parametrize("deploys", [2, 8])
def test_deploys_at_the_same_time_apply_each_file_once(dsn: str, deploys: int) -> None:
    with ThreadPoolExecutor(deploys) as threads:
        applied = list(threads.map(migrate, [dsn] * deploys))
    assert sorted(version for versions in applied for version in versions) == VERSIONS
    assert value(dsn, APPLIED) == VERSIONS


def test_a_file_that_fails_leaves_nothing_behind(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "20300101000000_good.sql").write_text("create table public.good (id int);")
    (tmp_path / "20300101000100_bad.sql").write_text("create table public.bad (id int); select 1 / 0;")
    monkeypatch.setattr(migrate_script, "MIGRATIONS", tmp_path)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(dsn)
    assert value(dsn, APPLIED) == ["20300101000000"]
    assert value(dsn, "select to_regclass('public.bad')") is None


def test_the_supabase_cli_can_apply_them_too(new_database: CreateDatabase) -> None:
    """It sends each statement by itself, in one pipeline. Source: supabase/cli, pkg/migration/file.go, ExecBatch."""
    dsn, reference = new_database(), new_database()
    migrate(reference)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for file in migration_files():
            with connection.pipeline():
                for statement in split_statements(file.read_text()):
                    connection.execute(statement.encode())
    assert query(dsn, SCHEMA) == query(reference, SCHEMA)


def test_the_supabase_cli_finds_the_same_files() -> None:
    """It reads the folder `supabase/migrations` through the link. Source: supabase/cli, pkg/migration/list.go."""
    seen_by_cli = Path(__file__).parent.parent / "supabase" / "migrations"
    assert seen_by_cli.resolve() == MIGRATIONS.resolve()
    names = sorted(file.name for file in seen_by_cli.iterdir())
    assert names == [file.name for file in migration_files()]
    assert [name for name in names if not re.match(r"^([0-9]+)_(.*)\.sql$", name)] == []


def test_as_the_cli_left_it_a_project_is_complete(dsn: str) -> None:
    """A shop may change from one runner to the other."""
    migrate(dsn)
    execute(dsn, f"delete from supabase_migrations.schema_migrations where version = '{VERSIONS[-1]}'")
    assert migrate(dsn) == VERSIONS[-1:]


class TestOldShop:
    """The table `products` as it was: six columns, then a seventh, with rows and rights of its own."""

    SEED = """
    create table public.products (
      id uuid primary key default gen_random_uuid(), title text default 'Untitled', jewellery_type text, image_url text,
      created_at timestamptz default now(), updated_at timestamptz default now());
    alter table public.products enable row level security;
    create policy "Anyone can see" on public.products for select using (true);
    grant all on public.products to anon, authenticated;
    insert into public.products (id, title, image_url, updated_at)
      values ('00000000-0000-0000-0000-000000000001', 'Ring', 'https://shop.test/raw.jpg', '2025-01-01'),
             ('00000000-0000-0000-0000-000000000002', null, null, null);
    """
    SEED_ALTER = (
        "alter table public.products add column if not exists generated_image_urls jsonb not null default '[]';"
    )
    WITH_PICTURES = """
    insert into public.products (id, title, generated_image_urls, updated_at)
      values ('00000000-0000-0000-0000-000000000003', 'Done', '["https://shop.test/v1.png"]', '2025-01-01');
    """

    def rows(self, dsn: str) -> list[tuple[object, ...]]:
        return query(dsn, "select title, status, generated_image_urls from public.products order by id")

    def test_without_the_seventh_column_keeps_its_rows(self, dsn: str) -> None:
        execute(dsn, self.SEED)
        migrate(dsn)
        assert self.rows(dsn) == [("Ring", "pending", []), (None, "pending", [])]

    def test_with_it_shows_its_pictures_as_done(self, dsn: str) -> None:
        execute(dsn, self.SEED + self.SEED_ALTER + self.WITH_PICTURES)
        migrate(dsn)
        assert self.rows(dsn) == [
            ("Ring", "pending", []),
            (None, "pending", []),
            ("Done", "completed", ["https://shop.test/v1.png"]),
        ]

    def test_with_a_seventh_column_that_may_be_empty_is_put_right(self, dsn: str) -> None:
        execute(dsn, self.SEED + "alter table public.products add column generated_image_urls jsonb;")
        execute(dsn, "update public.products set generated_image_urls = 'null' where title = 'Ring'")
        migrate(dsn)
        execute(dsn, "insert into public.products (title) values ('New')")
        assert [urls for _, _, urls in self.rows(dsn)] == [[], [], []]

    def test_keeps_the_times_of_its_rows(self, dsn: str) -> None:
        execute(dsn, self.SEED + self.SEED_ALTER + self.WITH_PICTURES)
        migrate(dsn)
        assert value(dsn, "select max(updated_at)::date::text from public.products") == "2025-01-01"

    def test_which_was_published_already_stays_so(self, dsn: str) -> None:
        execute(dsn, self.SEED + "alter publication supabase_realtime add table public.products;")
        migrate(dsn)
        assert value(dsn, "select count(*) from pg_publication_tables where pubname = 'supabase_realtime'") == 1

    def test_loses_the_clients_right_to_write(self, dsn: str) -> None:
        execute(dsn, self.SEED)
        migrate(dsn)
        rights = query(
            dsn,
            "select grantee, privilege_type from information_schema.role_table_grants"
            " where table_name = 'products' and grantee in ('anon', 'authenticated') order by 1",
        )
        assert rights == [("anon", "SELECT"), ("authenticated", "SELECT")]

    def test_does_not_show_private_products_by_its_old_policy(self, dsn: str) -> None:
        execute(dsn, self.SEED)
        migrate(dsn)
        execute(dsn, "update public.products set visibility = 'private' where title = 'Ring'")
        with psycopg.connect(dsn) as connection:
            connection.execute("set role anon")
            assert connection.execute("select count(*) from public.products").fetchone() == (1,)

    def test_is_otherwise_the_same_as_a_new_one(self, new_database: CreateDatabase) -> None:
        old, new = new_database(), new_database()
        execute(old, self.SEED + self.SEED_ALTER)
        migrate(old)
        migrate(new)
        differences = set(query(old, SCHEMA)) ^ set(query(new, SCHEMA))
        assert {row[2] for row in differences} == {"Anyone can see"}  # a policy of the shop's own


def test_a_publication_for_all_tables_is_left_as_it_is(dsn: str, server: PostgresWithTemplates) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    execute(server.server.dsn(dbname=str(name)), "drop publication supabase_realtime")
    execute(server.server.dsn(dbname=str(name)), "create publication supabase_realtime for all tables")
    assert migrate(dsn) == VERSIONS
