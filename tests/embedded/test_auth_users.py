"""Signing up, in and out, refreshing, and the user's own data, through the official client."""

from __future__ import annotations

import time
import uuid
from typing import cast

import httpx
import jwt
import psycopg
import pytest
from supabase import AsyncClient
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError
from supabase_auth.types import SignOutScope

from tests.embedded.conftest import ClientFactory
from tests.stack import RunningStack

PASSWORD = "correct horse"


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.org"


async def sign_up(client: AsyncClient, **data: object) -> tuple[str, str]:
    """A new user's e-mail address and id; the client is signed in as that user."""
    email = new_email()
    answer = await client.auth.sign_up({"email": email, "password": PASSWORD, "options": {"data": dict(data)}})
    assert answer.user is not None
    return email, answer.user.id


async def test_a_new_user_is_signed_in_at_once(anonymous: AsyncClient, stack: RunningStack) -> None:
    email = new_email()
    answer = await anonymous.auth.sign_up(
        {"email": email.upper(), "password": PASSWORD, "options": {"data": {"name": "Ann"}}}
    )
    assert answer.session is not None
    user = answer.session.user
    assert (user.email, user.role, user.aud, user.is_anonymous) == (email, "authenticated", "authenticated", False)
    assert user.user_metadata == {"name": "Ann"}
    assert user.app_metadata == {"provider": "email", "providers": ["email"]}
    assert user.email_confirmed_at is not None
    assert user.identities is not None
    assert [identity.provider for identity in user.identities] == ["email"]
    assert answer.session.expires_in == 3600
    assert answer.session.expires_at == pytest.approx(time.time() + 3600, abs=60)


async def test_access_tokens_are_es256_and_checked_with_the_public_key(
    anonymous: AsyncClient, stack: RunningStack
) -> None:
    _, user_id = await sign_up(anonymous)
    session = await anonymous.auth.get_session()
    assert session is not None
    header = jwt.get_unverified_header(session.access_token)
    found = await anonymous.auth.get_claims(session.access_token)
    assert header["alg"] == "ES256"
    assert found is not None
    claims = dict(found["claims"])
    assert claims["sub"] == user_id
    assert claims["iss"] == f"{stack.url}/auth/v1"
    assert (claims["role"], claims["aud"], claims["aal"]) == ("authenticated", "authenticated", "aal1")
    assert claims["is_anonymous"] is False
    assert [entry["method"] for entry in cast(list[dict[str, object]], claims["amr"])] == ["password"]


