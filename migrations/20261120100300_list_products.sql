-- Purpose: lists for the shop: all products, newest first, and what was done to one of them and at what cost.
-- Locks: writes to products wait while the index over unfinished products is built.
set local lock_timeout = '5s';

-- A page is found by its place in time, which an older shop's rows may lack.
update public.products set created_at = coalesce(updated_at, now()) where created_at is null;
create index if not exists products_not_completed on public.products (status, created_at desc, id) where status <> 'completed';

-- A page of products, newest first: those after (`after_time`, `after_id`), the last of the page before.
create or replace function public.list_products_v1(
  places integer, wanted_status text default null, after_time timestamptz default null, after_id uuid default null)
returns setof jsonb
language sql stable security invoker set search_path = '' as $$
  select to_jsonb(p) || jsonb_build_object('cost_micros', coalesce(v.cost_micros, 0))
  from (
    select * from public.products each_one
    where (wanted_status is null or each_one.status = wanted_status)
      and (after_time is null or each_one.created_at < after_time
        or (each_one.created_at = after_time and each_one.id > after_id))
      and each_one.created_at <= coalesce(after_time, 'infinity')
    order by each_one.created_at desc, each_one.id limit places
  ) p
  left join public.product_private v on v.product_id = p.id
  order by p.created_at desc, p.id;
$$;

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

create or replace function public.schema_version_v1() returns text
language sql stable security invoker set search_path = '' as $$ select '20261120100300' $$;

do $$
declare
  routine regprocedure;
begin
  for routine in
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('list_products_v1', 'runs_of_product_v1')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', routine);
    execute format('grant execute on function %s to service_role', routine);
  end loop;
end $$;
