"""Selecting: columns, order, ranges, counts, one object, and what hosted projects refuse."""

from __future__ import annotations

import pytest
from postgrest import CountMethod
from postgrest.exceptions import APIError
from supabase import AsyncClient

from tests.embedded.rest_support import create, new_name, rest, rows_of
from tests.stack import RunningStack


async def test_columns_are_renamed_cast_and_reached_into(library: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.table("authors")
        .select("id, called:name, year:born::text, data->home->>city, first:data->n->0, born->x")
        .eq("id", 1)
        .execute()
    )
    assert answer.data == [{"id": 1, "called": "Ann", "year": "1950-01-02", "city": "Rome", "first": 1, "x": None}]


async def test_types_come_as_postgrest_writes_them(library: RunningStack, service: AsyncClient) -> None:
    answer = await service.table("books").select("id, price, words").eq("id", 1).single().execute()
    assert answer.data == {"id": 1, "price": 10.50, "words": "'cat':1 'dog':3"}


async def test_order_by_several_columns_with_nulls_where_asked(library: RunningStack, service: AsyncClient) -> None:
    nulls_first = await service.table("books").select("id").order("price", desc=True, nullsfirst=True).execute()
    nulls_last = await service.table("books").select("id").order("price", nullsfirst=False).order("id").execute()
    assert [row["id"] for row in rows_of(nulls_first)] == [3, 2, 1, 4]
    assert [row["id"] for row in rows_of(nulls_last)] == [4, 1, 2, 3]
    with rest(library) as client:
        by_city = client.get("/authors", params={"select": "id", "order": "data->home->>city.desc.nullslast"})
    assert [row["id"] for row in by_city.json()] == [1, 2, 3]


async def test_range_gives_the_rows_between_both_ends(library: RunningStack, service: AsyncClient) -> None:
    answer = await service.table("books").select("id").order("id").range(1, 2).execute()
    assert [row["id"] for row in rows_of(answer)] == [2, 3]


def test_range_header_and_parameters_meet_in_what_both_want(library: RunningStack) -> None:
    with rest(library) as client:
        answer = client.get("/books?select=id&order=id&offset=1", headers={"Range-Unit": "items", "Range": "0-2"})
    assert [row["id"] for row in answer.json()] == [2, 3]
    assert answer.headers["content-range"] == "1-2/*"


@pytest.mark.parametrize("count", ["exact", "planned", "estimated"])
def test_counts_come_in_the_content_range(library: RunningStack, count: str) -> None:
    with rest(library) as client:
        client.get("/books?limit=1")
        answer = client.get("/books?select=id&order=id&limit=3", headers={"Prefer": f"count={count}"})
    total = int(answer.headers["content-range"].partition("/")[2])
    assert answer.headers["content-range"].startswith("0-2/")
    assert answer.headers["preference-applied"] == f"count={count}"
    assert answer.status_code == 206
    assert total == 4 or count == "planned"


async def test_head_counts_without_rows(library: RunningStack, service: AsyncClient) -> None:
    answer = await service.table("books").select("*", count=CountMethod.exact, head=True).gt("id", 1).execute()
    assert answer.count == 3
    assert answer.data == []


def test_an_offset_past_the_end_is_refused_when_rows_are_counted(library: RunningStack) -> None:
    with rest(library) as client:
        counted = client.get("/books?offset=9", headers={"Prefer": "count=exact"})
        uncounted = client.get("/books?offset=9")
    assert counted.status_code == 416
    assert counted.json() == {
        "code": "PGRST103",
        "details": "An offset of 9 was requested, but there are only 4 rows.",
        "hint": None,
        "message": "Requested range not satisfiable",
    }
    assert (uncounted.status_code, uncounted.json()) == (200, [])


async def test_single_wants_exactly_one_row(library: RunningStack, service: AsyncClient) -> None:
    with pytest.raises(APIError) as raised:
        await service.table("books").select("*").gt("id", 1).single().execute()
    assert raised.value.code == "PGRST116"
    assert raised.value.details == "The result contains 3 rows"
    assert raised.value.message == "Cannot coerce the result to a single JSON object"


async def test_maybe_single_is_none_when_nothing_is_found(library: RunningStack, service: AsyncClient) -> None:
    assert await service.table("books").select("*").eq("id", 99).maybe_single().execute() is None
    found = await service.table("books").select("id").eq("id", 1).maybe_single().execute()
    assert found is not None
    assert found.data == {"id": 1}


