// REST through supabase-js, against the tables of tests/embedded/rest_support.py and the functions below.
import { createClient } from "@supabase/supabase-js";
import assert from "node:assert/strict";
import { test } from "node:test";

const options = { auth: { persistSession: false, autoRefreshToken: false } };
const db = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_SECRET_KEY, options);
const anonymous = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_PUBLISHABLE_KEY, options);
const legacy = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_SERVICE_ROLE_JWT, options);

test("select with filters, order, range and count", async () => {
  const { data, count, error, status } = await db
    .from("books").select("id, title", { count: "exact" })
    .or("price.gt.4,price.is.null").not("title", "ilike", "%dogs%")
    .order("id", { ascending: false }).range(0, 1);
  assert.equal(error, null);
  assert.deepEqual(data, [{ id: 4, title: "Alone" }, { id: 3, title: "Rain" }]);
  assert.equal(count, 3);
  assert.equal(status, 206);
});

test("embedding, inner joins and aliases", async () => {
  const { data, error } = await db
    .from("books").select("id, writer:authors!author_id!inner(name), shelves(label)")
    .eq("writer.name", "Ann").order("label", { referencedTable: "shelves", ascending: false }).order("id");
  assert.equal(error, null);
  assert.deepEqual(data, [
    { id: 1, writer: { name: "Ann" }, shelves: [{ label: "old" }, { label: "new" }] },
    { id: 2, writer: { name: "Ann" }, shelves: [] },
  ]);
});

test("arrays, ranges, JSON and text search", async () => {
  assert.deepEqual((await db.from("authors").select("id").contains("tags", ["prose"])).data, [{ id: 1 }]);
  assert.deepEqual((await db.from("authors").select("id").overlaps("tags", ["poems"])).data, [{ id: 2 }]);
  assert.deepEqual((await db.from("authors").select("id").contains("data", { home: { city: "Rome" } })).data, [{ id: 1 }]);
  assert.deepEqual((await db.from("authors").select("id").rangeGt("active", "[2021-06-01,2021-07-01)")).data, [{ id: 2 }]);
  assert.deepEqual((await db.from("authors").select("id").in("name", ["Ann", "no, one"])).data, [{ id: 1 }]);
  const search = await db.from("books").select("id").textSearch("words", "cat & dog", { config: "english" });
  assert.deepEqual(search.data, [{ id: 1 }]);
});

test("single and maybeSingle", async () => {
  const many = await db.from("books").select().single();
  assert.equal(many.error.code, "PGRST116");
  assert.equal(many.status, 406);
  assert.deepEqual((await db.from("books").select("id").eq("id", 99).maybeSingle()).data, null);
  assert.equal((await db.from("books").select("id").eq("id", 1).single()).data.id, 1);
});

test("insert, upsert, update, delete", async () => {
  const made = await db.from("js_notes").insert([{ id: 1, label: "a" }, { id: 2 }], { defaultToNull: false }).select();
  assert.deepEqual(made.data, [{ id: 1, label: "a" }, { id: 2, label: "none" }]);
  assert.equal(made.status, 201);
  const merged = await db.from("js_notes").upsert({ id: 1, label: "b" }).select().single();
  assert.deepEqual(merged.data, { id: 1, label: "b" });
  const ignored = await db.from("js_notes").upsert({ id: 1, label: "c" }, { onConflict: "id", ignoreDuplicates: true }).select();
  assert.deepEqual(ignored.data, []);
  const changed = await db.from("js_notes").update({ label: "d" }).in("id", [1, 2]).select("label");
  assert.deepEqual(changed.data, [{ label: "d" }, { label: "d" }]);
  const bare = await db.from("js_notes").update({ label: "lost" });
  assert.equal(bare.error.code, "21000");
  const gone = await db.from("js_notes").delete({ count: "exact" }).gt("id", 0);
  assert.equal(gone.status, 204);
  assert.equal(gone.count, 2);
});

test("functions", async () => {
  assert.equal((await db.rpc("js_add", { a: 1, b: 2 })).data, 3);
  assert.equal((await db.rpc("js_add", { a: 1, b: 3 }, { get: true })).data, 4);
  const rows = await db.rpc("js_books").select("id, authors!author_id(name)").eq("id", 3);
  assert.deepEqual(rows.data, [{ id: 3, authors: { name: "Bob" } }]);
  assert.equal((await db.rpc("js_nowhere")).error.code, "PGRST202");
});

test("rights by key", async () => {
  assert.equal((await anonymous.from("js_notes").select()).error.code, "42501");
  assert.equal((await anonymous.from("books").select("id")).data.length, 4);
  assert.equal((await legacy.from("js_notes").select()).error, null);
  const wrong = createClient(process.env.SUPABASE_URL, "sb_publishable_wrong", options);
  const refused = await wrong.from("books").select();
  assert.equal(refused.status, 401);
});
