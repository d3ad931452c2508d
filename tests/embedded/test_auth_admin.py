"""Administration of users with the secret key."""

from __future__ import annotations

import uuid

import httpx
import psycopg
import pytest
from supabase import AsyncClient
from supabase_auth.errors import AuthApiError

from tests.stack import RunningStack

PASSWORD = "correct horse"


def new_email() -> str:
    return f"{uuid.uuid4().hex}@example.org"


async def test_users_are_made_read_changed_and_deleted(service: AsyncClient, anonymous: AsyncClient) -> None:
    email = new_email()
    made = await service.auth.admin.create_user(
        {
            "email": email,
            "password": PASSWORD,
            "email_confirm": True,
            "user_metadata": {"name": "Ann"},
            "app_metadata": {"plan": "free"},
        }
    )
    user_id = made.user.id
    assert made.user.app_metadata == {"provider": "email", "providers": ["email"], "plan": "free"}
    changed = await service.auth.admin.update_user_by_id(
        user_id, {"app_metadata": {"plan": "paid"}, "user_metadata": {"name": None}, "password": "new password"}
    )
    found = await service.auth.admin.get_user_by_id(user_id)
    assert changed.user.app_metadata["plan"] == found.user.app_metadata["plan"] == "paid"
    assert found.user.user_metadata == {}
    await anonymous.auth.sign_in_with_password({"email": email, "password": "new password"})
    await service.auth.admin.delete_user(user_id)
    with pytest.raises(AuthApiError) as raised:
        await service.auth.admin.get_user_by_id(user_id)
    assert (raised.value.status, raised.value.code) == (404, "user_not_found")


async def test_a_user_without_a_confirmed_address_cannot_sign_in(service: AsyncClient, anonymous: AsyncClient) -> None:
    email = new_email()
    made = await service.auth.admin.create_user({"email": email, "password": PASSWORD})
    with pytest.raises(AuthApiError) as raised:
        await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert (raised.value.status, raised.value.code) == (400, "email_not_confirmed")
    await service.auth.admin.update_user_by_id(made.user.id, {"email_confirm": True})
    await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})


async def test_a_banned_user_is_out_until_the_ban_is_lifted(service: AsyncClient, anonymous: AsyncClient) -> None:
    email = new_email()
    made = await service.auth.admin.create_user({"email": email, "password": PASSWORD, "email_confirm": True})
    signed_in = await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert signed_in.session is not None
    await service.auth.admin.update_user_by_id(made.user.id, {"ban_duration": "1h30m"})
    with pytest.raises(AuthApiError) as again:
        await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    with pytest.raises(AuthApiError) as refresh:
        await anonymous.auth.refresh_session(signed_in.session.refresh_token)
    assert again.value.code == refresh.value.code == "user_banned"
    await service.auth.admin.update_user_by_id(made.user.id, {"ban_duration": "none"})
    await anonymous.auth.sign_in_with_password({"email": email, "password": PASSWORD})


async def test_a_taken_address_is_refused(service: AsyncClient) -> None:
    email = new_email()
    await service.auth.admin.create_user({"email": email})
    with pytest.raises(AuthApiError) as raised:
        await service.auth.admin.create_user({"email": email})
    assert (raised.value.status, raised.value.code) == (422, "email_exists")


async def test_users_are_listed_page_by_page(
    service: AsyncClient, stack: RunningStack, http: httpx.AsyncClient
) -> None:
    ids = [(await service.auth.admin.create_user({"email": new_email()})).user.id for _ in range(3)]
    first = await service.auth.admin.list_users(page=1, per_page=2)
    second = await service.auth.admin.list_users(page=2, per_page=2)
    assert [user.id for user in [*first, *second]][:3] == ids[::-1]
    answer = await http.get(f"{stack.url}/auth/v1/admin/users?per_page=1", headers={"apikey": stack.secret_key})
    assert int(answer.headers["x-total-count"]) >= 3
    assert 'page=2&per_page=1>; rel="next"' in answer.headers["link"]
    assert answer.json()["aud"] == "authenticated"


async def test_a_soft_deleted_user_leaves_only_the_row(service: AsyncClient, stack: RunningStack) -> None:
    email = new_email()
    made = await service.auth.admin.create_user({"email": email, "user_metadata": {"name": "Ann"}})
    await service.auth.admin.delete_user(made.user.id, should_soft_delete=True)
    with pytest.raises(AuthApiError):
        await service.auth.admin.get_user_by_id(made.user.id)
    with psycopg.connect(stack.superuser_url) as connection:
        row = connection.execute(
            "select email, raw_user_meta_data, deleted_at is not null from auth.users where id = %s", (made.user.id,)
        ).fetchone()
    assert row == (None, {}, True)
    await service.auth.admin.create_user({"email": email})


@pytest.mark.parametrize("path", ["not-a-uuid", str(uuid.UUID(int=1))])
async def test_unknown_ids_are_404(stack: RunningStack, http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"{stack.url}/auth/v1/admin/users/{path}", headers={"apikey": stack.secret_key})
    assert answer.status_code == 404


async def test_only_the_service_role_administers(
    stack: RunningStack, http: httpx.AsyncClient, anonymous: AsyncClient
) -> None:
    signed_up = await anonymous.auth.sign_up({"email": new_email(), "password": PASSWORD})
    assert signed_up.session is not None
    assert signed_up.user is not None
    url = f"{stack.url}/auth/v1/admin/users/{signed_up.user.id}"
    user = {"apikey": stack.publishable_key, "Authorization": f"Bearer {signed_up.session.access_token}"}
    for method in ("GET", "PUT", "DELETE"):
        answer = await http.request(method, url, json={}, headers=user)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "not_admin")
    legacy = await http.get(url, headers={"apikey": stack.service_role_jwt})
    assert legacy.status_code == 200
