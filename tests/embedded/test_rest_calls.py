"""Calling functions."""

from __future__ import annotations

from typing import cast

import pytest
from postgrest import CountMethod
from postgrest.exceptions import APIError
from supabase import AsyncClient

from tests.embedded.rest_support import create, new_name, rest
from tests.stack import RunningStack

FUNCTIONS = """
create function call_add(a int, b int default 2) returns int language sql immutable as 'select a + b';
create function call_nothing() returns void language sql as '';
create function call_books() returns setof books language sql stable as 'select * from books';
create function call_book(book_id int) returns books language sql stable
  as 'select * from books where id = book_id';
create function call_pairs() returns table (x int, y text) language sql stable as $$ values (1, 'a'), (2, 'b') $$;
create function call_out(out x int, out y int) language sql stable as 'select 1, 2';
create function call_numbers() returns setof int language sql stable as 'values (3), (4)';
create function call_json(jsonb) returns jsonb language sql as 'select $1';
create function call_sum(variadic numbers int[]) returns bigint language sql immutable
  as 'select sum(n) from unnest(numbers) n';
create function call_lengths(words text[], data jsonb default null, on_day date default null) returns json
  language sql immutable as $$ select json_build_object('words', cardinality(words), 'data', data, 'day', on_day) $$;
create function call_over(a int) returns text language sql immutable as $$ select 'int' $$;
create function call_over(b text) returns text language sql immutable as $$ select 'text' $$;
create function call_either(a int default 1) returns text language sql immutable as $$ select '1' $$;
create function call_either(b text default 1) returns text language sql immutable as $$ select '2' $$;
create function call_fail(code text) returns void language plpgsql as $$
begin raise exception using errcode = code, message = 'as asked', detail = 'more', hint = 'less'; end $$;
create function call_shape() returns json language plpgsql as $$ begin
  perform set_config('response.headers', '[{"X-Made-By": "me"}]', true);
  perform set_config('response.status', '418', true);
  return '{}';
end $$;
create function call_whole_answer() returns void language plpgsql as $$ begin
  raise sqlstate 'PGRST' using
    message = '{"code": "mine", "message": "m", "details": "d", "hint": "h"}',
    detail = '{"status": 402, "headers": {"X-Price": "1"}}';
end $$;
create function call_where() returns json language sql stable as $$ select json_build_object(
  'role', current_user, 'claim', auth.role(), 'method', current_setting('request.method'),
  'path', current_setting('request.path'), 'agent', current_setting('request.headers')::json ->> 'user-agent',
  'zone', current_setting('timezone')) $$;
create table call_log (id int);
grant all on call_log to service_role;
create function call_write() returns int language sql as 'insert into call_log values (1) returning id';
create function call_hidden() returns int language sql as 'select 1';
revoke execute on function call_hidden from public;
"""


@pytest.fixture(scope="module")
def functions(library: RunningStack) -> RunningStack:
    create(library, FUNCTIONS)
    return library


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("call_add", {"a": 1}, 3),
        ("call_add", {"a": 1, "b": 5}, 6),
        ("call_out", {}, {"x": 1, "y": 2}),
        ("call_numbers", {}, [3, 4]),
        ("call_pairs", {}, [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
        ("call_json", {"any": ["thing", None]}, {"any": ["thing", None]}),
        ("call_sum", {"numbers": [1, 2, 3]}, 6),
        ("call_lengths", {"words": ["a", "b"], "data": {"k": 1}, "on_day": "2026-01-02"},
         {"words": 2, "data": {"k": 1}, "day": "2026-01-02"}),
        ("call_over", {"a": 1}, "int"),
        ("call_over", {"b": "1"}, "text"),
    ],
)  # fmt: skip
async def test_what_functions_return(
    functions: RunningStack, service: AsyncClient, name: str, arguments: dict[str, object], result: object
) -> None:
    answer = await service.rpc(name, arguments).execute()
    assert answer.data == result


async def test_rows_of_a_function_are_filtered_shaped_and_embed(functions: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.rpc("call_books", {}, count=CountMethod.exact)
        .select("id, covers(colour)")
        .gt("id", 1)
        .order("id", desc=True)
        .limit(2)
        .execute()
    )
    assert answer.data == [{"id": 4, "covers": None}, {"id": 3, "covers": {"colour": "blue"}}]
    assert answer.count == 3
    one = await service.rpc("call_book", {"book_id": 3}).execute()
    assert cast(dict[str, object], one.data)["title"] == "Rain"


