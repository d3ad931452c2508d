-- The ledger that the database keeps of itself. Only for a database that is there for nothing but chaos.
--
-- A door adds the lease of a request's body as the header `x-chaos-lease` (see door.py), and PostgREST hands headers to
-- SQL. So the trigger compares that lease with the run's own at the very moment of the write, whatever the product's
-- functions have checked before.
create schema chaos;
create table chaos.history (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  table_name text not null,
  product_id uuid not null,
  showed_lease boolean not null,
  is_zombie boolean not null,
  old_status text,
  new_status text
);
create function chaos.record() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  before jsonb := case when tg_op = 'INSERT' then '{}' else to_jsonb(old) end;
  after jsonb := to_jsonb(new);
  shown text := nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-chaos-lease';
  holder text;
begin
  holder := case tg_table_name
    when 'runs' then coalesce(before ->> 'lease_token', after ->> 'lease_token')
    when 'steps' then (select r.lease_token from public.runs r where r.id = (after ->> 'run_id')::uuid)::text
    else (select r.lease_token from public.runs r
      where r.product_id = (after ->> 'id')::uuid and r.run_no = (after ->> 'run_no')::integer)::text
  end;
  insert into chaos.history (table_name, product_id, showed_lease, is_zombie, old_status, new_status)
  values (
    tg_table_name,
    coalesce(after ->> 'product_id', after ->> 'id')::uuid,
    shown is not null,
    shown is not null and shown is distinct from holder,
    coalesce(before ->> 'status', before ->> 'state'),
    coalesce(after ->> 'status', after ->> 'state'));
  return null;
end $$;
create trigger chaos_history after insert or update on public.products
  for each row execute function chaos.record();
create trigger chaos_history after insert or update on public.runs for each row execute function chaos.record();
create trigger chaos_history after insert or update on public.steps for each row execute function chaos.record();
create table chaos.overwrites (bucket_id text, name text);
create function chaos.record_overwrite() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if new.version is distinct from old.version then
    insert into chaos.overwrites values (new.bucket_id, new.name);
  end if;
  return null;
end $$;
create trigger chaos_overwrites after update on storage.objects
  for each row execute function chaos.record_overwrite();
