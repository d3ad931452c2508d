-- Purpose: a page of products is read from an index, whatever its status and however the planner knows the table.
-- Locks: writes to products wait while the index is built.
set local lock_timeout = '5s';

-- The partial index before it was never used: its condition cannot be proven of a parameter.
drop index if exists public.products_not_completed;
create index if not exists products_by_status on public.products (status, created_at desc, id);

-- As before. Planned anew for each page, with nothing in it that this page does not need.
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

create or replace function public.schema_version_v1() returns text
language sql stable security invoker set search_path = '' as $$ select '20261120100700' $$;
