// supabase-js against the embedded Realtime: prints one JSON object with what it saw.
// The database is changed by the test that runs this, whenever a line `step: <name>` is printed.

import readline from "node:readline";
import { createClient } from "@supabase/supabase-js";

const { SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, SUPABASE_SECRET_KEY, USER_TOKEN, OTHER_TOKEN, TABLE, TOPIC } = process.env;

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Let the test do its part; resolves when it has. */
async function step(name) {
  console.log(`step: ${name}`);
  await answers.next();
}

function client(key, token) {
  return createClient(SUPABASE_URL, key, token ? { accessToken: async () => token } : {});
}

/** What comes one by one: `push` puts in, `next` waits for one. */
function queue() {
  const waiting = [];
  const items = [];
  return {
    push: (item) => (waiting.length ? waiting.shift()(item) : items.push(item)),
    next: () => (items.length ? Promise.resolve(items.shift()) : new Promise((resolve) => waiting.push(resolve))),
    get length() { return items.length; },
  };
}

/** Subscribe; resolves with the first status, and with the error's message if there is one. */
function subscribe(channel, statuses = queue()) {
  channel.subscribe((status, error) => statuses.push([status, error?.message ?? null]));
  return statuses.next();
}

const service = client(SUPABASE_SECRET_KEY);
const user = client(SUPABASE_PUBLISHABLE_KEY, USER_TOKEN);
const other = client(SUPABASE_PUBLISHABLE_KEY, OTHER_TOKEN);
const seen = {};

// Row changes: all for the service, one's own for a user, by filter.
async function changes(of, name, filter) {
  const rows = queue();
  const system = queue();
  const channel = of
    .channel(name)
    .on("postgres_changes", { event: "*", schema: "public", table: TABLE, ...(filter && { filter }) }, rows.push)
    .on("system", {}, system.push);
  const status = await subscribe(channel);
  if (status[0] !== "SUBSCRIBED") throw new Error(String(status));
  const ready = await system.next();
  if (ready.status !== "ok") throw new Error(ready.message);
  return rows;
}
const all = await changes(service, "all");
const own = await changes(user, "own");
const filtered = await changes(service, "filtered", "id=in.(2,3)");
const summary = ({ eventType, new: record, old, errors }) => ({ eventType, new: record, old, errors });
await step("insert and update rows");
seen.all = [summary(await all.next()), summary(await all.next()), summary(await all.next())];
seen.own = [summary(await own.next()), summary(await own.next())];
seen.filtered = [summary(await filtered.next())];
await step("delete a row"); // not at once: what is gone when policies are asked is not told
seen.all.push(summary(await all.next()));
seen.own.push(summary(await own.next()));
seen.left_over = [all.length, own.length, filtered.length];

// A filter that cannot be.
const refusals = queue();
await subscribe(
  service
    .channel("bad-filter")
    .on("postgres_changes", { event: "*", schema: "public", table: TABLE, filter: "nowhere=eq.1" }, () => {})
    .on("system", {}, refusals.push),
);
const refusal = await refusals.next();
seen.bad_filter = [refusal.status, /invalid column for filter nowhere/.test(refusal.message)];

// Broadcast: to others, to itself, acknowledged, as bytes, over HTTP, from SQL.
const heard = queue();
const echoed = queue();
const listener = other.channel("lobby").on("broadcast", { event: "*" }, heard.push);
const sender = user
  .channel("lobby", { config: { broadcast: { self: true, ack: true } } })
  .on("broadcast", { event: "greeting" }, echoed.push);
await subscribe(listener);
await subscribe(sender);
seen.acknowledged = await sender.send({ type: "broadcast", event: "greeting", payload: { text: "hällo" } });
seen.heard = (await heard.next()).payload;
seen.echoed = (await echoed.next()).payload;
await sender.send({ type: "broadcast", event: "bytes", payload: new Uint8Array([0, 255]).buffer });
seen.bytes = [...new Uint8Array((await heard.next()).payload)];
seen.http = await sender.httpSend("by http", { n: 1 });
seen.heard_http = (await heard.next()).payload;
await step("send from SQL");
const sent = await heard.next();
seen.heard_sql = [sent.event, sent.payload.n, sent.meta.id === sent.payload.id];

// Private channels: the policy lets the user in, and nobody else.
const privately = { config: { private: true } };
seen.allowed = await subscribe(user.channel(TOPIC, privately));
seen.denied = await subscribe(other.channel(TOPIC, privately));

// Presence.
const syncs = queue();
const watched = user.channel("room", { config: { presence: { key: "ada" } } });
watched.on("presence", { event: "join" }, ({ key, newPresences }) => syncs.push(["join", key, newPresences[0].mood]));
watched.on("presence", { event: "leave" }, ({ key }) => syncs.push(["leave", key]));
await subscribe(watched);
seen.tracked = await watched.track({ mood: "calm" });
const guest = other.channel("room", { config: { presence: { key: "bob", enabled: true } } });
await subscribe(guest);
await guest.track({ mood: "bright" });
seen.presence = [await syncs.next(), await syncs.next()];
seen.present = Object.keys(watched.presenceState()).sort();
await other.removeChannel(guest);
seen.presence.push(await syncs.next());

// The stream of changes breaks: the channel reports it and comes back by itself.
const states = queue();
const rows = queue();
const ready = queue();
const lasting = service
  .channel("lasting")
  .on("postgres_changes", { event: "INSERT", schema: "public", table: TABLE }, rows.push)
  .on("system", {}, ready.push);
await subscribe(lasting, states);
await ready.next();
await step("break the stream");
seen.states = [(await states.next())[0], (await states.next())[0]];
await ready.next();
await step("insert again");
seen.after_break = (await rows.next()).new;

console.log(JSON.stringify(seen));
process.exit(0);
