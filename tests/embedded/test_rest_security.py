"""Who may see and do what: keys, tokens, grants, row level security; and nothing can be slipped into the SQL."""

from __future__ import annotations

import time
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.embedded.rest_support import create, new_name, rest, user_token
from tests.stack import RunningStack

ANN, BOB = str(uuid.uuid4()), str(uuid.uuid4())

DIARY = """
create table {name} (id int primary key, owner_id uuid not null default auth.uid(), text text);
alter table {name} enable row level security;
grant select, insert, update, delete on {name} to authenticated, service_role;
grant select on {name} to anon;
create policy own on {name} to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
insert into {name} values (1, '{ann}', 'Ann''s'), (2, '{bob}', 'Bob''s');
"""


@pytest.fixture
def diary(stack: RunningStack) -> str:
    """A table where everybody sees their own rows."""
    name = new_name("diary")
    create(stack, DIARY.format(name=name, ann=ANN, bob=BOB))
    return name


def test_a_new_table_is_closed_to_every_role_until_granted(stack: RunningStack) -> None:
    """Hosted projects grant nothing by default, not even to the service role."""
    name = new_name("closed")
    create(stack, f"create table {name} (id serial); create function {name}_f() returns int language sql as 'select 1'")
    with rest(stack) as service, rest(stack, key=stack.publishable_key) as anonymous:
        with rest(stack, user_token(stack, ANN)) as user:
            answers = [client.get(f"/{name}") for client in (service, user, anonymous)]
        written = service.post(f"/{name}", json={})
    assert [answer.status_code for answer in answers] == [403, 403, 401]
    assert {answer.json()["code"] for answer in answers} == {"42501"}
    assert answers[0].json()["message"] == f"permission denied for table {name}"
    assert written.json()["code"] == "42501"


def test_policies_decide_by_the_users_token(stack: RunningStack, diary: str) -> None:
    with rest(stack, user_token(stack, ANN)) as ann, rest(stack, key=stack.publishable_key) as anonymous:
        assert [row["id"] for row in ann.get(f"/{diary}").json()] == [1]
        assert anonymous.get(f"/{diary}").json() == []
        assert (
            ann.patch(f"/{diary}?id=eq.2", json={"text": "x"}, headers={"Prefer": "return=representation"}).json() == []
        )
        assert ann.delete(f"/{diary}?id=eq.2", headers={"Prefer": "count=exact"}).headers["content-range"] == "*/0"
        stolen = ann.post(f"/{diary}", json={"id": 3, "owner_id": BOB})
        mine = ann.post(f"/{diary}", json={"id": 4}, headers={"Prefer": "return=representation"})
    with rest(stack) as service:
        assert [row["id"] for row in service.get(f"/{diary}?order=id").json()] == [1, 2, 4]
    assert (stolen.status_code, stolen.json()["code"]) == (403, "42501")
    assert stolen.json()["message"] == f'new row violates row-level security policy for table "{diary}"'
    assert mine.json()[0]["owner_id"] == ANN


@pytest.mark.parametrize("key", ["anon_jwt", "service_role_jwt", "publishable_key", "secret_key"])
def test_both_generations_of_keys_work(stack: RunningStack, diary: str, key: str) -> None:
    with rest(stack, key=getattr(stack, key)) as client:
        answer = client.get(f"/{diary}")
        by_query = client.get(f"/{diary}?apikey={getattr(stack, key)}", headers={"apikey": "", "Authorization": ""})
    assert len(answer.json()) == (0 if key in ("anon_jwt", "publishable_key") else 2)
    assert by_query.json() == answer.json()


def test_without_a_key_or_with_a_wrong_one_the_gateway_answers(stack: RunningStack) -> None:
    with rest(stack) as client:
        missing = client.get("/x", headers={"apikey": "", "Authorization": ""})
        wrong = client.get("/x", headers={"apikey": "sb_secret_wrong", "Authorization": ""})
        users = client.get("/x", headers={"apikey": user_token(stack, ANN), "Authorization": ""})
        browser = client.get("/x", headers={"User-Agent": "Mozilla/5.0 (X11; Linux)"})
    assert missing.status_code == wrong.status_code == users.status_code == browser.status_code == 401
    assert missing.json() == {
        "message": "No API key found in request",
        "hint": "No `apikey` request header or url param was found.",
    }
    assert wrong.json()["message"] == users.json()["message"] == "Invalid API key"
    assert browser.json()["message"] == "Forbidden use of secret API key in browser"


