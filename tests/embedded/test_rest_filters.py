"""Every filter the clients can write, and that none is ever ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from supabase import AsyncClient

from tests.embedded.rest_support import rest, rows_of
from tests.stack import RunningStack

Query = Any  # postgrest's builders have no common public type
JUNIOR = 'Cleo (the "great"), jr.'


@pytest.mark.parametrize(
    ("narrow", "ids"),
    [
        (lambda query: query.eq("name", JUNIOR), [3]),
        (lambda query: query.neq("id", 1), [2, 3]),
        (lambda query: query.gt("id", 1), [2, 3]),
        (lambda query: query.gte("id", 2), [2, 3]),
        (lambda query: query.lt("id", 2), [1]),
        (lambda query: query.lte("id", 2), [1, 2]),
        (lambda query: query.like("name", "%o%"), [2, 3]),
        (lambda query: query.ilike("name", "*B*"), [2]),
        (lambda query: query.like_any_of("name", "A%,B%"), [1, 2]),
        (lambda query: query.like_all_of("name", "%o%,B%"), [2]),
        (lambda query: query.is_("born", "null"), [2]),
        (lambda query: query.not_.is_("born", "null"), [1, 3]),
        (lambda query: query.in_("name", ["Ann", JUNIOR]), [1, 3]),
        (lambda query: query.not_.in_("id", [1, 2]), [3]),
        (lambda query: query.in_("id", []), []),
        (lambda query: query.contains("tags", ["two, words"]), [1]),
        (lambda query: query.contained_by("tags", ["poems", "prose"]), [2, 3]),
        (lambda query: query.overlaps("tags", ["poems", "two, words"]), [1, 2]),
        (lambda query: query.contains("data", {"home": {"city": "Oslo"}}), [2]),
        (lambda query: query.eq("data->home->>city", "Rome"), [1]),
        (lambda query: query.eq("mood", "good"), [1]),
        (lambda query: query.range_lt("active", ["2021-06-01", "2021-07-01"]), [1]),
        (lambda query: query.range_gt("active", ["2021-06-01", "2021-07-01"]), [2]),
        (lambda query: query.range_gte("active", ["2021-06-01", "2021-07-01"]), [2]),
        (lambda query: query.range_lte("active", ["2021-06-01", "2021-07-01"]), [1]),
        (lambda query: query.range_adjacent("active", ["2021-01-01", "2022-01-01"]), [2]),
        (lambda query: query.or_("id.eq.1,name.eq.Bob"), [1, 2]),
        (lambda query: query.or_("and(id.gt.1,id.lt.3),id.in.(3,4)"), [2, 3]),
        (lambda query: query.or_("not.and(id.gte.1,id.lte.2)"), [3]),
        (lambda query: query.or_("born.not.is.null,name.like.B*"), [1, 2, 3]),
        (lambda query: query.or_('name.eq."Cleo (the \\"great\\"), jr.",tags.cs.{poems}'), [2, 3]),
        (lambda query: query.or_("data->home->>city.eq.Rome,id.eq.3"), [1, 3]),
        (lambda query: query.match({"id": 1, "name": "Bob"}), []),
    ],
)
async def test_filters_of_the_python_client(
    library: RunningStack, service: AsyncClient, narrow: Callable[[Query], Query], ids: list[int]
) -> None:
    answer = await narrow(service.table("authors").select("id")).order("id").execute()
    assert [row["id"] for row in rows_of(answer)] == ids


@pytest.mark.parametrize(
    ("parameters", "ids"),
    [
        ({"name": "match.^[AB]"}, [1, 2]),
        ({"name": "imatch.^a"}, [1]),
        ({"name": "eq(any).{Ann,Bob}"}, [1, 2]),
        ({"id": "gt(all).{1,2}"}, [3]),
        ({"id": "not.eq(any).{1,2}"}, [3]),
        ({"born": "isdistinct.1950-01-02"}, [2, 3]),
        ({"born": "is.not_null"}, [1, 3]),
        ({"not.or": "(id.eq.1,id.eq.2)"}, [3]),
        ({"and": "(id.gt.1,id.lt.3)"}, [2]),
        ({"data->n->0": "eq.1"}, [1]),
        ({"data->n->-1": "eq.2"}, [1]),
        ({"name": 'in.("Cleo (the \\"great\\"), jr.",Ann)'}, [1, 3]),
        ({"name": "eq.*"}, []),
    ],
)
def test_filters_that_clients_write_by_hand(library: RunningStack, parameters: dict[str, str], ids: list[int]) -> None:
    with rest(library) as client:
        answer = client.get("/authors", params={"select": "id", "order": "id", **parameters})
    assert [row["id"] for row in answer.json()] == ids, answer.text


@pytest.mark.parametrize(
    ("column", "search", "ids"),
    [
        ("words", "fts(english).cats", [1, 2]),
        ("words", "plfts.cat dog", [1]),
        ("title", "phfts(english).cats and dogs", [1]),
        ("title", "wfts(english).cat -dogs", [2]),
        ("title", "not.fts(english).cat", [3, 4]),
    ],
)
def test_text_search_in_vectors_and_in_texts(library: RunningStack, column: str, search: str, ids: list[int]) -> None:
    with rest(library) as client:
        answer = client.get("/books", params={"select": "id", "order": "id", column: search})
    assert [row["id"] for row in answer.json()] == ids, answer.text


def test_nesting_without_end_is_refused(library: RunningStack) -> None:
    with rest(library) as client:
        logic = client.get("/books", params={"and": "(and" * 2000 + "(id.eq.1)" + ")" * 2000})
        select = client.get("/books", params={"select": "authors(" * 2000 + ")" * 2000})
    assert (logic.status_code, logic.json()["code"]) == (400, "PGRST100")
    assert (select.status_code, select.json()["code"]) == (400, "PGRST100")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("parameter", "value", "code", "message"),
    [
        ("id", "5", "PGRST100", '"failed to parse filter (5)" (line 1, column 1)'),
        ("id", "equals.5", "PGRST100", '"failed to parse filter (equals.5)" (line 1, column 8)'),
        ("id", "eq", "PGRST100", '"failed to parse filter (eq)" (line 1, column 3)'),
        ("id", "neq(any).{1}", "PGRST100", '"failed to parse filter (neq(any).{1})" (line 1, column 10)'),
        ("id", "in.1,2", "PGRST100", '"failed to parse filter (in.1,2)" (line 1, column 4)'),
        ("id", "in.(1,2)x", "PGRST100", '"failed to parse filter (in.(1,2)x)" (line 1, column 9)'),
        ("id", "is.5", "PGRST100", '"failed to parse filter (is.5)" (line 1, column 4)'),
        ("or", "id.eq.1", "PGRST100", '"failed to parse logic tree (id.eq.1)" (line 1, column 3)'),
        ("or", "()", "PGRST100", '"failed to parse logic tree (())" (line 1, column 4)'),
        ("or", "(id.eq.1", "PGRST100", '"failed to parse logic tree ((id.eq.1)" (line 1, column 11)'),
        ("covers.colour", "eq.red", "PGRST108", "'covers' is not an embedded resource in this request"),
        ("nope", "eq.1", "42703", "column books.nope does not exist"),
        ("id", "eq.one", "22P02", 'invalid input syntax for type integer: "one"'),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_by_every_method(
    library: RunningStack, method: str, parameter: str, value: str, code: str, message: str
) -> None:
    """An ignored filter on a DELETE would be data loss."""
    body = {"title": "overwritten"} if method == "PATCH" else None
    with rest(library) as client:
        answer = client.request(method, "/books", params={parameter: value}, json=body)
        titles = [row["title"] for row in client.get("/books?order=id").json()]
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["message"]) == (code, message)
    assert titles == ["Cats and dogs", "The cat", "Rain", "Alone"]
