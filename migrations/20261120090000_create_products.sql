-- Purpose: the row that clients watch, and what belongs to it but must not be seen by everyone.
-- Locks: none on an empty project. On a shop that already has the old `products` table, an exclusive lock while the rows
-- are read once for the checks; no table is rewritten (constant defaults only). The foreign key locks auth.users briefly.
-- A shop's existing table is kept: it gains the missing columns and loses nothing.

create table if not exists public.products (
  id uuid primary key default gen_random_uuid(),
  title text default 'Untitled',
  jewellery_type text,
  image_url text,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

alter table public.products
  add column if not exists status text not null default 'pending',
  add column if not exists progress jsonb not null default '{}',
  add column if not exists run_no integer not null default 0,
  add column if not exists generation integer not null default 0,
  add column if not exists variants jsonb not null default '[]',
  add column if not exists raw_image_url text,
  add column if not exists error_message text,
  add column if not exists visibility text not null default 'public',
  add column if not exists owner_id uuid references auth.users (id) on delete set null;

do $$
declare
  rule record;
begin
  for rule in
    select * from (values
      ('products_status_known', $c$check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled'))$c$),
      ('products_visibility_known', $c$check (visibility in ('public', 'private'))$c$),
      ('products_title_short', $c$check (char_length(title) <= 500)$c$),
      ('products_jewellery_type_short', $c$check (char_length(jewellery_type) <= 200)$c$),
      ('products_error_message_short', $c$check (char_length(error_message) <= 500)$c$),
      ('products_urls_short', $c$check (char_length(image_url) <= 2048 and char_length(raw_image_url) <= 2048)$c$),
      ('products_variants_is_small_array',
        $c$check (jsonb_typeof(variants) = 'array' and octet_length(variants::text) <= 16384)$c$),
      ('products_progress_is_small_object',
        $c$check (jsonb_typeof(progress) = 'object' and octet_length(progress::text) <= 16384)$c$)
    ) as named (name, definition)
  loop
    if not exists (
      select from pg_constraint where conname = rule.name and conrelid = 'public.products'::regclass
    ) then
      execute format('alter table public.products add constraint %I %s', rule.name, rule.definition);
    end if;
  end loop;
end $$;

comment on table public.products is
  'One uploaded picture and what became of it. Public columns only, so that select(*) works for every client.';
comment on column public.products.status is
  'pending -> processing -> completed | failed | cancelled: that of the latest run.';
comment on column public.products.progress is
  'What a watcher may know while a run works: {"done", "total", "steps": {name: {"state", "label", "url"}}}.';
comment on column public.products.run_no is 'Counts runs. A client that sees a higher number knows that the pictures are new.';
comment on column public.products.generation is
  'Which set of scenes: a new one is bought when it moves on, an unfinished one is completed while it stands.';
comment on column public.products.variants is
  'Every scene of the last successful run: [{"key", "label", "mode", "status", "url"}]. Labels never shift when one fails.';
comment on column public.products.raw_image_url is 'The upload; image_url shows it until the first scene replaces it.';

alter table public.products replica identity full;
alter table public.products enable row level security;
revoke all on public.products from public, anon, authenticated;
grant select on public.products to anon, authenticated;
grant select, insert, update, delete on public.products to service_role;

-- A page of a list is found by its place in time, which an older shop's rows may lack.
update public.products set created_at = coalesce(updated_at, now()) where created_at is null;
create index if not exists products_newest on public.products (created_at desc, id);
create index if not exists products_by_status on public.products (status, created_at desc, id);
create index if not exists products_owner on public.products (owner_id) where owner_id is not null;

create table if not exists public.product_private (
  product_id uuid primary key references public.products (id) on delete cascade,
  raw_bucket text not null,
  raw_key text not null,
  raw_media_type text not null,
  raw_sha256 text not null,
  raw_bytes bigint not null,
  raw_width integer not null,
  raw_height integer not null,
  earlier_raws jsonb not null default '[]',
  base_generation integer not null default 0,
  cost_micros bigint not null default 0,
  event_seq bigint not null default 0,
  email text,
  notes text,
  error_detail jsonb,
  constraint product_private_cost_not_negative check (cost_micros >= 0),
  constraint product_private_raw_size_positive check (raw_bytes > 0 and raw_width > 0 and raw_height > 0),
  constraint product_private_raw_sha256_is_hex check (raw_sha256 ~ '^[0-9a-f]{64}$')
);
comment on table public.product_private is 'What belongs to a product and is not for clients: where the upload lies, cost, notes, errors.';
comment on column public.product_private.earlier_raws is 'Uploads that later ones replaced: [{"bucket", "key"}]. They go with the product.';
comment on column public.product_private.base_generation is
  'Generation of cut-out, restore and colourise. Moves only when a user asks for everything anew.';
comment on column public.product_private.cost_micros is 'Settled cost of all calls, micro-dollars.';
comment on column public.product_private.event_seq is 'The last number given out in events: gapless and in commit order.';
alter table public.product_private enable row level security;
revoke all on public.product_private from public, anon, authenticated;
grant select, insert, update, delete on public.product_private to service_role;
