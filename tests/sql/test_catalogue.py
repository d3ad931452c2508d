"""Rules for every table and function in `public`, read from the catalogue: a new one that forgets is found."""

from __future__ import annotations

from uuid import uuid4

import pytest

from scripts.migrate import migration_files
from tests.sql.conftest import Connect
from tests.sql.database import Database
from tests.sql.outcomes import error_of

#: All that a browser may do, by role. Everything else goes through the API or comes with a function that checks.
CLIENT_RIGHTS = {("anon", "products", "SELECT"), ("authenticated", "products", "SELECT")}
INSUFFICIENT_PRIVILEGE = "42501"

TABLES = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')"
FUNCTIONS = "select oid, proname, proconfig, prosecdef from pg_proc where pronamespace = 'public'::regnamespace"


def test_every_table_has_row_level_security(owner: Database) -> None:
    assert owner.rows(f"{TABLES} and relkind in ('r', 'p') and not relrowsecurity") == []


def test_there_are_no_views_which_would_pass_by_row_level_security(owner: Database) -> None:
    assert owner.rows(f"{TABLES} and relkind in ('v', 'm')") == []


def test_every_table_has_a_comment(owner: Database) -> None:
    assert owner.rows(f"{TABLES} and obj_description(oid, 'pg_class') is null") == []


def test_clients_may_read_products_and_nothing_else(owner: Database) -> None:
    granted = owner.rows(
        "select role.name, relname, kind.name from pg_class,"
        " unnest(array['anon', 'authenticated']) as role (name),"
        " unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) as kind (name)"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')"
        " and (has_table_privilege(role.name, pg_class.oid, kind.name)"
        "   or kind.name in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
        "     and has_any_column_privilege(role.name, pg_class.oid, kind.name))"
    )
    assert set(granted) == CLIENT_RIGHTS


def test_clients_may_use_no_sequence(owner: Database) -> None:
    assert (
        owner.rows(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'"
            " and (has_sequence_privilege('anon', oid, 'usage, select, update')"
            "   or has_sequence_privilege('authenticated', oid, 'usage, select, update'))"
        )
        == []
    )


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_clients_may_call_no_function(owner: Database, role: str) -> None:
    assert owner.rows(f"{FUNCTIONS} and has_function_privilege(%s, oid, 'execute')", role) == []


def test_public_may_call_no_function(owner: Database) -> None:
    """A right of everybody's is also that of roles to come."""
    assert (
        owner.rows(
            f"{FUNCTIONS} and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) as acl"
            " where acl.grantee = 0)"
        )
        == []
    )


def test_the_service_may_call_every_function_and_write_every_table(owner: Database) -> None:
    assert owner.rows(f"{FUNCTIONS} and not has_function_privilege('service_role', oid, 'execute')") == []
    assert (
        owner.rows(
            f"{TABLES} and exists (select from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as kind (name)"
            " where not has_table_privilege('service_role', pg_class.oid, kind.name))"
        )
        == []
    )


def test_every_function_pins_its_search_path(owner: Database) -> None:
    """Above all those with their owner's rights: else a caller's schema decides what their names mean."""
    functions = owner.rows(FUNCTIONS)
    assert functions
    assert [name for _, name, settings, _ in functions if 'search_path=""' not in (settings or [])] == []


def test_only_the_bell_runs_with_its_owners_rights(owner: Database) -> None:
    assert [name for _, name, _, definer in owner.rows(FUNCTIONS) if definer] == ["ring_workers_v1"]


def test_every_function_carries_a_version(owner: Database) -> None:
    assert [name for _, name, _, _ in owner.rows(FUNCTIONS) if name[-3:-1] != "_v"] == []


def test_no_function_has_two_signatures(owner: Database) -> None:
    """PostgREST could not tell them apart."""
    names = [name for _, name, _, _ in owner.rows(FUNCTIONS)]
    assert len(names) == len(set(names))


