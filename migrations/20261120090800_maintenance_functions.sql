-- Purpose: what has to be looked after: settlements that nobody will make, uploads without a product, runs that nobody
-- gets to, budgets that run low, objects that are to go.
-- Locks: new functions only.

-- Look for uploads that no product refers to: more than an hour old, of a request that failed half-way. A thousand names
-- a turn, in the order of an index of Storage's own; names that are not made by us are left alone. Reading storage.objects
-- is what makes it cheap: Storage's list knows no age and would have to be paged through over HTTP. Only Storage's API
-- deletes. Returns how many are to go.
create or replace function public.find_lost_uploads_v1(raw_bucket text, raw_folder text) returns integer
language plpgsql security invoker set search_path = '' as $$
declare
  seen text[];
  lost integer;
begin
  select coalesce(array_agg(o.name order by o.name collate "C"), '{}') into seen from (
    select each_one.name from storage.objects each_one, public.maintenance m
    where each_one.bucket_id = raw_bucket
      and each_one.name collate "C" > greatest(m.upload_seen collate "C", (raw_folder || '/') collate "C")
      and each_one.name collate "C" < (raw_folder || '/g') collate "C" -- ours go on with a digit or a letter up to f
    order by each_one.name collate "C" limit 1000
  ) o;
  update public.maintenance m set upload_seen = case when cardinality(seen) = 1000 then seen[1000] else '' end
  where m.the_only_row;
  insert into public.objects_to_remove (bucket, object_key)
  select raw_bucket, ours.name
  from (
    select o.name, substring(substr(o.name, length(raw_folder) + 2) from
      '^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})-[0-9a-f]{12}\.jpg$')::uuid as product_id
    from storage.objects o
    where o.bucket_id = raw_bucket and o.name = any (seen) and o.created_at < now() - interval '1 hour'
  ) ours
  where ours.product_id is not null and not exists (
    select from public.product_private v where v.product_id = ours.product_id
      and (v.raw_key = ours.name or v.earlier_raws @> jsonb_build_array(jsonb_build_object('key', ours.name))))
  on conflict do nothing;
  get diagnostics lost = row_count;
  return lost;
end $$;

-- Everything that is due, once a minute by whichever worker comes first; null for the others. (Workers long unseen go with
-- the heartbeats of the others.) `settings`: {"raw_bucket", "raw_folder", "pending_hours"}.
-- Returns {"objects": [{"bucket", "key"}] to remove and to confirm, "warnings": [{"scope", "scope_key", ...}], and counts}.
create or replace function public.maintenance_v1(settings jsonb) returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  today date := (now() at time zone 'utc')::date;
  expired integer;
  unsent integer;
  unknown integer;
  overdue integer;
  lost integer;
  warnings jsonb;
  objects jsonb;
begin
  insert into public.maintenance default values on conflict do nothing;
  update public.maintenance m set ran_at = now()
  where m.the_only_row in (
    select due.the_only_row from public.maintenance due where due.ran_at < now() - interval '50 seconds'
    for update skip locked);
  if not found then
    return null;
  end if;

  delete from public.idempotency_keys k where k.created_at < now() - interval '1 day';
  get diagnostics expired = row_count;

  -- Calls that nobody will settle: their run is over or gone. What was not sent is free again. What was sent counts as
  -- unknown after an hour, longer than any provider works; a task can be asked for much longer, so it is kept for a day.
  select count(public.finish_call_v1(c.id, '{"state": "failed", "repeatable": true, "error_code": "not_sent"}'))
  into unsent
  from (
    select o.id from public.calls o
    where o.state = 'intended'
      and not exists (select from public.runs r where r.id = o.run_id and r.completed_at is null)
    order by o.id limit 1000 for update skip locked
  ) c;
  select count(public.finish_call_v1(c.id, '{"state": "unknown", "error_code": "charge_unknown",
    "error_message": "Its run ended without an answer."}'))
  into unknown
  from (
    select o.id from public.calls o
    where o.state = 'sent' and o.sent_at < now() - case when o.task_id is null then interval '1 hour' else interval '1 day' end
      and not exists (select from public.runs r where r.id = o.run_id and r.completed_at is null)
    order by o.id limit 1000 for update skip locked
  ) c;

  select count(public.close_run_v1(late.id, 'failed', null, 'deadline',
    format('No worker could finish it within %s hours. Process it again to go on from what is done.',
      settings ->> 'pending_hours'), null, null))
  into overdue
  from (
    select r.id from public.runs r
    where r.status = 'pending' and r.created_at < now() - make_interval(hours => (settings ->> 'pending_hours')::integer)
    order by r.id limit 100 for update skip locked
  ) late;

  delete from public.budgets b where b.scope = 'run' and b.period < today - 7
    and not exists (select from public.runs r where r.id::text = b.scope_key and r.completed_at is null);
  with low as (
    update public.budgets b set warned_at = now()
    where b.period = today and b.scope in ('day', 'owner') and b.warned_at is null
      and b.reserved_micros + b.spent_micros >= 0.8 * b.limit_micros
    returning b.*
  )
  select coalesce(jsonb_agg(to_jsonb(low)), '[]') into warnings from low;

  lost := public.find_lost_uploads_v1(settings ->> 'raw_bucket', settings ->> 'raw_folder');
  -- An upload that came again under the same name has its product now.
  delete from public.objects_to_remove o using public.product_private v
  where o.call_id is null and v.raw_bucket = o.bucket and v.raw_key = o.object_key
    and v.product_id = substring(o.object_key from '([0-9a-f-]{36})-[0-9a-f]{12}\.jpg$')::uuid;
  select coalesce(jsonb_agg(jsonb_build_object('bucket', o.bucket, 'key', o.object_key)), '[]') into objects
  from (
    select * from public.objects_to_remove each_one
    where not exists (
      select from public.calls c where c.id = each_one.call_id and c.state in ('intended', 'sent'))
    order by each_one.recorded_at limit 1000
  ) o;
  return jsonb_build_object('objects', objects, 'warnings', warnings, 'expired_keys', expired, 'calls_not_sent', unsent,
    'calls_unknown', unknown, 'runs_overdue', overdue, 'uploads_lost', lost);
end $$;