async def test_the_public_key_is_served_to_everybody(stack: RunningStack, http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{stack.url}/auth/v1/.well-known/jwks.json")
    [key] = answer.json()["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}
    assert (key["kty"], key["crv"], key["alg"], key["use"], key["key_ops"]) == (
        "EC",
        "P-256",
        "ES256",
        "sig",
        ["verify"],
    )


async def test_signing_in_needs_the_right_password(anonymous: AsyncClient) -> None:
    email, user_id = await sign_up(anonymous)
    answer = await anonymous.auth.sign_in_with_password({"email": email.upper(), "password": PASSWORD})
    assert answer.user is not None
    assert answer.user.id == user_id
    for wrong_email, password in ((email, "wrong password"), (new_email(), PASSWORD)):
        with pytest.raises(AuthApiError) as raised:
            await anonymous.auth.sign_in_with_password({"email": wrong_email, "password": password})
        assert (raised.value.status, raised.value.code) == (400, "invalid_credentials")
        assert raised.value.message == "Invalid login credentials"


async def test_an_address_signs_up_once(anonymous: AsyncClient) -> None:
    email, _ = await sign_up(anonymous)
    with pytest.raises(AuthApiError) as raised:
        await anonymous.auth.sign_up({"email": email, "password": PASSWORD})
    assert (raised.value.status, raised.value.code) == (422, "user_already_exists")


async def test_weak_passwords_and_bad_addresses_are_refused(anonymous: AsyncClient) -> None:
    with pytest.raises(AuthWeakPasswordError) as weak:
        await anonymous.auth.sign_up({"email": new_email(), "password": "short"})
    with pytest.raises(AuthApiError) as bad:
        await anonymous.auth.sign_up({"email": "nobody", "password": PASSWORD})
    with pytest.raises(AuthApiError) as long:
        await anonymous.auth.sign_up({"email": new_email(), "password": "x" * 73})
    assert weak.value.reasons == ["length"]
    assert weak.value.message == "Password should be at least 6 characters."
    assert (bad.value.status, bad.value.code) == (400, "validation_failed")
    assert (long.value.status, long.value.code) == (400, "validation_failed")


async def test_anonymous_users_become_permanent_with_an_address(anonymous: AsyncClient) -> None:
    answer = await anonymous.auth.sign_in_anonymously({"options": {"data": {"cart": 1}}})
    assert answer.session is not None
    user_id = answer.session.user.id
    assert answer.session.user.is_anonymous
    assert answer.session.user.role == "authenticated"
    claims = jwt.decode(answer.session.access_token, options={"verify_signature": False})
    assert claims["is_anonymous"] is True
    with pytest.raises(AuthApiError) as raised:
        await anonymous.auth.update_user({"password": PASSWORD})
    assert raised.value.code == "validation_failed"
    email = new_email()
    await anonymous.auth.update_user({"email": email, "password": PASSWORD})
    again = await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert again.user is not None
    assert (again.user.id, again.user.is_anonymous, again.user.user_metadata) == (user_id, False, {"cart": 1})


async def test_users_read_and_change_their_own_data(anonymous: AsyncClient) -> None:
    email, user_id = await sign_up(anonymous, name="Ann", age=1)
    await anonymous.auth.update_user({"data": {"age": 2, "name": None}})
    found = await anonymous.auth.get_user()
    assert found is not None
    assert (found.user.id, found.user.email, found.user.user_metadata) == (user_id, email, {"age": 2})
    with pytest.raises(AuthApiError) as same:
        await anonymous.auth.update_user({"password": PASSWORD})
    assert (same.value.status, same.value.code) == (422, "same_password")
    await anonymous.auth.update_user({"password": "another password"})
    await anonymous.auth.sign_in_with_password({"email": email, "password": "another password"})


async def test_users_cannot_give_themselves_rights(
    anonymous: AsyncClient, stack: RunningStack, http: httpx.AsyncClient
) -> None:
    await sign_up(anonymous)
    session = await anonymous.auth.get_session()
    assert session is not None
    answer = await http.put(
        f"{stack.url}/auth/v1/user",
        json={"app_metadata": {"admin": True}},
        headers={"apikey": stack.publishable_key, "Authorization": f"Bearer {session.access_token}"},
    )
    assert (answer.status_code, answer.json()["error_code"]) == (403, "not_admin")


async def test_refresh_tokens_rotate_and_the_old_one_works_a_little_longer(anonymous: AsyncClient) -> None:
    await sign_up(anonymous)
    first = await anonymous.auth.get_session()
    assert first is not None
    second = (await anonymous.auth.refresh_session(first.refresh_token)).session
    again = (await anonymous.auth.refresh_session(first.refresh_token)).session
    assert second is not None
    assert again is not None
    assert second.refresh_token != first.refresh_token
    assert again.refresh_token == second.refresh_token
    assert jwt.decode(second.access_token, options={"verify_signature": False})["amr"][0]["method"] == "password"


async def test_a_refresh_token_used_again_too_late_ends_the_session(
    anonymous: AsyncClient, stack: RunningStack
) -> None:
    await sign_up(anonymous)
    first = await anonymous.auth.get_session()
    assert first is not None
    second = (await anonymous.auth.refresh_session(first.refresh_token)).session
    assert second is not None
    third = (await anonymous.auth.refresh_session(second.refresh_token)).session
    assert third is not None
    with psycopg.connect(stack.superuser_url) as connection:
        connection.execute(
            "update auth.refresh_tokens set updated_at = now() - interval '11 s' where token = %s",
            (first.refresh_token,),
        )
    with pytest.raises(AuthApiError) as reused:
        await anonymous.auth.refresh_session(first.refresh_token)
    with pytest.raises(AuthApiError) as revoked:
        await anonymous.auth.refresh_session(third.refresh_token)
    assert (reused.value.status, reused.value.message) == (400, "Invalid Refresh Token: Already Used")
    assert revoked.value.message == "Invalid Refresh Token: Already Used"


async def test_an_unknown_refresh_token_is_refused(anonymous: AsyncClient) -> None:
    with pytest.raises(AuthApiError) as raised:
        await anonymous.auth.refresh_session("never-issued")
    assert (raised.value.status, raised.value.code) == (400, "refresh_token_not_found")


@pytest.mark.parametrize(
    ("scope", "mine_lives", "other_lives"), [("local", False, True), ("others", True, False), ("global", False, False)]
)
async def test_signing_out_ends_the_sessions_of_its_scope(
    make_client: ClientFactory, stack: RunningStack, scope: SignOutScope, mine_lives: bool, other_lives: bool
) -> None:
    client, other = await make_client(stack.publishable_key), await make_client(stack.publishable_key)
    email, _ = await sign_up(client)
    signed_in = await other.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    mine, others = await client.auth.get_session(), signed_in.session
    assert mine is not None
    assert others is not None
    await client.auth.sign_out({"scope": scope})
    for access_token, lives in ((mine.access_token, mine_lives), (others.access_token, other_lives)):
        if lives:
            assert await other.auth.get_user(access_token) is not None
        else:
            with pytest.raises(AuthApiError) as raised:
                await other.auth.get_user(access_token)
            assert (raised.value.status, raised.value.code) == (403, "session_not_found")


async def test_policies_see_the_signed_in_user(
    anonymous: AsyncClient, make_client: ClientFactory, stack: RunningStack
) -> None:
    """A token of Auth opens REST, and a trigger on auth.users makes the profile, as many projects have it."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("""
            create table if not exists profiles (
              id uuid primary key references auth.users on delete cascade, email text
            );
            alter table profiles enable row level security;
            grant select on profiles to authenticated;
            drop policy if exists own on profiles;
            create policy own on profiles for select to authenticated using (id = auth.uid() and email = auth.email());
            create or replace function make_profile() returns trigger language plpgsql security definer
              set search_path = '' as $$ begin
              insert into public.profiles values (new.id, new.email); return new; end $$;
            create or replace trigger make_profile after insert on auth.users
              for each row execute function make_profile();
        """)
    try:
        email, user_id = await sign_up(anonymous)
        session = await anonymous.auth.get_session()
        assert session is not None
        client = await make_client(stack.publishable_key, session.access_token)
        answer = await client.table("profiles").select("*").execute()
        assert answer.data == [{"id": user_id, "email": email}]
    finally:
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            connection.execute("drop trigger make_profile on auth.users")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "signup", "{broken", 400, "bad_json"),
        ("POST", "signup", "[]", 400, "bad_json"),
        ("POST", "signup", '{"phone": "123", "password": "123456"}', 400, "phone_provider_disabled"),
        ("POST", "signup", '{"data": 5}', 400, "validation_failed"),
        ("POST", "token?grant_type=magic", "{}", 400, "invalid_credentials"),
        ("POST", "token?grant_type=refresh_token", "{}", 400, "validation_failed"),
        ("GET", "user", "", 403, "bad_jwt"),
        ("POST", "logout?scope=cosmic", "", 400, "validation_failed"),
        ("POST", "otp", "{}", 404, "not_found"),
        ("GET", "admin/users", "", 403, "not_admin"),
    ],
)
async def test_errors_have_gotrues_form(
    stack: RunningStack, http: httpx.AsyncClient, method: str, path: str, body: str, status: int, code: str
) -> None:
    answer = await http.request(
        method, f"{stack.url}/auth/v1/{path}", content=body, headers={"apikey": stack.publishable_key}
    )
    assert answer.status_code == status
    assert answer.json()["code"] == status
    assert answer.json()["error_code"] == code
    assert answer.json()["msg"]


async def test_settings_and_health_need_a_key(stack: RunningStack, http: httpx.AsyncClient) -> None:
    for path in ("settings", "health"):
        assert (await http.get(f"{stack.url}/auth/v1/{path}")).status_code == 401
        answer = await http.get(f"{stack.url}/auth/v1/{path}", headers={"apikey": stack.publishable_key})
        assert answer.status_code == 200


async def test_a_forged_or_expired_token_is_nobodys(stack: RunningStack, http: httpx.AsyncClient) -> None:
    expired = jwt.encode({"sub": str(uuid.uuid4()), "exp": int(time.time()) - 100}, stack.jwt_secret, "HS256")
    stranger = jwt.encode({"sub": str(uuid.uuid4()), "exp": int(time.time()) + 100}, stack.jwt_secret, "HS256")
    codes = []
    for token in (expired, "a.b.c", stranger):
        headers = {"apikey": stack.publishable_key, "Authorization": f"Bearer {token}"}
        answer = await http.get(f"{stack.url}/auth/v1/user", headers=headers)
        assert answer.status_code == 403
        codes.append(answer.json()["error_code"])
    assert codes == ["bad_jwt", "bad_jwt", "user_not_found"]


async def test_passwords_are_stored_as_argon2_hashes_only(anonymous: AsyncClient, stack: RunningStack) -> None:
    email, _ = await sign_up(anonymous)
    with psycopg.connect(stack.superuser_url) as connection:
        row = connection.execute(
            "select encrypted_password, to_jsonb(users)::text from auth.users where email = %s", (email,)
        ).fetchone()
    assert row is not None
    assert row[0].startswith("$argon2id$")
    assert PASSWORD not in row[1]
