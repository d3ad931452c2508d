"""What the tests of REST share: a small library to read from, and waiting for the schema to be read again."""

from __future__ import annotations

import itertools
import time
from typing import Any, cast

import httpx
import jwt
import psycopg
from postgrest import APIResponse

from tests.stack import RunningStack

PATIENCE_S = 15.0  # a shared machine may be slow

_numbers = itertools.count(1)

LIBRARY = """
create schema if not exists hidden;
create table hidden.secrets (id int primary key, text text);
create type mood as enum ('good', 'bad');
create table authors (
  id int primary key, name text not null, born date, tags text[] not null default '{}',
  data jsonb not null default '{}', mood mood, active tsrange, email varchar(20)
);
create table books (
  id int primary key, title text not null, author_id int references authors, editor_id int references authors,
  price numeric(8, 2), words tsvector generated always as (to_tsvector('english', title)) stored
);
create table covers (book_id int primary key references books, colour text not null);
create table shelves (id int primary key, label text not null);
create table book_shelves (
  book_id int references books, shelf_id int references shelves, primary key (book_id, shelf_id)
);
create table folders (id int primary key, parent_id int references folders, name text not null);
create table "odd ""table%" (id int primary key, "odd ""column%" text);

grant select on all tables in schema public to anon, authenticated, service_role;
grant usage on schema hidden to anon, authenticated, service_role;
grant select on all tables in schema hidden to anon, authenticated, service_role;

insert into authors values
  (1, 'Ann', '1950-01-02', '{prose,"two, words"}', '{"home": {"city": "Rome"}, "n": [1, 2]}', 'good',
   '[2020-01-01,2021-01-01)', 'ann@example.org'),
  (2, 'Bob', null, '{poems}', '{"home": {"city": "Oslo"}}', 'bad', '[2022-01-01,2023-01-01)', null),
  (3, 'Cleo (the "great"), jr.', '1970-05-06', '{}', '{}', null, null, null);
insert into books values
  (1, 'Cats and dogs', 1, 2, 10.50), (2, 'The cat', 1, null, 20), (3, 'Rain', 2, 2, null), (4, 'Alone', null, null, 5);
insert into covers values (1, 'red'), (3, 'blue');
insert into shelves values (1, 'new'), (2, 'old');
insert into book_shelves values (1, 1), (1, 2), (3, 2);
insert into folders values (1, null, 'root'), (2, 1, 'left'), (3, 1, 'right');
insert into "odd ""table%" values (1, 'found');
"""


def rows_of(answer: APIResponse) -> list[dict[str, Any]]:
    """The client's answer, of which its types say only that it is JSON."""
    return cast(list[dict[str, Any]], answer.data)


def new_name(kind: str) -> str:
    """The name of a table or function that no other test uses."""
    return f"{kind}_{next(_numbers)}"


def create(stack: RunningStack, sql: str) -> None:
    """Run DDL as a migration would, and wait until the REST service has read the schema again.

    A table made last tells: as soon as it is known, so is all that was made before.
    """
    marker = new_name("marker")
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(sql.encode())
        connection.execute(f"create table public.{marker} ()".encode())
    deadline = time.monotonic() + PATIENCE_S
    with rest(stack) as client:
        while client.get(f"/{marker}").status_code == 404:
            if time.monotonic() > deadline:
                raise TimeoutError("The schema was not read again.")
            time.sleep(0.01)


def rest(stack: RunningStack, token: str | None = None, *, key: str | None = None) -> httpx.Client:
    """Bare HTTP below `/rest/v1`, with the secret key unless another key or a user's token is given."""
    key = key or (stack.publishable_key if token else stack.secret_key)
    headers = {"apikey": key, "Authorization": f"Bearer {token or key}"}
    return httpx.Client(base_url=f"{stack.url}/rest/v1", headers=headers, timeout=30)


def user_token(stack: RunningStack, user_id: str, **claims: object) -> str:
    """An access token signed with the project's secret."""
    return jwt.encode(
        {"role": "authenticated", "sub": user_id, "aud": "authenticated", "exp": int(time.time()) + 600, **claims},
        stack.jwt_secret,
        "HS256",
    )