def test_nulls_are_stripped_when_asked(library: RunningStack) -> None:
    with rest(library) as client:
        many = client.get(
            "/books?select=id,price&id=eq.3", headers={"Accept": "application/vnd.pgrst.array+json;nulls=stripped"}
        )
        one = client.get(
            "/books?select=id,price&id=eq.3", headers={"Accept": "application/vnd.pgrst.object+json;nulls=stripped"}
        )
    assert many.json() == [{"id": 3}]
    assert one.json() == {"id": 3}


def test_no_more_than_1000_rows_come_and_no_error_says_so(stack: RunningStack) -> None:
    table = new_name("many")
    create(
        stack, f"create table {table} as select id from generate_series(1, 1500) id; grant select on {table} to anon"
    )
    with rest(stack, key=stack.publishable_key) as client:
        answer = client.get(f"/{table}?limit=1400", headers={"Prefer": "count=exact"})
    assert len(answer.json()) == 1000
    assert answer.headers["content-range"] == "0-999/1500"


def test_estimated_counts_are_exact_only_up_to_the_row_limit(stack: RunningStack) -> None:
    table = new_name("many")
    create(
        stack,
        f"create table {table} as select id from generate_series(1, 3000) id; analyze {table}; "
        f"grant select on {table} to anon",
    )
    with rest(stack, key=stack.publishable_key) as client:
        answer = client.get(f"/{table}?limit=1", headers={"Prefer": "count=estimated"})
    assert answer.headers["content-range"] == "0-0/3000"


@pytest.mark.parametrize(
    ("path", "code", "status", "message"),
    [
        ("/nowhere", "PGRST205", 404, "Could not find the table 'public.nowhere' in the schema cache"),
        ("/books?select=nope", "42703", 400, "column books.nope does not exist"),
        ("/books?select=count()", "PGRST123", 400, "Use of aggregate functions is not allowed"),
        ("/books?select=price.sum()", "PGRST123", 400, "Use of aggregate functions is not allowed"),
        ("/books?limit=-1", "PGRST103", 416, "Requested range not satisfiable"),
        ("/books?limit=x", "PGRST100", 400, '"failed to parse limit (x)" (line 1, column 1)'),
        ("/books?order=id.down", "PGRST100", 400, '"failed to parse order (id.down)" (line 1, column 3)'),
        ("/books?select=id,(", "PGRST100", 400, '"failed to parse select parameter (id,()" (line 1, column 4)'),
        ("/a/b", "PGRST125", 404, "Invalid path specified in request URL"),
        ("/", "PGRST126", 404, "Root endpoint metadata is disabled"),
    ],
)
def test_what_cannot_be_answered_says_why(
    library: RunningStack, path: str, code: str, status: int, message: str
) -> None:
    with rest(library) as client:
        answer = client.get(path)
    body = answer.json()
    assert (body["code"], answer.status_code, body["message"]) == (code, status, message)
    assert body.keys() == {"code", "details", "hint", "message"}
    assert answer.headers["proxy-status"] == f"PostgREST; error={code}"


def test_a_misspelt_table_is_suggested(library: RunningStack) -> None:
    with rest(library) as client:
        answer = client.get("/author")
    assert answer.json()["hint"] == "Perhaps you meant the table 'public.authors'"


@pytest.mark.parametrize("accept", ["text/csv", "application/vnd.pgrst.plan+json", "image/png"])
def test_other_media_types_are_refused(library: RunningStack, accept: str) -> None:
    with rest(library) as client:
        answer = client.get("/books", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST107")


def test_put_and_unknown_profiles_are_refused(library: RunningStack) -> None:
    with rest(library) as client:
        put = client.put("/books?id=eq.1", json={"id": 1})
        profile = client.get("/secrets", headers={"Accept-Profile": "hidden"})
        known = client.get("/books?limit=0", headers={"Accept-Profile": "public"})
    assert (put.status_code, put.json()["code"]) == (405, "PGRST117")
    assert (profile.status_code, profile.json()["message"]) == (406, "Invalid schema: hidden")
    assert profile.json()["hint"] == "Only the following schemas are exposed: public, graphql_public"
    assert known.headers["content-profile"] == "public"


def test_names_with_odd_characters_are_quoted(library: RunningStack) -> None:
    with rest(library) as client:
        answer = client.get("/odd%20%22table%25", params={"select": '"odd \\"column%"', '"odd \\"column%"': "eq.found"})
    assert answer.json() == [{'odd "column%': "found"}]


def test_strict_handling_names_the_preferences_it_does_not_know(library: RunningStack) -> None:
    with rest(library) as client:
        strict = client.get("/books", headers={"Prefer": "handling=strict, cake=yes, count=exact"})
        lenient = client.get("/books", headers={"Prefer": "cake=yes"})
    assert (strict.status_code, strict.json()["details"]) == (400, "Invalid preferences: cake=yes")
    assert lenient.status_code == 200
