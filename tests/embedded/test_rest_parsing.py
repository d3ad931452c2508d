"""Query strings, before any database: what was written is what is understood, and rubbish is refused politely."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.rest.errors import RestError
from embedded.rest.parse_query import parse_query
from embedded.rest.query import (
    Comparison,
    Field,
    Filter,
    JsonStep,
    LogicGroup,
    Membership,
    RowRange,
    SelectedEmbed,
    SelectedField,
)
from embedded.rest.sql import array_literal, identifier

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(TEXT)
def test_a_plain_value_is_everything_after_the_operator(value: str) -> None:
    query = parse_query([("name", f"eq.{value}")])
    assert query.root_conditions == (
        Filter(field=Field(name="name"), operation=Comparison(operator="eq", value=value)),
    )


@given(st.lists(TEXT, min_size=1))
def test_quoted_list_elements_come_back_as_they_were(values: list[str]) -> None:
    query = parse_query([("name", f"in.({','.join(map(quoted, values))})")])
    [condition] = query.root_conditions
    assert isinstance(condition, Filter)
    expected = () if values == [""] else tuple(values)
    assert condition.operation == Membership(values=expected)


@given(TEXT, TEXT)
def test_quoted_values_in_a_logic_tree_come_back_as_they_were(first: str, second: str) -> None:
    query = parse_query([("or", f"(a.eq.{quoted(first)},not.and(b.gt.{quoted(second)},c.is.null))")])
    [group] = query.root_conditions
    assert isinstance(group, LogicGroup)
    one, inner = group.conditions
    assert isinstance(one, Filter)
    assert one.operation == Comparison(operator="eq", value=first)
    assert isinstance(inner, LogicGroup)
    assert (inner.operator, inner.is_negated) == ("and", True)
    two = inner.conditions[0]
    assert isinstance(two, Filter)
    assert two.operation == Comparison(operator="gt", value=second)


@given(TEXT.filter(bool))
def test_a_quoted_name_may_hold_anything(name: str) -> None:
    query = parse_query([("select", f"{quoted(name)}:{quoted(name)}"), (quoted(name), "eq.1")])
    assert query.select == (SelectedField(field=Field(name=name), alias=name),)
    [condition] = query.root_conditions
    assert isinstance(condition, Filter)
    assert condition.field.name == name


PARAMETERS = ["select", "order", "limit", "offset", "or", "not.and", "columns", "on_conflict", "a", "a.b", "a->b"]


@given(st.sampled_from(PARAMETERS), st.one_of(TEXT, st.text("abc.,:()\"'\\!*->[]{} 01nots", max_size=30)))
def test_rubbish_is_understood_or_refused_but_never_a_crash(key: str, value: str) -> None:
    with contextlib.suppress(RestError):
        parse_query([(key, value)])


@given(TEXT)
def test_a_quoted_identifier_has_no_way_out(name: str) -> None:
    sql = identifier(name)
    assert sql[0] == sql[-1] == '"'
    assert sql[1:-1].replace('""', "").count('"') == 0
    assert sql[1:-1].replace('""', '"').replace("%%", "%") == name


@given(st.lists(TEXT))
def test_an_array_literal_ends_where_it_should(values: list[str]) -> None:
    literal = array_literal(values)
    inside_quotes, escaped, ends = False, False, []
    for position, character in enumerate(literal):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            inside_quotes = not inside_quotes
        elif character == "}" and not inside_quotes:
            ends.append(position)
    assert ends == [len(literal) - 1]


def test_embeds_nest_with_alias_hint_join_and_spread() -> None:
    query = parse_query([("select", "id,who:authors!fk!inner(name,...towns(town:name)),none()")])
    field, embed, empty = query.select
    assert field == SelectedField(field=Field(name="id"))
    assert isinstance(embed, SelectedEmbed)
    assert (embed.alias, embed.relation, embed.hint, embed.is_inner) == ("who", "authors", "fk", True)
    spread = embed.items[1]
    assert isinstance(spread, SelectedEmbed)
    assert (spread.relation, spread.is_spread) == ("towns", True)
    assert empty == SelectedEmbed(relation="none")


def test_json_paths_have_keys_and_indexes() -> None:
    query = parse_query([("select", 'data->a-b->>0,data->-1->"x.y"::text')])
    first, second = query.select
    assert isinstance(first, SelectedField)
    assert first.field.json_path == (JsonStep(arrow="->", key="a-b"), JsonStep(arrow="->>", key=0))
    assert isinstance(second, SelectedField)
    assert second.field.json_path == (JsonStep(arrow="->", key=-1), JsonStep(arrow="->", key="x.y"))
    assert second.cast == "text"


def test_only_a_get_of_a_function_takes_arguments() -> None:
    query = parse_query([("a", "1"), ("b", "eq.2"), ("c", "x.y")], takes_arguments=True)
    assert query.arguments == (("a", "1"), ("c", "x.y"))
    assert len(query.root_conditions) == 1
    with pytest.raises(RestError):
        parse_query([("a", "1")])


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (RowRange(offset=2), RowRange(limit=5), RowRange(offset=2, limit=3)),
        (RowRange(offset=8), RowRange(limit=5), RowRange(offset=8, limit=0)),
        (RowRange(offset=1, limit=10), RowRange(offset=3, limit=2), RowRange(offset=3, limit=2)),
        (RowRange(), RowRange(), RowRange()),
    ],
)
def test_two_ranges_meet_in_what_both_hold(one: RowRange, other: RowRange, both: RowRange) -> None:
    assert one.within(other) == other.within(one) == both
