-- Purpose: what was and will be spent: days and providers for the shop, and which steps of a planned run are finished.
-- Locks: functions only.

-- The last `days` UTC days, newest first: what the ledger says by provider, and the budgets of the day and of its owners.
create or replace function public.spend_v1(days integer) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_agg(jsonb_build_object(
    'day', d.day,
    'resets_at', (d.day + 1)::timestamp at time zone 'utc',
    'limit_micros', (select b.limit_micros from public.budgets b where b.scope = 'day' and b.period = d.day),
    'providers', (
      select coalesce(jsonb_agg(to_jsonb(p) order by p.provider), '[]')
      from (
        select c.provider, count(*) as calls, count(*) filter (where c.state = 'unknown') as unknown,
          coalesce(sum(c.settled_micros), 0)::bigint as spent_micros,
          coalesce(sum(c.reserved_micros) filter (where c.settled_micros is null), 0)::bigint as reserved_micros
        from public.calls c
        where c.created_at >= d.day::timestamp at time zone 'utc' and c.created_at < (d.day + 1)::timestamp at time zone 'utc'
        group by c.provider
      ) p),
    'owners', (
      select coalesce(jsonb_agg(jsonb_build_object('owner', b.scope_key, 'limit_micros', b.limit_micros,
        'spent_micros', b.spent_micros, 'reserved_micros', b.reserved_micros) order by b.scope_key), '[]')
      from public.budgets b where b.scope = 'owner' and b.period = d.day)
    ) order by d.day desc)
  from (
    select ((now() at time zone 'utc')::date - number) as day from generate_series(0, days - 1) as number
  ) d;
$$;

-- Which of these steps of a product are finished already: {input hash: {"bucket", "key", ...}}. What `begin_steps_v1`
-- would reuse.
create or replace function public.finished_steps_v1(product uuid, input_hashes jsonb) returns jsonb
language sql stable security invoker set search_path = '' as $$
  select coalesce(jsonb_object_agg(found.input_hash, found.object), '{}')
  from (
    select distinct on (made.input_hash) made.input_hash, jsonb_build_object(
      'bucket', made.bucket, 'key', made.object_key, 'media_type', made.media_type, 'sha256', made.content_sha256,
      'width', made.width, 'height', made.height) as object
    from (
      select s.input_hash, s.bucket, s.object_key, s.media_type, s.content_sha256, s.width, s.height
      from public.steps s where s.product_id = product and s.state = 'done'
      union all
      select c.input_hash, c.bucket, c.object_key, c.media_type, c.content_sha256, c.width, c.height
      from public.calls c where c.product_id = product and c.state = 'done'
    ) made
    where input_hashes ? made.input_hash
  ) found;
$$;

create or replace function public.schema_version_v1() returns text
language sql stable security invoker set search_path = '' as $$ select '20261120100500' $$;

do $$
declare
  routine regprocedure;
begin
  for routine in
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('spend_v1', 'finished_steps_v1')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', routine);
    execute format('grant execute on function %s to service_role', routine);
  end loop;
end $$;
