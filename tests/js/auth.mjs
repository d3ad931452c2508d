// Auth through supabase-js.
import { createClient } from "@supabase/supabase-js";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

const options = { auth: { persistSession: false, autoRefreshToken: false } };
const create = (key) => createClient(process.env.SUPABASE_URL, key, options);
const service = create(process.env.SUPABASE_SECRET_KEY);
const newEmail = () => `${randomUUID()}@example.org`;
const password = "correct horse";

test("sign up, claims, refresh, sign out", async () => {
  const client = create(process.env.SUPABASE_PUBLISHABLE_KEY);
  const email = newEmail();
  const { data, error } = await client.auth.signUp({ email, password, options: { data: { name: "Ann" } } });
  assert.equal(error, null);
  assert.equal(data.user.email, email);
  const claims = await client.auth.getClaims();
  assert.equal(claims.error, null);
  assert.equal(claims.data.header.alg, "ES256");
  assert.equal(claims.data.claims.sub, data.user.id);
  const refreshed = await client.auth.refreshSession();
  assert.equal(refreshed.error, null);
  assert.notEqual(refreshed.data.session.refresh_token, data.session.refresh_token);
  assert.equal((await client.auth.getUser()).data.user.user_metadata.name, "Ann");
  assert.equal((await client.auth.signOut()).error, null);
  const after = await client.auth.getUser(refreshed.data.session.access_token);
  assert.equal(after.error.name, "AuthSessionMissingError"); // what it makes of session_not_found
});

test("wrong password and weak password", async () => {
  const client = create(process.env.SUPABASE_PUBLISHABLE_KEY);
  const email = newEmail();
  const weak = await client.auth.signUp({ email, password: "short" });
  assert.equal(weak.error.code, "weak_password");
  assert.deepEqual(weak.error.reasons, ["length"]);
  await client.auth.signUp({ email, password });
  const wrong = await client.auth.signInWithPassword({ email, password: "not this" });
  assert.equal(wrong.error.code, "invalid_credentials");
  assert.equal(wrong.error.status, 400);
});

test("anonymous users", async () => {
  const client = create(process.env.SUPABASE_PUBLISHABLE_KEY);
  const { data } = await client.auth.signInAnonymously();
  assert.equal(data.user.is_anonymous, true);
  const email = newEmail();
  const { data: changed, error } = await client.auth.updateUser({ email, password });
  assert.equal(error, null);
  assert.equal(changed.user.is_anonymous, false);
});

test("administration", async () => {
  const email = newEmail();
  const { data: made } = await service.auth.admin.createUser({ email, password, email_confirm: true });
  const { data: listed } = await service.auth.admin.listUsers({ page: 1, perPage: 1 });
  assert.equal(listed.users[0].id, made.user.id);
  assert.ok(listed.total >= 1);
  const changed = await service.auth.admin.updateUserById(made.user.id, { app_metadata: { plan: "paid" } });
  assert.equal(changed.data.user.app_metadata.plan, "paid");
  assert.equal((await service.auth.admin.deleteUser(made.user.id)).error, null);
  assert.equal((await service.auth.admin.getUserById(made.user.id)).error.code, "user_not_found");
  const client = create(process.env.SUPABASE_PUBLISHABLE_KEY);
  await client.auth.signInAnonymously();
  assert.equal((await client.auth.admin.listUsers()).error.code, "not_admin");
});
