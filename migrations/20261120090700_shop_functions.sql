-- Purpose: what the shop looks at: all products, newest first; the runs of one and their calls; what was spent; which steps
-- of a planned run are finished.
-- Locks: new functions only.

-- A page of products, newest first: those after (`after_time`, `after_id`), the last of the page before.
-- Planned anew for each page, with nothing in it that this page does not need: so it is read from an index.
create or replace function public.list_products_v1(
  places integer, wanted_status text default null, after_time timestamptz default null, after_id uuid default null)
returns setof jsonb
language plpgsql stable security invoker set search_path = '' as $$
begin
  return query execute concat(
    'select to_jsonb(p) || jsonb_build_object(''cost_micros'', coalesce(v.cost_micros, 0))
    from (select * from public.products each_one where true',
    case when wanted_status is not null then ' and each_one.status = $2' end,
    case when after_time is not null then
      ' and each_one.created_at <= $3 and (each_one.created_at < $3 or each_one.id > $4)' end,
    ' order by each_one.created_at desc, each_one.id limit $1) p
    left join public.product_private v on v.product_id = p.id
    order by p.created_at desc, p.id')
  using places, wanted_status, after_time, after_id;
end $$;

-- The runs of a product, newest first, each with its lines of the ledger. Raises VT004 when there is no such product.
create or replace function public.runs_of_product_v1(product uuid, places integer) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
begin
  if not exists (select from public.products p where p.id = product) then
    raise exception 'There is no product %.', product using errcode = 'VT004';
  end if;
  return (
    select coalesce(jsonb_agg(to_jsonb(r) || jsonb_build_object('calls', (
      select coalesce(jsonb_agg(to_jsonb(c) order by c.created_at, c.id), '[]')
      from public.calls c where c.run_id = r.id)) order by r.run_no desc), '[]')
    from (
      select * from public.runs each_one where each_one.product_id = product order by each_one.run_no desc limit places
    ) r);
end $$;

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
