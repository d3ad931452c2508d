// Storage through @supabase/supabase-js. Run by tests/embedded/test_storage_js.py, or alone:
//   SUPABASE_URL=... SUPABASE_SECRET_KEY=... SUPABASE_PUBLISHABLE_KEY=... node --test tests/js/storage.mjs
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { createClient } from "@supabase/supabase-js";

const options = { auth: { persistSession: false, autoRefreshToken: false } };
const { SUPABASE_URL, SUPABASE_SECRET_KEY, SUPABASE_PUBLISHABLE_KEY } = process.env;
const service = createClient(SUPABASE_URL, SUPABASE_SECRET_KEY, options).storage;
const anonymous = createClient(SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, options).storage;

const bucket = `js-${randomUUID().slice(0, 8)}`;
const files = service.from(bucket);

/** The data of an answer that must not be an error. */
async function dataOf(answer) {
  const { data, error } = await answer;
  assert.equal(error, null, error?.message);
  return data;
}

async function textOf(key) {
  return (await dataOf(files.download(key))).text();
}

before(() => dataOf(service.createBucket(bucket, { public: false })));
after(async () => {
  await dataOf(service.emptyBucket(bucket));
  await dataOf(service.deleteBucket(bucket));
});

test("a bucket is created, changed, listed and deleted", async () => {
  const name = `js-${randomUUID().slice(0, 8)}`;
  const settings = { public: true, fileSizeLimit: "1MB", allowedMimeTypes: ["image/*"] };
  assert.deepEqual(await dataOf(service.createBucket(name, settings)), { name });
  const created = await dataOf(service.getBucket(name));
  assert.equal(created.public, true);
  assert.equal(created.file_size_limit, 1_000_000);
  await dataOf(service.updateBucket(name, { public: false, fileSizeLimit: null }));
  const [listed] = await dataOf(service.listBuckets({ search: name, limit: 1 }));
  assert.deepEqual([listed.public, listed.file_size_limit], [false, null]);
  assert.deepEqual(await dataOf(service.deleteBucket(name)), { message: "Successfully deleted" });
  const { error } = await service.getBucket(name);
  assert.deepEqual([error.status, error.statusCode, error.code], [400, "404", "NoSuchBucket"]);
});

for (const [kind, body] of Object.entries({
  Blob: () => new Blob(["ring"], { type: "image/png" }),
  Buffer: () => Buffer.from("ring"),
  ArrayBuffer: () => new TextEncoder().encode("ring").buffer,
  string: () => "ring",
  "web stream": () => new Blob(["ring"]).stream(),
  "node stream": () => Readable.from([Buffer.from("ri"), Buffer.from("ng")]),
  FormData: () => {
    const form = new FormData();
    form.append("file", new Blob(["ring"], { type: "image/png" }), "ring.png");
    return form;
  },
})) {
  test(`a ${kind} is uploaded with its type, cache time and metadata`, async () => {
    const key = `kinds/${kind}.png`;
    const settings = { contentType: "image/png", cacheControl: "60", metadata: { carat: 18 } };
    const uploaded = await dataOf(files.upload(key, body(), settings));
    assert.equal(uploaded.fullPath, `${bucket}/${key}`);
    assert.equal(await textOf(key), "ring");
    const info = await dataOf(files.info(key));
    assert.equal(info.id, uploaded.id);
    assert.deepEqual(
      [info.size, info.contentType, info.cacheControl, info.metadata],
      [4, "image/png", "max-age=60", { carat: 18 }],
    );
  });
}

test("a taken key is a conflict unless it is an upsert or an update", async () => {
  await dataOf(files.upload("taken.txt", "first"));
  const { error } = await files.upload("taken.txt", "second");
  assert.deepEqual([error.status, error.statusCode, error.message], [400, "409", "The resource already exists"]);
  await dataOf(files.upload("taken.txt", "second", { upsert: true }));
  assert.equal(await textOf("taken.txt"), "second");
  await dataOf(files.update("taken.txt", "third"));
  assert.equal(await textOf("taken.txt"), "third");
});

test("an object can be asked for and may be missing", async () => {
  await dataOf(files.upload("there.txt", "x"));
  assert.equal((await files.exists("there.txt")).data, true);
  const { data, error } = await files.exists("missing.txt");
  assert.equal(data, false);
  assert.equal(error.code, "NoSuchKey");
});