def _tokens(stack: RunningStack) -> dict[str, str]:
    claims = {"role": "service_role", "sub": ANN, "exp": int(time.time()) + 600}
    expired = claims | {"exp": int(time.time()) - 600}
    return {
        "expired": jwt.encode(expired, stack.jwt_secret, "HS256"),
        "early": jwt.encode(claims | {"nbf": int(time.time()) + 600}, stack.jwt_secret, "HS256"),
        "foreign secret": jwt.encode(claims, "x" * 40, "HS256"),
        "foreign key": jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "unsigned": jwt.encode(claims, "", "none"),
        "two parts": "a.b",
        "no JSON": "a.b.c",
    }


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("expired", "PGRST303", "JWT expired"),
        ("early", "PGRST303", "JWT not yet valid"),
        ("foreign secret", "PGRST301", None),
        ("foreign key", "PGRST301", None),
        ("unsigned", "PGRST301", None),
        ("two parts", "PGRST301", "Expected 3 parts in JWT; got 2"),
        ("no JSON", "PGRST301", None),
    ],
)
def test_tokens_that_must_not_be_trusted_are_refused(
    stack: RunningStack, kind: str, code: str, message: str | None
) -> None:
    with rest(stack, _tokens(stack)[kind]) as client:
        answer = client.get("/anything")
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert message is None or answer.json()["message"] == message


def test_a_token_cannot_take_a_role_that_authenticator_may_not(stack: RunningStack) -> None:
    with rest(stack, user_token(stack, ANN, role="supabase_admin")) as admin:
        superuser = admin.get("/rpc/anything")
    with rest(stack, user_token(stack, ANN, role="nobody_knows")) as nobody:
        table = new_name("any")
        create(stack, f"create table {table} ()")
        unknown = nobody.get(f"/{table}")
    with rest(stack, user_token(stack, ANN, role="postgres")) as owner:
        postgres = owner.get(f"/{table}")
    assert superuser.status_code in (403, 404)
    assert (unknown.status_code, unknown.json()["message"]) == (401, 'role "nobody_knows" does not exist')
    assert (postgres.status_code, postgres.json()["code"]) == (403, "42501")


INJECTIONS = [
    "x'; drop table {table}; --",
    'x"; drop table {table}; --',
    "1); delete from {table}; --",
    "%(p0)s", "%s", "$1", "\\'; select 1", "{{a,b}}", "x' or '1'='1", "/* */", ";",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_can_be_slipped_into_the_sql(stack: RunningStack, diary: str, text: str) -> None:
    """Wherever a text can stand it is a value, a quoted name, or refused."""
    text = text.format(table=diary)
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    with rest(stack, user_token(stack, ANN)) as ann:
        requests = [
            ("GET", f"/{diary}", {"text": f"eq.{text}"}),
            ("GET", f"/{diary}", {"text": f"in.({quoted},b)"}),
            ("GET", f"/{diary}", {"or": f"(text.eq.{quoted},text.like.{quoted})"}),
            ("GET", f"/{diary}", {quoted: "eq.1"}),
            ("GET", f"/{diary}", {"select": quoted}),
            ("GET", f"/{diary}", {"select": f"{quoted}:text"}),
            ("GET", f"/{diary}", {"select": f"text::{text}"}),
            ("GET", f"/{diary}", {"select": f"text->{quoted}"}),
            ("GET", f"/{diary}", {"select": f"{quoted}(id)"}),
            ("GET", f"/{diary}", {"order": quoted}),
            ("GET", f"/{diary}", {"limit": text}),
            ("GET", f"/{diary}", {"text": f"fts({text}).a"}),
            ("GET", f"/{diary}", {"text": f"is.{text}"}),
            ("POST", f"/{diary}", {"columns": quoted}),
            ("POST", f"/{diary}", {"on_conflict": quoted}),
            ("GET", f"/{text.replace('/', '')}", {}),
            ("POST", f"/rpc/{text.replace('/', '')}", {}),
            ("DELETE", f"/{diary}", {"text": f"eq.{text}"}),
        ]
        for method, path, parameters in requests:
            headers = {"Prefer": f"resolution=merge-duplicates, timezone={text}"}
            answer = ann.request(method, path, params=parameters, json={text: 1}, headers=headers)
            assert answer.status_code < 500, (method, path, parameters, answer.text)
            assert '"code": "42601"' not in answer.text, (parameters, answer.text)  # a syntax error: it reached the SQL
            if answer.is_success and method == "GET":
                assert all(row.get("id", 1) != 2 for row in answer.json())
    with rest(stack) as service:
        assert [row["id"] for row in service.get(f"/{diary}?order=id").json()] == [1, 2]


def test_a_nul_character_is_refused(stack: RunningStack, diary: str) -> None:
    with rest(stack) as service:
        value = service.get(f"/{diary}?text=eq.%00")
        name = service.get(f"/{diary}?%00=eq.1")
    assert (value.status_code, value.json()["code"]) == (400, "22021")
    assert name.status_code == 400


def test_what_one_request_sets_does_not_reach_the_next(stack: RunningStack, diary: str) -> None:
    """The pool's connections keep neither role nor claims."""
    name = new_name("leak")
    create(
        stack,
        f"create function {name}() returns json language sql stable as "
        "$$ select json_build_object('user', auth.uid(), 'role', current_user) $$",
    )
    with rest(stack, user_token(stack, ANN)) as ann, rest(stack, key=stack.publishable_key) as anonymous:
        for _ in range(12):
            assert ann.post(f"/rpc/{name}").json() == {"user": ANN, "role": "authenticated"}
            assert anonymous.post(f"/rpc/{name}").json() == {"user": None, "role": "anon"}
