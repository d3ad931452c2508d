"""Embedding other tables by foreign keys."""

from __future__ import annotations

import pytest
from postgrest import CountMethod
from postgrest.exceptions import APIError
from supabase import AsyncClient

from tests.embedded.rest_support import rest, rows_of
from tests.stack import RunningStack


async def test_a_to_one_and_a_to_many_side(library: RunningStack, service: AsyncClient) -> None:
    books = await service.table("books").select("id, writer:authors!author_id(name)").order("id").execute()
    authors = await service.table("authors").select("name, books!author_id(title)").order("id").execute()
    assert books.data == [
        {"id": 1, "writer": {"name": "Ann"}},
        {"id": 2, "writer": {"name": "Ann"}},
        {"id": 3, "writer": {"name": "Bob"}},
        {"id": 4, "writer": None},
    ]
    assert [(row["name"], [book["title"] for book in row["books"]]) for row in rows_of(authors)] == [
        ("Ann", ["Cats and dogs", "The cat"]),
        ("Bob", ["Rain"]),
        ('Cleo (the "great"), jr.', []),
    ]


async def test_nested_filters_order_and_limit_stay_inside(library: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.table("authors")
        .select("id, books!books_author_id_fkey(id)")
        .gt("books.id", 0)
        .order("id", desc=True, foreign_table="books")
        .limit(1, foreign_table="books")
        .order("id")
        .execute()
    )
    assert answer.data == [{"id": 1, "books": [{"id": 2}]}, {"id": 2, "books": [{"id": 3}]}, {"id": 3, "books": []}]


async def test_inner_joins_drop_rows_and_are_counted(library: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.table("books")
        .select("id, author:authors!author_id!inner(name)", count=CountMethod.exact)
        .eq("author.name", "Ann")
        .order("id")
        .limit(1)
        .execute()
    )
    assert answer.data == [{"id": 1, "author": {"name": "Ann"}}]
    assert answer.count == 2


async def test_inner_joins_work_on_the_many_side_and_when_nested(library: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.table("authors")
        .select("id, books!author_id!inner(id, covers!inner(colour))", count=CountMethod.exact)
        .eq("books.covers.colour", "red")
        .execute()
    )
    assert answer.data == [{"id": 1, "books": [{"id": 1, "covers": {"colour": "red"}}]}]
    assert answer.count == 1


async def test_many_to_many_goes_through_the_junction(library: RunningStack, service: AsyncClient) -> None:
    books = await service.table("books").select("id, shelves(label)").order("id").execute()
    shelves = await service.table("shelves").select("id, books!book_shelves(id)").order("id").execute()
    assert [sorted(shelf["label"] for shelf in row["shelves"]) for row in rows_of(books)] == [
        ["new", "old"],
        [],
        ["old"],
        [],
    ]
    assert [sorted(book["id"] for book in row["books"]) for row in rows_of(shelves)] == [[1], [1, 3]]


async def test_one_to_one_is_an_object_from_both_sides(library: RunningStack, service: AsyncClient) -> None:
    books = await service.table("books").select("id, covers(colour)").in_("id", [1, 2]).order("id").execute()
    covers = await service.table("covers").select("colour, books(title)").eq("book_id", 3).execute()
    assert books.data == [{"id": 1, "covers": {"colour": "red"}}, {"id": 2, "covers": None}]
    assert covers.data == [{"colour": "blue", "books": {"title": "Rain"}}]


async def test_a_table_embeds_itself_both_ways(library: RunningStack, service: AsyncClient) -> None:
    children = await service.table("folders").select("name, folders(name)").eq("id", 1).execute()
    parent = await service.table("folders").select("name, parent_id(name)").eq("id", 2).execute()
    aliased = (
        await service.table("folders")
        .select("parent:parent_id(name), kids:folders!parent_id(id)")
        .eq("id", 1)
        .execute()
    )
    assert children.data == [{"name": "root", "folders": [{"name": "left"}, {"name": "right"}]}]
    assert parent.data == [{"name": "left", "parent_id": {"name": "root"}}]
    assert aliased.data == [{"parent": None, "kids": [{"id": 2}, {"id": 3}]}]


async def test_spread_lifts_the_columns_of_a_to_one_side(library: RunningStack, service: AsyncClient) -> None:
    answer = await service.table("books").select("id, ...authors!author_id(writer:name)").in_("id", [1, 4]).execute()
    assert answer.data == [{"id": 1, "writer": "Ann"}, {"id": 4, "writer": None}]
    with pytest.raises(APIError) as raised:
        await service.table("authors").select("...books!author_id(title)").execute()
    assert raised.value.code == "PGRST119"


async def test_rows_are_filtered_and_ordered_by_what_they_embed(library: RunningStack, service: AsyncClient) -> None:
    with_cover = await service.table("books").select("id, covers()").not_.is_("covers", "null").order("id").execute()
    without = (
        await service.table("books")
        .select("id, shelves(id)", count=CountMethod.exact)
        .is_("shelves", "null")
        .order("id")
        .execute()
    )
    assert with_cover.data == [{"id": 1}, {"id": 3}]
    assert [row["id"] for row in rows_of(without)] == [2, 4]
    assert without.count == 2
    with rest(library) as client:
        ordered = client.get("/books?select=id,authors!author_id(name)&order=authors(name).desc.nullslast,id")
        to_many = client.get("/authors?select=id,books!author_id(id)&order=books(id)")
    assert [row["id"] for row in ordered.json()] == [3, 1, 2, 4]
    assert (to_many.status_code, to_many.json()["code"]) == (400, "PGRST118")


async def test_logic_trees_reach_into_embedded_tables(library: RunningStack, service: AsyncClient) -> None:
    answer = (
        await service.table("authors")
        .select("id, books!author_id(id)")
        .or_("id.eq.1,price.is.null", reference_table="books")
        .order("id")
        .execute()
    )
    assert [[book["id"] for book in row["books"]] for row in rows_of(answer)] == [[1], [3], []]


async def test_counting_the_embedded_rows(library: RunningStack, service: AsyncClient) -> None:
    answer = await service.table("authors").select("id, books!author_id(count)").order("id").execute()
    assert [row["books"][0]["count"] for row in rows_of(answer)] == [2, 1, 0]


async def test_several_relationships_must_be_told_apart(library: RunningStack, service: AsyncClient) -> None:
    with pytest.raises(APIError) as raised:
        await service.table("books").select("authors(name)").execute()
    assert raised.value.code == "PGRST201"
    assert raised.value.message == (
        "Could not embed because more than one relationship was found for 'books' and 'authors'"
    )
    assert raised.value.hint is not None
    assert "'authors!books_author_id_fkey', 'authors!books_editor_id_fkey'" in raised.value.hint


async def test_an_unknown_relationship_is_refused(library: RunningStack, service: AsyncClient) -> None:
    with pytest.raises(APIError) as raised:
        await service.table("books").select("folders(name)").execute()
    assert raised.value.code == "PGRST200"
    assert raised.value.details == (
        "Searched for a foreign key relationship between 'books' and 'folders' in the schema 'public', "
        "but no matches were found."
    )
