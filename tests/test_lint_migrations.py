"""Each rule refuses what it is there for, and leaves its good neighbour alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.lint_migrations import lint_file, lint_folder, read_statements, split_statements
from scripts.migrate import MIGRATIONS

NAME = "20260101000000_example.sql"
OPENING = "-- Purpose: an example.\n-- Locks: none.\n"
INNER_SCHEMA = "belongs to Supabase"
NO_WHERE = "without a where clause"
POSTGRES_18 = "Postgres 18"

GOOD_TABLE = """
create table if not exists public.things (id int, owner_id uuid references auth.users (id) on delete set null);
alter table public.things enable row level security;
revoke all on public.things from public, anon, authenticated;
grant select, insert on public.things to service_role;
"""
GOOD_FUNCTION = """
create or replace function public.count_things_v1() returns bigint
language sql stable security invoker set search_path = '' as $$ select count(*) from public.things $$;
"""


def messages(sql: str, name: str = NAME, opening: str = OPENING) -> list[str]:
    return [problem.message for problem in lint_file(name, opening + sql)]


def test_the_migrations_themselves_have_no_problem() -> None:
    assert lint_folder(MIGRATIONS) == []


def test_a_good_table_and_a_good_function_pass() -> None:
    assert messages(GOOD_TABLE + GOOD_FUNCTION) == []


def in_a_block(statement: str) -> str:
    return f"do $do$ begin if true then {statement}; end if; end $do$;"


def in_a_function(statement: str) -> str:
    return GOOD_FUNCTION.replace("language sql stable", "language plpgsql").replace(
        "select count(*) from public.things", f"begin {statement}; return 1; end"
    )


def executed(statement: str) -> str:
    return f"do $do$ begin execute format('{statement.replace(chr(39), chr(39) * 2)}', 'x'); end $do$;"


ANYWHERE = [str, in_a_block, in_a_function, executed]


@pytest.mark.parametrize("wrap", ANYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "alter table storage.objects enable row level security",
        "alter table if exists only auth.users add column shop text",
        'alter table "storage"."objects" add column shop text',
        "create table auth.extra (id int)",
        "create unique index if not exists mine on storage.objects (name)",
        "create or replace function auth.shop() returns text language sql set search_path = '' as 'select 1'",
        "create view realtime.mine as select 1",
        "drop table storage.buckets",
        "drop trigger if exists mine on auth.users",
        "grant select on public.things, auth.users to anon",
        "revoke all on storage.objects from anon",
        "grant usage on schema storage to anon",
        "create schema if not exists auth",
        "alter default privileges in schema public, storage grant select on tables to anon",
        "comment on table storage.objects is 'mine'",
        "insert into storage.objects (name) values ('x')",
        "insert into auth.users (id) values (null)",
        "update storage.buckets set public = true where id = 'x'",
        "delete from realtime.messages where true",
        "truncate public.things, realtime.messages",
        "alter publication supabase_realtime add table realtime.messages",
        "alter policy mine on storage.objects using (true)",
    ],
)
def test_what_belongs_to_supabase_is_not_changed(statement: str, wrap: type[str]) -> None:
    assert any(INNER_SCHEMA in message for message in messages(wrap(statement) + ";"))


@pytest.mark.parametrize("wrap", ANYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "insert into storage.buckets (id) values ('x') on conflict (id) do update set public = excluded.public",
        "create trigger mine after insert on auth.users for each row execute function public.welcome_v1()",
        "create or replace trigger mine before update on storage.objects for each row execute function public.x_v1()",
        "alter publication supabase_realtime add table public.products",
        "alter table public.things add column owner_id uuid references auth.users (id)",
        "create index mine on public.things (id) where name <> 'alter table storage.objects'",
        "comment on table public.things is 'see storage.objects'",
    ],
)
def test_what_supabase_allows_passes(statement: str, wrap: type[str]) -> None:
    assert not any(INNER_SCHEMA in message for message in messages(wrap(statement) + ";"))


def test_calling_and_reading_what_belongs_to_supabase_passes() -> None:
    calls = "perform realtime.send('{}', 'look', 'x', true); if exists (select from storage.objects) then"
    assert messages(in_a_function(f"{calls} return auth.uid(); end if")) == []


def test_policies_there_pass_in_a_file_of_their_own() -> None:
    policies = """
    set local lock_timeout = '5s';
    drop policy if exists mine on storage.objects;
    create policy mine on storage.objects for select using (bucket_id in (select id from storage.buckets));
    """
    assert messages(policies) == []


def test_policies_need_a_lock_timeout_and_a_file_of_their_own() -> None:
    policy = "create policy mine on public.things for select using (true);"
    assert messages(policy) == ["a file with policies has to set lock_timeout first"]
    assert messages("set local lock_timeout = '5s';" + policy + GOOD_TABLE) == [
        "policies have to stand in a file of their own"
    ]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("alter table public.things enable row level security;", "row level security"),
        ("revoke all on public.things from public, anon, authenticated;", "is not revoked"),
        (", authenticated", "is not revoked"),
        ("grant select, insert on public.things to service_role;", "no explicit grants"),
    ],
)
def test_a_table_is_closed_and_granted_where_it_is_created(missing: str, message: str) -> None:
    (found,) = messages(GOOD_TABLE.replace(missing, ""))
    assert message in found


def test_a_table_of_almost_the_same_name_does_not_count() -> None:
    (found,) = messages(GOOD_TABLE.replace("from public, anon", "from anon, public").replace(
        "revoke all on public.things", "revoke all on public.things_of_others"))  # fmt: skip
    assert "is not revoked" in found


def test_several_tables_may_be_granted_in_one_list() -> None:
    assert messages(GOOD_TABLE.replace("on public.things", "on public.others, public.things, public.more")) == []


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (" set search_path = ''", "", "does not pin its search path"),
        (" set search_path = ''", " set search_path = 'public'", "does not pin its search path"),
        ("count_things_v1", "count_things", "no version suffix"),
        ("function public.", "function ", "named with its schema"),
    ],
)
def test_a_function_pins_its_search_path_and_carries_a_version(good: str, bad: str, message: str) -> None:
    (found,) = messages(GOOD_FUNCTION.replace(good, bad))
    assert message in found


@pytest.mark.parametrize("wrap", ANYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "update public.things set id = 1",
        "update only public.things as t set id = (select 1 from public.others where true)",
        "delete from public.things",
        "delete from public.things using (select 1 where true) as others",
        "with gone as (delete from public.things returning id) select * from gone where true",
        "update public.things set note = 'where'",
    ],
)
def test_every_update_and_delete_has_a_where(statement: str, wrap: type[str]) -> None:
    assert any(NO_WHERE in message for message in messages(wrap(statement) + ";"))


@pytest.mark.parametrize("wrap", ANYWHERE)
@pytest.mark.parametrize(
    "statement",
    [
        "update public.things t set id = case when true then 1 else 2 end from public.others o where o.id = t.id",
        "delete from public.things where id = 1",
        "insert into public.things (id) values (1) on conflict (id) do update set id = 2",
        "with gone as (delete from public.things where true returning id) select * from gone",
        "create trigger mine before update or delete on public.things for each row execute function public.x_v1()",
        "grant select, update, delete on public.things to service_role",
    ],
)
def test_what_names_its_rows_passes(statement: str, wrap: type[str]) -> None:
    assert not any(NO_WHERE in message for message in messages(wrap(statement) + ";"))


@pytest.mark.parametrize(
    "statement",
    [
        "alter table public.things alter column id set default uuidv7()",
        "alter table public.things add column twice int generated always as (id * 2)",
        "alter table public.things add column twice int generated always as (id * 2) virtual",
        "alter table public.things add constraint c check (id > 0) not enforced",
        "update public.things set id = 2 where id = 1 returning old.id, new.id",
    ],
)
def test_sql_of_postgres_18_is_refused(statement: str) -> None:
    assert any(POSTGRES_18 in message for message in messages(statement + ";"))


@pytest.mark.parametrize(
    "statement",
    [
        "alter table public.things add column twice int generated always as (id * 2) stored",
        "create table public.x (id bigint generated always as identity)",
    ],
)
def test_sql_of_postgres_17_passes(statement: str) -> None:
    assert not any(POSTGRES_18 in message for message in messages(statement + ";"))


@pytest.mark.parametrize(
    "name", ["add_things.sql", "2026_things.sql", "20260101000000_Things.sql", "20260101000000.sql"]
)
def test_a_file_is_named_as_the_supabase_cli_wants(name: str) -> None:
    (found,) = messages("", name=name)
    assert "<timestamp>_<name>.sql" in found


def test_a_timestamp_is_a_date() -> None:
    assert messages("", name="20261301000000_x.sql") == ["the first 14 digits of the name are not a date and time"]


def test_two_files_do_not_share_a_timestamp(tmp_path: Path) -> None:
    for name in ("20260101000000_a.sql", "20260101000000_b.sql", "20260101000001_c.sql"):
        (tmp_path / name).write_text(OPENING)
    assert [(problem.file, problem.message) for problem in lint_folder(tmp_path)] == [
        ("20260101000000_a.sql", "another file has the same timestamp"),
        ("20260101000000_b.sql", "another file has the same timestamp"),
    ]


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        ("-- Locks: none.\n", "open with a comment `-- Purpose: ...`"),
        ("-- Purpose: an example.\n", "say what is locked"),
        ("-- Purpose: an example.\n\n-- Locks: none.\n", "say what is locked"),
    ],
)
def test_a_file_says_what_for_and_what_it_locks(opening: str, message: str) -> None:
    (found,) = messages("select 1;", opening=opening)
    assert message in found


def test_a_problem_names_its_file_and_line() -> None:
    problems = lint_file(
        NAME, OPENING + "\nselect 1;\n-- a note\ndelete from public.things;\n" + in_a_block("\n\ndelete from x")
    )
    assert [str(problem).partition(": ")[0] for problem in problems] == [f"{NAME}:6", f"{NAME}:7"]


def test_statements_end_at_semicolons_that_stand_for_themselves() -> None:
    sql = "select ';', \";\" -- ;\n/* ; */ ; do $a$ begin select $$;$$; end $a$;\n\n;select 1"
    assert split_statements(sql) == [
        "select ';', \";\" -- ;\n/* ; */",
        "do $a$ begin select $$;$$; end $a$",
        "select 1",
    ]


def test_bodies_are_read_as_statements_of_their_own() -> None:
    (block,) = read_statements("do $$\nbegin\n  perform 1; -- one;\n  perform 2;\nend $$;")
    assert [(inner.line, inner.text) for inner in block.inner] == [
        (2, "begin perform 1"),
        (4, "perform 2"),
        (5, "end"),
    ]