test("a download can be streamed", async () => {
  await dataOf(files.upload("stream.txt", "streamed"));
  const stream = await dataOf(files.download("stream.txt").asStream());
  assert.equal(await new Response(stream).text(), "streamed");
});

test("objects are listed by folder, and by cursor", async () => {
  for (const key of ["list/1.txt", "list/2.txt", "list/sub/3.txt"]) await dataOf(files.upload(key, key));
  const folder = await dataOf(files.list("list", { limit: 2, sortBy: { column: "name", order: "desc" } }));
  assert.deepEqual(folder.map(({ name, id }) => [name, id === null]), [["sub", true], ["2.txt", false]]);
  const first = await dataOf(files.listV2({ prefix: "list/", limit: 2, with_delimiter: true }));
  const rest = await dataOf(files.listV2({ prefix: "list/", with_delimiter: true, cursor: first.nextCursor }));
  assert.deepEqual([first.hasNext, rest.hasNext], [true, false]);
  assert.deepEqual(first.objects.map(({ name }) => name), ["list/1.txt", "list/2.txt"]);
  assert.deepEqual(rest.folders.map(({ name }) => name), ["list/sub/"]);
});

test("objects are moved, copied and removed", async () => {
  await dataOf(files.upload("one.txt", "one"));
  assert.equal((await dataOf(files.move("one.txt", "two.txt"))).message, "Successfully moved");
  assert.deepEqual(await dataOf(files.copy("two.txt", "three.txt")), { path: `${bucket}/three.txt` });
  const removed = await dataOf(files.remove(["two.txt", "three.txt", "missing.txt"]));
  assert.deepEqual(removed.map(({ name }) => name).sort(), ["three.txt", "two.txt"]);
  assert.deepEqual(await dataOf(files.purgeCache("two.txt")), { message: "success" });
});

test("signed links open private objects without a key", async () => {
  await dataOf(files.upload("signed file.txt", "secret"));
  const { signedUrl } = await dataOf(files.createSignedUrl("signed file.txt", 60, { download: "name.txt" }));
  const answer = await fetch(signedUrl);
  assert.equal(await answer.text(), "secret");
  assert.match(answer.headers.get("content-disposition"), /filename=name\.txt/);
  const [link, missing] = await dataOf(files.createSignedUrls(["signed file.txt", "missing.txt"], 60));
  assert.equal(await (await fetch(link.signedUrl)).text(), "secret");
  assert.deepEqual([missing.signedUrl, typeof missing.error], [null, "string"]);
  const transformed = await dataOf(files.createSignedUrl("signed file.txt", 60, { transform: { width: 9 } }));
  assert.equal(await (await fetch(transformed.signedUrl)).text(), "secret");
});

test("signed upload links take one object from anybody", async () => {
  const { token, path } = await dataOf(files.createSignedUploadUrl("given.txt"));
  const given = await dataOf(anonymous.from(bucket).uploadToSignedUrl(path, token, new Blob(["given"])));
  assert.equal(given.fullPath, `${bucket}/given.txt`);
  assert.equal(await textOf("given.txt"), "given");
});

test("public links are read from public buckets alone", async () => {
  await dataOf(files.upload("picture.png", new Blob(["png"], { type: "image/png" })));
  const { publicUrl } = files.getPublicUrl("picture.png").data;
  assert.equal((await fetch(publicUrl)).status, 400);
  await dataOf(service.updateBucket(bucket, { public: true }));
  const answer = await fetch(publicUrl);
  assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "image/png"]);
  await dataOf(service.updateBucket(bucket, { public: false }));
});

test("without a policy the publishable key opens nothing", async () => {
  await dataOf(files.upload("private.txt", "x"));
  const mine = anonymous.from(bucket);
  const { error: hidden } = await mine.download("private.txt");
  assert.deepEqual([hidden.statusCode, hidden.message], ["404", "Object not found"]);
  const { error: denied } = await mine.upload("mine.txt", "x");
  assert.deepEqual([denied.statusCode, denied.code], ["403", "AccessDenied"]);
  assert.deepEqual(await dataOf(mine.list()), []);
});
