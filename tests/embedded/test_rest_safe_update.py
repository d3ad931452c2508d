"""UPDATE and DELETE without WHERE inside functions: refused, as by pg-safeupdate on hosted projects."""

from __future__ import annotations

import pytest

from embedded.rest.safe_update import unguarded_statement, words_of
from tests.embedded.rest_support import create, new_name, rest
from tests.stack import RunningStack


@pytest.mark.parametrize(
    "source",
    [
        "update t set a = 1 where id = 1",
        "delete from t where id = 1",
        "delete from t using u where t.id = u.id",
        "update t set a = (select max(b) from u) where id = 1;",
        "insert into t values (1) on conflict (id) do update set a = 1",
        "select * from t for update skip locked",
        "select * from t for no key update",
        "with gone as (delete from t where id = 1 returning *) select * from gone",
        "begin perform 'delete from t'; -- delete from t\n /* update t set a = 1 */ end",
        "$text$ delete from t $text$",
        "merge into t using u on t.id = u.id when matched then update set a = 1",
        "create trigger x before update or delete on t",
        "begin update t set a = 1 where current of rows; end",
        'update "set" set "where" = 1 where id = 2',
    ],
)
def test_guarded_statements_pass(source: str) -> None:
    assert unguarded_statement(words_of(source)) is None


@pytest.mark.parametrize(
    ("source", "statement"),
    [
        ("delete from t", "DELETE"),
        ("DELETE FROM ONLY public.t;", "DELETE"),
        ("update t set a = 1", "UPDATE"),
        ("begin if x then update t set a = 1; end if; delete from t where id = 1; end", "UPDATE"),
        ("with gone as (delete from t returning *) select * from gone where id = 1", "DELETE"),
        ("update t set a = (select b from u where u.id = 1)", "UPDATE"),
        ("for row in select 1 loop delete from t; end loop", "DELETE"),
        ("select 1 where true; delete from t", "DELETE"),
    ],
)
def test_unguarded_statements_are_found(source: str, statement: str) -> None:
    assert unguarded_statement(words_of(source)) == statement


@pytest.fixture
def table(stack: RunningStack) -> str:
    """A table with one row."""
    name = new_name("guarded")
    create(stack, f"create table {name} (id int primary key); grant all on {name} to service_role; "
           f"insert into {name} values (1)")  # fmt: skip
    return name


@pytest.mark.parametrize("language", ["sql", "plpgsql", "atomic"])
def test_a_function_that_deletes_all_is_refused(stack: RunningStack, table: str, language: str) -> None:
    name = new_name("wipe")
    body = {
        "sql": f"language sql as 'delete from {table}'",
        "plpgsql": f"language plpgsql as 'begin delete from {table}; end'",
        "atomic": f"language sql begin atomic delete from {table}; end",
    }[language]
    create(stack, f"create function {name}() returns void {body}")
    with rest(stack) as client:
        answer = client.post(f"/rpc/{name}")
        assert client.get(f"/{table}").json() == [{"id": 1}]
    assert (answer.status_code, answer.json()["code"]) == (400, "21000")
    assert answer.json()["message"] == "DELETE requires a WHERE clause"


def test_functions_that_are_called_in_turn_count(stack: RunningStack, table: str) -> None:
    inner, outer = new_name("inner"), new_name("outer")
    create(
        stack,
        f"create function {inner}() returns void language sql as 'delete from {table}'; "
        f"create function {outer}() returns void language plpgsql as 'begin perform public.{inner}(); end'",
    )
    with rest(stack) as client:
        answer = client.post(f"/rpc/{outer}")
    assert answer.json()["code"] == "21000"


def test_triggers_of_the_written_table_count(stack: RunningStack, table: str) -> None:
    wipe, watched, caller = new_name("wipe"), new_name("watched"), new_name("caller")
    create(
        stack,
        f"create table {watched} (id int); grant all on {watched} to service_role; "
        f"create function {wipe}() returns trigger language plpgsql as 'begin delete from {table}; return new; end'; "
        f"create trigger wipe after insert on {watched} for each row execute function {wipe}(); "
        f"create function {caller}() returns void language sql as 'insert into public.{watched} values (1)'",
    )
    with rest(stack) as client:
        written = client.post(f"/{watched}", json={"id": 1})
        called = client.post(f"/rpc/{caller}")
        read = client.get(f"/{watched}")
    assert written.json()["code"] == called.json()["code"] == "21000"
    assert (read.status_code, read.json()) == (200, [])


def test_a_function_that_names_its_rows_runs(stack: RunningStack, table: str) -> None:
    name = new_name("delete_one")
    create(stack, f"create function {name}() returns void language sql as 'delete from {table} where id = 1'")
    with rest(stack) as client:
        assert client.post(f"/rpc/{name}").status_code == 204
        assert client.get(f"/{table}").json() == []