def test_every_foreign_key_can_be_followed_backwards(owner: Database) -> None:
    """Without an index, deleting a product reads the other table from end to end."""
    assert (
        owner.rows(
            "select conname from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace"
            " and not exists (select from pg_index where indrelid = conrelid and indkey[0] = conkey[1]"
            "   and (indpred is null or pg_get_expr(indpred, indrelid) like '%IS NOT NULL%'))"
        )
        == []
    )


def test_realtime_sends_products_and_nothing_else_with_the_whole_old_row(owner: Database) -> None:
    published = "select schemaname, tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    assert owner.rows(published) == [("public", "products")]
    assert owner.value("select relreplident from pg_class where oid = 'public.products'::regclass") == "f"


def test_the_schema_says_which_migration_it_has_seen(database: Database) -> None:
    assert database.call("schema_version_v1") == migration_files()[-1].name.partition("_")[0]


def test_the_buckets_are_there(owner: Database) -> None:
    assert owner.rows("select id, public, file_size_limit from storage.buckets order by id") == [
        ("plant-images", True, 52_428_800),
        ("plant-images-private", False, 52_428_800),
    ]


class TestWhoSeesWhat:
    @pytest.fixture
    def user(self, owner: Database) -> str:
        user = str(uuid4())
        owner.execute("insert into auth.users (id) values (%s)", user)
        return user

    @pytest.fixture
    def titles(self, database: Database, user: str) -> set[str]:
        database.create_product(product={"title": "Public"})
        database.create_product(product={"title": "Mine", "visibility": "private", "owner_id": user})
        database.create_product(product={"title": "Nobody's", "visibility": "private"})
        return {title for (title,) in database.rows("select title from public.products")}

    def seen_by(self, client: Database, user: str | None = None) -> set[str]:
        if user:
            client.execute("select set_config('request.jwt.claims', %s, false)", f'{{"sub": "{user}"}}')
        return {title for (title,) in client.rows("select title from public.products")}

    def test_a_visitor_sees_public_products(self, connect: Connect, titles: set[str]) -> None:
        assert self.seen_by(connect("anon")) == {"Public"}

    def test_a_user_sees_private_ones_of_their_own(self, connect: Connect, titles: set[str], user: str) -> None:
        assert self.seen_by(connect("authenticated"), user) == {"Public", "Mine"}

    def test_a_user_does_not_see_those_of_others(self, connect: Connect, titles: set[str]) -> None:
        assert self.seen_by(connect("authenticated"), str(uuid4())) == {"Public"}

    def test_the_service_sees_all(self, database: Database, titles: set[str]) -> None:
        assert self.seen_by(database) == titles

    def test_a_policy_of_the_shops_own_cannot_show_what_is_private(
        self, connect: Connect, owner: Database, titles: set[str]
    ) -> None:
        owner.execute("create policy everything on public.products for select using (true)")
        try:
            assert self.seen_by(connect("anon")) == {"Public"}
        finally:
            owner.execute("drop policy everything on public.products")

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    @pytest.mark.parametrize(
        "statement",
        [
            "insert into public.products (title) values ('x')",
            "update public.products set title = 'x' where true",
            "delete from public.products where true",
            "select * from public.product_private",
            "select * from public.calls",
            "select public.queue_health_v1()",
            "select public.create_product_v1('{}', '{}', '{}')",
            "select public.ring_workers_v1()",
        ],
    )
    def test_a_client_is_refused_all_else(self, connect: Connect, role: str, statement: str) -> None:
        client = connect(role)
        assert error_of(lambda: client.execute(statement)).sqlstate == INSUFFICIENT_PRIVILEGE

    def test_a_private_product_outlives_its_owner_unseen(
        self, connect: Connect, owner: Database, titles: set[str], user: str
    ) -> None:
        owner.execute("delete from auth.users where id = %s", user)
        assert owner.value("select count(*) from public.products") == 3
        assert self.seen_by(connect("authenticated"), user) == {"Public"}