def test_void_is_204_and_without_a_body(functions: RunningStack) -> None:
    with rest(functions) as client:
        answer = client.post("/rpc/call_nothing")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/rpc/call_add?a=1&b=10", 11),
        ("/rpc/call_pairs?x=gt.1&select=y", [{"y": "b"}]),
        ("/rpc/call_sum?numbers=1&numbers=2", 3),
        ("/rpc/call_lengths?words={a,b,c}", {"words": 3, "data": None, "day": None}),
        ("/rpc/call_books?id=eq.1&select=title", [{"title": "Cats and dogs"}]),
    ],
)
def test_get_takes_arguments_and_filters_from_the_query(functions: RunningStack, path: str, result: object) -> None:
    with rest(functions) as client:
        answer = client.get(path)
    assert answer.json() == result, answer.text


async def test_get_and_head_of_the_client(functions: RunningStack, service: AsyncClient) -> None:
    got = await service.rpc("call_add", {"a": 4}, get=True).execute()
    counted = await service.rpc("call_books", {}, head=True, count=CountMethod.exact).execute()
    assert got.data == 6
    assert counted.count == 4


def test_a_function_that_writes_needs_post(functions: RunningStack) -> None:
    with rest(functions) as client:
        refused = client.get("/rpc/call_write")
        assert client.get("/call_log").json() == []
        done = client.post("/rpc/call_write")
        assert client.put("/rpc/call_write").json()["code"] == "PGRST101"
    assert (refused.status_code, refused.json()["code"]) == (405, "25006")
    assert done.json() == 1


def test_a_stable_function_that_writes_is_stopped(functions: RunningStack) -> None:
    """It runs in a read-only transaction, by POST as well, even where its result is not looked at."""
    name = new_name("call_liar")
    create(
        functions,
        f"create function {name}() returns void language plpgsql stable as 'begin perform call_write(); end'",
    )
    with rest(functions) as client:
        answer = client.post(f"/rpc/{name}")
    assert (answer.status_code, answer.json()["code"]) == (405, "25006")


async def test_an_unknown_function_or_argument_is_refused_with_a_hint(
    functions: RunningStack, service: AsyncClient
) -> None:
    with pytest.raises(APIError) as wrong_argument:
        await service.rpc("call_add", {"a": 1, "c": 2}).execute()
    with pytest.raises(APIError) as wrong_name:
        await service.rpc("call_ad", {}).execute()
    assert wrong_argument.value.code == "PGRST202"
    assert wrong_argument.value.message == "Could not find the function public.call_add(a, c) in the schema cache"
    assert wrong_argument.value.hint == "Perhaps you meant to call the function public.call_add(a, b)"
    assert wrong_name.value.message == (
        "Could not find the function public.call_ad without parameters in the schema cache"
    )
    assert wrong_name.value.hint == "Perhaps you meant to call the function public.call_add"


def test_overloads_that_cannot_be_told_apart_are_refused(functions: RunningStack) -> None:
    with rest(functions) as client:
        answer = client.post("/rpc/call_either", json={})
    assert (answer.status_code, answer.json()["code"]) == (300, "PGRST203")
    assert "public.call_either(a => integer), public.call_either(b => text)" in answer.json()["message"]


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [("P0001", 400), ("P0002", 500), ("PT404", 404), ("23514", 400), ("40001", 500), ("55P03", 500), ("57014", 500)],
)
def test_errors_of_functions_keep_their_words_and_get_postgrests_status(
    functions: RunningStack, sqlstate: str, status: int
) -> None:
    with rest(functions) as client:
        answer = client.post("/rpc/call_fail", json={"code": sqlstate})
    assert answer.status_code == status
    assert answer.json() == {"code": sqlstate, "message": "as asked", "details": "more", "hint": "less"}


def test_functions_shape_the_answer(functions: RunningStack) -> None:
    with rest(functions) as client:
        shaped = client.post("/rpc/call_shape")
        whole = client.post("/rpc/call_whole_answer")
    assert (shaped.status_code, shaped.headers["x-made-by"]) == (418, "me")
    assert (whole.status_code, whole.headers["x-price"]) == (402, "1")
    assert whole.json() == {"code": "mine", "message": "m", "details": "d", "hint": "h"}


def test_functions_see_who_asks_and_how(functions: RunningStack) -> None:
    with rest(functions, key=functions.publishable_key) as client:
        answer = client.get("/rpc/call_where", headers={"User-Agent": "me", "Prefer": "timezone=Europe/Rome"})
    assert answer.json() == {
        "role": "anon", "claim": "anon", "method": "GET", "path": "/rpc/call_where", "agent": "me",
        "zone": "Europe/Rome",
    }  # fmt: skip


def test_execute_must_be_granted(functions: RunningStack) -> None:
    with rest(functions) as service, rest(functions, key=functions.publishable_key) as anonymous:
        refused = service.post("/rpc/call_hidden")
        unknown = anonymous.post("/rpc/call_hidden")
    assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    assert unknown.status_code == 401
    assert unknown.headers["www-authenticate"] == "Bearer"
